//! Properties over an independent encoder (prost), and each refusal by example.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use prost::Message;

use super::request::InferRequest;
use super::*;
use crate::code::Code;
use crate::error::{Error, ErrorKind};
use crate::grpc::framing::PREFIX;
use crate::worker::codec::{DType, TensorRef, TfData, TfDataRef, TfTensor, Value};

const LIMIT: usize = 1 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "4")]
    parameters: Vec<Parameter>,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Input>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Output>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw: Vec<Vec<u8>>,
}

/// An entry of the map.
#[derive(Clone, PartialEq, prost::Message)]
struct Parameter {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Choices>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Choices {
    #[prost(oneof = "Choice", tags = "1, 2, 3, 4, 5")]
    choice: Option<Choice>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Choice {
    #[prost(bool, tag = "1")]
    Bool(bool),
    #[prost(int64, tag = "2")]
    Int64(i64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(uint64, tag = "5")]
    Uint64(u64),
}

/// Inputs of a request and outputs of a response.
#[derive(Clone, PartialEq, prost::Message)]
struct Input {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, repeated, tag = "4")]
    parameters: Vec<Parameter>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Contents {
    #[prost(bool, repeated, tag = "1")]
    bools: Vec<bool>,
    #[prost(int32, repeated, tag = "2")]
    ints: Vec<i32>,
    #[prost(int64, repeated, tag = "3")]
    int64s: Vec<i64>,
    #[prost(uint32, repeated, tag = "4")]
    uints: Vec<u32>,
    #[prost(uint64, repeated, packed = "false", tag = "5")]
    uint64s: Vec<u64>,
    #[prost(float, repeated, tag = "6")]
    floats: Vec<f32>,
    #[prost(double, repeated, packed = "false", tag = "7")]
    doubles: Vec<f64>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    strings: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Output {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(string, tag = "2")]
    model_version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "4")]
    parameters: Vec<Parameter>,
    #[prost(message, repeated, tag = "5")]
    outputs: Vec<Input>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    raw: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StreamResponse {
    #[prost(string, tag = "1")]
    error: String,
    #[prost(message, optional, tag = "2")]
    response: Option<Response>,
}

fn decoded(request: &Request) -> Result<InferRequest, Error> {
    InferHead::decode(&request.encode_to_vec())?.request(LIMIT)
}

fn request(inputs: Vec<Input>, raw: Vec<Vec<u8>>) -> Request {
    Request {
        inputs,
        raw,
        ..Default::default()
    }
}

fn input(datatype: &str, shape: &[i64], contents: Option<Contents>) -> Input {
    Input {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents,
        ..Default::default()
    }
}

fn raw_one(datatype: &str, shape: &[i64], raw: &[u8]) -> Result<TfTensor, Error> {
    let request = request(vec![input(datatype, shape, None)], vec![raw.to_vec()]);
    decoded(&request).map(|mut request| request.inputs.remove(0).1)
}

fn typed_one(datatype: &str, shape: &[i64], contents: Contents) -> Result<TfTensor, Error> {
    let request = request(vec![input(datatype, shape, Some(contents))], Vec::new());
    decoded(&request).map(|mut request| request.inputs.remove(0).1)
}

fn fault<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    error.message.into_owned()
}

fn envelope(outputs: &[&str], is_stream: bool) -> InferEnvelope {
    let outputs = outputs.iter().map(|&name| name.to_owned()).collect();
    InferEnvelope::new("m", "3", "id", outputs, is_stream)
}

fn elements(tensor: &TfTensor) -> &[u8] {
    match &tensor.data {
        TfData::Elements(elements) => elements,
        TfData::Strings(_) => panic!("strings"),
    }
}

fn output<'a>(name: &'a str, tensor: &'a TfTensor) -> InferOutput<'a> {
    let data = match &tensor.data {
        TfData::Elements(elements) => TfDataRef::Elements(elements),
        TfData::Strings(strings) => TfDataRef::Strings(strings),
    };
    let tensor = TensorRef {
        dtype: tensor.dtype,
        shape: &tensor.shape,
        data,
    };
    InferOutput { name, tensor }
}

