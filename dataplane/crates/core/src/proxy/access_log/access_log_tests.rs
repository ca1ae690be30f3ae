use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::UNIX_EPOCH;

use super::entry::Http;
use super::*;

fn entry(request_id: &str) -> Entry {
    Entry {
        time: UNIX_EPOCH,
        request_id: request_id.to_owned(),
        trace_id: None,
        caller: None,
        method: "a.B/C".into(),
        model: "quote\"d".to_owned(),
        version: String::new(),
        cluster: "fleet".into(),
        endpoint: "127.0.0.1:1".into(),
        attempts: 2,
        code: "UNAVAILABLE",
        error: Some("connection_lost"),
        duration_ms: 1.5,
        upstream_ms: Some(1.25),
        bytes_in: 10,
        bytes_out: 0,
        peer: "127.0.0.1:2".to_owned(),
        http: None,
    }
}

/// A path of its own below the system's folder for temporary files.
fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("dl-access-log-{name}-{}", std::process::id()))
}

#[test]
fn each_call_is_one_json_line_and_all_are_written_by_the_close() {
    let path = temporary("lines");
    let log = AccessLog::open(path.to_str().unwrap(), Arc::default()).unwrap();
    log.write(entry("first"));
    log.write(Entry {
        error: None,
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".to_owned()),
        http: Some(Http {
            http_method: "GET".to_owned(),
            http_path: "/".to_owned(),
            http_status: Some(200),
        }),
        ..entry("second")
    });
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[0],
        concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","request_id":"first","method":"a.B/C","model":"quote\"d","#,
            r#""version":"","cluster":"fleet","endpoint":"127.0.0.1:1","attempts":2,"code":"UNAVAILABLE","#,
            r#""error":"connection_lost","duration_ms":1.5,"upstream_ms":1.25,"bytes_in":10,"bytes_out":0,"peer":"127.0.0.1:2"}"#,
        )
    );
    let second: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(second["request_id"], "second");
    assert!(second.get("error").is_none());
    assert_eq!(second["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(second["http_status"], 200);
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_path_that_cannot_be_opened_is_named() {
    let error = AccessLog::open("/nowhere/at/all", Arc::default()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

/// Holds every write until the gate opens.
struct Gate(Arc<Mutex<()>>, Sender<()>);

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.1.send(());
        drop(self.0.lock());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_writer_costs_entries_that_are_counted_and_never_blocks() {
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let (writing, is_writing) = channel();
    let output = Output::to_writer(Box::new(Gate(gate.clone(), writing)));
    let log = AccessLog::start(output, "it", 4, Arc::default()).unwrap();
    log.write(entry("stuck"));
    is_writing.recv().unwrap();
    for _ in 0..10 {
        log.write(entry("more"));
    }
    assert_eq!(log.lost.load(Relaxed), 6);
    drop(shut);
    drop(log);
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn entries_that_cannot_be_written_are_counted() {
    let lost = Arc::new(AtomicU64::new(0));
    let log = AccessLog::start(Output::to_writer(Box::new(Broken)), "it", 4, lost.clone()).unwrap();
    log.write(entry("lost"));
    drop(log);
    assert_eq!(lost.load(Relaxed), 1);
}

#[test]
fn after_a_rename_lines_go_to_a_new_file_under_the_old_path() {
    let (path, moved) = (temporary("rotated"), temporary("rotated.1"));
    let mut output = Output::open(path.to_str().unwrap()).unwrap();
    output.write_all(b"old\n").unwrap();
    output.reopen_if_moved(Duration::ZERO);
    std::fs::rename(&path, &moved).unwrap();
    output.write_all(b"between\n").unwrap();
    output.reopen_if_moved(Duration::from_secs(3_600));
    output.write_all(b"not yet\n").unwrap();
    output.reopen_if_moved(Duration::ZERO);
    output.write_all(b"new\n").unwrap();
    output.flush().unwrap();
    let texts = [&moved, &path].map(|path| std::fs::read_to_string(path).unwrap());
    for path in [&moved, &path] {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(texts, ["old\nbetween\nnot yet\n", "new\n"]);
}

/// Takes nothing while it is full.
struct Disk(Arc<Mutex<bool>>, Sender<()>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_full = *self.0.lock().unwrap();
        let _ = self.1.send(());
        if is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_said_once_and_so_is_room_on_it() {
    let is_full = Arc::new(Mutex::new(true));
    let (writing, is_writing) = channel();
    let output = Output::to_writer(Box::new(Disk(is_full.clone(), writing)));
    let log = AccessLog::start(output, "/full/log", 4, Arc::default()).unwrap();
    let said = || {
        // The writer tells after it has written.
        let until = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(notice) = log.notice() {
                return notice.text;
            }
            assert!(std::time::Instant::now() < until);
            std::thread::yield_now();
        }
    };
    assert!(log.notice().is_none());
    log.write(entry("lost"));
    is_writing.recv().unwrap();
    let text = said();
    assert!(text.contains("/full/log cannot be written"), "{text}");
    assert!(log.notice().is_none());
    *is_full.lock().unwrap() = false;
    log.write(entry("kept"));
    assert_eq!(said(), "the access log /full/log is written again");
    assert!(log.notice().is_none());
}

#[test]
fn what_callers_choose_is_cut_between_two_characters() {
    assert_eq!(entry::bounded(&"a".repeat(300)).len(), 256);
    assert_eq!(entry::bounded(&"\u{e9}".repeat(300)).len(), 256);
    assert_eq!(
        entry::bounded(&format!("a{}", "\u{e9}".repeat(300))).len(),
        255
    );
    assert_eq!(entry::bounded("short"), "short");
}
