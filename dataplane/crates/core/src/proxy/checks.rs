//! Active health checks: each address is asked by one worker of the process, over the connections that calls use, once
//! for all clusters that ask the same of it.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::ask::ask;
use super::cluster::{Cluster, Endpoint};
use super::health::{Health, Source};
use super::pool::{Pool, Upstream};
use crate::code::Code;
use crate::config::HealthCheckConfig;
use crate::local::health::Serving;
use crate::local::messages::health::{HealthCheckRequest, HealthCheckResponse};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// An endpoint that does not serve is asked this often, or as often as the others if that is more: it may be back any
/// moment.
const PAUSE: Duration = Duration::from_millis(500);

/// The checks of one worker.
pub struct Checks {
    /// Which of the `workers` this one is.
    index: u64,
    workers: u64,
    running: RefCell<FxHashMap<Asked, Running>>,
}

/// An address, and what is asked of it.
type Asked = (u64, HealthCheckConfig);

/// A check that goes on until this is dropped.
struct Running {
    check: Rc<Check>,
    task: AbortHandle,
}

struct Check {
    upstream: Rc<Upstream>,
    config: HealthCheckConfig,
    /// Whom the answer concerns: this address in every cluster that asks so.
    endpoints: RefCell<Vec<Arc<Endpoint>>>,
}

// === impl Checks ===

impl Checks {
    pub fn new(index: usize, workers: usize) -> Self {
        Self {
            index: index as u64,
            workers: workers.max(1) as u64,
            running: RefCell::default(),
        }
    }

    /// Check what the clusters of a new routing state name, and nothing else.
    pub fn reconcile(&self, clusters: &[Arc<Cluster>], pool: &Pool) {
        let mut wanted: FxHashMap<Asked, Vec<Arc<Endpoint>>> = FxHashMap::default();
        for cluster in clusters {
            let config = cluster.health_check();
            for endpoint in cluster.members() {
                let id = endpoint.address.id;
                if config.enabled && id % self.workers == self.index {
                    wanted
                        .entry((id, config.clone()))
                        .or_default()
                        .push(endpoint);
                } else if !config.enabled {
                    endpoint.set_health(Health::Unknown, Source::Config);
                }
            }
        }
        let mut running = self.running.borrow_mut();
        let mut next = FxHashMap::default();
        for (asked, endpoints) in wanted {
            let kept = running.remove(&asked);
            let run = kept
                .unwrap_or_else(|| Running::start(pool.upstream(&endpoints[0].address), &asked.1));
            *run.check.endpoints.borrow_mut() = endpoints;
            next.insert(asked, run);
        }
        *running = next;
    }
}

// === impl Running ===

impl Running {
    fn start(upstream: Rc<Upstream>, config: &HealthCheckConfig) -> Self {
        let check = Rc::new(Check {
            upstream,
            config: config.clone(),
            endpoints: RefCell::default(),
        });
        let task = tokio::task::spawn_local(check.clone().run()).abort_handle();
        Self { check, task }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Check ===

impl Check {
    async fn run(self: Rc<Self>) {
        loop {
            self.upstream.until_connected(true).await;
            tokio::select! {
                () = self.ask_on() => {}
                () = self.upstream.until_connected(false) => {}
            }
            // A new connection may be one to a new process.
            self.say(Health::Unknown, Source::Connection);
        }
    }

    /// Ask again and again; never again where the endpoint cannot tell.
    async fn ask_on(&self) {
        while let Some(health) = self.ask().await {
            self.say(health, Source::HealthCheck);
            let interval = Duration::from_millis(self.config.interval_ms);
            let pause = if health.is_well() {
                interval
            } else {
                interval.min(PAUSE)
            };
            // Jitter of 10 % either way, so that access services do not ask together.
            sleep(pause.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
        }
        pending().await
    }

    /// None where the endpoint does not offer it. No answer in time says nothing: its calls will tell.
    async fn ask(&self) -> Option<Health> {
        let request = HealthCheckRequest {
            service: self.config.service.clone(),
        };
        let limit = Duration::from_millis(self.config.timeout_ms);
        let answer: Result<HealthCheckResponse, Code> =
            ask(&self.upstream, CHECK, &request, limit).await;
        match answer.map(|answer| Serving::try_from(answer.status)) {
            Ok(Ok(Serving::Serving)) => Some(Health::Serving),
            Ok(Ok(Serving::NotServing)) => Some(Health::NotServing),
            Err(Code::Unimplemented) => None,
            _ => Some(Health::Unknown),
        }
    }

    fn say(&self, health: Health, source: Source) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.set_health(health, source);
        }
    }
}
