//! Payloads to Python objects, and answers from them. Elements are handed over, not copied, where layout and
//! type allow; numpy owns them then, writable and aligned.

use dl_core::worker::codec::{
    Answer, DType, MAX_DEPTH, Payload, TfData, TfDataRef, TfTensor, Value,
};
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{Element, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use numpy::{PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Turn what a request brought into what `Item.value` documents.
pub fn payload(py: Python<'_>, payload: Payload) -> PyResult<Bound<'_, PyAny>> {
    match payload {
        Payload::Tensor(tensor) => array(py, &tensor.shape, tensor.values),
        Payload::NdArray(values) => Ok(list(py, &values)?.into_any()),
        Payload::TfTensor(tensor) => tftensor(py, tensor),
        Payload::BinData(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        Payload::StrData(text) => text.into_bound_py_any(py),
        Payload::JsonData(value) => object(py, &value),
        Payload::CustomData(any) => Ok(PyBytes::new(py, &any).into_any()),
        Payload::None => Ok(py.None().into_bound(py)),
    }
}

pub fn dict<'py>(py: Python<'py>, fields: &[(String, Value)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in fields {
        dict.set_item(key, object(py, value)?)?;
    }
    Ok(dict)
}

fn list<'py>(py: Python<'py>, values: &[Value]) -> PyResult<Bound<'py, PyList>> {
    let values = values.iter().map(|value| object(py, value));
    PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Null => Ok(py.None().into_bound(py)),
        Value::Bool(set) => set.into_bound_py_any(py),
        Value::Number(number) => number.into_bound_py_any(py),
        Value::Integer(number) => number.into_bound_py_any(py),
        Value::String(text) => text.into_bound_py_any(py),
        Value::List(values) => Ok(list(py, values)?.into_any()),
        Value::Struct(fields) => Ok(dict(py, fields)?.into_any()),
    }
}

fn array<'py, T: Element>(
    py: Python<'py>,
    shape: &[usize],
    values: Vec<T>,
) -> PyResult<Bound<'py, PyAny>> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values).map_err(invalid)?;
    Ok(PyArrayDyn::from_owned_array(py, array).into_any())
}

fn tftensor(py: Python<'_>, tensor: TfTensor) -> PyResult<Bound<'_, PyAny>> {
    match tensor.data {
        TfData::Strings(strings) => {
            let objects = strings
                .iter()
                .map(|bytes| PyBytes::new(py, bytes).into_any().unbind());
            array(py, &tensor.shape, objects.collect())
        }
        TfData::Elements(elements) => {
            let bytes = PyArray1::from_vec(py, elements);
            let array = bytes.call_method1("view", (tensor.dtype.numpy_name(),))?;
            let array = array.call_method1("reshape", (PyTuple::new(py, tensor.shape)?,))?;
            // Every allocator in use aligns to 16 bytes; none promises it for bytes.
            let is_aligned: bool = array.getattr("flags")?.getattr("aligned")?.extract()?;
            if is_aligned {
                Ok(array)
            } else {
                array.call_method0("copy")
            }
        }
    }
}

/// Call `send` with the answer that `value` is for `kind`, without copying more than layout demands.
///
/// Raises ValueError when the value does not fit.
pub fn with_answer(
    kind: &str,
    value: &Bound<'_, PyAny>,
    send: impl FnOnce(&Answer<'_>) -> PyResult<()>,
) -> PyResult<()> {
    match kind {
        "tensor" => {
            let view = doubles(value)?.try_readonly().map_err(invalid)?;
            let (shape, values) = (view.shape(), slice(&view)?);
            send(&Answer::Tensor { shape, values })
        }
        "ndarray" => match from_object(value, 0)? {
            Value::List(values) => send(&Answer::NdArray(&values)),
            _ => Err(unfit(kind, "a list", value)),
        },
        "tftensor" => with_tftensor(value, send),
        "binData" => send(&Answer::BinData(bytes(kind, value)?)),
        "customData" => send(&Answer::CustomData(bytes(kind, value)?)),
        "strData" => send(&Answer::StrData(&text(kind, value)?)),
        "jsonData" => send(&Answer::JsonData(&from_object(value, 0)?)),
        other => Err(invalid(format!("{other:?} is not a kind of answer"))),
    }
}

fn invalid(reason: impl ToString) -> PyErr {
    PyValueError::new_err(reason.to_string())
}

fn unfit(place: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    invalid(format!("{place} takes {wanted}, not {}", value.get_type()))
}

fn bytes<'a>(place: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    let bytes = value.cast::<PyBytes>();
    Ok(bytes.map_err(|_| unfit(place, "bytes", value))?.as_bytes())
}

/// Lone surrogates raise UnicodeEncodeError, which is a ValueError.
fn text(place: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value
        .cast::<PyString>()
        .map_err(|_| unfit(place, "str", value))?
        .extract()
}

fn slice<'a, T: Element>(view: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [T]> {
    view.as_slice().map_err(invalid)
}

