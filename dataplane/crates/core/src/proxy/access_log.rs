//! The access log: one JSON line for each call, off unless configured. The request path only hands an
//! entry over; a thread writes it. When the writer cannot keep up, entries are dropped and counted: a slow
//! disk never slows a call.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub mod entry;
mod output;
pub mod web;

use crate::notice::Notice;
use entry::Entry;
use output::Output;

/// Entries that may wait for the writer: a second of 16,000 calls/s, about 5 MB.
const MAX_WAITING: usize = 16_384;
/// How often the file is looked for under its path, so that it is made again after a rename (logrotate).
const REOPEN_CHECK: Duration = Duration::from_secs(1);

/// The running writer; dropping it writes what waits.
#[derive(Debug)]
pub struct AccessLog {
    sender: Option<SyncSender<Entry>>,
    /// Entries dropped because the writer was behind, or that could not be written.
    lost: Arc<AtomicU64>,
    trouble: Arc<Trouble>,
    thread: Option<JoinHandle<()>>,
}

/// Why lines cannot be written, for the operator.
#[derive(Debug)]
struct Trouble {
    path: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The error of the last line that failed, while none has been written since.
    error: Option<String>,
    /// As the operator knows it.
    is_said: bool,
}

// === impl AccessLog ===

impl AccessLog {
    /// Open a file for appending, or standard output for `-`, and start the writer.
    ///
    /// Args: `lost`: counts the entries that are not written (`dl_access_log_lost_total`).
    /// Errors: the file cannot be opened, or the thread cannot be started.
    pub fn open(path: &str, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let output = Output::open(path).map_err(|e| {
            io::Error::new(e.kind(), format!("cannot open the access log {path}: {e}"))
        })?;
        Self::start(output, path, MAX_WAITING, lost)
    }

    fn start(
        mut output: Output,
        path: &str,
        max_waiting: usize,
        lost: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(max_waiting);
        let trouble = Arc::new(Trouble {
            path: path.to_owned(),
            state: Mutex::default(),
        });
        let shared = (lost.clone(), trouble.clone());
        let write = move || run(&receiver, &mut output, &shared.0, &shared.1);
        let thread = std::thread::Builder::new()
            .name("dl-access-log".to_owned())
            .spawn(write)?;
        Ok(Self {
            sender: Some(sender),
            lost,
            trouble,
            thread: Some(thread),
        })
    }

    /// What is new for the operator: that lines cannot be written, or can again.
    pub fn notice(&self) -> Option<Notice> {
        self.trouble.notice()
    }

    /// Hand one entry over; never waits.
    pub fn write(&self, entry: Entry) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(entry) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Drop for AccessLog {
    /// Write what waits, and join the thread.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            // The writer has nothing that panics; if it did, its entries are gone and there is no one to ask.
            let _ = thread.join();
        }
    }
}

// === impl Trouble ===

impl Trouble {
    fn tell(&self, written: io::Result<()>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.error = written.err().map(|error| error.to_string());
        state.error.is_none()
    }

    fn notice(&self) -> Option<Notice> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_said == state.error.is_some() {
            return None;
        }
        state.is_said = !state.is_said;
        let path = &self.path;
        Some(match &state.error {
            Some(error) => Notice::warning(format!(
                "the access log {path} cannot be written, calls go on without it: {error}; make room there, or set \
                 access_log to another place (dl_access_log_lost_total counts the lines)"
            )),
            None => Notice::info(format!("the access log {path} is written again")),
        })
    }
}

/// Write until the sender is gone. Lines are flushed whenever nothing more waits.
fn run(receiver: &Receiver<Entry>, output: &mut Output, lost: &AtomicU64, trouble: &Trouble) {
    let mut line = Vec::with_capacity(512);
    // Lines in the buffer: all of them are lost when a flush fails.
    let mut unflushed = 0;
    loop {
        let entry = match receiver.try_recv() {
            Ok(entry) => entry,
            Err(_) => {
                if !trouble.tell(output.flush()) {
                    lost.fetch_add(unflushed, Relaxed);
                }
                unflushed = 0;
                match receiver.recv_timeout(REOPEN_CHECK) {
                    Ok(entry) => entry,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        output.reopen_if_moved(REOPEN_CHECK);
        line.clear();
        let written = serde_json::to_writer(&mut line, &entry).map_err(io::Error::from);
        line.push(b'\n');
        match written.and_then(|()| output.write_all(&line)) {
            Ok(()) => unflushed += 1,
            Err(error) => {
                trouble.tell(Err(error));
                lost.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
#[path = "access_log/access_log_tests.rs"]
mod tests;