/// Tensors of every type that OIP has, and of every rank from 0 to 3.
fn tensors() -> impl Strategy<Value = TfTensor> {
    let dtypes: Vec<_> = DType::all()
        .filter(|dtype| dtype.oip_name().is_some() && *dtype != DType::BFloat16)
        .collect();
    let shapes = prop::collection::vec(0_usize..4, 0..4);
    (prop::sample::select(dtypes), shapes).prop_flat_map(|(dtype, shape)| {
        let count: usize = shape.iter().product();
        let data = if dtype == DType::String {
            let string = prop::collection::vec(any::<u8>(), 0..5);
            prop::collection::vec(string, count)
                .prop_map(TfData::Strings)
                .boxed()
        } else {
            let byte = if dtype == DType::Bool {
                0..=1
            } else {
                0..=255_u8
            };
            prop::collection::vec(byte, count * dtype.size())
                .prop_map(TfData::Elements)
                .boxed()
        };
        data.prop_map(move |data| TfTensor {
            dtype,
            shape: shape.clone(),
            data,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default() })]

    /// What is answered can be sent again as it came: the raw forms of both directions are one.
    #[test]
    fn tensors_of_each_type_come_back(all in prop::collection::vec(tensors(), 1..4), is_stream: bool) {
        let names = ["a", "b", "c"];
        let outputs: Vec<_> = all.iter().zip(names).map(|(tensor, name)| output(name, tensor)).collect();
        let framed = encode(&outputs, &envelope(&[], is_stream), LIMIT)?;
        let message = &framed[PREFIX..];
        let response = if is_stream {
            let wrapped = StreamResponse::decode(message)?;
            prop_assert_eq!(&wrapped.error, "");
            wrapped.response.unwrap()
        } else {
            Response::decode(message)?
        };
        prop_assert_eq!((&*response.model_name, &*response.model_version, &*response.id), ("m", "3", "id"));
        let again = decoded(&request(response.outputs, response.raw))?;
        let expected: Vec<_> = names.iter().map(|&name| name.to_owned()).zip(all).collect();
        prop_assert_eq!(again.inputs, expected);
    }

    #[test]
    fn typed_and_raw_contents_are_the_same_tensor(values in prop::collection::vec(any::<i64>(), 0..9)) {
        let shape = [values.len() as i64];
        let bytes = |size: usize| values.iter().flat_map(|value| value.to_le_bytes()[..size].to_vec()).collect::<Vec<u8>>();
        let ints = |cut: fn(i64) -> i32| Contents { ints: values.iter().map(|&v| cut(v)).collect(), ..Default::default() };
        let uints = |cut: fn(i64) -> u32| Contents { uints: values.iter().map(|&v| cut(v)).collect(), ..Default::default() };
        let rows = [
            ("INT8", 1, ints(|v| i32::from(v as i8))),
            ("INT16", 2, ints(|v| i32::from(v as i16))),
            ("INT32", 4, ints(|v| v as i32)),
            ("INT64", 8, Contents { int64s: values.clone(), ..Default::default() }),
            ("UINT8", 1, uints(|v| u32::from(v as u8))),
            ("UINT16", 2, uints(|v| u32::from(v as u16))),
            ("UINT32", 4, uints(|v| v as u32)),
            ("UINT64", 8, Contents { uint64s: values.iter().map(|&v| v as u64).collect(), ..Default::default() }),
            ("FP32", 4, Contents { floats: values.iter().map(|&v| f32::from_bits(v as u32)).collect(), ..Default::default() }),
            ("FP64", 8, Contents { doubles: values.iter().map(|&v| f64::from_bits(v as u64)).collect(), ..Default::default() }),
        ];
        for (datatype, size, contents) in rows {
            let typed = typed_one(datatype, &shape, contents)?;
            let raw = raw_one(datatype, &shape, &bytes(size))?;
            prop_assert_eq!(elements(&typed), elements(&raw), "{}", datatype);
        }
        let bools: Vec<_> = values.iter().map(|&v| v > 0).collect();
        let typed = typed_one("BOOL", &shape, Contents { bools: bools.clone(), ..Default::default() })?;
        prop_assert_eq!(elements(&typed), bools.iter().map(|&set| u8::from(set)).collect::<Vec<_>>());
        let strings: Vec<_> = values.iter().map(|v| v.to_string().into_bytes()).collect();
        let typed = typed_one("BYTES", &shape, Contents { strings: strings.clone(), ..Default::default() })?;
        prop_assert_eq!(typed.data, TfData::Strings(strings));
    }

    #[test]
    fn hostile_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(head) = InferHead::decode(&body) {
            let _ = head.request(LIMIT);
        }
    }

    #[test]
    fn damaged_requests_never_panic(tensor in tensors(), sizes in prop::collection::vec(any::<i64>(), 0..4),
                                    at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let framed = encode(&[output("x", &tensor)], &envelope(&[], false), LIMIT)?;
        let response = Response::decode(&framed[PREFIX..])?;
        let mut sent = request(response.outputs, response.raw);
        let mut damaged = sent.encode_to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        for body in [&damaged[..], &damaged[..at]] {
            if let Ok(head) = InferHead::decode(body) {
                let _ = head.request(LIMIT);
            }
        }
        // Any shape, however large, is checked against what came.
        sent.inputs[0].shape = sizes;
        let _ = decoded(&sent);
    }
}

