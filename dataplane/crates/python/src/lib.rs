//! `dl_inference._native`: the data plane's face to Python. Documented in `dl_inference/_native.pyi`.

use pyo3::prelude::*;

#[pymodule]
fn _native(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
