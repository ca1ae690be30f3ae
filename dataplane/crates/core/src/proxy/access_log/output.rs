//! Where the lines of the access log go: standard output, or a file that may be renamed under us.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A buffered writer.
pub struct Output {
    /// `None` is standard output.
    path: Option<PathBuf>,
    writer: BufWriter<Box<dyn Write + Send>>,
    /// Device and inode of the open file.
    identity: (u64, u64),
    checked: Instant,
}

// === impl Output ===

impl Output {
    /// Open `-` or a path; a file is appended to, and made when it is not there.
    pub fn open(path: &str) -> io::Result<Self> {
        if path == "-" {
            return Ok(Self::to_writer(Box::new(io::stdout())));
        }
        let path = PathBuf::from(path);
        let (file, identity) = open_file(&path)?;
        let mut output = Self::to_writer(Box::new(file));
        (output.path, output.identity) = (Some(path), identity);
        Ok(output)
    }

    /// Write to anything; never reopened.
    pub fn to_writer(writer: Box<dyn Write + Send>) -> Self {
        Self {
            path: None,
            writer: BufWriter::new(writer),
            identity: (0, 0),
            checked: Instant::now(),
        }
    }

    /// Once every `interval`, make the file again when its path no longer leads to it. Where that fails, the
    /// old file goes on getting the lines: none is lost.
    pub fn reopen_if_moved(&mut self, interval: Duration) {
        let Some(path) = self
            .path
            .as_ref()
            .filter(|_| self.checked.elapsed() >= interval)
        else {
            return;
        };
        self.checked = Instant::now();
        let is_there = path
            .metadata()
            .is_ok_and(|found| identity(&found) == self.identity);
        if is_there || self.writer.flush().is_err() {
            return;
        }
        if let Ok((file, identity)) = open_file(path) {
            self.writer = BufWriter::new(Box::new(file));
            self.identity = identity;
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn open_file(path: &PathBuf) -> io::Result<(File, (u64, u64))> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let identity = identity(&file.metadata()?);
    Ok((file, identity))
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
