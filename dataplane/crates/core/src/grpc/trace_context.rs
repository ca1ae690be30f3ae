//! W3C Trace Context: which trace a call is a part of, and whether that is recorded (`traceparent`; `tracestate` passes
//! as it is).

use crate::headers::{Headers, Token};

/// Which trace, which span of it, and whether it is sampled.
pub const TRACEPARENT: Token = Token::TRACEPARENT;
/// What others on the way say of that trace.
pub const TRACESTATE: Token = Token::TRACESTATE;

const SAMPLED: u8 = 1;
/// `00-` trace id `-` span id `-` flags.
const LENGTH: usize = 55;

/// Names a span within its trace.
pub type SpanId = [u8; 8];

/// A span that something is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: SpanId,
    pub is_sampled: bool,
}

// === impl TraceContext ===

impl TraceContext {
    /// What metadata say; none where they say nothing, or nothing valid: a new trace begins then, as the standard has it.
    pub fn find(metadata: &Headers) -> Option<Self> {
        let mut all = metadata.get_all(TRACEPARENT);
        // Nobody knows which of two is meant.
        match (all.next(), all.next()) {
            (Some(one), None) => Self::parse(one),
            _ => None,
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let version = byte(&known[..2])?;
        // What a later version adds follows a dash; 255 is none.
        let is_whole = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !is_whole || [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return None;
        }
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        bytes(&known[3..35], &mut trace_id)?;
        bytes(&known[36..52], &mut span_id)?;
        let flags = byte(&known[53..])?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & SAMPLED != 0,
        })
    }

    /// Let metadata have this `traceparent` alone.
    pub fn put(&self, metadata: &mut Headers) {
        metadata.set(TRACEPARENT, self.text());
    }

    fn text(&self) -> String {
        let mut text = Vec::with_capacity(LENGTH);
        text.extend_from_slice(b"00-");
        hex(&self.trace_id, &mut text);
        text.push(b'-');
        hex(&self.span_id, &mut text);
        text.extend_from_slice(if self.is_sampled { b"-01" } else { b"-00" });
        String::from_utf8(text).unwrap_or_default()
    }

    pub fn trace_id_text(&self) -> String {
        let mut text = Vec::with_capacity(32);
        hex(&self.trace_id, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

fn hex(bytes: &[u8], text: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn bytes(text: &[u8], into: &mut [u8]) -> Option<()> {
    for (digits, byte_at) in text.chunks_exact(2).zip(into) {
        *byte_at = byte(digits)?;
    }
    Some(())
}

fn byte(digits: &[u8]) -> Option<u8> {
    Some(digit(digits[0])? << 4 | digit(digits[1])?)
}

/// Capitals are none: the standard forbids them.
fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_valid_is_read_and_written_as_it_was() {
        let found = TraceContext::parse(VALID.as_bytes()).unwrap();
        assert!(found.is_sampled);
        assert_eq!(found.trace_id_text(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(found.text(), VALID);
        let unsampled = VALID.replace("-01", "-00");
        let found = TraceContext::parse(unsampled.as_bytes()).unwrap();
        assert!(!found.is_sampled);
        assert_eq!(found.text(), unsampled);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in ["cc-", "01-"] {
            let text = VALID.replacen("00-", later, 1);
            assert!(TraceContext::parse(text.as_bytes()).is_some());
            assert!(TraceContext::parse(format!("{text}-more").as_bytes()).is_some());
            assert!(TraceContext::parse(format!("{text}more").as_bytes()).is_none());
        }
    }

    #[test]
    fn two_of_them_are_no_context() {
        let mut metadata = Headers::new();
        metadata.push(TRACEPARENT, VALID);
        assert!(TraceContext::find(&metadata).is_some());
        metadata.push(TRACEPARENT, VALID);
        assert_eq!(TraceContext::find(&metadata), None);
    }

    #[test]
    fn what_is_invalid_is_no_context() {
        let zeros = "0".repeat(32);
        let invalid = [
            String::new(),
            VALID[..54].to_owned(),
            format!("{VALID}-more"),
            VALID.to_uppercase(),
            VALID.replacen("00-", "ff-", 1),
            VALID.replacen("00-", "0g-", 1),
            VALID.replace("-b7", "_b7"),
            VALID.replace("-01", "_01"),
            VALID.replace("0af7651916cd43dd8448eb211c80319c", &zeros),
            VALID.replace("b7ad6b7169203331", &zeros[..16]),
            VALID.replace("203331", "20333 "),
        ];
        for text in invalid {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
    }
}
