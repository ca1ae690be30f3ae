//! `Worker`, `Batch`, `Item`: the model server's front. Documented in `_native.pyi`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use dl_core::ModelServer;
use dl_core::model::{Call, Handed, ReplySlot, Slots, Stages};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::convert::{self, invalid};
use crate::{lines, native};

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
    /// None where no input has any, as hardly one does: an empty dict for each call would cost more than all else here.
    #[pyo3(get)]
    inputs: Option<Py<PyDict>>,
    deadline: Instant,
    /// Where it is in its batch.
    place: OnceLock<(Weak<Slots>, usize)>,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Batch {
    items: Vec<Py<Item>>,
    #[pyo3(get)]
    was_waiting: bool,
    slots: Arc<Slots>,
}

#[pyclass(module = "dl_inference._native", frozen)]
pub struct Worker {
    front: ModelServer,
}

impl Item {
    fn new(py: Python<'_>, call: Call) -> PyResult<(Py<Self>, ReplySlot)> {
        let item = Self {
            kind: call.payload.kind(),
            value: convert::payload(py, call.payload)?.unbind(),
            meta: convert::dict(py, &call.meta.fields)?.unbind(),
            method: call.method,
            inputs: match &*call.meta.inputs {
                [] => None,
                inputs => Some(convert::dict(py, inputs)?.unbind()),
            },
            deadline: call.slot.deadline(),
            place: OnceLock::new(),
            request_id: call.request_id.as_str().to_owned(),
        };
        Ok((Py::new(py, item)?, call.slot))
    }
}

impl Batch {
    fn new(py: Python<'_>, handed: Handed) -> Self {
        // A call that fails here (out of memory, most likely) drops its slot, which answers INTERNAL.
        let item = |call| Item::new(py, call).map_err(|error| error.write_unraisable(py, None));
        let (items, slots): (Vec<Py<Item>>, Vec<ReplySlot>) =
            handed.calls.into_iter().flat_map(item).unzip();
        let slots = Arc::new(Slots::new(slots, handed.outbox));
        for (index, item) in items.iter().enumerate() {
            let _ = item.get().place.set((Arc::downgrade(&slots), index));
        }
        Self {
            items,
            was_waiting: handed.was_waiting,
            slots,
        }
    }
}

#[pymethods]
impl Item {
    fn remaining_s(&self) -> f64 {
        let now = Instant::now();
        self.deadline.saturating_duration_since(now).as_secs_f64()
    }

    fn is_gone(&self) -> bool {
        let Some((slots, index)) = self.place.get() else {
            return true;
        };
        slots.upgrade().is_none_or(|slots| slots.is_gone(*index))
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.items.len()
    }

    fn __getitem__(&self, py: Python<'_>, index: isize) -> PyResult<Py<Item>> {
        let length = self.items.len() as isize;
        let from_start = if index < 0 { index + length } else { index };
        let item = self.items.get(from_start as usize); // a negative one becomes more than there are
        let item = item.map(|item| item.clone_ref(py));
        item.ok_or_else(|| PyIndexError::new_err(format!("no item {index}")))
    }

    #[getter]
    fn items(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let items = self.items.iter().map(|item| item.clone_ref(py));
        Ok(PyList::new(py, items)?.unbind())
    }

    fn reply(
        &self,
        index: usize,
        kind: &str,
        value: &Bound<'_, PyAny>,
        names: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let names = strings(names)?;
        convert::with_answer(kind, value, &mut |content| {
            self.slots.answer(index, content, &names).map_err(invalid)
        })
    }

    fn keep(
        &self,
        index: usize,
        kind: &str,
        value: &Bound<'_, PyAny>,
        names: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let names = strings(names)?;
        convert::with_answer(kind, value, &mut |content| {
            self.slots.keep(index, content, &names).map_err(invalid)
        })
    }

    fn spent(&self, preprocess_s: f64, model_s: f64, postprocess_s: f64) {
        self.slots.spent(Stages {
            preprocess: time(preprocess_s),
            model: time(model_s),
            postprocess: time(postprocess_s),
        });
    }

    fn send(&self) {
        self.slots.send();
    }

    fn is_gone(&self, index: usize) -> bool {
        self.slots.is_gone(index)
    }

    #[pyo3(signature = (index, code, message, kind, number=None))]
    fn fail(
        &self,
        index: usize,
        code: u8,
        message: String,
        kind: &str,
        number: Option<i32>,
    ) -> PyResult<()> {
        let failed = self.slots.fail(index, code, message, kind, number);
        failed.map_err(invalid)
    }
}

#[pymethods]
impl Worker {
    #[new]
    fn new(config_json: &str, descriptors: &[u8]) -> PyResult<Self> {
        let front = native(ModelServer::new(config_json, descriptors))?;
        Ok(Self { front })
    }

    fn start(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        native(py.detach(|| self.front.start()))
    }

    fn set_ready(&self, ready: bool) {
        self.front.set_ready(ready);
    }

    fn next_batch(&self, py: Python<'_>, timeout_ms: u64) -> Option<Batch> {
        let handed = py.detach(|| self.front.next_batch(Duration::from_millis(timeout_ms)))?;
        Some(Batch::new(py, handed))
    }

    fn next_beside(&self, py: Python<'_>) -> Option<Batch> {
        let handed = py.detach(|| self.front.next_beside())?;
        Some(Batch::new(py, handed))
    }

    fn turn(&self, prepared_s: f64) {
        self.front.turn(time(prepared_s));
    }

    fn measured(
        &self,
        calls: usize,
        rows: usize,
        preprocess_s: f64,
        model_s: f64,
        postprocess_s: f64,
    ) {
        let stages = [preprocess_s, model_s, postprocess_s].map(time);
        self.front.measured(calls, rows, stages);
    }

    fn left_out(&self, calls: u64) {
        self.front.left_out(calls);
    }

    fn show_metrics(&self, text: String) {
        self.front.show_metrics(text);
    }

    fn notices(&self, py: Python<'_>) -> Vec<(&'static str, String)> {
        lines(py.detach(|| self.front.notices()))
    }

    fn drain(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.front.drain(Duration::from_millis(timeout_ms)))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.front.stop());
    }
}

/// A list of names, and what it holds.
type Named = (Py<PyList>, Rc<[String]>);

thread_local! {
    /// The last list of names, which most often is the next one, too.
    static LAST_NAMES: RefCell<Option<Named>> = const { RefCell::new(None) };
}

/// The names of a list. Nobody changes one, so the same list has the same names.
fn strings(list: &Bound<'_, PyList>) -> PyResult<Rc<[String]>> {
    let known = LAST_NAMES.with_borrow(|last| {
        let last = last.as_ref().filter(|(last, _)| last.is(list));
        last.map(|(_, names)| names.clone())
    });
    if let Some(names) = known {
        return Ok(names);
    }
    let names: Rc<[String]> = list.extract::<Vec<String>>()?.into();
    if !names.is_empty() {
        LAST_NAMES.set(Some((list.clone().unbind(), names.clone())));
    }
    Ok(names)
}

/// What is no time (a clock that was set back) counts as none.
fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
