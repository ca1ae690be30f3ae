//! A model server as a program: bind, serve, drain, stop. Python talks to it through the queue only.

use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::spawn_local;

use super::model_server_pages::Pages;
use crate::admin::http::AdminServer;
use crate::config::WorkerConfig;
use crate::net::drain::Phase;
use crate::net::guard::StreamGuard;
use crate::net::inherited::Inherited;
use crate::net::serve::{PAGES, Serving, bind, bind_one};
use crate::net::service::Service;
use crate::net::stream::{Answer, Body, Head, without_query};
use crate::notice::Notice;
use crate::rest::{self, Guest, Intake, Uris};
use crate::spans::http::HttpTrace;
use crate::worker::front::Front;
use crate::worker::hand::Hand;
use crate::worker::handle::handle;
use crate::worker::queue::Call;
use crate::worker::state::Shared;
use crate::worker::taken::{Done, Handed, Taken};
use crate::worker::tuner::Served;

/// The native front of a model server.
pub struct ModelServer {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
    /// What Python works on.
    taken: Mutex<Taken>,
    /// From the start on, where there are other processes to tell; or why not.
    hand: OnceLock<Result<Hand, String>>,
    is_no_hand_told: AtomicBool,
}

struct Running {
    serving: Serving,
    admin: Option<AdminServer>,
}

/// Gives each call to a task of its own.
struct Calls {
    front: Rc<Front>,
    /// For requests over HTTP.
    intake: Rc<Intake>,
}

// === impl ModelServer ===

