//! The lists of header fields that calls come with and are answered with: the HTTP/2 engine's own, so that none is
//! turned into another kind of list on the path of a request.

pub use dl_http2::headers::{Field, Headers, Token, Tokens, text};
pub use dl_http2::is_value;
