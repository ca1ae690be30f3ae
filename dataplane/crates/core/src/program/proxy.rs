//! The access service as a program: bind, serve, apply, drain, stop.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_local;

use super::{dashboard, proxy_pages as pages};
use crate::admin::http::{AdminPages, AdminServer, NotableCalls, Ordered, Trials, Watching};
use crate::callers::CallersConfig;
use crate::config::{ProxyConfig, StateConfig};
use crate::local::reflection::Reflection;
use crate::net::accept::Bound;
use crate::net::drain::Phase;
use crate::net::guard::StreamGuard;
use crate::net::inherited::Inherited;
use crate::net::listener::Listener;
use crate::net::serve::{PAGES, Serving, bind, bind_one};
use crate::net::service::Service;
use crate::net::stream::{Answer, Body, Head, without_query};
use crate::notice::Notice;
use crate::proxy::access_log::web::WebRequest;
use crate::proxy::caller::{Who, who};
use crate::proxy::handle;
use crate::proxy::local;
use crate::proxy::method;
use crate::proxy::orders::{Action, Done, Order};
use crate::proxy::recorder::Which;
use crate::proxy::runner::{Given, Runners};
use crate::proxy::state::{Part, Shared};
use crate::proxy::worker::Worker;
use crate::rest::{self, Guest, Intake, Uris, Wanted};
use crate::spans::http::HttpTrace;
use crate::stats::history::History;

/// The running access service.
pub struct Proxy {
    shared: Arc<Shared>,
    history: Arc<Mutex<History>>,
    /// Bound and not served yet: callers wait in the system's queues until there is a state to route them by.
    bound: Option<Vec<Bound>>,
    /// The listening sockets, for a process that takes over; each is open until it is dropped elsewhere.
    listeners: Vec<Weak<Listener>>,
    serving: Option<Serving>,
    admin: Option<AdminServer>,
    uris: Arc<Uris>,
}

/// What can be asked of and told to an access service while another control call, a drain above all, goes on.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    /// Made by the admin port's thread.
    history: Arc<Mutex<History>>,
}

/// How a cluster is used.
pub struct Usage {
    pub cluster: String,
    /// How long ago a call came that needs the model, if any did.
    pub unused_for: Option<Duration>,
    pub in_flight: usize,
    pub is_live: bool,
}

