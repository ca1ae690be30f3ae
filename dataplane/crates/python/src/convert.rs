//! Payloads to Python objects, and answers from them. Elements are handed over, not copied, where layout and
//! type allow; numpy owns them then, writable and aligned.

use dl_core::model::{Answer, Content, DType, InferOutput, MAX_DEPTH, Payload};
use dl_core::model::{TensorRef, TfData, TfDataRef, TfTensor, Value};
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{Element, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use numpy::{PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

type Object<'py> = PyResult<Bound<'py, PyAny>>;
type Sender<'a> = &'a mut dyn FnMut(Content<'_>) -> PyResult<()>;

/// Turn what a request brought into what `Item.value` documents.
pub fn payload(py: Python<'_>, payload: Payload) -> Object<'_> {
    match payload {
        Payload::Tensor(tensor) => array(py, &tensor.shape, tensor.values),
        Payload::NdArray(values) => Ok(list(py, &values)?.into_any()),
        Payload::TfTensor(tensor) => tftensor(py, tensor),
        Payload::BinData(bytes) => Ok(PyBytes::new(py, &bytes).into_any()),
        Payload::StrData(text) => text.into_bound_py_any(py),
        Payload::JsonData(value) => object(py, &value),
        Payload::CustomData(any) => Ok(PyBytes::new(py, &any).into_any()),
        Payload::Infer(inputs) => {
            let dict = PyDict::new(py);
            let mut inputs = inputs.into_iter();
            inputs.try_for_each(|(name, tensor)| dict.set_item(name, tftensor(py, tensor)?))?;
            Ok(dict.into_any())
        }
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

fn object<'py>(py: Python<'py>, value: &Value) -> Object<'py> {
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

fn array<'py, T: Element>(py: Python<'py>, shape: &[usize], values: Vec<T>) -> Object<'py> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), values).map_err(invalid)?;
    Ok(PyArrayDyn::from_owned_array(py, array).into_any())
}

fn tftensor(py: Python<'_>, tensor: TfTensor) -> Object<'_> {
    match tensor.data {
        TfData::Strings(strings) => {
            let object = |bytes: &Vec<u8>| PyBytes::new(py, bytes).into_any().unbind();
            array(py, &tensor.shape, strings.iter().map(object).collect())
        }
        TfData::Elements(elements) => {
            let bytes = PyArray1::from_vec(py, elements);
            let array = bytes.call_method1("view", (tensor.dtype.numpy_name(),))?;
            let array = array.call_method1("reshape", (tensor.shape,))?;
            // Every allocator in use aligns to 16 bytes; none promises it for bytes.
            if array.getattr("flags")?.getattr("aligned")?.extract()? {
                return Ok(array);
            }
            array.call_method0("copy")
        }
    }
}

/// Call `send` with the answer that `value` is for `kind`, without copying more than layout demands.
///
/// Raises ValueError when the value does not fit.
pub fn with_answer(kind: &str, value: &Bound<'_, PyAny>, send: Sender<'_>) -> PyResult<()> {
    if kind == "infer" {
        return with_outputs(value, send);
    }
    let mut send = |answer: &Answer<'_>| send(answer.into());
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
        "tftensor" => {
            let laid = Laid::new(kind, value)?;
            send(&Answer::TfTensor(laid.tensor()?))
        }
        "binData" => send(&Answer::BinData(bytes(kind, value)?)),
        "customData" => send(&Answer::CustomData(bytes(kind, value)?)),
        "strData" => send(&Answer::StrData(&text(kind, value)?)),
        "jsonData" => send(&Answer::JsonData(&from_object(value, 0)?)),
        other => Err(invalid(format!("{other:?} is not a kind of answer"))),
    }
}

pub fn invalid(reason: impl ToString) -> PyErr {
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
    let text = value.cast::<PyString>();
    text.map_err(|_| unfit(place, "str", value))?.extract()
}

fn slice<'a, T: Element>(view: &'a PyReadonlyArrayDyn<'_, T>) -> PyResult<&'a [T]> {
    view.as_slice().map_err(invalid)
}

fn untyped<'py>(place: &str, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let array = value.cast().cloned();
    array.map_err(|_| unfit(place, "a numpy array", value))
}

/// The array in C order and the machine's byte order, itself where it is that already.
fn laid_out<'py>(array: &Bound<'py, PyUntypedArray>, dtype: &str) -> Object<'py> {
    // (dtype, order, casting, subok, copy): complex numbers and strings are no float64.
    let arguments = (dtype, "C", "same_kind", true, false);
    array.call_method1("astype", arguments).map_err(invalid)
}