#[test]
fn a_head_is_read_whatever_the_order_of_fields() {
    let mut sent = request(vec![input("INT8", &[1], None)], vec![vec![5]]);
    (sent.model_name, sent.model_version, sent.id) = ("m".into(), "2".into(), "7".into());
    let body = sent.encode_to_vec();
    let name = [0x0a, 1, b'm'];
    let body = [&body[name.len()..], &name].concat();
    let head = InferHead::decode(&body).unwrap();
    assert_eq!(
        (&*head.model_name, &*head.model_version, &*head.id),
        ("m", "2", "7")
    );
    assert_eq!(elements(&head.request(LIMIT).unwrap().inputs[0].1), [5]);
}

#[test]
fn parameters_keep_their_types_and_their_integers() {
    let mut sent = request(vec![input("INT8", &[1], None)], vec![vec![5]]);
    let choices = [
        Some(Choice::Bool(true)),
        Some(Choice::Int64(i64::MIN)),
        Some(Choice::String("s".into())),
        Some(Choice::Double(0.5)),
        Some(Choice::Uint64(u64::MAX)),
        None,
    ];
    let parameter = |choice: &Option<Choice>| Parameter {
        key: "k".into(),
        value: Some(Choices {
            choice: choice.clone(),
        }),
    };
    sent.parameters = choices.iter().map(parameter).collect();
    let values: Vec<_> = decoded(&sent).unwrap().parameters;
    let expected = [
        Value::Bool(true),
        Value::Integer(i128::from(i64::MIN)),
        Value::String("s".into()),
        Value::Number(0.5),
        Value::Integer(i128::from(u64::MAX)),
        Value::Null,
    ];
    assert_eq!(values, expected.map(|value| ("k".to_owned(), value)));
}

#[test]
fn bfloat16_is_widened_and_any_byte_but_zero_is_true() {
    let tensor = raw_one("BF16", &[2], &[0x80, 0x3f, 0x00, 0xc0]).unwrap();
    assert_eq!(tensor.dtype, DType::Float);
    let expected = [1.0_f32, -2.0].map(f32::to_le_bytes).concat();
    assert_eq!(elements(&tensor), expected);
    assert_eq!(
        elements(&raw_one("BOOL", &[3], &[0, 1, 255]).unwrap()),
        [0, 1, 1]
    );
}

#[test]
fn raw_contents_of_a_wrong_length_are_named_with_the_expected_number() {
    let rows = [
        (
            "FP32",
            &[2, 3][..],
            &[0; 20][..],
            "needs 24 bytes of raw_input_contents, 20 were sent",
        ),
        (
            "INT64",
            &[],
            &[0; 9],
            "needs 8 bytes of raw_input_contents, 9 were sent",
        ),
        (
            "FP16",
            &[0],
            &[0; 2],
            "needs 0 bytes of raw_input_contents, 2 were sent",
        ),
        (
            "BYTES",
            &[2],
            b"\x01\0\0\0a",
            "needs 2 elements, each behind its length in 4 bytes: 1 were sent, with 0 bytes over",
        ),
        (
            "BYTES",
            &[1],
            b"\x01\0\0\0a\0\0",
            "1 were sent, with 2 bytes over",
        ),
        (
            "BYTES",
            &[1],
            b"\x01\0\0\0a\x01\0\0\0b",
            "1 were sent, with 5 bytes over",
        ),
        (
            "BYTES",
            &[1],
            b"\xff\xff\xff\xffa",
            "has a length of 4294967295 in front of element 0, but 1 bytes left",
        ),
    ];
    for (datatype, shape, raw, text) in rows {
        let found = fault(raw_one(datatype, shape, raw));
        assert!(found.starts_with("input \"x\" of shape ["), "{found}");
        assert!(found.ends_with(text), "{found}");
    }
}

