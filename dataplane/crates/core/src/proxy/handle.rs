//! One call from its request headers to its trailers. Every other module of the request path is called from
//! here, in the order in which a call meets them.

use std::cell::OnceCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{spawn_local, yield_now};
use tokio::time::Instant;

use super::access_log::entry::{Entry, bounded};
use super::affinity;
use super::attempt::Attempt;
use super::call::Call;
use super::caller::Who;
use super::clock::Clock;
use super::cluster::{Cluster, Endpoint, Lease, Share};
use super::failure::Failure;
use super::hops;
use super::listing::Listing;
use super::local;
use super::method::{self, Kind, Method, Streaming};
use super::repository;
use super::runner::{Given, Runner, Runners};
use super::settings::Settings;
use super::trace::Trace;
use super::verdict::{Last, Next};
use super::worker::{SeenState, Worker};
use crate::balance::Refusal;
use crate::call::head::{self, Most, shortened};
use crate::call::responder::Responder;
use crate::callers::allow::Action;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::metadata::{self, RequestId};
use crate::headers::Token;
use crate::net::guard::StreamGuard;
use crate::net::stream::{Answer, Body, Head};

/// How often a call waits for an endpoint that is live when it is picked, too.
const MOST_WAITS: u32 = 8;

/// Let a task serve a call.
pub fn start(runners: &Rc<Runners>, call: Given) {
    runners.run(call, |runner, runners| {
        // A panic ends this task only; its responder answers INTERNAL.
        // Boxed, as a task is moved several times before it runs.
        spawn_local(Box::pin(serve(runner, runners)));
    });
}

/// Serve the calls that a task is given, one after the other.
async fn serve(runner: Rc<Runner>, runners: Rc<Runners>) {
    loop {
        let Given {
            worker,
            who,
            head,
            body,
            answer,
            stream,
            web,
        } = runner.next().await;
        // A request over HTTP decides for its calls.
        let is_own = answer.is_http2();
        let responder = Responder::new(answer, RequestId::of_call(&head.headers));
        match method::find(&head.path) {
            None => {
                let text = format!("unknown method {}", shortened(&head.path));
                let error = Error::new(ErrorKind::UnknownMethod, text);
                refuse((&worker, &who, &stream), &head, responder, error);
            }
            Some(method) if is_ours(&worker, method) => {
                let given = (&worker, &who, &stream);
                // In a box, so that the many calls that go on have no room for it.
                Box::pin(answer_here(given, method, (&head, body), responder)).await;
            }
            Some(method) => {
                let checked = head::check(&head, &worker.shared.config.limits);
                let request = (head.headers, body);
                let mut call = Call::new((worker, who), stream, method, request, responder, web);
                let tracer = call.worker.shared.tracer.as_ref();
                call.trace =
                    tracer.and_then(|tracer| Trace::begin(tracer, &mut call.headers, is_own));
                let served = match checked {
                    Ok(()) => call.serve().await,
                    Err(error) => Err(error),
                };
                let code = served.unwrap_or_else(|error| call.fail(error));
                call.finish(code);
            }
        }
        if !runners.rest(&runner) {
            return;
        }
    }
}

/// Refuse a call that is one too many on its connection, before it takes a task: there may be a thousand of them at once.
pub fn refuse_crowded(
    worker: &Worker,
    who: &Who,
    head: &Head,
    answer: Answer,
    stream: &StreamGuard,
) {
    if let Err(error) = head::check_size(head, Most::of(&worker.shared.config.limits)) {
        let responder = Responder::new(answer, RequestId::of_call(&head.headers));
        refuse((worker, who, stream), head, responder, error);
    }
}

/// Refuse a call of which nothing but its head is looked at.
fn refuse(
    (worker, who, stream): (&Worker, &Who, &StreamGuard),
    head: &Head,
    mut responder: Responder,
    error: Error,
) {
    let (shared, kind, code) = (&worker.shared, error.kind, error.kind.code());
    shared.server.stats.errors.add(kind);
    if let Some(method) = method::find(&head.path) {
        shared.unrouted.record(method.id, code, Duration::ZERO);
        who.count(code);
    }
    if let Some(log) = &shared.access_log {
        let id = responder.request_id().as_str();
        let whose = (id.to_owned(), stream.peer().to_string());
        log.write(Entry {
            caller: who.logged(),
            method: bounded(head.path.trim_start_matches('/')).into(),
            ..Entry::without_call(whose, Instant::now(), code, Some(kind))
        });
    }
    responder.tell_attempts(0, None);
    responder.fail(&error.into());
}

/// Whether the access service answers a method itself.
fn is_ours(worker: &Worker, method: &Method) -> bool {
    method.kind == Kind::Local || worker.shared.config.owns_models && repository::is_mine(method)
}

