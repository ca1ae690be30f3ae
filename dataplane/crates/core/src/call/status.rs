//! What a caller is told of a call that failed.

use std::borrow::Cow;

use crate::code::Code;
use crate::error::{Error, ErrorKind};

/// A status other than OK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    /// Empty for the fixed text with the request id, which an INTERNAL gets.
    pub message: Cow<'static, str>,
    /// Goes into the trailer `access-error`; none where the code is the answer, as NOT_FOUND is of a health check.
    pub kind: Option<ErrorKind>,
}

// === impl Status ===

impl Status {
    /// A status that is an answer, not an error of this program's.
    pub fn answer(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            kind: None,
        }
    }

    /// An error with a code of its own: what a hook chose, named by number and word.
    ///
    /// # Errors
    /// Says that there is no such code, that it is OK, or that there is no such kind.
    pub fn named(code: u8, message: String, kind: &str) -> Result<Self, String> {
        let code = match Code::from_u8(code) {
            None | Some(Code::Ok) => {
                return Err(format!("code {code} is not a gRPC error, 1 to 16"));
            }
            Some(code) => code,
        };
        let kind = ErrorKind::from_name(kind)
            .ok_or_else(|| format!("{kind:?} is not a kind of the error table"))?;
        Ok(Self {
            code,
            message: message.into(),
            kind: Some(kind),
        })
    }

    /// The caller gave up, or is gone: nobody is left to tell.
    pub fn gone() -> Self {
        Error::new(ErrorKind::Cancelled, "the caller cancelled the call").into()
    }

    /// The deadline passed before there was an answer.
    pub fn late(message: impl Into<Cow<'static, str>>) -> Self {
        Error::new(ErrorKind::DeadlineExceeded, message).into()
    }

    /// A fault of this program.
    pub fn internal() -> Self {
        Error::new(ErrorKind::Internal, "").into()
    }

    pub fn is_gone(&self) -> bool {
        self.kind == Some(ErrorKind::Cancelled)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self {
            code: error.kind.code(),
            message: error.message,
            kind: Some(error.kind),
        }
    }
}
