//! The end of a listener, with callers that connect again and again meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use tokio::sync::mpsc::unbounded_channel;

use super::*;

/// Callers that do nothing but connect at one time.
const CALLERS: usize = 4;
const ROUNDS: usize = 20;

/// Listen, answer each connection with a byte, drain after a few, close; meanwhile `connect` is called again and again
/// by several threads, until it says that nobody is there.
fn drain_under(address: &str, connect: impl Fn(&str) -> bool + Sync) {
    let listener = Arc::new(Listener::bind(address).unwrap());
    let bound = listener.address().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (sender, mut incoming) = unbounded_channel();
    let recipient = Recipient {
        load: Arc::default(),
        sender,
    };
    let limits = serde_json::from_value(crate::testing::limits()).unwrap();
    let server = Arc::new(Server::new(limits));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| while connect(&bound) {});
        }
        let drain = server.drain.clone();
        scope.spawn(move || {
            let mut served = 0;
            while let Some(Incoming { stream, .. }) = incoming.blocking_recv() {
                // The caller may be gone again; whether it minds, it says itself.
                let _ = match stream {
                    Stream::Tcp(stream) => {
                        answer(stream, |stream| stream.shutdown(Shutdown::Write))
                    }
                    Stream::Unix(stream) => {
                        answer(stream, |stream| stream.shutdown(Shutdown::Write))
                    }
                };
                served += 1;
                if served == 20 {
                    drain.begin();
                }
            }
        });
        let recipients: Rc<[Recipient]> = Rc::new([recipient]);
        runtime
            .block_on(run(
                (listener, None),
                server.drain.door(),
                recipients,
                server.clone(),
            ))
            .unwrap();
        assert_eq!(server.drain.phase(), Phase::Draining);
    });
}

fn answer<S: Write>(mut stream: S, end: impl Fn(&S) -> io::Result<()>) -> io::Result<()> {
    stream.write_all(b"x")?;
    end(&stream)
}

#[test]
fn no_tcp_connection_that_was_made_is_reset_by_the_end_of_the_listener() {
    let resets = Mutex::new(Vec::new());
    for _ in 0..ROUNDS {
        drain_under("127.0.0.1:0", |address| {
            let address: SocketAddr = address.parse().unwrap();
            // One that is not answered was not made: its SYN was dropped.
            let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100))
            else {
                return false;
            };
            match stream.read(&mut [0]) {
                Ok(1) => {}
                other => resets.lock().unwrap().push(format!("{other:?}")),
            }
            true
        });
    }
    assert_eq!(*resets.lock().unwrap(), [""; 0]);
}

#[test]
fn no_unix_connection_that_was_made_is_reset_and_the_path_is_free_at_once() {
    let folder = std::env::temp_dir().join(format!("dl-accept-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let resets = Mutex::new(Vec::new());
    for _ in 0..ROUNDS {
        drain_under(&format!("unix:{}", path.display()), |_| {
            let mut stream = match UnixStream::connect(&path) {
                Ok(stream) => stream,
                // Its backlog is full for a moment.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            match stream.read(&mut [0]) {
                Ok(1) => {}
                other => resets.lock().unwrap().push(format!("{other:?}")),
            }
            true
        });
        assert!(!path.exists());
    }
    assert_eq!(*resets.lock().unwrap(), [""; 0]);
    std::fs::remove_dir(&folder).unwrap();
}

#[test]
fn a_listener_does_not_remove_the_socket_of_the_one_that_follows_it() {
    let path = std::env::temp_dir().join(format!("dl-accept-next-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let former = Listener::bind(&address).unwrap();
    former.close_door();
    let next = Listener::bind(&address).unwrap();
    drop(former);
    assert!(path.exists());
    drop(next);
    assert!(!path.exists());
}