async fn answer_here(
    (worker, who, stream): (&Rc<Worker>, &Who, &StreamGuard),
    method: &'static Method,
    (head, body): (&Head, Body),
    responder: Responder,
) {
    if let Err(error) = head::check_size(head, Most::of(&worker.shared.config.limits)) {
        return refuse((worker, who, stream), head, responder, error);
    }
    let request = (&head.headers, body);
    let code = match method.kind {
        Kind::Local => local::serve(worker, method, request, responder, who).await,
        _ => repository::serve(worker, method, request, responder, who).await,
    };
    if code == Code::Cancelled {
        stream.reset_before_headers();
    }
}

// === impl Call ===

impl Call {
    async fn serve(&mut self) -> Result<Code, Error> {
        let shared = self.worker.shared.clone();
        let limits = &shared.config.limits;
        self.who.check(self.method)?;
        self.check_admin()?;
        if let Some(signed) = self.who.take_body() {
            self.inbound.must_be(signed);
        }
        if let Some(limit) = self.who.known().and_then(|it| it.limit(self.method.kind)) {
            self.inbound.charges.add(limit)?;
        }
        hops::count(&mut self.headers)?;
        self.caller_deadline = head::timeout(&self.headers)?;
        if let Some(given) = self.who.known().and_then(|it| it.caller().priority) {
            metadata::limit_priority(&mut self.headers, given);
        }
        self.is_low = metadata::is_low_priority(&self.headers);
        let (in_flight, limit) = (&shared.in_flight, limits.max_in_flight);
        let permit = self.permit(in_flight, "the access service", limit);
        let _permit = permit.inspect_err(|_| {
            let stats = &shared.server.stats;
            stats.shed_in_flight.fetch_add(1, Ordering::Relaxed);
        })?;
        let mut timer = std::pin::pin!(tokio::time::sleep_until(
            self.started + Duration::from_secs(86_400)
        ));
        let caller_deadline = self.caller_deadline.map(|limit| self.started + limit);
        let stall = Duration::from_millis(limits.body_timeout_ms);
        let mut clock = Clock::new(timer.as_mut(), self.started, caller_deadline, stall);
        let cluster = self.route(&mut clock).await?;
        metadata::to_upstream(&mut self.headers);
        self.responder.request_id().put(&mut self.headers);
        self.shares(cluster, &mut clock).await
    }

    /// Whether a method that changes the endpoint is allowed.
    fn check_admin(&self) -> Result<(), Error> {
        if self.method.kind != Kind::Admin {
            return Ok(());
        }
        let path = &self.method.path;
        if !self.worker.shared.config.admin_methods {
            let message = format!("{path} is not allowed: set admin_methods to allow it");
            return Err(Error::new(ErrorKind::Denied, message));
        }
        if !self.headers.has(metadata::X_MODEL) {
            let message = format!("{path} needs the metadata x-model, to choose an endpoint");
            return Err(Error::new(ErrorKind::BadRouteKey, message));
        }
        // An endpoint may have several models, and what is asked of it is not looked at.
        self.who
            .known()
            .map_or(Ok(()), |identity| identity.check_all(Action::Admin))
    }

    /// Find the cluster that the call goes to. What it asks for is judged by one routing state, that in which its model
    /// was known, however long the rest of its message takes.
    async fn route(&mut self, clock: &mut Clock<'_>) -> Result<Arc<Cluster>, Error> {
        let (worker, task_id) = (&self.worker, self.method.task_id);
        let state = OnceCell::new();
        let (kind, identity) = (self.method.kind, self.who.known());
        let needs_version = |model: Option<&str>| {
            identity.is_some_and(|it| it.needs_version(kind, model.unwrap_or_default()))
        };
        let uses = |model: Option<&str>, version: Option<&str>| {
            let state: &SeenState = state.get_or_init(|| worker.state());
            let mut uses = state.routes.version_use(model, version, task_id);
            uses.matters |= needs_version(model);
            uses
        };
        // Asked before there is a message, it decides nothing but whether to read one.
        let matters = |model: &str| {
            let uses = worker
                .state()
                .routes
                .version_use(Some(model), None, task_id);
            uses.matters || needs_version(Some(model))
        };
        let (method, responder) = (self.method, &mut self.responder);
        let is_strict = identity.is_some();
        let key = self
            .inbound
            .route_key(
                (method, is_strict),
                &self.headers,
                (matters, uses),
                responder,
                clock,
            )
            .await?;
        let state = state.get_or_init(|| worker.state());
        let route = match self.who.known() {
            None => state.routes.find(&key, task_id)?,
            Some(identity) => identity.route(kind, &key, state.routes.find(&key, task_id))?,
        };
        if let Some(model) = route.model {
            self.record.stats = model.stats.clone();
            // What asks a model for nothing costs it nothing.
            if kind == Kind::Predict {
                let name = model.alias_of.as_ref().unwrap_or(&model.name);
                let at_model = self.who.known().and_then(|it| it.limit_at(name));
                for limit in at_model.into_iter().chain(&model.limit) {
                    if let Err(error) = self.inbound.charges.add(limit) {
                        // The access log names the model of a call over its limit.
                        self.record.key = key;
                        return Err(error);
                    }
                }
            }
        }
        if self.inbound.set_version(self.method, route.version)? {
            // It is of the message before the change.
            self.headers.remove(Token::CONTENT_LENGTH);
        }
        if let Some(version) = route.version {
            metadata::set_version(&mut self.headers, version);
        }
        let listing = |lists| Listing::new(lists, &route, &key);
        self.listing = self.method.lists.and_then(listing);
        if self.listing.is_some() {
            // What is added to an answer is added to its bytes.
            self.headers.remove(metadata::GRPC_ACCEPT_ENCODING);
        }
        if let Some(trace) = &mut self.trace {
            trace.routed();
        }
        self.split = route.split.cloned();
        self.record.key = key;
        Ok(route.cluster)
    }

