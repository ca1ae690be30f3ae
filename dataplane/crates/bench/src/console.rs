//! Standard input as a channel of lines, and standard output without buffering.

use std::io::{self, BufRead, Write};

use tokio::sync::mpsc;

/// Read lines of standard input on a thread of their own; the channel closes at its end.
#[must_use]
pub fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // Not joined: a blocked read of standard input cannot be woken, the process's end stops it.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Write one line and flush it: the other side waits for it.
///
/// # Errors
/// Standard output is closed.
pub fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
