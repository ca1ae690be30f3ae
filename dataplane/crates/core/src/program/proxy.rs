//! The access service as a program: bind, serve, apply, drain, stop.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_local;

use super::proxy_pages as pages;
use crate::admin::http::{AdminPages, AdminServer};
use crate::config::{ProxyConfig, StateConfig};
use crate::local::reflection::Reflection;
use crate::net::connection::Service;
use crate::net::drain::Phase;
use crate::net::guard::StreamGuard;
use crate::net::serve::{Serving, bind};
use crate::net::stream::{Answer, Body, Head};
use crate::proxy::handle::handle;
use crate::proxy::local;
use crate::proxy::state::Shared;
use crate::proxy::worker::Worker;

/// The running access service.
pub struct Proxy {
    shared: Arc<Shared>,
    running: Option<Running>,
}

/// What can be asked of and told to an access service while another control call, a drain above all, goes on.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

struct Running {
    serving: Serving,
    admin: Option<AdminServer>,
}

/// Gives each call of a worker to a task of its own.
struct Calls {
    worker: Rc<Worker>,
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
        Ok(Self {
            shared: Arc::new(shared),
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
        let (listeners, mut addresses) = bind(&config.listen)?;
        let mut admin = None;
        if let Some(address) = &config.admin {
            let (bound, server) = AdminServer::start(address, Arc::new(self.control()))?;
            addresses.push(bound);
            admin = Some(server);
        }
        let shared = self.shared.clone();
        let calls = move || {
            let worker = Worker::new(shared.clone(), local::local_services(&shared));
            Calls {
                worker: Rc::new(worker),
            }
        };
        let server = self.shared.server.clone();
        let serving = Serving::start(server, listeners, config.workers, calls)?;
        self.running = Some(Running { serving, admin });
        Ok(addresses)
    }

    /// Swap in a whole routing state.
    ///
    /// # Errors
    /// Names what is wrong; the old state stays.
    pub fn apply(&self, config: &StateConfig) -> Result<(), String> {
        self.shared.apply(config)?;
        if let Some(running) = &self.running {
            running.serving.state_changed();
        }
        Ok(())
    }

    pub fn control(&self) -> Control {
        Control {
            shared: self.shared.clone(),
        }
    }

    /// Close the listeners, say GOAWAY, and wait for the calls in flight. True when all ended within `limit`, and before
    /// the process was told to stop at once.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.server.drain.begin();
        self.shared.health.bump();
        let running = self.running.as_ref();
        running.is_none_or(|running| running.serving.waiting().drained(limit))
    }

    /// End everything now and join the threads.
    pub fn stop(&mut self) {
        self.control().stop();
        if let Some(running) = self.running.take() {
            running.serving.stop();
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

// === impl Control ===

impl Control {
    /// Say that everything is to end now; a drain that goes on ends, too.
    pub fn stop(&self) {
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

    /// Count one reload of a configuration or discovery source.
    pub fn count_reload(&self, source: &str, ok: bool) {
        self.shared.server.stats.count_reload(source, ok);
    }
}

impl AdminPages for Control {
    fn metrics(&self) -> String {
        pages::metrics(&self.shared)
    }

    fn status_json(&self) -> String {
        self.status()
    }

    fn ready(&self) -> Result<(), String> {
        self.shared.ready()
    }

    fn remarks(&self) -> Vec<String> {
        pages::remarks(&self.shared, SystemTime::now())
    }
}

// === impl Calls ===

impl Service for Calls {
    fn call(&self, head: Head, body: Body, answer: Answer, stream: StreamGuard) {
        // A panic ends this task only; its responder answers INTERNAL.
        // Boxed, as the future is some 3 KB and a task is moved several times before it runs.
        let call = Box::pin(handle(self.worker.clone(), head, body, answer, stream));
        spawn_local(call);
    }

    fn state_changed(&self) {
        self.worker.state_changed();
    }
}