    /// Try the share of the route that the call is in; where it cannot answer, and another attempt is allowed, one
    /// other share.
    async fn shares(
        &mut self,
        cluster: Arc<Cluster>,
        clock: &mut Clock<'_>,
    ) -> Result<Code, Error> {
        let mut share = Share::new(cluster);
        let mut is_other = false;
        loop {
            let Share { cluster, settings } = &share;
            self.set_deadline(&share, clock);
            if let Some(given) = settings.priority {
                metadata::limit_priority(&mut self.headers, given);
                self.is_low = metadata::is_low_priority(&self.headers);
            }
            let what = format_args!("cluster {}", cluster.name);
            let permit = self.permit(&cluster.in_flight, what, settings.max_in_flight);
            let permit = permit.inspect_err(|_| {
                cluster.stats.shed.fetch_add(1, Ordering::Relaxed);
            })?;
            if !is_other {
                cluster.budget.request();
                if settings.hedge {
                    cluster.hedge_budget.request();
                }
            }
            if self.is_use() {
                cluster.used(self.started);
            }
            self.record.cluster = Some(cluster.clone());
            self.affinity = self.affinity(settings, clock).await?;
            let last = match self.attempts(&share, clock).await {
                Ok(code) => return Ok(code),
                Err(last) => last,
            };
            let other = (!is_other).then(|| self.pick_share(&share, &last));
            let Some(other) = other.flatten() else {
                return self.give_up(last).await;
            };
            drop(permit);
            self.wait_as_told(&last, clock).await?;
            (share, is_other) = (other, true);
        }
    }

    /// What keeps the call on one endpoint: its metadata, else a field of its message, as far as the share's settings
    /// name them.
    async fn affinity(
        &mut self,
        settings: &Settings,
        clock: &mut Clock<'_>,
    ) -> Result<Option<u64>, Error> {
        let key = settings.hash_key.as_ref();
        let hash = key.and_then(|key| affinity::of_call(&self.headers, key));
        let Some(field) = settings.hash_field.as_ref().filter(|_| hash.is_none()) else {
            return Ok(hash);
        };
        let encoding = self.headers.get(metadata::GRPC_ENCODING);
        match field.search(self.method, encoding) {
            Some(search) => {
                let responder = &mut self.responder;
                // In a box: few calls have such a field.
                Box::pin(self.inbound.hash(search, responder, clock)).await
            }
            None => Ok(None),
        }
    }

    /// Limit the call by the caller's deadline and the share's settings.
    fn set_deadline(&self, share: &Share, clock: &mut Clock<'_>) {
        let is_stream = self.method.streaming == Streaming::Bidi;
        let idle = is_stream.then_some(share.settings.stream_idle_timeout);
        clock.set_deadline(self.deadline_in(share), idle);
    }

