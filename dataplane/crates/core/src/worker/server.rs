//! The front's thread and sockets: bind, serve, drain, stop. Python talks to it through the queue only.

use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use super::handle::{Ended, Front, handle};
use super::queue::Call;
use super::state::Shared;
use crate::admin::http::AdminServer;
use crate::config::WorkerConfig;
use crate::grpc::metadata::random;
use crate::net::accept::{self, Incoming, Listener, Load, Peer, Stream, Target};
use crate::net::connection::{self, Server, Service, StreamGuard};
use crate::net::drain::Phase;
use crate::net::limits::ConnectionLimiter;

/// How often a drain looks whether its calls have ended.
const DRAIN_CHECK: Duration = Duration::from_millis(2);

/// How long a drain without calls in flight still waits for callers to take their last answers and close:
/// one that hangs must not use up the whole time.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The native front of a model server.
pub struct WorkerFront {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Running {
    thread: JoinHandle<()>,
    admin: Option<AdminServer>,
    load: Arc<Load>,
}

/// Gives each stream of a connection to a task of its own.
struct Calls {
    front: Rc<Front>,
}

// === impl WorkerFront ===

impl WorkerFront {
    /// Check a [`WorkerConfig`] document; start nothing. `descriptors` is the FileDescriptorSet of reflection.
    ///
    /// # Errors
    /// Says what is wrong with the documents.
    pub fn new(config_json: &str, descriptors: &[u8]) -> Result<Self, String> {
        let config: WorkerConfig =
            serde_json::from_str(config_json).map_err(|error| format!("configuration: {error}"))?;
        if config.listen.is_empty() {
            return Err("listen must not be empty".to_owned());
        }
        if config.max_batch == 0 || config.max_queue == 0 {
            return Err("max_batch and max_queue must be at least 1".to_owned());
        }
        Ok(Self {
            shared: Arc::new(Shared::new(config, descriptors)?),
            running: Mutex::default(),
        })
    }

    /// Bind and serve; return the bound addresses, the admin address last.
    ///
    /// # Errors
    /// An address that cannot be bound, or a second start; nothing new runs then.
    pub fn start(&self) -> io::Result<Vec<String>> {
        let mut running = self.running();
        if running.is_some() || self.shared.drain.phase() != Phase::Running {
            return Err(io::Error::other("the model server was started already"));
        }
        let listen = &self.shared.config.listen;
        let listeners: Vec<_> = listen
            .iter()
            .map(|address| Listener::bind(address))
            .collect::<Result<_, _>>()?;
        let mut addresses: Vec<_> = listeners
            .iter()
            .map(Listener::address)
            .collect::<Result<_, _>>()?;
        let mut admin = None;
        if let Some(address) = &self.shared.config.admin {
            let (bound, server) = AdminServer::start(address, self.shared.clone())?;
            addresses.push(bound);
            admin = Some(server);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let load = Arc::new(Load::default());
        let (shared, thread_load) = (self.shared.clone(), load.clone());
        let thread = std::thread::Builder::new()
            .name("dl-front".to_owned())
            .spawn(move || run(&runtime, shared, thread_load, listeners))?;
        *running = Some(Running {
            thread,
            admin,
            load,
        });
        Ok(addresses)
    }

    /// Say whether the model may be called.
    pub fn set_ready(&self, is_ready: bool) {
        self.shared.set_ready(is_ready);
    }

    /// Wait for requests, as [`Queue::next_batch`] with the configured batch size.
    pub fn next_batch(&self, timeout: Duration) -> Option<Vec<Call>> {
        self.shared
            .queue
            .next_batch(self.shared.config.max_batch, timeout)
    }

    /// Say NOT_SERVING, close the listeners, say GOAWAY, and wait for the calls in flight, which Python goes on
    /// answering; then close the queue. True when all ended within `limit`.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.start_drain();
        // Not under the lock: a stop must not wait for a drain.
        let load = self.running().as_ref().map(|running| running.load.clone());
        let has_ended = load.is_none_or(|load| wait_until_idle(&load, limit));
        self.shared.queue.close();
        has_ended
    }

