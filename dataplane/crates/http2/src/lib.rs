//! HTTP/2 (RFC 9113) for a proxy: both roles of a connection as a state machine. No I/O, no clock, no tasks: bytes go in,
//! events come out, and what is to be written is gathered for one write.

#![forbid(unsafe_code)]

mod chunks;
mod conn;
mod flow;
mod frame;
pub mod headers;
pub mod hpack;
mod limits;
mod out;
mod rules;
mod stream;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use chunks::Chunks;
pub use conn::{By, Config, Connection, Event, Fatal, Full, Gone, Role};
pub use frame::{Code, MAX_WINDOW, PREFACE};
pub use headers::{Field, Headers, Name, Token, Tokens};
pub use out::Out;
pub use rules::is_value;
pub use stream::Key;