#[test]
fn typed_contents_that_do_not_fit_are_refused() {
    let ints = |ints: &[i32]| Contents {
        ints: ints.to_vec(),
        ..Default::default()
    };
    let uints = |uints: &[u32]| Contents {
        uints: uints.to_vec(),
        ..Default::default()
    };
    let rows = [
        (
            "INT32",
            ints(&[1]),
            "needs 2 values in int_contents, 1 were sent",
        ),
        (
            "INT32",
            ints(&[1, 2, 3]),
            "needs 2 values in int_contents, 3 were sent",
        ),
        (
            "FP32",
            ints(&[1, 2]),
            "needs 2 values in fp32_contents, 0 were sent",
        ),
        ("INT8", ints(&[1, -129]), "cannot hold -129 of int_contents"),
        (
            "UINT8",
            uints(&[256, 1]),
            "cannot hold 256 of uint_contents",
        ),
        (
            "FP16",
            Contents::default(),
            "has no typed contents: send it in raw_input_contents",
        ),
        (
            "BF16",
            Contents::default(),
            "has no typed contents: send it in raw_input_contents",
        ),
        (
            "BYTES",
            Contents::default(),
            "needs 2 values in bytes_contents, 0 were sent",
        ),
    ];
    for (datatype, contents, text) in rows {
        let found = fault(typed_one(datatype, &[2], contents));
        assert_eq!(
            found,
            format!("input \"x\" of shape [2] and {datatype} {text}")
        );
    }
}

#[test]
fn a_model_without_inputs_gets_none() {
    let decoded = decoded(&request(vec![], vec![])).expect("a request");
    assert!(decoded.inputs.is_empty());
}

#[test]
fn parameters_of_single_inputs_are_kept_for_those_that_have_any() {
    let with = |name: &str, count: usize| {
        let parameters = (0..count).map(|index| Parameter {
            key: format!("p{index}"),
            value: Some(Choices {
                choice: Some(Choice::Uint64(u64::MAX)),
            }),
        });
        Input {
            name: name.into(),
            parameters: parameters.collect(),
            ..input("INT8", &[1], None)
        }
    };
    let two = request(vec![with("a", 0), with("b", 1)], vec![vec![1], vec![1]]);
    let expected = Value::Struct(vec![(
        "p0".to_owned(),
        Value::Integer(i128::from(u64::MAX)),
    )]);
    let found = decoded(&two).expect("a request").input_parameters;
    assert_eq!(found, [("b".to_owned(), expected)]);
    let many = request(vec![with("x", MAX_ENTRIES + 1)], vec![vec![1]]);
    assert_eq!(
        fault(decoded(&many)),
        "an input has more than 1024 parameters"
    );
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let one = || input("INT8", &[1], None);
    let shared = Parameter {
        key: "shared_memory_region".into(),
        value: None,
    };
    let asked = |name: &str, parameters: &[&str]| Output {
        name: name.into(),
        parameters: parameters
            .iter()
            .map(|&key| Parameter {
                key: key.into(),
                value: None,
            })
            .collect(),
    };
    let with_outputs = |outputs: Vec<Output>| Request {
        outputs,
        ..request(vec![one()], vec![vec![1]])
    };
    let rows = [
        (
            request(vec![one()], vec![vec![1], vec![1]]),
            "raw_input_contents has 2 entries for 1 inputs: send one for each, in their order",
        ),
        (
            request(vec![one(), one()], vec![vec![1], vec![1]]),
            "input \"x\" comes twice",
        ),
        (
            request(
                vec![input("INT8", &[1], Some(Contents::default()))],
                vec![vec![1]],
            ),
            "input \"x\" has contents beside raw_input_contents: send one of them",
        ),
        (
            request(vec![input("FLOAT", &[1], None)], vec![vec![1]]),
            "input \"x\": datatype \"FLOAT\" is not one of FP32, FP64, INT32, UINT8, INT16, INT8, BYTES, INT64, BOOL, \
             BF16, UINT16, FP16, UINT32, UINT64",
        ),
        (
            request(vec![input("INT8", &[-1], None)], vec![vec![1]]),
            "input \"x\": shape [-1] has a negative size",
        ),
        (
            request(
                vec![input("INT8", &[1 << 62, 1 << 62], None)],
                vec![vec![1]],
            ),
            "input \"x\": shape [4611686018427387904, 4611686018427387904] has too many elements",
        ),
        (
            request(
                vec![Input {
                    parameters: vec![shared],
                    ..one()
                }],
                vec![vec![1]],
            ),
            "input \"x\": shared memory is not supported: send tensors in the message, and take them from there",
        ),
        (
            with_outputs(vec![asked("y", &["classification"])]),
            "output \"y\": classification is not supported: ask for the scores and sort them",
        ),
        (
            with_outputs(vec![asked("y", &[]), asked("y", &[])]),
            "output \"y\" is asked for twice",
        ),
    ];
    for (request, text) in rows {
        assert_eq!(fault(decoded(&request)), text);
    }
    let many = request(vec![one(); 1025], vec![]);
    assert_eq!(
        fault(InferHead::decode(&many.encode_to_vec())),
        "the request has more than 1024 inputs"
    );
}

