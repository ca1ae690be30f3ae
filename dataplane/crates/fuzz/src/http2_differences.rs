//! In what h2 is known to differ from our connection, and why. All else that differs is a fault of one of them.

use dl_http2::Role;

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
const END_STREAM: u8 = 0x1;
const ENABLE_PUSH: u16 = 2;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;
const FLOW_CONTROL_ERROR: u32 = 3;

/// Where the two are known to differ; from there on nothing is compared.
pub struct Known {
    role: Role,
    acknowledged: usize,
    /// Of the latest frame.
    kind: u8,
    flags: u8,
    stream: u32,
    is_within_block: bool,
}

impl Known {
    pub fn new(role: Role) -> Self {
        Self {
            role,
            acknowledged: 0,
            kind: 0,
            flags: 0,
            stream: 0,
            is_within_block: false,
        }
    }

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
        (self.kind, self.flags, self.stream) = (kind, flags, stream);
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
                Some("a list that depends on itself: h2 does not read the rest of its block")
            }
            WINDOW_UPDATE if payload.len() == 4 && depends_on(0) == Some(0) => {
                Some("a window opened by 0: h2 ends the connection also where a stream's was meant")
            }
            PUSH_PROMISE => Some("PUSH_PROMISE: h2 does not end the connection, or late"),
            SETTINGS if flags & ACK != 0 && stream == 0 && payload.is_empty() => {
                self.acknowledged += 1;
                (self.acknowledged > 1)
                    .then_some("settings acknowledged twice: h2 ends the connection")
            }
            SETTINGS if entries(payload).any(|it| it.0 == ENABLE_CONNECT_PROTOCOL && it.1 > 1) => {
                Some("a setting of RFC 8441 that is none: ours does not know it")
            }
            _ => match self.role {
                Role::Server => of_client(kind, stream, verdict),
                Role::Client => of_server(kind, stream, payload, verdict),
            },
        }
    }

    /// By what became of the frame.
    pub fn differs_by_fields(
        &mut self,
        ours: &Verdict,
        other: &Verdict,
        why: Option<&str>,
    ) -> Option<&'static str> {
        if self.is_within_block && (ours.is_over, &ours.resets) != (other.is_over, &other.resets) {
            return Some("within a block: h2 judges what there is of it, ours the whole");
        }
        if ours.is_over && !other.is_over && other.resets.contains_key(&self.stream) {
            return Some(
                "a malformed request on a stream of an even number: h2 judges the request first",
            );
        }
        if self.role == Role::Client
            && let Some(differs) = self.differs_by_answers(ours, other, why)
        {
            return Some(differs);
        }
        if other.is_over && !ours.is_over && ours.resets.contains_key(&self.stream) {
            return Some(
                "a malformed name or value: ours resets the stream, h2 ends the connection",
            );
        }
        for (id, request) in &other.messages {
            if request.fields.iter().any(|(name, _)| name.contains('"')) {
                return Some("a name with a quotation mark: the http crate takes it for a token");
            }
            let is_root = |(name, value): &(String, Vec<u8>)| name == ":path" && value == b"/";
            if !ours.messages.contains_key(id) && request.fields.iter().any(is_root) {
                return Some("no path: h2 takes it for /");
            }
        }
        for (id, request) in &ours.messages {
            let is_te = |(name, value): &(String, Vec<u8>)| name == "te" && value != b"trailers";
            if request.fields.iter().any(is_te) {
                return Some("te: trailers in upper case: h2 resets the stream");
            }
            if request.is_reset
                && other
                    .messages
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

    fn differs_by_answers(
        &self,
        ours: &Verdict,
        other: &Verdict,
        why: Option<&str>,
    ) -> Option<&'static str> {
        let is_reset = |verdict: &Verdict| {
            let message = verdict.messages.get(&self.stream);
            message.is_some_and(|it| it.is_reset)
        };
        if (ours.is_over, other.is_over) == (true, false)
            && why.is_some_and(|it| it.contains("makes a window too large"))
        {
            return Some("settings that do so where we have ended: h2 does not look at it");
        }
        let code = ours.resets.get(&self.stream);
        if code.is_none() || other.resets.contains_key(&self.stream) {
            return None;
        }
        let ends = matches!(self.kind, HEADERS | DATA) && self.flags & END_STREAM != 0;
        if is_reset(other) && (ends || self.kind == CONTINUATION) {
            return Some("a malformed end of what we have ended, too: h2 sends no reset for it");
        }
        if !is_reset(other) && why == Some("a pseudo-header field that has no place here") {
            return Some("a request's pseudo-header field in an answer: h2 lets it pass");
        }
        let has_empty_length = |verdict: &Verdict| {
            let fields = verdict.messages.get(&self.stream).map(|it| &it.fields);
            fields.is_some_and(|it| {
                it.iter()
                    .any(|(name, value)| name == "content-length" && value.is_empty())
            })
        };
        if has_empty_length(other) {
            return Some("a content-length of no digits: h2 takes it for 0");
        }
        if self.kind == WINDOW_UPDATE && code == Some(&FLOW_CONTROL_ERROR) {
            return Some("a window beyond the largest where we have ended: h2 does not look at it");
        }
        None
    }
}

/// In a client's frames.
fn of_client(kind: u8, stream: u32, verdict: &Verdict) -> Option<&'static str> {
    match kind {
        HEADERS if verdict.has_passed(stream) => Some(
            "HEADERS after the end: one resets the stream, where the other ends the connection",
        ),
        DATA if verdict
            .messages
            .get(&stream)
            .is_some_and(|it| it.has_ended && !it.is_reset) =>
        {
            Some(
                "DATA after the end: ours resets the stream, as section 5.1 says, h2 ends the connection",
            )
        }
        GOAWAY => Some("GOAWAY of a client: h2 takes it for the end of the connection"),
        _ => None,
    }
}

/// In a server's.
fn of_server(kind: u8, stream: u32, payload: &[u8], verdict: &Verdict) -> Option<&'static str> {
    let message = verdict.messages.get(&stream);
    match kind {
        SETTINGS if entries(payload).any(|it| it == (ENABLE_PUSH, 1)) => {
            Some("a server that allows pushes: h2 lets it pass, against section 6.5.2")
        }
        HEADERS | DATA
            if message.is_some_and(|it| it.is_reset || it.has_ended)
                && !verdict.resets.contains_key(&stream) =>
        {
            Some("more of an answer that is over: ours passes it over, h2 resets the stream")
        }
        _ => None,
    }
}

/// Of SETTINGS: what each is for, and its value.
fn entries(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload.chunks_exact(6).map(|it| {
        let value = u32::from_be_bytes([it[2], it[3], it[4], it[5]]);
        (u16::from_be_bytes([it[0], it[1]]), value)
    })
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
