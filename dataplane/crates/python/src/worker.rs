//! `Worker`, `Batch`, `Item`: the model server's front. Documented in `_native.pyi`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dl_core::grpc::status::Code;
use dl_core::worker::codec::Answer;
use dl_core::worker::queue::Call;
use dl_core::worker::reply::{Failure, ReplySlot};
use dl_core::worker::server::WorkerFront;
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::NativeError;
use crate::convert;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Item>()?;
    module.add_class::<Batch>()?;
    module.add_class::<Worker>()
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Item {
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    value: Py<PyAny>,
    #[pyo3(get)]
    meta: Py<PyDict>,
    #[pyo3(get)]
    method: &'static str,
    #[pyo3(get)]
    request_id: String,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Batch {
    items: Vec<Py<Item>>,
    slots: Mutex<Vec<Option<ReplySlot>>>,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Worker {
    front: WorkerFront,
}

// === impl Item ===

impl Item {
    fn new(py: Python<'_>, call: Call) -> (PyResult<Py<Self>>, ReplySlot) {
        let (kind, slot) = (call.payload.kind(), call.slot);
        // Only visible ASCII is let in as a request id.
        let request_id = call.request_id.to_str().unwrap_or_default().to_owned();
        let (method, fields) = (call.method, call.meta.fields);
        let item = convert::payload(py, call.payload).and_then(|value| {
            let meta = convert::dict(py, &fields)?.unbind();
            Py::new(
                py,
                Self {
                    kind,
                    value: value.unbind(),
                    meta,
                    method,
                    request_id,
                },
            )
        });
        (item, slot)
    }
}

// === impl Batch ===

impl Batch {
    fn new(py: Python<'_>, calls: Vec<Call>) -> Self {
        let (mut items, mut slots) = (
            Vec::with_capacity(calls.len()),
            Vec::with_capacity(calls.len()),
        );
        for call in calls {
            match Item::new(py, call) {
                (Ok(item), slot) => {
                    items.push(item);
                    slots.push(Some(slot));
                }
                // Out of memory, most likely. The slot goes unanswered, which says INTERNAL to the caller.
                (Err(error), _) => error.write_unraisable(py, None),
            }
        }
        Self {
            items,
            slots: Mutex::new(slots),
        }
    }

    /// Take the slot of an item that is not answered yet. The lock is never held while Python runs, which
    /// could hand the GIL to a thread that waits for it.
    fn take(&self, index: usize) -> PyResult<ReplySlot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let count = slots.len();
        let slot = slots
            .get_mut(index)
            .ok_or_else(|| PyIndexError::new_err(format!("item {index} of a batch of {count}")))?;
        slot.take()
            .ok_or_else(|| PyValueError::new_err(format!("item {index} is answered already")))
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.items.len()
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<Py<Item>> {
        let count = self.items.len();
        let from_start = if index < 0 {
            index.checked_add_unsigned(count)
        } else {
            Some(index)
        };
        from_start
            .and_then(|index| self.items.get(usize::try_from(index).ok()?))
            .map(|item| item.clone_ref(py))
            .ok_or_else(|| PyIndexError::new_err(format!("item {index} of a batch of {count}")))
    }

    fn reply(
        &self,
        index: usize,
        kind: &str,
        value: &Bound<'_, PyAny>,
        names: Vec<String>,
    ) -> PyResult<()> {
        convert::with_answer(kind, value, |answer: &Answer<'_>| {
            self.take(index)?.answer(answer, &names);
            Ok(())
        })
    }

    fn fail(&self, index: usize, code: u8, message: String, kind: String) -> PyResult<()> {
        let code = Code::from_u8(code)
            .filter(|&code| code != Code::Ok)
            .ok_or_else(|| {
                PyValueError::new_err(format!("code {code} is not a gRPC error, 1 to 16"))
            })?;
        self.take(index)?.fail(Failure::new(code, message, kind));
        Ok(())
    }
}

// === impl Worker ===

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
