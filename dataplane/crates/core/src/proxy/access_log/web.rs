//! A request over HTTP in the access log. Its calls end before it does: their lines wait for its status.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::AccessLog;
use super::entry::{self, Entry, Http};
use crate::code::Code;
use crate::error::ErrorKind;
use crate::grpc::metadata::RequestId;
use crate::grpc::trace_context::TraceContext;
use crate::net::guard::StreamGuard;
use crate::net::stream::Head;

/// One request over HTTP, until it and its calls are over; then their lines are written, or one of its own where it became
/// no call.
pub struct WebRequest {
    log: Arc<AccessLog>,
    id: String,
    trace_id: Option<String>,
    caller: Option<String>,
    verb: String,
    path: String,
    peer: String,
    started: Instant,
    ended: Cell<(Option<StatusCode>, Option<ErrorKind>)>,
    entries: RefCell<Vec<Entry>>,
}

// === impl WebRequest ===

impl WebRequest {
    /// The head has its request id from here on.
    pub fn new(
        log: &Arc<AccessLog>,
        head: &mut Head,
        stream: &StreamGuard,
        caller: Option<String>,
    ) -> Rc<Self> {
        let id = RequestId::of_call(&head.headers);
        let text = id.as_str().to_owned();
        id.put(&mut head.headers);
        Rc::new(Self {
            log: log.clone(),
            id: text,
            trace_id: TraceContext::find(&head.headers).map(|it| it.trace_id_text()),
            caller,
            verb: entry::bounded(head.verb.as_str()),
            path: entry::bounded(head.path_alone()),
            peer: stream.peer().to_string(),
            started: Instant::now(),
            ended: Cell::default(),
            entries: RefCell::default(),
        })
    }

    /// Keep the line of a call that was made for the request.
    pub fn add(&self, entry: Entry) {
        self.entries.borrow_mut().push(entry);
    }

    /// Say what it was answered with; without a status its caller went before.
    pub fn end(&self, status: Option<StatusCode>, error: Option<ErrorKind>) {
        self.ended.set((status, error));
    }
}

impl Drop for WebRequest {
    fn drop(&mut self) {
        let (status, error) = self.ended.get();
        let mut entries = self.entries.take();
        if entries.is_empty() {
            let code = status.map_or(Code::Cancelled, |status| Code::from_http(status.as_u16()));
            let code = error.map_or(code, ErrorKind::code);
            let whose = (self.id.clone(), self.peer.clone());
            entries.push(Entry {
                trace_id: self.trace_id.clone(),
                caller: self.caller.clone(),
                ..Entry::without_call(whose, self.started, code, error)
            });
        }
        for mut entry in entries {
            entry.http = Some(Http {
                http_method: self.verb.clone(),
                http_path: self.path.clone(),
                http_status: status.map(|status| status.as_u16()),
            });
            self.log.write(entry);
        }
    }
}