impl ModelServer {
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
        if config.max_batch == 0 || config.max_queue == 0 || config.batching.max_rows == 0 {
            let text = "max_batch, max_queue and batching.max_rows must be at least 1";
            return Err(text.to_owned());
        }
        Ok(Self {
            shared: Arc::new(Shared::new(config, descriptors)?),
            running: Mutex::default(),
            taken: Mutex::default(),
            hand: OnceLock::new(),
            is_no_hand_told: AtomicBool::new(false),
        })
    }

    /// Bind and serve; return the bound addresses, the admin address last.
    ///
    /// # Errors
    /// An address that cannot be bound, or a second start; nothing new runs then.
    pub fn start(&self) -> io::Result<Vec<String>> {
        let mut running = self.running();
        let server = &self.shared.server;
        if running.is_some() || server.drain.phase() != Phase::Running {
            return Err(io::Error::other("the model server was started already"));
        }
        let config = &self.shared.config;
        let (listeners, mut addresses) = bind(&config.listen, &mut Inherited::default(), server)?;
        if let Some(hands) = &config.hands {
            // A model is served without it, too.
            let _ = self.hand.set(Hand::open(hands, config.max_batch));
        }
        let mut admin = None;
        if let Some(port) = &config.admin {
            let (bound, address) = bind_one(port, PAGES, &mut Inherited::default(), server)?;
            let started = AdminServer::start(bound, Arc::new(Pages(self.shared.clone())))?;
            addresses.push(address);
            admin = Some(started);
        }
        let shared = self.shared.clone();
        let calls = move || {
            let outbox = shared.outbox.clone();
            // Ends with the worker's runtime, which owns it.
            spawn_local(async move { outbox.deliver().await });
            // The access service fetches from hosts, which an operator names there.
            let uris = Arc::new(Uris::none());
            let intake = Intake::new(shared.held.clone(), &shared.config.limits, uris);
            Calls {
                front: Rc::new(Front::new(shared.clone())),
                intake: Rc::new(intake),
            }
        };
        // One worker: what a call costs here is little beside the model.
        let serving = Serving::start(server.clone(), listeners, 1, calls)?;
        *running = Some(Running { serving, admin });
        Ok(addresses)
    }

    /// Say whether the model may be called.
    pub fn set_ready(&self, is_ready: bool) {
        self.shared.set_ready(is_ready);
    }

    /// Wait for requests, as [`Queue::next_batch`](crate::worker::queue::Queue::next_batch) with the configured batch
    /// size.
    pub fn next_batch(&self, timeout: Duration) -> Option<Handed> {
        // Whoever asks for calls has done with those before.
        let now = Instant::now();
        self.shared.meter.set_busy(false, now);
        let done = self.taken().done(now);
        self.served(done);
        let was_waiting = self.shared.queue.len() > 0;
        let mut calls = self.next_calls(timeout)?;
        let now = take_up(&self.shared, &mut calls);
        self.taken().take(served_of(&calls), now);
        self.shared.meter.set_busy(true, now);
        Some(self.handed(calls, was_waiting))
    }

    /// The next batch without waiting for it, to be prepared while the model works on the one before.
    pub fn next_beside(&self) -> Option<Handed> {
        let mut calls = self.next_calls(Duration::ZERO)?;
        let now = take_up(&self.shared, &mut calls);
        self.taken().take_beside(served_of(&calls), now);
        Some(self.handed(calls, true))
    }

    fn handed(&self, calls: Vec<Call>, was_waiting: bool) -> Handed {
        Handed {
            calls,
            was_waiting,
            outbox: self.shared.outbox.clone(),
        }
    }

    /// The batch before is done with: go on with the one beside it, whose preparation took so long.
    pub fn turn(&self, prepared: Duration) {
        let now = Instant::now();
        let done = self.taken().turn(prepared, now);
        self.served(done);
        self.shared.meter.move_on(now);
    }

    fn next_calls(&self, timeout: Duration) -> Option<Vec<Call>> {
        let most = self.shared.config.max_batch;
        let queue = &self.shared.queue;
        match self.hand() {
            Some(hand) => hand.next_batch(queue, most, timeout),
            None => queue.next_batch(most, timeout),
        }
    }

    fn served(&self, done: Option<Done>) {
        if let Some(Done { batch, took }) = done {
            self.shared.queue.served(batch, took);
        }
    }

    /// Show metrics of the model's own code, in Prometheus' text format, after ours.
    pub fn show_metrics(&self, text: String) {
        self.shared.server.show_metrics(text);
    }

    /// What is new for the operator's log.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = self.shared.server.notices();
        let trouble = self.hand.get().and_then(|hand| match hand {
            Ok(hand) => hand.trouble(),
            Err(text) => {
                (!self.is_no_hand_told.swap(true, Ordering::Relaxed)).then(|| text.clone())
            }
        });
        notices.extend(
            self.shared
                .tracer
                .as_ref()
                .and_then(|tracer| tracer.notice()),
        );
        notices.extend(trouble.map(|text| {
            Notice::warning(format!(
                "requests that kill processes are not found: {text}"
            ))
        }));
        notices
    }

    /// Count one call of the model, for so many calls with so many rows, and how long each of these was in each stage.
    pub fn measured(&self, calls: usize, rows: usize, stages: [Duration; 3]) {
        let stats = &self.shared.stages;
        stats.model_calls.fetch_add(1, Relaxed);
        stats.model_rows.fetch_add(rows as u64, Relaxed);
        for (histogram, took) in [&stats.preprocess, &stats.model, &stats.postprocess]
            .into_iter()
            .zip(stages)
        {
            for _ in 0..calls {
                histogram.record(took);
            }
        }
        self.shared.meter.move_on(Instant::now());
    }

    /// Count calls that Python left out: nobody waits for their answers any more.
    pub fn left_out(&self, calls: u64) {
        self.shared.stages.left_in_hand.fetch_add(calls, Relaxed);
    }

    /// Say NOT_SERVING, close the listeners, say GOAWAY, and wait for the calls in flight, which Python goes on
    /// answering; then close the queue. True when all ended within `limit`.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.start_drain();
        // Taken out of the lock: a stop must not wait for a drain.
        let waiting = self
            .running()
            .as_ref()
            .map(|running| running.serving.waiting());
        let has_ended = waiting.is_none_or(|waiting| waiting.drained(limit));
        self.shared.queue.close();
        has_ended
    }

    /// End everything now and join the threads: calls that are not answered yet see their connection close.
    pub fn stop(&self) {
        self.shared.queue.abort();
        if let Some(hand) = self.hand() {
            hand.abort();
        }
        self.shared.server.drain.advance(Phase::Stopped);
        let running = self.running().take();
        if let Some(running) = running {
            running.serving.stop();
            if let Some(admin) = running.admin {
                admin.stop();
            }
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand(&self) -> Option<&Hand> {
        self.hand.get()?.as_ref().ok()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls leave the queue now.
fn take_up(shared: &Shared, calls: &mut [Call]) -> Instant {
    let now = Instant::now();
    for call in calls {
        let waited = now.saturating_duration_since(call.queued);
        shared.stages.queue.record(waited);
        call.slot.take_up(now, waited);
    }
    now
}

fn served_of(calls: &[Call]) -> Served {
    Served::of(calls.iter().map(|call| (call.payload.rows(), call.group)))
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl Calls ===

impl Service for Calls {
    fn call(&self, mut head: Head, body: Body, answer: Answer, stream: StreamGuard) {
        let front = self.front.clone();
        head.put_off();
        if rest::is_grpc(&head) && answer.is_http2() {
            // A panic ends this task only; its responder answers INTERNAL.
            spawn_local(handle(front, head, body, answer, stream));
            return;
        }
        let intake = self.intake.clone();
        let inner = stream.again();
        let tracer = front.shared.tracer.as_ref();
        let trace = tracer.and_then(|tracer| {
            let what = (&head.verb, without_query(&head.path));
            HttpTrace::begin(tracer, what, &mut head.headers)
        });
        let call = move |head, body, answer| {
            let call = handle(front.clone(), head, body, answer, inner.again());
            drop(spawn_local(call));
        };
        spawn_local(Box::pin(async move {
            let guest = Guest::default();
            let (status, _) = rest::serve(intake, guest, head, body, answer, stream, call).await;
            if let Some(trace) = trace {
                trace.end(status);
            }
        }));
    }
}
