//! The access service's threads and sockets: bind, serve, apply, drain, stop.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::runtime::{Builder, LocalOptions, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::handle::handle;
use super::local::local_services;
use super::pool::Pool;
use super::state::{Shared, Worker};
use super::status;
use crate::admin::http::{AdminPages, AdminServer};
use crate::admin::metrics::RefusedReason;
use crate::admin::reflection::Reflection;
use crate::config::{ProxyConfig, StateConfig};
use crate::grpc::metadata::random;
use crate::net::accept::{self, Incoming, Listener, Load, Stream, Target};
use crate::net::connection::{self, Server, Service, StreamGuard};
use crate::net::drain::{Drain, Phase};
use crate::net::limits::ConnectionLimiter;

/// How often a drain looks whether its calls have ended.
const DRAIN_CHECK: Duration = Duration::from_millis(5);

/// The running access service.
pub struct Proxy {
    shared: Arc<Shared>,
    running: Option<Running>,
}

struct Running {
    threads: Vec<JoinHandle<()>>,
    admin: Option<AdminServer>,
    loads: Vec<Arc<Load>>,
    /// Tells each worker that the routing state has changed.
    state_changed: Vec<UnboundedSender<()>>,
}

/// Gives each stream of a connection to a task of its own.
struct Calls {
    worker: Rc<Worker>,
}

struct Pages {
    shared: Arc<Shared>,
}

// === impl Proxy ===

impl Proxy {
    /// Check the configuration; start nothing.
    ///
    /// # Errors
    /// Says what is wrong with the documents.
    pub fn new(config: ProxyConfig, descriptors: &[u8]) -> Result<Self, String> {
        if config.workers == 0 || config.listen.is_empty() {
            return Err("workers and listen must not be empty".to_owned());
        }
        let reflection = Reflection::new(descriptors, &super::local::services())?;
        Ok(Self {
            shared: Arc::new(Shared::new(config, reflection).map_err(|error| error.to_string())?),
            running: None,
        })
    }

    /// Bind everything and start the threads; return the bound addresses, the admin address last.
    ///
    /// # Errors
    /// An address that cannot be bound; nothing runs then.
    pub fn start(&mut self) -> io::Result<Vec<String>> {
        if self.running.is_some() {
            return Err(io::Error::other("the proxy was started already"));
        }
        let config = &self.shared.config;
        let listeners: Vec<_> = config
            .listen
            .iter()
            .map(|address| Listener::bind(address))
            .collect::<Result<_, _>>()?;
        let mut addresses: Vec<_> = listeners
            .iter()
            .map(Listener::address)
            .collect::<Result<_, _>>()?;
        let mut admin = None;
        if let Some(address) = &config.admin {
            let (bound, server) = AdminServer::start(
                address,
                Arc::new(Pages {
                    shared: self.shared.clone(),
                }),
            )?;
            addresses.push(bound);
            admin = Some(server);
        }
        let mut running = Running {
            threads: Vec::new(),
            admin,
            loads: Vec::new(),
            state_changed: Vec::new(),
        };
        let launched = self.launch(&mut running, listeners);
        self.running = Some(running);
        if let Err(error) = launched {
            self.stop();
            return Err(error);
        }
        Ok(addresses)
    }

    /// Start the threads, and wait until each worker is ready for connections.
    fn launch(&self, running: &mut Running, listeners: Vec<Listener>) -> io::Result<()> {
        let (started, starts) = channel();
        let mut targets = Vec::new();
        for index in 0..self.shared.config.workers {
            let load = Arc::new(Load::default());
            let (sender, incoming) = unbounded_channel();
            let (state_changed, changes) = unbounded_channel();
            let (shared, worker_load, started) =
                (self.shared.clone(), load.clone(), started.clone());
            let run = move || run_worker(shared, worker_load, incoming, changes, &started);
            running
                .threads
                .push(spawn(format!("dl-worker-{index}"), run)?);
            running.loads.push(load.clone());
            running.state_changed.push(state_changed);
            targets.push(Target { load, sender });
        }
        let workers = self.shared.config.workers;
        starts.iter().take(workers).collect::<io::Result<()>>()?;
        let shared = self.shared.clone();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let run = move || run_accept(&runtime, &shared, listeners, &targets);
        running.threads.push(spawn("dl-accept".to_owned(), run)?);
        Ok(())
    }

    /// Swap in a whole routing state.
    ///
    /// # Errors
    /// Names what is wrong; the old state stays.
    pub fn apply(&self, config: &StateConfig) -> Result<(), String> {
        self.shared.apply(config)?;
        for sender in self
            .running
            .iter()
            .flat_map(|running| &running.state_changed)
        {
            // A worker that is gone is stopping.
            let _ = sender.send(());
        }
        Ok(())
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Close the listeners, say GOAWAY, and wait for the calls in flight. True when all ended within `limit`, and before
    /// the process was told to stop at once.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.drain.begin();
        self.shared.health.bump();
        let end = Instant::now() + limit;
        let Some(running) = &self.running else {
            return true;
        };
        loop {
            // The accept thread, started last, may still bring what came before the drain.
            let is_accepting = running
                .threads
                .last()
                .is_some_and(|thread| !thread.is_finished());
            let is_idle = !is_accepting
                && running
                    .loads
                    .iter()
                    .all(|load| load.streams() == 0 && load.connections() == 0);
            let is_stopped = self.shared.drain.phase() == Phase::Stopped;
            if is_idle || is_stopped || Instant::now() >= end {
                return running.loads.iter().all(|load| load.streams() == 0);
            }
            std::thread::sleep(DRAIN_CHECK);
        }
    }

