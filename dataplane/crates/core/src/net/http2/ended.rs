//! Why streams are over.

use dl_http2::{By, Code};

/// Why a stream is over before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Reset {
        by: By,
        code: Code,
    },
    /// The connection takes no stream any more.
    Refused,
    /// The connection is gone.
    Lost,
    /// The connection is gone, as the peer broke the rules.
    Fatal {
        code: Code,
        why: &'static str,
    },
}

/// Of a stream that was ended here.
pub const CANCELLED: Ended = Ended::Reset {
    by: By::Peer,
    code: Code::CANCEL,
};

// === impl Ended ===

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reset { by: By::Peer, code } => {
                write!(f, "the other side reset the stream: {code}")
            }
            Self::Reset {
                by: By::Us(why),
                code,
            } => write!(f, "{code}: {why}"),
            Self::Refused => f.write_str("the connection takes no more streams"),
            Self::Lost => f.write_str("the connection is gone"),
            Self::Fatal { code, why } => write!(f, "the connection is gone, {code}: {why}"),
        }
    }
}
