//! Properties over an independent encoder (prost), and the rules of compat.md sections 3 and 4 by example.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use prost::Message;

use super::*;
use crate::error::ErrorKind;

const LIMIT: usize = 1 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct SeldonMessage {
    #[prost(bytes = "vec", optional, tag = "2")]
    meta: Option<Vec<u8>>,
    #[prost(oneof = "DataOneof", tags = "3, 4, 5, 6, 7")]
    data: Option<DataOneof>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
#[allow(clippy::large_enum_variant)] // one at a time, in tests
enum DataOneof {
    #[prost(message, tag = "3")]
    Data(DefaultData),
    #[prost(bytes, tag = "4")]
    BinData(Vec<u8>),
    #[prost(string, tag = "5")]
    StrData(String),
    #[prost(message, tag = "6")]
    JsonData(prost_types::Value),
    #[prost(message, tag = "7")]
    CustomData(prost_types::Any),
}

#[derive(Clone, PartialEq, prost::Message)]
struct DefaultData {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
    #[prost(message, optional, tag = "2")]
    tensor: Option<WireTensor>,
    #[prost(message, optional, tag = "3")]
    ndarray: Option<prost_types::ListValue>,
    #[prost(message, optional, tag = "4")]
    tftensor: Option<TensorProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireTensor {
    #[prost(int32, repeated, tag = "1")]
    shape: Vec<i32>,
    #[prost(double, repeated, tag = "2")]
    values: Vec<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnpackedTensor {
    #[prost(int32, repeated, packed = "false", tag = "1")]
    shape: Vec<i32>,
    #[prost(double, repeated, packed = "false", tag = "2")]
    values: Vec<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    tensor_shape: Option<TensorShape>,
    #[prost(bytes = "vec", tag = "4")]
    tensor_content: Vec<u8>,
    #[prost(float, repeated, tag = "5")]
    float_val: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    double_val: Vec<f64>,
    #[prost(int32, repeated, tag = "7")]
    int_val: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    string_val: Vec<Vec<u8>>,
    #[prost(float, repeated, tag = "9")]
    scomplex_val: Vec<f32>,
    #[prost(int32, repeated, packed = "false", tag = "13")]
    half_val: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Dim {
    #[prost(int64, tag = "1")]
    size: i64,
    #[prost(string, tag = "2")]
    name: String,
}

fn decoded(message: &impl Message) -> Result<Request, Error> {
    decode(&Bytes::from(message.encode_to_vec()), LIMIT)
}

fn decoded_data(data: DefaultData) -> Result<Payload, Error> {
    let message = SeldonMessage {
        meta: None,
        data: Some(DataOneof::Data(data)),
    };
    decoded(&message).map(|request| request.payload)
}

fn decoded_tensor(shape: &[i32], values: &[f64]) -> Result<Payload, Error> {
    let tensor = WireTensor {
        shape: shape.to_vec(),
        values: values.to_vec(),
    };
    decoded_data(DefaultData {
        tensor: Some(tensor),
        ..Default::default()
    })
}

fn decoded_tftensor(shape: &[i64], proto: TensorProto) -> Result<TfTensor, Error> {
    let dim = shape
        .iter()
        .map(|&size| Dim {
            size,
            name: "axis".to_owned(),
        })
        .collect();
    let tensor = TensorProto {
        tensor_shape: Some(TensorShape { dim }),
        ..proto
    };
    match decoded_data(DefaultData {
        tftensor: Some(tensor),
        ..Default::default()
    })? {
        Payload::TfTensor(tensor) => Ok(tensor),
        other => panic!("decoded as {}", other.kind()),
    }
}

fn encoded(answer: &Answer<'_>, names: &[String], meta: &[u8]) -> Bytes {
    let framed = encode(answer, names, meta, LIMIT).unwrap();
    let length = u32::from_be_bytes(framed[1..5].try_into().unwrap());
    assert_eq!((framed[0], length as usize), (0, framed.len() - PREFIX));
    framed.slice(PREFIX..)
}

fn wire_value(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(set) => Kind::BoolValue(*set),
        Value::Number(number) => Kind::NumberValue(*number),
        Value::Integer(number) => Kind::NumberValue(*number as f64),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::List(values) => Kind::ListValue(wire_list(values)),
        Value::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), wire_value(value)))
                .collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

fn wire_list(values: &[Value]) -> prost_types::ListValue {
    prost_types::ListValue {
        values: values.iter().map(wire_value).collect(),
    }
}

/// Trees whose maps have sorted, unique keys, as prost's have.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-1e300..1e300).prop_map(Value::Number),
        ".{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|fields| Value::Struct(fields.into_iter().collect())),
        ]
    })
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0_usize..5, 0..5)
}

