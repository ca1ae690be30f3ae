//! Why a request is nobody's, and what whoever sent it is told.

use std::fmt;
use std::sync::Arc;

use super::{signing, tokens};
use crate::error::{Error, ErrorKind};

/// Why a request is nobody's; for the log, never for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    NoCredential,
    /// Two headers, or one of them twice.
    TwoCredentials,
    /// `authorization` with another scheme than Bearer, or with nothing behind it.
    Scheme,
    /// With the first bytes of its digest, as the document has it.
    UnknownKey(u32),
    ExpiredKey {
        caller: Arc<str>,
        id: Box<str>,
    },
    Token(tokens::Wrong),
    Signature(signing::Wrong),
    /// A signature of what is answered here, or of a stream.
    Unsignable,
    /// The certificate is one caller's and the key another's, or the certificate has names of two.
    TwoCallers,
}

/// The answer to whoever is no caller, whatever was wrong.
pub fn unauthenticated() -> Error {
    let text = "no valid credential: send a key as x-api-key or as authorization: Bearer KEY";
    Error::new(ErrorKind::Unauthenticated, text)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredential => write!(f, "no credential"),
            Self::TwoCredentials => write!(f, "several credentials in one request"),
            Self::Scheme => write!(f, "an authorization that is not `Bearer KEY`"),
            Self::UnknownKey(first) => {
                write!(f, "an unknown key (its sha256 begins with {first:08x})")
            }
            Self::ExpiredKey { caller, id } => write!(f, "key {id} of {caller}, which has expired"),
            Self::Token(wrong) => f.write_str(wrong.text()),
            Self::Signature(wrong) => write!(f, "a signature: {}", wrong.text()),
            Self::Unsignable => {
                write!(
                    f,
                    "a signature of a stream, or of what is answered without an endpoint"
                )
            }
            Self::TwoCallers => write!(f, "credentials of two callers"),
        }
    }
}
