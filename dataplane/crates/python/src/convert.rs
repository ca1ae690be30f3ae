//! Payloads to Python objects, and answers from them. Arrays are handed over, not copied, where the element
//! type allows; numpy owns them then, writable and aligned.

use dl_core::worker::codec::{
    Answer, DType, MAX_DEPTH, Payload, TfData, TfDataRef, TfTensor, Value,
};
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{
    PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Turn what a request brought into what `Item.value` documents.
pub fn payload(py: Python<'_>, payload: Payload) -> PyResult<Bound<'_, PyAny>> {
    Ok(match payload {
        Payload::Tensor(tensor) => {
            PyArrayDyn::from_owned_array(py, shaped(&tensor.shape, tensor.values)?).into_any()
        }
        Payload::NdArray(values) => list(py, &values)?.into_any(),
        Payload::TfTensor(tensor) => tftensor(py, tensor)?,
        Payload::BinData(bytes) => PyBytes::new(py, &bytes).into_any(),
        Payload::StrData(text) => PyString::new(py, &text).into_any(),
        Payload::JsonData(value) => object(py, &value)?,
        Payload::CustomData(any) => PyBytes::new(py, &any).into_any(),
        Payload::None => py.None().into_bound(py),
    })
}

pub fn dict<'py>(py: Python<'py>, fields: &[(String, Value)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in fields {
        dict.set_item(key, object(py, value)?)?;
    }
    Ok(dict)
}

fn object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(set) => PyBool::new(py, *set).to_owned().into_any(),
        Value::Number(number) => PyFloat::new(py, *number).into_any(),
        Value::Integer(number) => PyInt::new(py, *number).into_any(),
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::List(values) => list(py, values)?.into_any(),
        Value::Struct(fields) => dict(py, fields)?.into_any(),
    })
}

fn list<'py>(py: Python<'py>, values: &[Value]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for value in values {
        list.append(object(py, value)?)?;
    }
    Ok(list)
}

fn shaped<T>(shape: &[usize], values: Vec<T>) -> PyResult<ArrayD<T>> {
    ArrayD::from_shape_vec(IxDyn(shape), values)
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

fn tftensor(py: Python<'_>, tensor: TfTensor) -> PyResult<Bound<'_, PyAny>> {
    match tensor.data {
        TfData::Strings(strings) => {
            let strings = strings
                .iter()
                .map(|bytes| PyBytes::new(py, bytes).into_any().unbind())
                .collect();
            Ok(PyArrayDyn::from_owned_array(py, shaped(&tensor.shape, strings)?).into_any())
        }
        TfData::Elements(elements) => {
            let bytes = PyArray1::from_vec(py, elements);
            let array = bytes.call_method1("view", (tensor.dtype.numpy_name(),))?;
            let array = array.call_method1("reshape", (PyTuple::new(py, tensor.shape)?,))?;
            // Every allocator in use aligns to 16 bytes; none promises it for bytes.
            let is_aligned = array.getattr("flags")?.getattr("aligned")?.is_truthy()?;
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
            let array = doubles(value)?;
            let view = array
                .try_readonly()
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
            send(&Answer::Tensor {
                shape: array.shape(),
                values: slice(&view)?,
            })
        }
        "ndarray" => match from_object(value, 0)? {
            Value::List(values) => send(&Answer::NdArray(&values)),
            _ => Err(unfit(kind, "a list", value)),
        },
        "tftensor" => with_tftensor(value, send),
        "binData" => send(&Answer::BinData(bytes(kind, value)?.as_bytes())),
        "customData" => send(&Answer::CustomData(bytes(kind, value)?.as_bytes())),
        "strData" => {
            let text = value
                .cast::<PyString>()
                .map_err(|_| unfit(kind, "a str", value))?;
            // Not to_str: abi3 has it from 3.10 on; lone surrogates raise UnicodeEncodeError, a ValueError.
            send(&Answer::StrData(text.to_str()?))
        }
        "jsonData" => send(&Answer::JsonData(&from_object(value, 0)?)),
        other => Err(PyValueError::new_err(format!(
            "{other:?} is not a kind of answer"
        ))),
    }
}

fn unfit(kind: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let found = value
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyValueError::new_err(format!("{kind} takes {wanted}, not {found}"))
}

fn bytes<'a, 'py>(kind: &str, value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    value
        .cast::<PyBytes>()
        .map_err(|_| unfit(kind, "bytes", value))
}

fn slice<'a, T: numpy::Element>(view: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [T]> {
    view.as_slice()
        .map_err(|error| PyValueError::new_err(error.to_string()))
}

fn array<'a, 'py>(
    kind: &str,
    value: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyUntypedArray>> {
    value
        .cast::<PyUntypedArray>()
        .map_err(|_| unfit(kind, "a numpy array", value))
}

/// The array in C order and the machine's byte order, itself where it is that already.
fn laid_out<'py>(value: &Bound<'py, PyUntypedArray>, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
    let numpy = value.py().import("numpy")?;
    let options = PyDict::new(value.py());
    options.set_item("dtype", dtype)?;
    options.set_item("order", "C")?;
    numpy.call_method("asarray", (value,), Some(&options))
}

fn doubles<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    if let Ok(array) = value.cast::<PyArrayDyn<f64>>()
        && array.is_c_contiguous()
    {
        return Ok(array.clone());
    }
    let array = array("tensor", value)?;
    let dtype = array.dtype();
    if !matches!(numpy::PyArrayDescrMethods::kind(&dtype), b'f' | b'i' | b'u') {
        return Err(PyValueError::new_err(format!(
            "tensor takes an array of numbers, not of {dtype}"
        )));
    }
    Ok(laid_out(array, "float64")?.cast_into()?)
}

