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
use pyo3::types::PyDict;

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
    let kinds: Vec<_> = ErrorKind::ALL
        .iter()
        .map(|kind| (kind.name(), kind.code().name()))
        .collect();
    module.add("ERROR_KINDS", kinds)?;
    let methods: PyResult<Vec<_>> = method::all().iter().map(|row| describe(py, row)).collect();
    module.add("METHODS", methods?)?;
    module.add_class::<proxy::Proxy>()?;
    worker::register(module)?;
    Ok(())
}

/// One row of protos/methods.toml as Python sees it.
fn describe<'py>(py: Python<'py>, row: &method::Method) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("path", &row.path)?;
    dict.set_item("upstream", row.upstream.as_str())?;
    dict.set_item("kind", format!("{:?}", row.kind).to_lowercase())?;
    dict.set_item("protocol", format!("{:?}", row.protocol).to_lowercase())?;
    dict.set_item("streaming", format!("{:?}", row.streaming).to_lowercase())?;
    dict.set_item("idempotent", row.idempotent)?;
    Ok(dict)
}
