//! What one worker thread owns.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::{ArcSwap, ArcSwapOption, Cache};
use tokio::time::Instant;

use super::address::Address;
use super::checks::Checks;
use super::cluster::Cluster;
use super::pool::{Pool, Upstream};
use super::recorder::Ring;
use super::state::{Shared, State};
use crate::callers::Callers;
use crate::callers::token_cache;
use crate::local::services::LocalServices;

/// A routing state as one worker shares it among its calls: the outer count is the worker's own, so that calls of
/// several workers do not pass one cache line to and fro.
pub type SeenState = Rc<Arc<State>>;
/// The same of a document of callers.
pub type SeenCallers = Rc<Arc<Callers>>;

pub struct Worker {
    pub shared: Arc<Shared>,
    pub pool: Pool,
    pub local: LocalServices,
    /// The last calls of this worker.
    pub ring: Arc<Ring>,
    checks: Checks,
    /// As this worker last saw them.
    state: RefCell<SeenState>,
    callers: RefCell<Option<SeenCallers>>,
    /// As they are.
    current_state: RefCell<Cache<StateOf, Arc<State>>>,
    current_callers: RefCell<Cache<CallersOf, Option<Arc<Callers>>>>,
    /// Tokens that have come before.
    pub tokens: RefCell<token_cache::Cache>,
}

/// Where the current routing state is.
struct StateOf(Arc<Shared>);
/// The same of the document of callers.
struct CallersOf(Arc<Shared>);

impl Deref for StateOf {
    type Target = ArcSwap<State>;

    fn deref(&self) -> &Self::Target {
        &self.0.state
    }
}

impl Deref for CallersOf {
    type Target = ArcSwapOption<Callers>;

    fn deref(&self) -> &Self::Target {
        &self.0.callers
    }
}

// === impl Worker ===

impl Worker {
    pub fn new(shared: Arc<Shared>, local: LocalServices) -> Self {
        let index = shared.workers_started.fetch_add(1, Ordering::Relaxed);
        let worker = Self {
            checks: Checks::new(index, shared.config.workers),
            pool: Pool::new(shared.config.clone(), shared.turns.clone()),
            local,
            ring: shared.recorder.ring(),
            state: RefCell::new(Rc::new(shared.state.load_full())),
            callers: RefCell::default(),
            current_state: RefCell::new(Cache::new(StateOf(shared.clone()))),
            current_callers: RefCell::new(Cache::new(CallersOf(shared.clone()))),
            tokens: RefCell::default(),
            shared,
        };
        worker.state_changed();
        worker
    }

    /// The current routing state, as long as the caller keeps it.
    pub fn state(&self) -> SeenState {
        let (mut current, mut seen) = (self.current_state.borrow_mut(), self.state.borrow_mut());
        let current = current.load();
        if !Arc::ptr_eq(&seen, current) {
            *seen = Rc::new(current.clone());
        }
        seen.clone()
    }

    /// Who may call now; none where everybody may.
    pub fn callers(&self) -> Option<SeenCallers> {
        let mut current = self.current_callers.borrow_mut();
        let current = current.load().as_ref()?;
        let mut seen = self.callers.borrow_mut();
        match &*seen {
            Some(seen) if Arc::ptr_eq(seen, current) => Some(seen.clone()),
            _ => Some(seen.insert(Rc::new(current.clone())).clone()),
        }
    }

    /// Connect to what the routing state names, ask for its health, and let the old one go.
    pub fn state_changed(&self) {
        let state = self.state();
        self.pool.reconcile(&state.addresses);
        self.checks.reconcile(&state.clusters, &self.pool);
    }

    /// Connect to all of a cluster's endpoints now. Ready when a connect to each of them has failed, or one is there.
    pub async fn connect(&self, cluster: &Cluster) {
        let asked = Instant::now();
        let addresses = cluster.addresses();
        let upstreams: Vec<_> = addresses
            .iter()
            .filter_map(|address| self.upstream(address))
            .collect();
        for upstream in &upstreams {
            upstream.want();
        }
        for upstream in &upstreams {
            if upstream.connected(asked).await {
                return;
            }
        }
    }

    /// The connections to an address. None when the address has been removed since the call picked it: it must not
    /// come back.
    pub fn upstream(&self, address: &Arc<Address>) -> Option<Rc<Upstream>> {
        self.pool.get(address).or_else(|| {
            let state = self.shared.state.load();
            let is_wanted = state.addresses.iter().any(|wanted| wanted.id == address.id);
            is_wanted.then(|| self.pool.upstream(address))
        })
    }
}