fn tf_tensors() -> impl Strategy<Value = TfTensor> {
    let dtypes: Vec<DType> = DType::all()
        .filter(|&dtype| dtype != DType::BFloat16)
        .collect();
    (prop::sample::select(dtypes), shapes()).prop_flat_map(|(dtype, shape)| {
        let count: usize = shape.iter().product();
        let data = if dtype == DType::String {
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), count)
                .prop_map(TfData::Strings)
                .boxed()
        } else {
            let bytes = if dtype == DType::Bool {
                0..=1_u8
            } else {
                0..=255
            };
            prop::collection::vec(bytes, count * dtype.size())
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
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(20_261_121),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_tensor_comes_back_bit_for_bit(shape in prop::collection::vec(0_usize..5, 1..5), bits in any::<u64>()) {
        let values: Vec<f64> = (0..shape.iter().product::<usize>() as u64)
            .map(|index| f64::from_bits(bits.wrapping_mul(index + 1)))
            .collect();
        let body = encoded(&Answer::Tensor { shape: &shape, values: &values }, &[], &[]);
        let Payload::Tensor(tensor) = decode(&body, LIMIT)?.payload else { panic!("not a tensor") };
        prop_assert_eq!(tensor.shape, shape);
        let bits_of = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits_of(&tensor.values), bits_of(&values));
    }

    #[test]
    fn a_value_tree_comes_back_and_agrees_with_another_encoder(tree in values()) {
        let body = encoded(&Answer::JsonData(&tree), &[], &[]);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::JsonData(tree.clone()));
        let theirs = SeldonMessage { meta: Some(Vec::new()), data: Some(DataOneof::JsonData(wire_value(&tree))) };
        prop_assert_eq!(SeldonMessage::decode(body)?, theirs.clone());
        prop_assert_eq!(decoded(&theirs)?.payload, Payload::JsonData(tree));
    }

    #[test]
    fn an_ndarray_comes_back(list in prop::collection::vec(values(), 0..6), names in prop::collection::vec("[a-z]{0,5}", 0..4)) {
        let body = encoded(&Answer::NdArray(&list), &names, &[]);
        let data = DefaultData { names, ndarray: Some(wire_list(&list)), ..Default::default() };
        let theirs = SeldonMessage { meta: Some(Vec::new()), data: Some(DataOneof::Data(data)) };
        prop_assert_eq!(SeldonMessage::decode(body.clone())?, theirs);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::NdArray(list));
    }

    #[test]
    fn a_tftensor_of_each_type_comes_back(tensor in tf_tensors()) {
        let data = match &tensor.data {
            TfData::Elements(elements) => TfDataRef::Elements(elements),
            TfData::Strings(strings) => TfDataRef::Strings(strings),
        };
        let body = encoded(&Answer::TfTensor(TensorRef { dtype: tensor.dtype, shape: &tensor.shape, data }), &[], &[]);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::TfTensor(tensor));
    }

    #[test]
    fn bytes_and_text_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,40}") {
        let body = encoded(&Answer::BinData(&bytes), &[], &[]);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::BinData(bytes.clone().into()));
        let body = encoded(&Answer::CustomData(&bytes), &[], &[]);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::CustomData(bytes));
        let body = encoded(&Answer::StrData(&text), &[], &[]);
        prop_assert_eq!(decode(&body, LIMIT)?.payload, Payload::StrData(text));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&Bytes::from(bytes), LIMIT);
    }

    #[test]
    fn damaged_messages_never_panic(tensor in tf_tensors(), tree in values(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let data = match &tensor.data {
            TfData::Elements(elements) => TfDataRef::Elements(elements),
            TfData::Strings(strings) => TfDataRef::Strings(strings),
        };
        for answer in [Answer::TfTensor(TensorRef { dtype: tensor.dtype, shape: &tensor.shape, data }), Answer::JsonData(&tree)] {
            let mut damaged = encoded(&answer, &["a".to_owned()], &[]).to_vec();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            let _ = decode(&Bytes::from(damaged.clone()), LIMIT);
            damaged.truncate(at);
            let _ = decode(&Bytes::from(damaged), LIMIT);
        }
    }
}

