//! `Proxy`: the access service's data plane. What is said here in Rust is documented in `_native.pyi`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dl_core::config::{ProxyConfig, StateConfig};
use dl_core::net::drain::Phase;
use dl_core::proxy::server::Proxy as Core;
use dl_core::proxy::state::Shared;
use dl_core::proxy::status;
use pyo3::prelude::*;
use serde::de::DeserializeOwned;

use crate::NativeError;

#[pyclass(module = "dl_inference._native")]
pub struct Proxy {
    core: Mutex<Core>,
    /// What can be asked and told while another control call, a drain above all, goes on.
    shared: Arc<Shared>,
}

#[pymethods]
impl Proxy {
    #[new]
    fn new(config_json: &str, descriptors: &[u8]) -> PyResult<Self> {
        let config: ProxyConfig = parse(config_json)?;
        let core = Core::new(config, descriptors).map_err(NativeError::new_err)?;
        Ok(Self {
            shared: core.shared().clone(),
            core: Mutex::new(core),
        })
    }

    fn start(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.lock().start())
            .map_err(|error| NativeError::new_err(error.to_string()))
    }

    fn apply(&self, py: Python<'_>, state_json: &str) -> PyResult<()> {
        let state: StateConfig = parse(state_json)?;
        py.detach(|| self.lock().apply(&state))
            .map_err(NativeError::new_err)
    }

    fn set_control_status(&self, py: Python<'_>, status_json: &str) -> PyResult<()> {
        let value: serde_json::Value = parse(status_json)?;
        py.detach(|| self.shared.set_control_status(value));
        Ok(())
    }

    fn count_reload(&self, py: Python<'_>, source: &str, ok: bool) {
        py.detach(|| self.shared.stats.count_reload(source, ok));
    }

    fn status(&self, py: Python<'_>) -> String {
        py.detach(|| status::json(&self.shared))
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.lock().drain(Duration::from_millis(timeout_ms)))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            // A drain that goes on holds the lock; this ends it.
            self.shared.drain.advance(Phase::Stopped);
            self.lock().stop();
        });
    }
}

impl Proxy {
    /// Control calls come one at a time; one that panicked has left nothing half-done that the next could trip on.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parse a JSON document of the control plane; the error names the place.
pub fn parse<T: DeserializeOwned>(json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| NativeError::new_err(error.to_string()))
}
