use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn tcp() -> (OwnedFd, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener.into(), address)
}

#[test]
fn each_address_gets_its_own_socket_once() {
    let ((one, first), (two, second)) = (tcp(), tcp());
    let mut inherited = Inherited::new(vec![one, two]).unwrap();
    let found = inherited.take(&second).unwrap().unwrap();
    assert_eq!(found.address().unwrap(), second);
    assert!(inherited.take(&second).unwrap().is_none());
    assert!(inherited.take(&first).unwrap().is_some());
}

#[test]
fn port_0_takes_any_port_of_its_ip_address() {
    let (one, address) = tcp();
    let mut inherited = Inherited::new(vec![one]).unwrap();
    assert!(inherited.take("127.0.0.2:0").unwrap().is_none());
    let found = inherited.take("127.0.0.1:0").unwrap().unwrap();
    assert_eq!(found.address().unwrap(), address);
}

#[test]
fn who_connected_before_is_accepted_afterwards() {
    let (one, address) = tcp();
    let _waits = TcpStream::connect(&address).unwrap();
    let mut inherited = Inherited::new(vec![one]).unwrap();
    let Some(Listener::Tcp(listener)) = inherited.take(&address).unwrap() else {
        panic!("no listener");
    };
    assert!(listener.accept().is_ok());
    let error = listener.accept().unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::WouldBlock,
        "it must not block a worker"
    );
}

#[test]
fn a_unix_socket_is_found_by_its_path_and_left_there_when_it_is_handed_on() {
    let path = std::env::temp_dir().join(format!("dl-inherited-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let one = UnixListener::bind(&path).unwrap();
    let mut inherited = Inherited::new(vec![one.into()]).unwrap();
    let found = inherited.take(&address).unwrap().unwrap();
    assert_eq!(found.address().unwrap(), address);
    assert!(UnixStream::connect(&path).is_ok());
    drop(found);
    std::fs::remove_file(&path).expect("the file is left for who goes on");
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let (one, address) = tcp();
    let stream = TcpStream::connect(address).unwrap();
    assert!(Inherited::new(vec![one, stream.into()]).is_err());
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Inherited::new(vec![file.into()]).is_err());
}
