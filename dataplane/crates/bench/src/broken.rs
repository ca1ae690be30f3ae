//! Connections that end otherwise than HTTP/2 says.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::fault::Event;
use crate::socket::{Resetter, Stream};

/// End a connection with a TCP reset.
pub fn reset(stream: Stream) {
    if let Ok(resetter) = stream.resetter() {
        // A failure leaves an orderly end in place of the reset.
        let _ = resetter.arm();
    }
}

/// Answer a connection with bytes that are no HTTP/2.
pub async fn garbage(mut stream: Stream) {
    // No frame of this type and length is legal; the other side may be gone already.
    if stream.write_all(&[0xa5; 4096]).await.is_ok() {
        // Its own bytes are read so that our close is no reset, which could overtake the garbage.
        let mut ignored = [0; 4096];
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    }
}

/// Say that nothing more will be sent, and leave the connection so until the next command.
pub async fn half_close(socket: Resetter, mut signal: watch::Receiver<Option<Event>>) {
    // A failure means that the other side is gone.
    if socket.finish().is_ok() {
        let _ = signal.changed().await;
    }
}
