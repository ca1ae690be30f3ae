//! The threads of a program that listens: one accepts, and each worker serves the connections that it is given. Start,
//! drain and stop, once for every program; what a call does is the program's [`Service`].

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;

use super::accept::{self, Bound, Incoming, Peer, Recipient, Stream};
use super::connection;
use super::drain::{Door, Phase};
use super::inherited::Inherited;
use super::listener::Listener;
use super::load::Load;
use super::server::Server;
use super::service::Service;
use super::tls::{Protocols, Tls};
use super::waiting::Waiting;
use crate::config::Listen;
use crate::stats::{ClosedReason, RefusedReason};

/// What a port of calls speaks.
const CALLS: Protocols = &[b"h2", b"http/1.1"];
/// What an admin port speaks.
pub const PAGES: Protocols = &[b"http/1.1"];

/// Threads beside one worker, for what takes long. Each ends when it has been idle for some seconds.
const MAX_BLOCKING: usize = 2;

/// The threads of a running program.
pub struct Serving {
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
    loads: Vec<Arc<Load>>,
    /// Told by the loads, once a drain watches them.
    changed: Arc<Notify>,
    /// Tells each worker that the program's state has changed.
    changes: Vec<UnboundedSender<()>>,
}

/// What a worker is told by other threads.
struct Inbox {
    load: Arc<Load>,
    incoming: UnboundedReceiver<Incoming>,
    changes: UnboundedReceiver<()>,
}

/// Bind addresses, but for those whose sockets are inherited; return them with their ports resolved, too.
///
/// # Errors
/// The system's error, with the address in its text, or what is wrong with the files of its TLS.
pub fn bind(
    listen: &[Listen],
    inherited: &mut Inherited,
    server: &Server,
) -> io::Result<(Vec<Bound>, Vec<String>)> {
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for each in listen {
        let (bound, address) = bind_one(each, CALLS, inherited, server)?;
        listeners.push(bound);
        addresses.push(address);
    }
    Ok((listeners, addresses))
}

/// The inherited listener of an address, or a new one, with its TLS; and the address with its port resolved.
///
/// # Errors
/// As `bind`.
pub fn bind_one(
    listen: &Listen,
    protocols: Protocols,
    inherited: &mut Inherited,
    server: &Server,
) -> io::Result<(Bound, String)> {
    let found = inherited.take(listen.address())?;
    let listener = found.map_or_else(|| Listener::bind(listen.address()), Ok)?;
    let address = listener.address()?;
    let tls = listen.tls();
    let tls = tls.map(|it| Tls::start(&address, it.clone(), protocols));
    let tls = tls.transpose()?.map(Arc::new);
    if let Some(tls) = &tls {
        server.add_secured(tls.clone());
    }
    Ok(((Arc::new(listener), tls), address))
}

// === impl Serving ===

impl Serving {
    /// Start the threads, and wait until each worker is ready for connections. `service` makes a worker's service, on
    /// its thread.
    ///
    /// # Errors
    /// The system has no thread or no runtime left; nothing runs then.
    pub fn start<S: Service>(
        server: Arc<Server>,
        listeners: Vec<Bound>,
        workers: usize,
        service: impl Fn() -> S + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let mut serving = Self {
            server,
            threads: Vec::new(),
            loads: Vec::new(),
            changed: Arc::default(),
            changes: Vec::new(),
        };
        let launched = serving.launch(listeners, workers, service);
        launched.inspect_err(|_| serving.end()).map(|()| serving)
    }

    fn launch<S: Service>(
        &mut self,
        listeners: Vec<Bound>,
        workers: usize,
        service: impl Fn() -> S + Clone + Send + 'static,
    ) -> io::Result<()> {
        let (started, starts) = mpsc::channel();
        let mut recipients = Vec::new();
        for index in 0..workers {
            let load = Arc::new(Load::new(self.changed.clone()));
            let (sender, incoming) = unbounded_channel();
            let (change, changes) = unbounded_channel();
            let inbox = Inbox {
                load: load.clone(),
                incoming,
                changes,
            };
            let (server, service, started) =
                (self.server.clone(), service.clone(), started.clone());
            let run = move || run_worker(&server, service, inbox, &started);
            self.threads.push(spawn(format!("dl-worker-{index}"), run)?);
            self.loads.push(load.clone());
            self.changes.push(change);
            recipients.push(Recipient { load, sender });
        }
        starts.iter().take(workers).collect::<io::Result<()>>()?;
        let own = recipients.clone();
        let connect = move |server: &Server| accept::connect(server, &own);
        let _ = self.server.entry.set(Box::new(connect));
        let server = self.server.clone();
        let (started, starts) = mpsc::channel();
        // Counted now: a drain that begins at once waits for them, too.
        let listeners = listeners.into_iter();
        let doors: Vec<_> = listeners.map(|it| (it, server.drain.door())).collect();
        let run = move || {
            if let Some(runtime) = runtime(&started) {
                run_accept(&runtime, &server, doors, recipients);
            }
        };
        self.threads.push(spawn("dl-accept".to_owned(), run)?);
        starts.iter().take(1).collect()
    }