fn message_of(error: Result<impl std::fmt::Debug, Error>) -> String {
    let error = error.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    error.message.into_owned()
}

#[test]
fn of_too_many_tensor_values_the_last_ones_are_used() {
    let expected = Tensor {
        shape: vec![2],
        values: vec![2.0, 3.0],
    };
    assert_eq!(
        decoded_tensor(&[2], &[1.0, 2.0, 3.0]).unwrap(),
        Payload::Tensor(expected)
    );
}

#[test]
fn a_tensor_shape_that_values_cannot_fill_is_refused() {
    assert_eq!(
        message_of(decoded_tensor(&[2, 2], &[1.0])),
        "tensor.shape [2, 2] needs 4 values, 1 were sent"
    );
    assert_eq!(
        message_of(decoded_tensor(&[-1], &[1.0])),
        "tensor.shape [-1] has a negative size"
    );
    assert_eq!(
        message_of(decoded_tensor(&[], &[1.0])),
        "tensor.shape is empty: set it, [n] for n values"
    );
    assert!(message_of(decoded_tensor(&[i32::MAX; 4], &[1.0])).ends_with("has too many elements"));
    assert!(
        message_of(decoded_tensor(&[0, i32::MAX, i32::MAX, i32::MAX], &[]))
            .ends_with("has too many elements")
    );
    assert!(message_of(decoded_tensor(&[1; 33], &[1.0])).contains("33 dimensions"));
}

#[test]
fn empty_tensors_are_fine() {
    for shape in [&[0][..], &[0, 4]] {
        let expected = Tensor {
            shape: shape.iter().map(|&size| size as usize).collect(),
            values: vec![],
        };
        assert_eq!(
            decoded_tensor(shape, &[]).unwrap(),
            Payload::Tensor(expected)
        );
    }
}

#[test]
fn unpacked_doubles_and_a_split_tensor_are_accepted() {
    let first = UnpackedTensor {
        shape: vec![3],
        values: vec![1.0],
    }
    .encode_to_vec();
    let second = WireTensor {
        shape: vec![],
        values: vec![2.0, 3.0],
    }
    .encode_to_vec();
    let mut data = Vec::new();
    for part in [first, second] {
        data.extend([0x12, part.len() as u8]);
        data.extend(part);
    }
    let body = [&[0x1a, data.len() as u8][..], &data].concat();
    let expected = Tensor {
        shape: vec![3],
        values: vec![1.0, 2.0, 3.0],
    };
    assert_eq!(
        decode(&body.into(), LIMIT).unwrap().payload,
        Payload::Tensor(expected)
    );
}

#[test]
fn the_last_member_of_the_oneof_counts() {
    let text = [0x2a, 1, b'x'];
    let bytes = [0x22, 1, b'y'];
    let data = [0x1a, 0];
    let payload = |parts: &[&[u8]]| decode(&parts.concat().into(), LIMIT).unwrap().payload;
    assert_eq!(
        payload(&[&text, &bytes]),
        Payload::BinData(Bytes::from_static(b"y"))
    );
    assert_eq!(
        payload(&[&bytes, &data, &text]),
        Payload::StrData("x".to_owned())
    );
    assert_eq!(payload(&[&text, &data]), Payload::NdArray(vec![]));
    assert_eq!(payload(&[]), Payload::None);
}

#[test]
fn missing_typed_values_repeat_the_last_one() {
    let proto = TensorProto {
        dtype: 1,
        float_val: vec![1.0, 2.0],
        ..Default::default()
    };
    let tensor = decoded_tftensor(&[2, 2], proto).unwrap();
    let expected = [1_f32, 2.0, 2.0, 2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(tensor.data, TfData::Elements(expected));
    let proto = TensorProto {
        dtype: 7,
        string_val: vec![b"a".to_vec()],
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[2], proto).unwrap().data,
        TfData::Strings(vec![b"a".to_vec(); 2])
    );
}

#[test]
fn no_typed_values_or_those_of_another_type_make_zeros() {
    let proto = TensorProto {
        dtype: 1,
        double_val: vec![5.0],
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[3], proto).unwrap().data,
        TfData::Elements(vec![0; 12])
    );
    let proto = TensorProto {
        dtype: 7,
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[2], proto).unwrap().data,
        TfData::Strings(vec![vec![]; 2])
    );
}

