//! `dl_inference._native`: the data plane's face to Python. Documented in `dl_inference/_native.pyi`.

mod allocator;
mod convert;
mod proxy;
mod worker;

use std::path::PathBuf;

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

// A call allocates a task of some 3 KB, beyond the sizes that glibc serves from its thread cache. Only Rust
// uses it; Python and numpy keep their own allocators.
#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

create_exception!(dl_inference._native, NativeError, PyException);

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NativeError", py.get_type::<NativeError>())?;
    module.add("POLICIES", dl_core::POLICIES.to_vec())?;
    let kinds: PyResult<Vec<_>> = dl_core::ERRORS.iter().map(|row| kind(py, row)).collect();
    module.add("ERROR_KINDS", kinds?)?;
    module.add("OTHER_POLICIES", dl_simulate::OTHERS.to_vec())?;
    module.add_function(wrap_pyfunction!(simulate, module)?)?;
    module.add_function(wrap_pyfunction!(callers_rule, module)?)?;
    module.add_function(wrap_pyfunction!(make_certificates, module)?)?;
    module.add_class::<ErrorKind>()?;
    module.add_class::<proxy::Proxy>()?;
    module.add_class::<worker::Item>()?;
    module.add_class::<worker::Batch>()?;
    module.add_class::<worker::Worker>()
}

#[pyfunction]
fn simulate(py: Python<'_>, order_json: &str) -> PyResult<String> {
    native(py.detach(|| dl_simulate::simulate_json(order_json)))
}

#[pyfunction]
#[pyo3(signature = (callers_json, caller, model, method, version = None))]
fn callers_rule(
    callers_json: &str,
    caller: &str,
    model: &str,
    method: &str,
    version: Option<&str>,
) -> PyResult<Option<usize>> {
    let callers = native(serde_json::from_str(callers_json))?;
    native(dl_core::callers_rule(
        &callers,
        caller,
        (model, version),
        method,
    ))
}

#[pyfunction]
fn make_certificates(folder: PathBuf, hosts: Vec<String>) -> PyResult<Vec<String>> {
    native(dl_core::make_certificates(&folder, hosts))
}

/// One kind of error, a row of the data plane's table.
#[pyclass(module = "dl_inference._native", frozen, get_all)]
struct ErrorKind {
    name: &'static str,
    code: &'static str,
    retried: &'static str,
    counts: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

fn kind(py: Python<'_>, row: &dl_core::ErrorRow) -> PyResult<Py<ErrorKind>> {
    let kind = ErrorKind {
        name: row.name,
        code: row.code.name(),
        retried: row.retry.text(),
        counts: row.blame.text(),
        meaning: row.meaning,
        remedy: row.remedy,
    };
    Py::new(py, kind)
}

/// What the data plane refuses, as Python's exception.
fn native<T>(result: Result<T, impl ToString>) -> PyResult<T> {
    result.map_err(|error| NativeError::new_err(error.to_string()))
}

/// Lines for the log: the name of the level, the text.
fn lines(notices: Vec<dl_core::Notice>) -> Vec<(&'static str, String)> {
    let line = |notice: dl_core::Notice| (notice.level.name(), notice.text);
    notices.into_iter().map(line).collect()
}