    /// End everything now and join the thread: calls that are not answered yet see their connection close.
    pub fn stop(&self) {
        self.shared.queue.abort();
        self.shared.drain.advance(Phase::Stopped);
        let running = self.running().take();
        if let Some(running) = running {
            // A thread that panicked has reported it; stopping goes on.
            let _ = running.thread.join();
            if let Some(admin) = running.admin {
                admin.stop();
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WorkerFront {
    fn drop(&mut self) {
        self.stop();
    }
}

fn wait_until_idle(load: &Load, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut quiet_since = None;
    loop {
        let now = Instant::now();
        if load.streams() > 0 {
            quiet_since = None;
        } else if load.connections() == 0
            || now.duration_since(*quiet_since.get_or_insert(now)) >= CLOSE_GRACE
        {
            return true;
        }
        if now >= end {
            return load.streams() == 0;
        }
        std::thread::sleep(DRAIN_CHECK);
    }
}

fn run(runtime: &Runtime, shared: Arc<Shared>, load: Arc<Load>, listeners: Vec<Listener>) {
    // Dropped at the end, it ends what still runs.
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        let (sender, incoming) = unbounded_channel();
        let limits = &shared.config.limits;
        let limiter = Rc::new(ConnectionLimiter::new(
            limits.max_connections,
            limits.max_connections_per_ip,
        ));
        let targets = Rc::new([Target {
            load: load.clone(),
            sender,
        }]);
        for listener in listeners {
            let (shared, limiter, targets) = (shared.clone(), limiter.clone(), targets.clone());
            spawn_local(async move {
                let user_timeout = shared.config.limits.tcp_user_timeout_ms;
                // Only the set-up of a listener that is bound already can fail here; it then accepts nothing.
                let _ = accept::run(
                    listener,
                    &*targets,
                    &limiter,
                    &shared.process,
                    &shared.drain,
                    user_timeout,
                )
                .await;
            });
        }
        drop(targets);
        serve_connections(shared, load, incoming).await;
    });
}

async fn serve_connections(
    shared: Arc<Shared>,
    load: Arc<Load>,
    mut incoming: UnboundedReceiver<Incoming>,
) {
    let server = Rc::new(Server {
        limits: shared.config.limits.clone(),
        drain: shared.drain.clone(),
        stats: shared.process.clone(),
        load,
    });
    let calls = Rc::new(Calls {
        front: Rc::new(Front::new(shared.clone())),
    });
    let mut watch = shared.drain.watch();
    loop {
        tokio::select! {
            Some(incoming) = incoming.recv() => serve_connection(incoming, &shared, &server, &calls),
            phase = watch.changed() => if phase == Phase::Stopped { break },
        }
    }
}

fn serve_connection(
    incoming: Incoming,
    shared: &Arc<Shared>,
    server: &Rc<Server>,
    calls: &Rc<Calls>,
) {
    let Incoming {
        stream,
        peer,
        accepted,
    } = incoming;
    let (shared, server, calls) = (shared.clone(), server.clone(), calls.clone());
    spawn_local(async move {
        let _accepted = accepted;
        shared.connections.fetch_add(1, Ordering::Relaxed);
        match stream {
            Stream::Tcp(stream) => {
                serve(tokio::net::TcpStream::from_std(stream), peer, server, calls).await
            }
            Stream::Unix(stream) => {
                serve(
                    tokio::net::UnixStream::from_std(stream),
                    peer,
                    server,
                    calls,
                )
                .await
            }
        }
        shared.connections.fetch_sub(1, Ordering::Relaxed);
    });
}

async fn serve<T>(io: io::Result<T>, peer: Peer, server: Rc<Server>, calls: Rc<Calls>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let jitter = 0.9 + 0.2 * (random() % 1024) as f64 / 1024.0;
    // Fails only when the runtime is going: the socket closes with it.
    if let Ok(io) = io {
        connection::serve(io, peer, server, calls, jitter).await;
    }
}

// === impl Calls ===

impl Service for Calls {
    fn call(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        stream: StreamGuard,
    ) {
        let front = self.front.clone();
        // A panic ends this task only; its Responder answers INTERNAL.
        spawn_local(async move {
            if handle(front, request, respond).await == Ended::Cancelled {
                stream.reset_before_headers();
            }
        });
    }
}