fn doubles<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
    match value.cast::<PyArrayDyn<f64>>() {
        Ok(array) if array.is_c_contiguous() => Ok(array.clone()),
        _ => Ok(laid_out(&untyped("tensor", value)?, "float64")?.cast_into()?),
    }
}

/// An array that the codec can read, for as long as this lives.
struct Laid<'py> {
    dtype: DType,
    shape: Vec<usize>,
    strings: Vec<Vec<u8>>,
    /// None for strings.
    elements: Option<PyReadonlyArrayDyn<'py, u8>>,
}

impl<'py> Laid<'py> {
    fn new(place: &str, value: &Bound<'py, PyAny>) -> PyResult<Self> {
        let array = untyped(place, value)?;
        let mut laid = Self {
            dtype: DType::String,
            shape: array.shape().to_vec(),
            strings: Vec::new(),
            elements: None,
        };
        if matches!(array.dtype().kind(), b'O' | b'S' | b'U') {
            let strings = array.getattr("flat")?.try_iter()?;
            let strings = strings.map(|item| string(&item?));
            laid.strings = strings.collect::<PyResult<_>>()?;
            return Ok(laid);
        }
        let name: String = array.dtype().getattr("name")?.extract()?;
        laid.dtype = DType::from_numpy_name(&name)
            .ok_or_else(|| invalid(format!("{place} cannot carry an array of {name}")))?;
        let flat = laid_out(&array, &name)?.call_method1("reshape", (-1,))?;
        let flat = flat.call_method1("view", ("uint8",))?;
        let flat = flat.cast_into::<PyArrayDyn<u8>>()?;
        laid.elements = Some(flat.try_readonly().map_err(invalid)?);
        Ok(laid)
    }

    fn tensor(&self) -> PyResult<TensorRef<'_>> {
        let (dtype, shape) = (self.dtype, &*self.shape);
        let data = match &self.elements {
            Some(view) => TfDataRef::Elements(slice(view)?),
            None => TfDataRef::Strings(&self.strings),
        };
        Ok(TensorRef { dtype, shape, data })
    }
}

fn with_outputs(value: &Bound<'_, PyAny>, send: Sender<'_>) -> PyResult<()> {
    let dict = value.cast::<PyDict>();
    let mut arrays = Vec::new();
    for (name, array) in dict.map_err(|_| unfit("infer", "a dict", value))? {
        arrays.push((text("a name", &name)?, Laid::new("infer", &array)?));
    }
    let mut outputs = Vec::with_capacity(arrays.len());
    for (name, laid) in &arrays {
        let tensor = laid.tensor()?;
        outputs.push(InferOutput { name, tensor });
    }
    send(Content::Infer(&outputs))
}

fn string(item: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match item.cast::<PyString>() {
        Ok(text) => text.extract::<String>().map(String::into_bytes),
        Err(_) => Ok(bytes("an array of strings", item)?.to_vec()),
    }
}

/// A JSON-like object as a tree. The depth is bounded as that of requests is: the stack is not endless.
fn from_object(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if let Ok(number) = value.cast::<PyFloat>() {
        Ok(Value::Number(number.value()))
    } else if depth >= MAX_DEPTH {
        let text = format!("the answer is nested deeper than {MAX_DEPTH}");
        Err(invalid(text))
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
        let field = |(key, item)| Ok((text("a key", &key)?, from_object(&item, depth + 1)?));
        let fields = dict.iter().map(field).collect::<PyResult<_>>();
        fields.map(Value::Struct)
    } else {
        let wanted = "dict, list, float, int, str, bool or None";
        Err(unfit("an answer", wanted, value))
    }
}