    /// Try a cluster's endpoints until one answers, a limit is reached, or another attempt is not allowed.
    async fn attempts(&mut self, share: &Share, clock: &mut Clock<'_>) -> Result<Code, Last> {
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let picked = match share.cluster.pick(&[], &self.need(share)) {
            // In a box, so that the many calls that need not wait have no room for it.
            Err(Refusal::NoneLive) => Box::pin(self.wait_for_endpoint(share, clock)).await,
            picked => self.picked(&share.cluster, picked),
        };
        let mut lease = picked.map_err(|error| Last::Error(error, false))?;
        loop {
            let mut attempt = Attempt::new(lease, self.why);
            clock.set_attempt(attempt.end(&share.settings));
            self.begin_attempt(&attempt.endpoint);
            attempt.number = self.attempts;
            let ended = self.attempt(&mut attempt, &mut tried, share, clock).await;
            let last = match self.settle(&mut attempt, ended, clock) {
                (code, Next::Done(error)) => {
                    if code == Code::Ok && error.is_none() {
                        self.model_answered(share, attempt.started);
                    }
                    self.record.error = error;
                    return Ok(code);
                }
                (_, Next::Undecided(last)) => last,
            };
            tried.push(attempt.endpoint);
            let another = match self.pick_another(share, &tried, &last, clock).await {
                Ok(Some(another)) => another,
                Ok(None) => return Err(last),
                Err(error) => return Err(Last::Error(error, false)),
            };
            // The same endpoint again means a connection that takes no more calls.
            if let Some(exchange) = attempt.exchange.filter(|_| another.is_repeat) {
                exchange.discard_connection();
            }
            lease = another.lease;
        }
    }

    /// Tell the caller what the last attempt came to, or what is known without an endpoint.
    async fn give_up(&mut self, last: Last) -> Result<Code, Error> {
        let code = match &last {
            Last::Error(error, _) => error.kind.code(),
            Last::Status(code, _) => *code,
        };
        let listing = self.listing.as_ref();
        if let Some(answer) = listing.and_then(|listing| listing.in_place_of(code)) {
            self.record.bytes_out = answer.len();
            let limits = &self.worker.shared.config.limits;
            let end = Instant::now() + Duration::from_millis(limits.body_timeout_ms);
            return Ok(self.responder.answer(answer, end).await);
        }
        match last {
            Last::Error(error, _) => Err(error),
            Last::Status(code, headers) => {
                self.responder.finish_with(headers);
                Ok(code)
            }
        }
    }

    /// The endpoint of the first attempt, where none is live yet: connects are tried now, and the call waits for them; if
    /// another share of its route may take it, for none but the first ever. Where another one is being started in place of
    /// those that died, the call waits for that.
    async fn wait_for_endpoint(
        &mut self,
        share: &Share,
        clock: &mut Clock<'_>,
    ) -> Result<Lease, Error> {
        let cluster = &share.cluster;
        if let Some(unloaded) = &share.settings.config.unloaded {
            return self.pick_unloaded(share, unloaded, clock).await;
        }
        let worker = self.worker.clone();
        let limit = Duration::from_millis(worker.shared.config.upstream.connect_timeout_ms);
        let other = self.split.as_ref().and_then(|split| split.another(cluster));
        let is_only = other.is_none();
        let restart_wait = share.settings.restart_wait;
        let end = Instant::now() + limit.max(restart_wait);
        // What was seen to be live may have died when it is picked: the call waits on, but not for ever.
        for _ in 0..MOST_WAITS {
            let connects = async {
                if is_only {
                    worker.connect(cluster).await;
                }
                if !restart_wait.is_zero() {
                    pending().await
                }
            };
            let left = end.saturating_duration_since(Instant::now());
            let live = std::pin::pin!(cluster.wait_live(left, connects));
            match clock
                .limit(live, &mut self.responder, |cx| self.inbound.wait(cx))
                .await
            {
                Err(Failure::Caller(error)) => return Err(error),
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
            match cluster.pick(&[], &self.need(share)) {
                Err(Refusal::NoneLive) => yield_now().await,
                picked => return self.picked(cluster, picked),
            }
        }
        self.picked(cluster, Err(Refusal::NoneLive))
    }

    /// What it means for the call that there is no endpoint for it.
    pub fn picked(
        &mut self,
        cluster: &Cluster,
        picked: Result<Lease, Refusal>,
    ) -> Result<Lease, Error> {
        picked.map_err(|refusal| match refusal {
            Refusal::NoneLive => {
                let message = format!("cluster {} has no live endpoint", cluster.name);
                Error::new(ErrorKind::NoEndpoints, message)
            }
            Refusal::Overloaded { retry_after } => {
                cluster.stats.shed.fetch_add(1, Ordering::Relaxed);
                let wait = Duration::from_nanos(retry_after);
                self.responder.push_back(wait);
                let message = format!(
                    "cluster {} is overloaded: no endpoint has room for the call in the time that it has left; try \
                     again in {} ms, or send less (admit_by_deadline, max_in_flight_per_endpoint)",
                    cluster.name,
                    wait.as_millis()
                );
                Error::new(ErrorKind::Shed, message)
            }
        })
    }
}
