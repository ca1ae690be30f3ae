//! `dl_inference._native`: the data plane's face to Python. Documented in `dl_inference/_native.pyi`.

mod convert;
mod proxy;
mod worker;

use dl_core::balance;
use dl_core::error::ErrorKind;
use dl_core::proxy::method;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

// A call allocates a task of some 3 KB, beyond the sizes that glibc serves from its thread cache. Only Rust
// uses it; Python and numpy keep their own allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

create_exception!(dl_inference._native, NativeError, PyException);

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("NativeError", py.get_type::<NativeError>())?;
    module.add("POLICIES", balance::NAMES.to_vec())?;
    let kinds = ErrorKind::ALL.iter();
    let kinds: Vec<_> = kinds
        .map(|kind| (kind.name(), kind.code().name()))
        .collect();
    module.add("ERROR_KINDS", kinds)?;
    let methods: PyResult<Vec<_>> = method::all().iter().map(|row| describe(py, row)).collect();
    module.add("METHODS", methods?)?;
    module.add_class::<proxy::Proxy>()?;
    module.add_class::<worker::Item>()?;
    module.add_class::<worker::Batch>()?;
    module.add_class::<worker::Worker>()
}

/// What the data plane refuses, as Python's exception.
fn native<T>(result: Result<T, impl ToString>) -> PyResult<T> {
    result.map_err(|error| NativeError::new_err(error.to_string()))
}

/// One row of protos/methods.toml as Python sees it.
fn describe<'py>(py: Python<'py>, row: &method::Method) -> PyResult<Bound<'py, PyDict>> {
    let words = [
        ("path", row.path.clone()),
        ("upstream", row.upstream.as_str().to_owned()),
        ("kind", format!("{:?}", row.kind).to_lowercase()),
        ("protocol", format!("{:?}", row.protocol).to_lowercase()),
        ("streaming", format!("{:?}", row.streaming).to_lowercase()),
    ];
    let dict = words.into_py_dict(py)?;
    dict.set_item("idempotent", row.idempotent)?;
    Ok(dict)
}
