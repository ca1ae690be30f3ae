//! `Proxy`: the access service's data plane. What is said here in Rust is documented in `_native.pyi`.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dl_core::{
    CallersConfig, Code, Control, Inherited, Part, Proxy as Core, ProxyConfig, StateConfig,
};
use pyo3::prelude::*;

use crate::{lines, native};

#[pyclass(module = "dl_inference._native")]
pub struct Proxy {
    core: Mutex<Core>,
    /// What can be asked and told while another control call, a drain above all, goes on.
    control: Control,
}

#[pymethods]
impl Proxy {
    #[new]
    fn new(config_json: &str, descriptors: &[u8]) -> PyResult<Self> {
        let config: ProxyConfig = native(serde_json::from_str(config_json))?;
        let core = native(Core::new(config, descriptors))?;
        let control = core.control();
        let core = Mutex::new(core);
        Ok(Self { core, control })
    }

    #[pyo3(signature = (inherited = None))]
    fn start(&self, py: Python<'_>, inherited: Option<Vec<RawFd>>) -> PyResult<Vec<String>> {
        let owned = inherited.unwrap_or_default().into_iter().map(|descriptor| {
            // SAFETY: the caller gives them away (`_native.pyi` says so), and knows no other owner in this process.
            unsafe { OwnedFd::from_raw_fd(descriptor) }
        });
        let inherited = native(Inherited::new(owned.collect()))?;
        native(py.detach(|| self.lock().start(inherited)))
    }

    fn descriptors(&self) -> Vec<RawFd> {
        self.lock().descriptors()
    }

    fn hand_over(&self, py: Python<'_>) {
        py.detach(|| self.lock().hand_over());
    }

    fn apply(&self, py: Python<'_>, state_json: &str) -> PyResult<()> {
        let state: StateConfig = native(serde_json::from_str(state_json))?;
        native(py.detach(|| self.lock().apply(&state)))
    }

    fn set_callers(&self, py: Python<'_>, callers_json: &str) -> PyResult<()> {
        let callers: CallersConfig = native(serde_json::from_str(callers_json))?;
        native(py.detach(|| self.lock().set_callers(&callers)))
    }

    fn set_control_status(&self, py: Python<'_>, status_json: &str) -> PyResult<()> {
        let value: serde_json::Value = native(serde_json::from_str(status_json))?;
        py.detach(|| self.control.set_control_status(value));
        Ok(())
    }

    #[pyo3(signature = (path, document = None))]
    fn show_document(&self, path: &str, document: Option<String>) {
        self.control.show_document(path, document);
    }

    fn show_metrics(&self, text: String) {
        self.control.show_metrics(text);
    }

    fn next_order(&self, py: Python<'_>, limit_ms: u64) -> Option<(u64, &'static str, String)> {
        let limit = Duration::from_millis(limit_ms);
        let order = py.detach(|| self.control.next_order(limit))?;
        Some((order.id, order.action.name(), order.model))
    }

    #[pyo3(signature = (id, code = "", text = ""))]
    fn answer_order(&self, id: u64, code: &str, text: &str) -> PyResult<()> {
        let done = match code {
            "" => Ok(()),
            _ => {
                let known = Code::from_name(code).ok_or_else(|| format!("no code {code}"));
                Err((native(known)?, text.to_owned()))
            }
        };
        self.control.answer_order(id, done);
        Ok(())
    }

    fn usage(&self, py: Python<'_>) -> Vec<(String, Option<f64>, usize, bool)> {
        let rows = py.detach(|| self.control.usage()).into_iter();
        rows.map(|it| {
            let unused_s = it.unused_for.map(|time| time.as_secs_f64());
            (it.cluster, unused_s, it.in_flight, it.is_live)
        })
        .collect()
    }

    fn wanted_limits(
        &self,
        py: Python<'_>,
        over_s: f64,
        least: f64,
    ) -> Vec<(String, String, String, f64)> {
        let parts = py.detach(|| self.control.wanted_limits(over_s, least));
        let rows = parts.into_iter();
        rows.map(|it| (it.caller, it.model, it.limit, it.part))
            .collect()
    }

    fn share_limits(
        &self,
        py: Python<'_>,
        rest: Option<f64>,
        parts: Vec<(String, String, String, f64)>,
    ) {
        let parts = parts.into_iter();
        let parts: Vec<_> = parts
            .map(|(caller, model, limit, part)| Part {
                caller,
                model,
                limit,
                part,
            })
            .collect();
        py.detach(|| self.control.share_limits(rest, &parts));
    }

    fn count_reload(&self, py: Python<'_>, source: &str, ok: bool) {
        py.detach(|| self.control.count_reload(source, ok));
    }

    fn status(&self, py: Python<'_>) -> String {
        py.detach(|| self.control.status())
    }

    fn notices(&self, py: Python<'_>) -> Vec<(&'static str, String)> {
        lines(py.detach(|| self.control.notices()))
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.lock().drain(Duration::from_millis(timeout_ms)))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| {
            // A drain that goes on holds the lock; this ends it.
            self.control.stop();
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
