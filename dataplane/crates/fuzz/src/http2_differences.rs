//! In what h2 is known to differ from our connection, and why. All else that differs is a fault of one of them.

use crate::http2_oracle::Verdict;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY_FLAG: u8 = 0x20;

/// Where the two are known to differ; from there on nothing is compared.
#[derive(Default)]
pub struct Known {
    acknowledged: usize,
    /// Of the latest frame.
    stream: u32,
    is_within_block: bool,
}

impl Known {
    /// By a frame that is to come.
    pub fn differs(&mut self, frame: &[u8], verdict: &Verdict) -> Option<&'static str> {
        let &[l0, l1, l2, kind, flags, s0, s1, s2, s3, ref payload @ ..] = frame else {
            return Some("not even a head");
        };
        if payload.len() < u32::from_be_bytes([0, l0, l1, l2]) as usize {
            return Some("the last frame is not whole: ours tells of DATA before it is");
        }
        let number = |bytes: [u8; 4]| u32::from_be_bytes(bytes) & 0x7fff_ffff;
        let stream = number([s0, s1, s2, s3]);
        let depends_on = |from: usize| Some(number(*payload.get(from..)?.first_chunk()?));
        self.stream = stream;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_within_block = flags & END_HEADERS == 0;
        }
        match kind {
            PRIORITY if payload.len() != 5 || depends_on(0) == Some(stream) => Some(
                "a wrong PRIORITY: ours resets a stream that is open, and ends the connection where there is none",
            ),
            HEADERS
                if flags & PRIORITY_FLAG != 0
                    && depends_on(usize::from(flags & PADDED != 0)) == Some(stream) =>
            {
                Some("a request that depends on itself: h2 does not read the rest of its block")
            }
            HEADERS if verdict.has_passed(stream) => Some(
                "HEADERS after the end: one resets the stream, where the other ends the connection",
            ),
            DATA if verdict
                .requests
                .get(&stream)
                .is_some_and(|it| it.has_ended && !it.is_reset) =>
            {
                Some(
                    "DATA after the end: ours resets the stream, as section 5.1 says, h2 ends the connection",
                )
            }
            PUSH_PROMISE => {
                Some("PUSH_PROMISE of a client: h2 does not end the connection, or late")
            }
            WINDOW_UPDATE if payload.len() == 4 && depends_on(0) == Some(0) => {
                Some("a window opened by 0: h2 ends the connection also where a stream's was meant")
            }
            GOAWAY => Some("GOAWAY of a client: h2 takes it for the end of the connection"),
            SETTINGS if flags & ACK != 0 && stream == 0 && payload.is_empty() => {
                self.acknowledged += 1;
                (self.acknowledged > 1)
                    .then_some("settings acknowledged twice: h2 ends the connection")
            }
            _ => None,
        }
    }

    /// By what became of the frame.
    pub fn differs_by_fields(&mut self, ours: &Verdict, other: &Verdict) -> Option<&'static str> {
        if self.is_within_block && (ours.is_over, &ours.resets) != (other.is_over, &other.resets) {
            return Some("within a block: h2 judges what there is of it, ours the whole");
        }
        if ours.is_over && !other.is_over && other.resets.contains(&self.stream) {
            return Some(
                "a malformed request on a stream of an even number: h2 judges the request first",
            );
        }
        if other.is_over && !ours.is_over && ours.resets.contains(&self.stream) {
            return Some(
                "a malformed name or value: ours resets the stream, h2 ends the connection",
            );
        }
        for (id, request) in &other.requests {
            if request.fields.iter().any(|(name, _)| name.contains('"')) {
                return Some("a name with a quotation mark: the http crate takes it for a token");
            }
            let is_root = |(name, value): &(String, Vec<u8>)| name == ":path" && value == b"/";
            if !ours.requests.contains_key(id) && request.fields.iter().any(is_root) {
                return Some("no path: h2 takes it for /");
            }
        }
        for (id, request) in &ours.requests {
            let is_te = |(name, value): &(String, Vec<u8>)| name == "te" && value != b"trailers";
            if request.fields.iter().any(is_te) {
                return Some("te: trailers in upper case: h2 resets the stream");
            }
            if request.is_reset
                && other
                    .requests
                    .get(id)
                    .is_some_and(|it| it.has_ended && !it.is_reset)
            {
                return Some("trailers with fields of the protocol: h2 lets them pass");
            }
            if !fits_uri(&request.fields) {
                return Some("a method, an authority or a path that the http crate cannot hold");
            }
        }
        None
    }
}

fn fits_uri(fields: &[(String, Vec<u8>)]) -> bool {
    fields.iter().all(|(name, value)| match &name[..] {
        ":method" => http::Method::from_bytes(value).is_ok(),
        ":scheme" => http::uri::Scheme::try_from(&value[..]).is_ok(),
        ":authority" => http::uri::Authority::try_from(&value[..]).is_ok(),
        // It drops what is behind a #.
        ":path" => !value.contains(&b'#') && http::uri::PathAndQuery::try_from(&value[..]).is_ok(),
        _ => true,
    })
}
