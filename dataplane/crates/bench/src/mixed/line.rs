//! One place for a connection: opened when needed, left after a while with calls on it or without, and watched for what
//! the service says at its end.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Error, Reason};
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, spawn_local};

use super::tally::Tally;
use crate::socket::connect;

/// What one connection has room for, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub stream: u32,
    pub connection: u32,
}

/// A connection; the calls on it ask whether it was left.
pub struct Open {
    pub sender: SendRequest<Bytes>,
    pub is_left: Rc<Cell<bool>>,
    task: AbortHandle,
    calls: Cell<u64>,
}

pub struct Line {
    address: String,
    windows: Windows,
    /// After so many calls a connection is left; never, where there is none.
    leave_after: Option<u64>,
    slot: Mutex<Option<Rc<Open>>>,
    tally: Rc<RefCell<Tally>>,
}

// === impl Line ===

impl Line {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(
        address: &str,
        windows: Windows,
        leave_after: Option<u64>,
        tally: Rc<RefCell<Tally>>,
    ) -> Line {
        Line {
            address: address.to_owned(),
            windows,
            leave_after,
            slot: Mutex::new(None),
            tally,
        }
    }

    /// A connection with room for a call. Calls wait for one another while it is opened: hence the lock across an await.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn sender(&self) -> io::Result<(SendRequest<Bytes>, Rc<Cell<bool>>)> {
        let mut slot = self.slot.lock().await;
        if let Some(open) = slot.take() {
            open.calls.set(open.calls.get() + 1);
            if self.leave_after.is_some_and(|most| open.calls.get() > most) {
                // Half are closed under their calls, the others when the last one has ended.
                if fastrand::bool() {
                    open.is_left.set(true);
                    open.task.abort();
                }
            } else if let Ok(sender) = open.sender.clone().ready().await {
                let is_left = open.is_left.clone();
                *slot = Some(open);
                return Ok((sender, is_left));
            }
        }
        let open = Rc::new(self.open().await?);
        let (sender, is_left) = (open.sender.clone(), open.is_left.clone());
        *slot = Some(open);
        Ok((sender, is_left))
    }

    async fn open(&self) -> io::Result<Open> {
        let stream = connect(&self.address).await?;
        let (sender, connection) = Builder::new()
            .initial_window_size(self.windows.stream)
            .initial_connection_window_size(self.windows.connection)
            .max_concurrent_reset_streams(10_000)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let tally = self.tally.clone();
        tally.borrow_mut().connections += 1;
        let task = spawn_local(async move {
            if let Err(error) = connection.await {
                tally.borrow_mut().connection_ended(&described(&error));
            }
        });
        let sender = sender.ready().await.map_err(io::Error::other)?;
        Ok(Open {
            sender,
            is_left: Rc::default(),
            task: task.abort_handle(),
            calls: Cell::new(0),
        })
    }
}

/// An error of HTTP/2 in few words.
pub fn described(error: &Error) -> String {
    let what = match (error.is_go_away(), error.is_reset(), error.is_remote()) {
        (true, _, true) => "GOAWAY",
        (true, _, false) => "our own GOAWAY",
        (_, true, true) => "RST_STREAM",
        (_, true, false) => "our own RST_STREAM",
        _ => return error.to_string(),
    };
    format!("{what} {:?}", error.reason().unwrap_or(Reason::NO_ERROR))
}
