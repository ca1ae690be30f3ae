//! A request that was signed: its one message is compared with what was, before its last byte is passed on.

use crate::callers::signing::SignedBody;
use crate::callers::unauthenticated;
use crate::error::Error;
use crate::grpc::framing::Event;

#[derive(Default)]
pub enum Signed {
    /// Nothing was.
    #[default]
    Nothing,
    /// The message, as far as it has come.
    Message(Box<SignedBody>),
    /// It has come, and no other may.
    Whole,
}

// === impl Signed ===

impl Signed {
    pub fn new(body: SignedBody) -> Self {
        Self::Message(Box::new(body))
    }

    /// # Errors
    /// `unauthenticated`: it is another message, or one too many.
    pub fn event(&mut self, event: Event<'_>) -> Result<(), Error> {
        match (&mut *self, event) {
            (Self::Nothing, _) => Ok(()),
            (Self::Message(body), Event::Data(data)) => {
                body.update(data);
                Ok(())
            }
            (Self::Message(_), Event::Start { .. }) => Ok(()),
            (Self::Message(_), Event::End) => match std::mem::replace(self, Self::Whole) {
                Self::Message(body) => body.finish().map_err(|_| unauthenticated()),
                Self::Nothing | Self::Whole => Ok(()),
            },
            (Self::Whole, _) => Err(unauthenticated()),
        }
    }

    /// The request is over.
    ///
    /// # Errors
    /// `unauthenticated`: its message has not come.
    pub fn end(&self) -> Result<(), Error> {
        match self {
            Self::Message(_) => Err(unauthenticated()),
            Self::Nothing | Self::Whole => Ok(()),
        }
    }
}
