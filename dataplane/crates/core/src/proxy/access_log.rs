//! The access log: one JSON line for each call, off unless configured. The request path only hands an
//! entry over; a thread writes it. When the writer cannot keep up, entries are dropped and counted: a slow
//! disk never slows a call.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use serde::{Serialize, Serializer};

mod output;

use output::Output;

/// Entries that may wait for the writer: a second of 16,000 calls/s, about 5 MB.
const MAX_WAITING: usize = 16_384;
/// How often the file is looked for under its path, so that it is made again after a rename (logrotate).
const REOPEN_CHECK: Duration = Duration::from_secs(1);

/// One finished call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When the call ended; written in UTC with milliseconds.
    #[serde(serialize_with = "rfc_3339")]
    pub time: SystemTime,
    pub request_id: String,
    /// Full name without the leading slash.
    pub method: &'static str,
    /// Route key; empty when none was found.
    pub model: String,
    pub version: String,
    /// Empty when the call did not get that far.
    pub cluster: String,
    /// The endpoint of the last attempt.
    pub endpoint: String,
    pub attempts: u32,
    /// Name of the gRPC code that the caller got.
    pub code: &'static str,
    /// Kind of error of ours; left out when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    pub duration_ms: f64,
    /// Bytes of the request's and of the answer's body.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Address of the caller.
    pub peer: String,
}

/// The running writer; dropping it writes what waits.
#[derive(Debug)]
pub struct AccessLog {
    sender: Option<SyncSender<Entry>>,
    /// Entries dropped because the writer was behind, or that could not be written.
    lost: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
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
        Self::start(output, MAX_WAITING, lost)
    }

    fn start(mut output: Output, max_waiting: usize, lost: Arc<AtomicU64>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(max_waiting);
        let shared = lost.clone();
        let write = move || run(&receiver, &mut output, &shared);
        let thread = std::thread::Builder::new()
            .name("dl-access-log".to_owned())
            .spawn(write)?;
        Ok(Self {
            sender: Some(sender),
            lost,
            thread: Some(thread),
        })
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

/// As `2026-11-21T08:05:09.042Z`; a clock that is set to a time before 1970 says 1970.
fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_rfc3339_millis(*time.max(&SystemTime::UNIX_EPOCH)))
}

/// Write until the sender is gone. Lines are flushed whenever nothing more waits.
fn run(receiver: &Receiver<Entry>, output: &mut Output, lost: &AtomicU64) {
    let mut line = Vec::with_capacity(512);
    // Lines in the buffer: all of them are lost when a flush fails.
    let mut unflushed = 0;
    loop {
        let entry = match receiver.try_recv() {
            Ok(entry) => entry,
            Err(_) => {
                if output.flush().is_err() {
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
            Err(_) => drop(lost.fetch_add(1, Relaxed)),
        }
    }
}

#[cfg(test)]
#[path = "access_log/access_log_tests.rs"]
mod tests;