    /// Tell each worker's service that the program's state has changed.
    pub fn state_changed(&self) {
        for change in &self.changes {
            // A worker that is gone is stopping.
            let _ = change.send(());
        }
    }

    /// What waits for a drain, while others may stop it.
    pub fn waiting(&self) -> Waiting {
        Waiting {
            drain: self.server.drain.clone(),
            loads: self.loads.clone(),
            changed: self.changed.clone(),
        }
    }

    /// End everything now and join the threads.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.server.drain.advance(Phase::Stopped);
        self.changes.clear();
        for thread in self.threads.drain(..) {
            // A worker that panicked has reported it; stopping goes on.
            let _ = thread.join();
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run)
}

/// The accept thread: one task for each listener.
fn run_accept(
    runtime: &LocalRuntime,
    server: &Arc<Server>,
    listeners: Vec<(Bound, Door)>,
    recipients: Vec<Recipient>,
) {
    let recipients: Rc<[Recipient]> = recipients.into();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for (listener, door) in listeners {
            let (recipients, server) = (recipients.clone(), server.clone());
            tasks.spawn_local(accept::run(listener, door, recipients, server));
        }
        while let Some(ended) = tasks.join_next().await {
            // Only the set-up of a listener that is bound already can fail here.
            if !matches!(ended, Ok(Ok(()))) {
                server.stats.refused.add(RefusedReason::AcceptError);
            }
        }
    });
}

fn run_worker<S: Service>(
    server: &Arc<Server>,
    service: impl FnOnce() -> S,
    inbox: Inbox,
    started: &Sender<io::Result<()>>,
) {
    if let Some(runtime) = runtime(started) {
        runtime.block_on(work(server, service, inbox));
    }
}

/// This thread's runtime, and word of it to who waits for its start.
fn runtime(started: &Sender<io::Result<()>>) -> Option<LocalRuntime> {
    let built = Builder::new_current_thread()
        .enable_all()
        // They compress what would hold the thread up; more of them would only share the same cores.
        .max_blocking_threads(MAX_BLOCKING)
        .thread_name("dl-beside")
        .build_local(LocalOptions::default());
    let (runtime, result) = match built {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // A receiver that is gone has seen another thread fail, and stops this one.
    let _ = started.send(result);
    runtime
}

async fn work<S: Service>(server: &Arc<Server>, service: impl FnOnce() -> S, mut inbox: Inbox) {
    let service = Rc::new(service());
    let mut watch = server.drain.watch();
    loop {
        tokio::select! {
            Some(incoming) = inbox.incoming.recv() => {
                // Its task ends with the connection, which ends at the latest when the process stops: the runtime
                // owns it.
                spawn_local(serve(incoming, server.clone(), inbox.load.clone(), service.clone()));
            }
            Some(()) = inbox.changes.recv() => service.state_changed(),
            phase = watch.changed() => if phase == Phase::Stopped { break },
        }
    }
}

async fn serve<S: Service>(
    incoming: Incoming,
    server: Arc<Server>,
    load: Arc<Load>,
    service: Rc<S>,
) {
    let Incoming {
        stream,
        peer,
        tls,
        accepted,
    } = incoming;
    match stream {
        Stream::Tcp(stream) => match tls {
            // In a box, so that connections without TLS have no room for it.
            Some(tls) => Box::pin(secured(stream, &tls, peer, server, load, service)).await,
            None => run(TcpStream::from_std(stream), peer, server, load, service).await,
        },
        Stream::Unix(stream) => {
            run(UnixStream::from_std(stream), peer, server, load, service).await;
        }
    }
    drop(accepted);
}

async fn secured<S: Service>(
    stream: std::net::TcpStream,
    tls: &Tls,
    peer: Peer,
    server: Arc<Server>,
    load: Arc<Load>,
    service: Rc<S>,
) {
    // As in `run`.
    let (Ok(stream), Peer::Tcp(address)) = (TcpStream::from_std(stream), peer) else {
        return;
    };
    let end = Instant::now() + Duration::from_millis(server.limits.header_timeout_ms);
    let mut drain = server.drain.watch();
    let accepted = tokio::select! {
        accepted = tls.accept(stream, end) => accepted,
        () = drain.reached(Phase::Stopped) => Err(ClosedReason::Drain),
    };
    match accepted {
        Ok((stream, identity)) => {
            let peer = Peer::Tls(address, identity);
            connection::serve(stream, peer, server, load, service).await;
        }
        Err(reason) => server.stats.closed.add(reason),
    }
}

async fn run<T, S>(
    io: io::Result<T>,
    peer: Peer,
    server: Arc<Server>,
    load: Arc<Load>,
    service: Rc<S>,
) where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    // Fails only when the runtime is going: the socket closes with it.
    if let Ok(io) = io {
        connection::serve(io, peer, server, load, service).await;
    }
}
