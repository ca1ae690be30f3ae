//! Methods that the access service answers itself: health, reflection, and what OIP asks of a server.

use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};

use super::method::Method;
use super::state::Worker;

pub fn services() -> Vec<&'static str> {
    Vec::new()
}

pub async fn serve(
    _worker: &Rc<Worker>,
    _method: &'static Method,
    _headers: HeaderMap,
    _body: RecvStream,
    _respond: SendResponse<Bytes>,
    _request_id: HeaderValue,
) {
}