#[test]
fn a_long_name_is_cut_in_error_texts() {
    let mut sent = request(vec![input("NO", &[], None)], vec![]);
    sent.inputs[0].name = "é".repeat(100);
    let text = fault(decoded(&sent));
    assert!(
        text.starts_with(&format!("input \"{}\"...: datatype", "é".repeat(64))),
        "{text}"
    );
}

#[test]
fn many_short_strings_are_bounded_by_the_memory_that_they_take() {
    let count = LIMIT / size_of::<Vec<u8>>() + 1;
    let raw = vec![0; 4 * count];
    let error = raw_one("BYTES", &[count as i64], &raw).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MessageTooLarge);
}

#[test]
fn outputs_are_those_asked_for_in_the_order_asked() {
    let tensor = |value: u8| TfTensor {
        dtype: DType::Uint8,
        shape: vec![1],
        data: TfData::Elements(vec![value]),
    };
    let (a, b) = (tensor(1), tensor(2));
    let outputs = [output("a", &a), output("b", &b)];
    let encoded = |asked: &[&str]| encode(&outputs, &envelope(asked, false), LIMIT);
    for (asked, names, raw) in [
        (&[][..], &["a", "b"][..], &[1, 2][..]),
        (&["b", "a"], &["b", "a"], &[2, 1]),
        (&["b"], &["b"], &[2]),
    ] {
        let response = Response::decode(&encoded(asked).unwrap()[PREFIX..]).unwrap();
        let found: Vec<_> = response
            .outputs
            .iter()
            .map(|output| &*output.name)
            .collect();
        assert_eq!((&*found, response.raw.concat()), (names, raw.to_vec()));
    }
    assert_eq!(
        fault(encoded(&["z"])),
        "there is no output \"z\": the model gives a, b"
    );
}

#[test]
fn answers_that_cannot_be_sent_are_errors() {
    let complex = TfTensor {
        dtype: DType::Complex64,
        shape: vec![1],
        data: TfData::Elements(vec![0; 8]),
    };
    let error = encode(&[output("z", &complex)], &envelope(&[], false), LIMIT).unwrap_err();
    assert_eq!(
        (error.kind, &*error.message),
        (
            ErrorKind::Internal,
            "output z is complex64, which OIP does not have"
        )
    );
    let bytes = TfTensor {
        dtype: DType::Uint8,
        shape: vec![100],
        data: TfData::Elements(vec![0; 100]),
    };
    let error = encode(&[output("z", &bytes)], &envelope(&[], false), 100).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MessageTooLarge);
}

#[test]
fn a_message_of_a_stream_says_that_it_is_final_and_an_error_names_its_request() {
    let all = |response: &Response| -> Vec<(String, Choice)> {
        let parameters = response.parameters.iter();
        let chosen = parameters.map(|each| (each.key.clone(), each.value.clone()));
        chosen
            .map(|(key, value)| (key, value.and_then(|value| value.choice).unwrap()))
            .collect()
    };
    let last = ("triton_final_response".to_owned(), Choice::Bool(true));
    let framed = encode(&[], &envelope(&[], true), LIMIT).unwrap();
    let answer = StreamResponse::decode(&framed[PREFIX..]).unwrap();
    assert_eq!(all(&answer.response.unwrap()), vec![last.clone()]);
    let mut fault = StreamFault {
        message: "no",
        code: Code::InvalidArgument,
        kind: Some(ErrorKind::Hook),
        number: Some(-7),
    };
    let framed: Bytes = encode_stream_error(fault, &envelope(&[], true)).unwrap();
    let answer = StreamResponse::decode(&framed[PREFIX..]).unwrap();
    let response = answer.response.unwrap();
    assert_eq!(
        (&*answer.error, &*response.id, &*response.model_name),
        ("no", "id", "m")
    );
    let told = [
        ("grpc-status".to_owned(), Choice::Int64(3)),
        ("access-error".to_owned(), Choice::String("hook".to_owned())),
        ("access-error-number".to_owned(), Choice::Int64(-7)),
    ];
    assert_eq!(all(&response), [vec![last.clone()], told.to_vec()].concat());
    (fault.kind, fault.number) = (None, None);
    let framed: Bytes = encode_stream_error(fault, &envelope(&[], true)).unwrap();
    let answer = StreamResponse::decode(&framed[PREFIX..]).unwrap();
    assert_eq!(all(&answer.response.unwrap()), [last, told[0].clone()]);
}