#[test]
fn too_many_typed_values_are_refused() {
    let proto = TensorProto {
        dtype: 3,
        int_val: vec![1, 2, 3],
        ..Default::default()
    };
    assert_eq!(
        message_of(decoded_tftensor(&[2], proto)),
        "tftensor of shape [2] needs 2 values, 3 were sent"
    );
}

#[test]
fn integers_are_cut_to_their_type_and_half_a_complex_number_is_dropped() {
    let proto = TensorProto {
        dtype: 4,
        int_val: vec![300, -1],
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[2], proto).unwrap().data,
        TfData::Elements(vec![44, 255])
    );
    let proto = TensorProto {
        dtype: 8,
        scomplex_val: vec![1.0, 2.0, 3.0],
        ..Default::default()
    };
    let expected = [1_f32, 2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(
        decoded_tftensor(&[1], proto).unwrap().data,
        TfData::Elements(expected)
    );
}

#[test]
fn bfloat16_becomes_float32() {
    for proto in [
        TensorProto {
            dtype: 14,
            half_val: vec![0x3fc0, 0xc000],
            ..Default::default()
        },
        TensorProto {
            dtype: 14,
            tensor_content: vec![0xc0, 0x3f, 0x00, 0xc0],
            ..Default::default()
        },
    ] {
        let tensor = decoded_tftensor(&[2], proto).unwrap();
        let expected = [1.5_f32, -2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(
            (tensor.dtype, tensor.data),
            (DType::Float, TfData::Elements(expected))
        );
    }
}

#[test]
fn tensor_content_wins_and_must_have_its_exact_length() {
    let proto = TensorProto {
        dtype: 4,
        tensor_content: vec![7, 8],
        int_val: vec![1; 9],
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[2], proto.clone()).unwrap().data,
        TfData::Elements(vec![7, 8])
    );
    let expected = "tftensor of shape [3] and uint8 needs 3 bytes of tensor_content, 2 were sent";
    assert_eq!(message_of(decoded_tftensor(&[3], proto)), expected);
    let proto = TensorProto {
        dtype: 7,
        tensor_content: vec![7],
        ..Default::default()
    };
    assert!(message_of(decoded_tftensor(&[1], proto)).contains("DT_STRING has no tensor_content"));
    let proto = TensorProto {
        dtype: 10,
        tensor_content: vec![0, 2],
        ..Default::default()
    };
    assert_eq!(
        decoded_tftensor(&[2], proto).unwrap().data,
        TfData::Elements(vec![0, 1])
    );
}

#[test]
fn a_type_that_cannot_be_served_is_named() {
    for dtype in [0, 11, 20, 101, -1] {
        let proto = TensorProto {
            dtype,
            ..Default::default()
        };
        assert!(
            message_of(decoded_tftensor(&[1], proto)).contains("is not one that can be served")
        );
    }
}

#[test]
fn a_small_message_cannot_be_filled_up_beyond_the_limit() {
    for dtype in [1, 7] {
        let proto = TensorProto {
            dtype,
            ..Default::default()
        };
        let error = decoded_tftensor(&[1 << 40], proto).unwrap_err();
        assert_eq!(error.kind, ErrorKind::MessageTooLarge);
    }
}

#[test]
fn small_and_odd_types_are_encoded_in_typed_fields() {
    let proto_of = |dtype, shape: &[usize], elements: &[u8]| {
        let answer = Answer::TfTensor(TensorRef {
            dtype,
            shape,
            data: TfDataRef::Elements(elements),
        });
        let message = SeldonMessage::decode(encoded(&answer, &[], &[])).unwrap();
        let Some(DataOneof::Data(data)) = message.data else {
            panic!("no data")
        };
        data.tftensor.unwrap()
    };
    assert_eq!(
        proto_of(DType::Float, &[], &1.5_f32.to_le_bytes()).float_val,
        [1.5]
    );
    assert_eq!(proto_of(DType::Int8, &[1], &[255]).int_val, [-1]);
    assert_eq!(
        proto_of(DType::Uint16, &[2], &[1, 0, 255, 255]).int_val,
        [1, 65535]
    );
    assert_eq!(
        proto_of(DType::Complex64, &[1], &[0; 8]).scomplex_val,
        [0.0, 0.0]
    );
    assert_eq!(
        proto_of(DType::Half, &[2], &[1, 2, 3, 4]).tensor_content,
        [1, 2, 3, 4]
    );
    assert!(proto_of(DType::Int64, &[0], &[]).tensor_content.is_empty());
}