fn untyped<'a, 'py>(
    place: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    value
        .cast()
        .map_err(|_| unfit(place, "a numpy array", value))
}

/// The array in C order and the machine's byte order, itself where it is that already.
fn laid_out<'py>(array: &Bound<'py, PyUntypedArray>, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    // (dtype, order, casting, subok, copy): complex numbers and strings are no float64.
    let arguments = (dtype, "C", "same_kind", true, false);
    array.call_method1("astype", arguments).map_err(invalid)
}

fn doubles<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    match value.cast::<PyArrayDyn<f64>>() {
        Ok(array) if array.is_c_contiguous() => Ok(array.clone()),
        _ => Ok(laid_out(untyped("tensor", value)?, "float64")?.cast_into()?),
    }
}

fn with_tftensor(
    value: &Bound<'_, PyAny>,
    send: impl FnOnce(&Answer<'_>) -> PyResult<()>,
) -> PyResult<()> {
    let array = untyped("tftensor", value)?;
    let shape = array.shape();
    if matches!(array.dtype().kind(), b'O' | b'S' | b'U') {
        let strings = array
            .getattr("flat")?
            .try_iter()?
            .map(|item| string(&item?));
        let strings: Vec<_> = strings.collect::<PyResult<_>>()?;
        let data = TfDataRef::Strings(&strings);
        return send(&Answer::TfTensor {
            dtype: DType::String,
            shape,
            data,
        });
    }
    let name: String = array.dtype().getattr("name")?.extract()?;
    let dtype = DType::from_numpy_name(&name)
        .ok_or_else(|| invalid(format!("tftensor cannot carry an array of {name}")))?;
    let flat = laid_out(array, &name)?.call_method1("reshape", (-1,))?;
    let flat = flat
        .call_method1("view", ("uint8",))?
        .cast_into::<PyArrayDyn<u8>>()?;
    let view = flat.try_readonly().map_err(invalid)?;
    let data = TfDataRef::Elements(slice(&view)?);
    send(&Answer::TfTensor { dtype, shape, data })
}

fn string(item: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let place = "a tftensor of strings";
    if item.is_instance_of::<PyString>() {
        return Ok(text(place, item)?.into_bytes());
    }
    Ok(bytes(place, item)?.to_vec())
}

/// A JSON-like object as a tree. The depth is bounded as that of requests is: the stack is not endless.
fn from_object(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if let Ok(number) = value.cast::<PyFloat>() {
        Ok(Value::Number(number.value()))
    } else if depth >= MAX_DEPTH {
        Err(invalid(format!(
            "the answer is nested deeper than {MAX_DEPTH}"
        )))
    } else if value.is_none() {
        Ok(Value::Null)
    } else if value.is_instance_of::<PyString>() {
        text("an answer", value).map(Value::String)
    } else if let Ok(set) = value.cast::<PyBool>() {
        Ok(Value::Bool(set.is_true()))
    } else if value.is_instance_of::<PyInt>() {
        // Beyond float's range there is an OverflowError, which is no ValueError.
        value.extract().map(Value::Number).map_err(invalid)
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let values = value.try_iter()?.map(|item| from_object(&item?, depth + 1));
        values.collect::<PyResult<_>>().map(Value::List)
    } else if let Ok(dict) = value.cast::<PyDict>() {
        let fields = dict
            .iter()
            .map(|(key, item)| Ok((text("a key", &key)?, from_object(&item, depth + 1)?)));
        fields.collect::<PyResult<_>>().map(Value::Struct)
    } else {
        Err(unfit(
            "an answer",
            "dict, list, float, int, str, bool or None",
            value,
        ))
    }
}
