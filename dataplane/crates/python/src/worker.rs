//! `Worker`, `Batch`, `Item`: the model server's front. Documented in `_native.pyi`.

use std::time::Duration;

use dl_core::worker::queue::Call;
use dl_core::worker::reply::{Failure, ReplySlot, Slots};
use dl_core::worker::server::WorkerFront;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::{NativeError, convert};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Item>()?;
    module.add_class::<Batch>()?;
    module.add_class::<Worker>()
}

#[pyclass(module = "dl_inference._native", frozen, get_all)]
pub struct Item {
    kind: &'static str,
    value: Py<PyAny>,
    meta: Py<PyDict>,
    method: &'static str,
    request_id: String,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Batch {
    items: Vec<Py<Item>>,
    slots: Slots,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Worker {
    front: WorkerFront,
}

impl Item {
    fn new(py: Python<'_>, call: Call) -> PyResult<(Py<Self>, ReplySlot)> {
        let item = Self {
            kind: call.payload.kind(),
            value: convert::payload(py, call.payload)?.unbind(),
            meta: convert::dict(py, &call.meta.fields)?.unbind(),
            method: call.method,
            // Only visible ASCII is let in as a request id.
            request_id: call.request_id.to_str().unwrap_or_default().to_owned(),
        };
        Ok((Py::new(py, item)?, call.slot))
    }
}

impl Batch {
    fn new(py: Python<'_>, calls: Vec<Call>) -> Self {
        // A call that fails here (out of memory, most likely) drops its slot, which answers INTERNAL.
        let item = |call| Item::new(py, call).map_err(|error| error.write_unraisable(py, None));
        let (items, slots) = calls.into_iter().flat_map(item).unzip();
        let slots = Slots::new(slots);
        Self { items, slots }
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.items.len()
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<Py<Item>> {
        let from_start = index
            + if index < 0 {
                self.items.len() as isize
            } else {
                0
            };
        let item = usize::try_from(from_start)
            .ok()
            .and_then(|index| self.items.get(index));
        let item = item.map(|item| item.clone_ref(py));
        item.ok_or_else(|| PyIndexError::new_err(format!("no item {index}")))
    }

    fn reply(
        &self,
        index: usize,
        kind: &str,
        value: &Bound<'_, PyAny>,
        names: Vec<String>,
    ) -> PyResult<()> {
        convert::with_answer(kind, value, |answer| {
            let slot = self.slots.take(index).map_err(PyValueError::new_err)?;
            slot.answer(answer, &names);
            Ok(())
        })
    }

    fn fail(&self, index: usize, code: u8, message: String, kind: String) -> PyResult<()> {
        let failure = Failure::numbered(code, message, kind).map_err(PyValueError::new_err)?;
        let slot = self.slots.take(index).map_err(PyValueError::new_err)?;
        slot.fail(failure);
        Ok(())
    }
}

#[pymethods]
impl Worker {
    #[new]
    fn new(config_json: &str, descriptors: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let front =
            WorkerFront::new(config_json, descriptors.as_bytes()).map_err(NativeError::new_err)?;
        Ok(Self { front })
    }

    fn start(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        py.detach(|| self.front.start())
            .map_err(|error| NativeError::new_err(error.to_string()))
    }

    fn set_ready(&self, ready: bool) {
        self.front.set_ready(ready);
    }

    fn next_batch(&self, py: Python<'_>, timeout_ms: u64) -> Option<Batch> {
        let calls = py.detach(|| self.front.next_batch(Duration::from_millis(timeout_ms)))?;
        Some(Batch::new(py, calls))
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.front.drain(Duration::from_millis(timeout_ms)))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.front.stop());
    }
}