#[test]
fn meta_reads_like_message_to_dict_and_comes_back_without_routing() {
    let tag = [
        0x12, 0x0b, 0x0a, 0x01, b't', 0x12, 0x06, 0x3a, 0x00, 0x1a, 0x02, b'3', b'9',
    ];
    let routing = [
        0x1a, 0x0e, 0x0a, 0x01, b'r', 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0x01,
    ];
    let path = [0x22, 0x06, 0x0a, 0x01, b'p', 0x12, 0x01, b'i'];
    let metric = [
        0x2a, 0x0a, 0x0a, 0x01, b'm', 0x10, 0x01, 0x1d, 0xcd, 0xcc, 0xcc, 0x3d,
    ];
    let puid = [0x0a, 0x02, b'i', b'd'];
    let meta = [&puid[..], &routing, &tag, &path, &metric].concat();
    let body = [&[0x12, meta.len() as u8][..], &meta].concat();
    let request = decode(&body.into(), LIMIT).unwrap();
    let text = |text: &str| Value::String(text.to_owned());
    let one = |name: &str, value: Value| Value::Struct(vec![(name.to_owned(), value)]);
    let metric_fields = vec![
        ("key".to_owned(), text("m")),
        ("type".to_owned(), text("GAUGE")),
        ("value".to_owned(), Value::Number(0.1)),
    ];
    let expected = vec![
        ("puid".to_owned(), text("id")),
        ("tags".to_owned(), one("t", text("39"))),
        ("routing".to_owned(), one("r", Value::Integer(-1))),
        ("requestPath".to_owned(), one("p", text("i"))),
        (
            "metrics".to_owned(),
            Value::List(vec![Value::Struct(metric_fields)]),
        ),
    ];
    assert_eq!(request.meta.fields, expected);
    let answer = [&puid[..], &tag, &path, &metric].concat();
    assert_eq!(request.meta.answer, answer);
    let message = SeldonMessage::decode(encoded(&Answer::StrData(""), &[], &answer)).unwrap();
    assert_eq!(
        message,
        SeldonMessage {
            meta: Some(answer),
            data: Some(DataOneof::StrData(String::new()))
        }
    );
}

#[test]
fn an_answer_always_has_a_meta() {
    let message = SeldonMessage::decode(encoded(&Answer::BinData(b"x"), &[], &[])).unwrap();
    assert_eq!(message.meta, Some(Vec::new()));
}

#[test]
fn a_depth_bomb_of_values_is_refused_and_depth_below_the_limit_is_not() {
    let nested = |depth: usize| {
        let mut message = Vec::new();
        for _ in 0..depth {
            message = wrap(6, wrap(1, message));
        }
        decode(&wrap(6, message).into(), LIMIT)
    };
    assert!(nested(MAX_DEPTH - 1).is_ok());
    assert_eq!(
        message_of(nested(MAX_DEPTH)),
        "values nested deeper than 100"
    );
    assert_eq!(message_of(nested(3000)), "values nested deeper than 100");
}

fn wrap(number: u32, content: Vec<u8>) -> Vec<u8> {
    let mut message = Vec::new();
    prost::encoding::bytes::encode(number, &content, &mut message);
    message
}

#[test]
fn a_depth_bomb_of_groups_is_refused_and_a_group_skipped() {
    assert_eq!(
        message_of(decode(&vec![0x4b; 100_000].into(), LIMIT)),
        "protobuf: groups nested deeper than 100"
    );
    let body = [0x4b, 0x08, 0x01, 0x53, 0x54, 0x4c, 0x2a, 0x01, b'x'];
    assert_eq!(
        decode(&body.to_vec().into(), LIMIT).unwrap().payload,
        Payload::StrData("x".to_owned())
    );
}

#[test]
fn garbage_is_refused_with_its_reason() {
    for (body, reason) in [
        (&b"\x2a\x05ab"[..], "truncated"),
        (b"\x2a\x01\xff", "not UTF-8"),
        (b"\x02\x00", "field number 0"),
        (b"\x0e", "wire type 6"),
        (b"\x0c", "never began"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "more than 10 bytes",
        ),
        (b"\x1a\x05\x12\x03\x12\x01\x00", "not whole doubles"),
    ] {
        let message = message_of(decode(&Bytes::from_static(body), LIMIT));
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn an_answer_above_the_message_limit_is_refused() {
    let error = encode(&Answer::BinData(&[0; 100]), &[], &[], 99).unwrap_err();
    assert_eq!(error.kind, ErrorKind::MessageTooLarge);
}