    /// End everything now and join the threads.
    pub fn stop(&mut self) {
        self.shared.drain.advance(Phase::Stopped);
        if let Some(running) = self.running.take() {
            drop(running.state_changed);
            for thread in running.threads {
                // A worker that panicked has reported it; stopping goes on.
                let _ = thread.join();
            }
            if let Some(admin) = running.admin {
                admin.stop();
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(run)
}

/// The accept task: one for all listeners.
fn run_accept(runtime: &Runtime, shared: &Shared, listeners: Vec<Listener>, targets: &[Target]) {
    let limits = &shared.config.limits;
    let limiter = ConnectionLimiter::new(limits.max_connections, limits.max_connections_per_ip);
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for listener in listeners {
            tasks.push(Box::pin(accept::run(
                listener,
                targets,
                &limiter,
                &shared.stats,
                &shared.drain,
                limits.tcp_user_timeout_ms,
            )));
        }
        for task in join_all(tasks).await {
            // Only the set-up of a listener that is bound already can fail here.
            if task.is_err() {
                shared.stats.refused.add(RefusedReason::AcceptError);
            }
        }
    });
}

/// Run futures side by side until all have ended.
async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut results = Vec::new();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| match std::pin::Pin::new(future).poll(cx) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results
}

fn run_worker(
    shared: Arc<Shared>,
    load: Arc<Load>,
    mut incoming: UnboundedReceiver<Incoming>,
    mut changes: UnboundedReceiver<()>,
    started: &Sender<io::Result<()>>,
) {
    let built = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    // A receiver that is gone has seen another worker fail, and stops this one.
    let runtime = match built {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            runtime
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    runtime.block_on(async move {
        let limits = Rc::new(shared.config.limits.clone());
        let worker = Rc::new(Worker {
            pool: Pool::new(limits.clone()),
            local: local_services(&shared, shared.reflection.clone()),
            shared: shared.clone(),
        });
        let server = Rc::new(Server {
            limits: shared.config.limits.clone(),
            drain: shared.drain.clone(),
            stats: shared.stats.clone(),
            load,
        });
        let calls = Rc::new(Calls {
            worker: worker.clone(),
        });
        let drain: Drain = shared.drain.clone();
        let mut watch = drain.watch();
        worker.pool.reconcile(&shared.state.load().addresses);
        loop {
            tokio::select! {
                Some(incoming) = incoming.recv() => serve_connection(incoming, &server, &calls),
                Some(()) = changes.recv() => worker.pool.reconcile(&shared.state.load().addresses),
                phase = watch.changed() => if phase == Phase::Stopped { break },
            }
        }
    });
}

/// Its task ends with the connection, which ends at the latest when the process stops: the runtime owns it.
fn serve_connection(incoming: Incoming, server: &Rc<Server>, calls: &Rc<Calls>) {
    let Incoming {
        stream,
        peer,
        accepted,
    } = incoming;
    let (server, calls, worker) = (server.clone(), calls.clone(), calls.worker.clone());
    let jitter = 0.9 + 0.2 * (random() % 1024) as f64 / 1024.0;
    tokio::task::spawn_local(async move {
        let _accepted = accepted;
        calls.worker.shared.connections.fetch_add(1, Relaxed);
        match stream {
            Stream::Tcp(stream) => {
                if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                    connection::serve(stream, peer, server.clone(), calls, jitter).await;
                }
            }
            Stream::Unix(stream) => {
                if let Ok(stream) = tokio::net::UnixStream::from_std(stream) {
                    connection::serve(stream, peer, server.clone(), calls, jitter).await;
                }
            }
        }
        worker.shared.connections.fetch_sub(1, Relaxed);
    });
}

// === impl Calls ===

impl Service for Calls {
    fn call(
        &self,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        stream: StreamGuard,
    ) {
        // A panic ends this task only; its Responder answers INTERNAL.
        // Boxed, as the future is some 3 KB and a task is moved several times before it runs.
        let call = Box::pin(handle(self.worker.clone(), request, respond, stream));
        tokio::task::spawn_local(call);
    }
}

// === impl Pages ===

impl AdminPages for Pages {
    fn metrics(&self) -> String {
        status::metrics(&self.shared)
    }

    fn status_json(&self) -> String {
        status::json(&self.shared)
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.ready()
    }

    fn remarks(&self) -> Vec<String> {
        status::remarks(&self.shared, SystemTime::now())
    }
}