fn with_tftensor(
    value: &Bound<'_, PyAny>,
    send: impl FnOnce(&Answer<'_>) -> PyResult<()>,
) -> PyResult<()> {
    let array = array("tftensor", value)?;
    let name: String = array.dtype().getattr("name")?.extract()?;
    let shape = array.shape();
    if matches!(
        numpy::PyArrayDescrMethods::kind(&array.dtype()),
        b'O' | b'S' | b'U'
    ) {
        let flat = array
            .call_method1("reshape", (-1,))?
            .call_method0("tolist")?;
        let strings: Vec<_> = flat
            .cast::<PyList>()?
            .iter()
            .map(|item| string(&item))
            .collect::<PyResult<_>>()?;
        return send(&Answer::TfTensor {
            dtype: DType::String,
            shape,
            data: TfDataRef::Strings(&strings),
        });
    }
    let dtype = DType::from_numpy_name(&name).ok_or_else(|| {
        PyValueError::new_err(format!("tftensor cannot carry an array of {name}"))
    })?;
    let flat = laid_out(array, &name)?
        .call_method1("reshape", (-1,))?
        .call_method1("view", ("uint8",))?;
    let flat = flat.cast::<PyArrayDyn<u8>>()?;
    let view = flat
        .try_readonly()
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    send(&Answer::TfTensor {
        dtype,
        shape,
        data: TfDataRef::Elements(slice(&view)?),
    })
}

fn string(item: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match item.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.as_bytes().to_vec()),
        Err(_) => Ok(bytes("a string tftensor", item)?.as_bytes().to_vec()),
    }
}

/// A JSON-like object as a tree. The depth is bounded as that of requests is: the stack is not endless.
fn from_object(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(Value::Number(number.value()));
    }
    if depth >= MAX_DEPTH {
        return Err(PyValueError::new_err(format!(
            "the answer is nested deeper than {MAX_DEPTH}"
        )));
    }
    if value.is_none() {
        Ok(Value::Null)
    } else if let Ok(text) = value.cast::<PyString>() {
        Ok(Value::String(text.to_str()?.to_owned()))
    } else if let Ok(set) = value.cast::<PyBool>() {
        Ok(Value::Bool(set.is_true()))
    } else if value.is_instance_of::<PyInt>() {
        // One beyond float's range raises OverflowError, which says so.
        let number = value
            .extract::<f64>()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Value::Number(number))
    } else if let Ok(list) = value.cast::<PyList>() {
        list.iter()
            .map(|item| from_object(&item, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::List)
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        tuple
            .iter()
            .map(|item| from_object(&item, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::List)
    } else if let Ok(dict) = value.cast::<PyDict>() {
        dict.iter()
            .map(|(key, item)| entry(&key, &item, depth + 1))
            .collect::<PyResult<_>>()
            .map(Value::Struct)
    } else {
        Err(unfit(
            "an answer",
            "dict, list, float, int, str, bool or None",
            value,
        ))
    }
}

fn entry(
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
    depth: usize,
) -> PyResult<(String, Value)> {
    let key = key
        .cast::<PyString>()
        .map_err(|_| unfit("a dict", "keys of str", key))?;
    Ok((key.to_str()?.to_owned(), from_object(value, depth)?))
}