/// Gives each call of a worker to a task of its own.
struct Calls {
    worker: Rc<Worker>,
    runners: Rc<Runners>,
    /// For requests over HTTP.
    intake: Rc<Intake>,
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
        let reflection = Reflection::new(descriptors, &local::services())?;
        let shared = Shared::new(config, reflection).map_err(|error| error.to_string())?;
        let uris = Uris::new(&shared.config.uris, shared.held.clone());
        let uris = uris.map_err(|error| format!("uris: {error}"))?;
        Ok(Self {
            uris: Arc::new(uris),
            shared: Arc::new(shared),
            history: Arc::default(),
            bound: None,
            listeners: Vec::new(),
            serving: None,
            admin: None,
        })
    }

    /// Bind everything but what is inherited; calls are taken once a state is applied. Return the bound addresses, the
    /// admin address last. Inherited sockets of no address are closed.
    ///
    /// # Errors
    /// An address that cannot be bound; nothing runs then.
    pub fn start(&mut self, mut inherited: Inherited) -> io::Result<Vec<String>> {
        if self.bound.is_some() || self.serving.is_some() {
            return Err(io::Error::other("the proxy was started already"));
        }
        let config = &self.shared.config;
        if !inherited.is_empty() {
            // Who bound them may go on with them: a filter that closes the door here would close it there, for good.
            self.shared.server.hand_over();
        }
        let server = &self.shared.server;
        let (listeners, mut addresses) = bind(&config.listen, &mut inherited, server)?;
        if let Some(port) = &config.admin {
            let (bound, address) = bind_one(port, PAGES, &mut inherited, server)?;
            let started = AdminServer::start(bound, Arc::new(self.control()))?;
            let _ = server.admin.set(address.clone());
            addresses.push(address);
            self.admin = Some(started);
        }
        self.listeners = listeners.iter().map(|it| Arc::downgrade(&it.0)).collect();
        self.bound = Some(listeners);
        Ok(addresses)
    }

    /// Let these callers in, and nobody else; what is open for everybody is health.
    ///
    /// # Errors
    /// Names what is wrong; those before stay.
    pub fn set_callers(&self, config: &CallersConfig) -> Result<(), String> {
        self.shared.set_callers(config)
    }

    /// Swap in a whole routing state. The first one opens the doors.
    ///
    /// # Errors
    /// Names what is wrong; the old state stays.
    pub fn apply(&mut self, config: &StateConfig) -> Result<(), String> {
        self.shared.apply(config)?;
        if let Some(listeners) = self.bound.take() {
            let opened = self.serve(listeners);
            self.serving = Some(opened.map_err(|error| error.to_string())?);
        } else if let Some(serving) = &self.serving {
            serving.state_changed();
        }
        Ok(())
    }

    fn serve(&self, listeners: Vec<Bound>) -> io::Result<Serving> {
        let (shared, uris) = (self.shared.clone(), self.uris.clone());
        let calls = move || {
            let worker = Worker::new(shared.clone(), local::local_services(&shared));
            let intake = Intake::new(shared.held.clone(), &shared.config.limits, uris.clone());
            Calls {
                worker: Rc::new(worker),
                runners: Rc::default(),
                intake: Rc::new(intake),
            }
        };
        let server = self.shared.server.clone();
        Serving::start(server, listeners, self.shared.config.workers, calls)
    }

    pub fn control(&self) -> Control {
        Control {
            shared: self.shared.clone(),
            history: self.history.clone(),
        }
    }

    /// The descriptors of the listening sockets, for a process that is to inherit them.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let open = self.open();
        open.iter().map(|it| it.descriptor()).collect()
    }

    /// Another process goes on with the listening sockets: accept no more, here and at the admin port. A drain follows.
    pub fn hand_over(&mut self) {
        for listener in self.open() {
            listener.leave();
        }
        self.shared.server.hand_over();
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
    }

    fn open(&self) -> Vec<Arc<Listener>> {
        let admin = self.admin.as_ref().and_then(AdminServer::listener);
        let listeners = self.listeners.iter().filter_map(Weak::upgrade);
        listeners.chain(admin).collect()
    }

    /// Close the listeners, say GOAWAY, and wait for the calls in flight. True when all ended within `limit`, and before
    /// the process was told to stop at once.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.orders.close();
        self.shared.server.drain.begin();
        self.shared.health.bump();
        let serving = self.serving.as_ref();
        serving.is_none_or(|serving| serving.waiting().drained(limit))
    }

    /// End everything now and join the threads.
    pub fn stop(&mut self) {
        self.control().stop();
        self.bound = None;
        if let Some(serving) = self.serving.take() {
            serving.stop();
        }
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Control ===

impl Control {
    /// Say that everything is to end now; a drain that goes on ends, too.
    pub fn stop(&self) {
        self.shared.orders.close();
        self.shared.server.drain.advance(Phase::Stopped);
    }

    /// The page of /status.
    pub fn status(&self) -> String {
        pages::json(&self.shared)
    }

    /// Show a document of the control plane's under `control` in /status.
    pub fn set_control_status(&self, status: serde_json::Value) {
        self.shared.set_control_status(status);
    }

    /// Show a document of the control plane's at a path of the admin port; none takes it away.
    pub fn show_document(&self, path: &str, document: Option<String>) {
        self.shared.server.show_document(path, document);
    }

    /// Whether whoever reaches the admin port may do more than read: it is a port of the machine itself, or said so.
    fn takes_orders(&self) -> bool {
        let is_local = |admin: &String| {
            let address = admin.parse::<std::net::SocketAddr>();
            admin.starts_with("unix:") || address.is_ok_and(|it| it.ip().is_loopback())
        };
        let server = &self.shared.server;
        self.shared.config.admin_methods || server.admin.get().is_some_and(is_local)
    }

    /// Show metrics of the models' own code, in Prometheus' text format, after ours.
    pub fn show_metrics(&self, text: String) {
        self.shared.server.show_metrics(text);
    }

    /// The limits of which at least this part was wanted since the last question, so long ago.
    pub fn wanted_limits(&self, over_s: f64, least: f64) -> Vec<Part> {
        self.shared.wanted(over_s, least)
    }

    /// Allow these parts of limits from now on, and `rest` of every other one; none: as configured.
    pub fn share_limits(&self, rest: Option<f64>, parts: &[Part]) {
        self.shared.share(rest, parts);
    }

    /// What is new for the operator's log.
    pub fn notices(&self) -> Vec<Notice> {
        let (shared, now) = (&self.shared, Instant::now());
        let state = shared.state.load();
        let mut notices = shared.watch.notices(&state.addresses, &state.clusters, now);
        notices.extend(shared.server.notices());
        notices.extend(shared.tracer.as_ref().and_then(|tracer| tracer.notice()));
        notices.extend(shared.access_log.as_ref().and_then(|log| log.notice()));
        notices.extend(shared.refusals.notice(now));
        let (clients, now) = (state.clients.iter(), SystemTime::now());
        notices.extend(clients.flat_map(|it| it.notices(now)));
        notices
    }

    /// The next order of a caller's for the control plane; none after `limit`, or at the end.
    pub fn next_order(&self, limit: Duration) -> Option<Order> {
        self.shared.orders.next(limit)
    }

    /// Tell whoever gave an order what came of it.
    pub fn answer_order(&self, id: u64, done: Done) {
        self.shared.orders.answer(id, done);
    }

    /// How each cluster is used.
    pub fn usage(&self) -> Vec<Usage> {
        let state = self.shared.state.load();
        let clusters = state.clusters.iter();
        clusters
            .map(|cluster| Usage {
                cluster: cluster.name.to_string(),
                unused_for: cluster.unused_for(),
                in_flight: cluster.in_flight.count(),
                is_live: cluster.is_live(),
            })
            .collect()
    }

    /// Count one reload of a configuration or discovery source.
    pub fn count_reload(&self, source: &str, ok: bool) {
        self.shared.server.stats.count_reload(source, ok);
    }
}

impl AdminPages for Control {
    fn metrics(&self) -> String {
        self.shared
            .server
            .with_shown_metrics(pages::metrics(&self.shared))
    }

    fn status_json(&self) -> String {
        self.status()
    }

    fn calls_json(&self, request_id: Option<&str>) -> Option<Result<String, String>> {
        let recorder = &self.shared.recorder;
        let found = request_id.map_or_else(|| Ok(recorder.held()), |id| recorder.find(id));
        Some(found.map(|it| it.to_string()).map_err(|it| it.to_string()))
    }

    fn watching(&self) -> Watching {
        match self.shared.server.drain.phase() {
            Phase::Running => Watching::Welcome,
            _ => Watching::Over,
        }
    }

    fn second(&self, number: u64, is_watched: bool) -> Option<String> {
        dashboard::second(&self.shared, &self.history, number, is_watched)
    }

    fn history_json(&self, model: Option<&str>) -> Option<Result<String, String>> {
        Some(dashboard::history(&self.shared, &self.history, model))
    }

    fn notable_calls_json(&self, which: &NotableCalls) -> Option<String> {
        let which = Which {
            is_failed: which.is_failed,
            model: which.model.as_deref(),
            limit: which.limit,
        };
        Some(self.shared.recorder.notable(&which).to_string())
    }

    fn errors_json(&self) -> Option<String> {
        Some(dashboard::errors())
    }

    fn order(&self, action: &str, model: &str) -> Option<Ordered> {
        let config = &self.shared.config;
        let action = Action::from_name(action).filter(|_| config.owns_models)?;
        if !self.takes_orders() {
            return Some(Ordered::Denied);
        }
        let given = self.shared.orders.give(action, model);
        Some(given.map_or(Ordered::Crowded, Ordered::Given))
    }

    fn has_dashboard(&self) -> bool {
        true
    }

    fn document(&self, path: &str) -> Option<Arc<str>> {
        self.shared.server.document(path)
    }

    fn trials(&self) -> Option<Trials> {
        let config = &self.shared.config;
        self.takes_orders().then(|| Trials {
            server: self.shared.server.clone(),
            max_bytes: config.limits.max_message_bytes,
            is_for_all: config.admin_methods,
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.ready()
    }

    fn remarks(&self) -> Vec<String> {
        pages::remarks(&self.shared, SystemTime::now())
    }
}

/// What a request over HTTP takes of who sends it, as far as the calls do not see to it that it becomes.
fn guest(mut who: Who, head: &Head) -> (Who, Guest) {
    if matches!(who, Who::Anybody) {
        return (who, Guest::default());
    }
    let (scope, signed) = (who.scope(), who.take_body());
    let (who, checked) = match rest::wanted(head) {
        Wanted::Nothing => (who, Ok(())),
        Wanted::Method => {
            let method = method::find(&head.path);
            let checked = method.map_or(Ok(()), |method| who.check(method));
            (who, checked)
        }
        Wanted::Caller => {
            let checked = who.check_known();
            (who, checked)
        }
        Wanted::Prediction => {
            let checked = who.check_known();
            (who.predicting(), checked)
        }
        Wanted::EveryModel => {
            let checked = who.check_all();
            (who, checked)
        }
    };
    let refused = checked.err();
    let guest = Guest {
        refused,
        scope,
        signed,
    };
    (who, guest)
}

// === impl Calls ===

impl Service for Calls {
    fn call(&self, mut head: Head, body: Body, answer: Answer, stream: StreamGuard) {
        let is_grpc = rest::is_grpc(&head) && answer.is_http2();
        let who = who(&self.worker, &mut head, is_grpc, stream.peer());
        head.put_off();
        if !is_grpc {
            let intake = self.intake.clone();
            let (who, guest) = guest(who, &head);
            if let Some(refused) = &guest.refused {
                self.worker.shared.server.stats.errors.add(refused.kind);
                who.count(refused.kind.code());
            }
            let tracer = self.worker.shared.tracer.as_ref();
            let trace = tracer.and_then(|tracer| {
                let what = (&head.verb, without_query(&head.path));
                HttpTrace::begin(tracer, what, &mut head.headers)
            });
            let log = self.worker.shared.access_log.as_ref();
            let web = log.map(|log| WebRequest::new(log, &mut head, &stream, who.logged()));
            let of = web.clone();
            let (worker, runners) = (self.worker.clone(), self.runners.clone());
            let inner = stream.again();
            let call = move |head, body, answer| {
                let call = Given {
                    worker: worker.clone(),
                    who: who.clone(),
                    head,
                    body,
                    answer,
                    stream: inner.again(),
                    web: of.clone(),
                };
                handle::start(&runners, call);
            };
            spawn_local(Box::pin(async move {
                let served = rest::serve(intake, guest, head, body, answer, stream, call);
                let (status, error) = served.await;
                if let Some(web) = web {
                    web.end(status, error);
                }
                if let Some(trace) = trace {
                    trace.end(status);
                }
            }));
            return;
        }
        if head.is_crowded {
            return handle::refuse_crowded(&self.worker, &who, &head, answer, &stream);
        }
        let call = Given {
            worker: self.worker.clone(),
            who,
            head,
            body,
            answer,
            stream,
            web: None,
        };
        handle::start(&self.runners, call);
    }

    fn state_changed(&self) {
        self.worker.state_changed();
        self.intake.state_changed();
    }
}
