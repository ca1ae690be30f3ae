"""Arrays through every protocol's messages and back: nothing is lost, and nothing becomes a Python number."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import DecodeError

from dl_inference import BadTensorError, InputError, messages
from dl_inference.client import calls
from dl_inference.codec import dtypes, oip, packed, seldon, tensor_proto, tfs
from dl_inference.codec.packed import plain

SEED = 20_261_121
SHAPES = [(), (0,), (1,), (7,), (2, 0, 3), (3, 5), (2, 3, 4, 5)]
NUMBERS = [dtype.name for dtype in dtypes.DTYPES]
OIP_NUMBERS = [dtype.name for dtype in dtypes.DTYPES if dtype.oip]


def numpy_type(name: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def array_of(name: str, shape: tuple[int, ...], seed: int = SEED) -> np.ndarray:
    """Random bits: every NaN, subnormal and negative number is as likely as any other."""
    dtype = numpy_type(name)
    generator = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if name == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    return np.frombuffer(generator.bytes(count * dtype.itemsize), dtype).reshape(shape)


def layouts(array: np.ndarray):
    """Yield arrays of the same values in other places of memory."""
    yield array
    yield np.asfortranarray(array)
    if array.ndim:
        wide = np.zeros((*array.shape, 2), array.dtype)
        wide[..., 1] = array
        yield wide[..., 1]
        yield array[::-1].copy()[::-1]
        yield np.broadcast_to(array, (2, *array.shape))[1]
    if array.dtype.name != "bfloat16":  # ml_dtypes has the machine's byte order only
        yield array.astype(array.dtype.newbyteorder(">"))


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    assert found.flags.writeable
    assert found.flags.aligned
    assert found.base is None or found.base.base is None  # a reshaped array's memory is its own array's
    if expected.dtype.byteorder == ">":
        expected = expected.astype(expected.dtype.newbyteorder("="))
    return (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def through_tfs(array: np.ndarray) -> np.ndarray:
    request = messages.PredictRequest.FromString(tfs.request("m", {"x": array}).SerializeToString())
    answer = messages.PredictResponse()
    answer.outputs["x"].CopyFrom(request.inputs["x"])
    return tfs.outputs_of(packed.PredictResponse.FromString(answer.SerializeToString()))["x"]


def through_oip(array: np.ndarray) -> np.ndarray:
    request = messages.ModelInferRequest.FromString(oip.request("m", {"x": array}).SerializeToString())
    answer = messages.ModelInferResponse(raw_output_contents=request.raw_input_contents)
    answer.outputs.add(name="x", datatype=request.inputs[0].datatype, shape=request.inputs[0].shape)
    return oip.outputs_of(answer)["x"]


def through_seldon(array: np.ndarray, kind: seldon.Kind | None = None) -> np.ndarray:
    request = seldon.request(array, kind=kind)
    return seldon.value_of(messages.SeldonMessage.FromString(request.SerializeToString()))


# --- numbers


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NUMBERS)
def test_every_type_shape_and_layout_comes_back_to_the_bit(name, shape):
    for array in layouts(array_of(name, shape)):
        assert same(through_tfs(array), array)
        assert same(through_seldon(array, "tftensor"), array)
        if name in OIP_NUMBERS:
            assert same(through_oip(array), array)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32", "uint8", "bool"])
def test_a_seldon_tensor_holds_every_number_as_float64(name, shape):
    for array in layouts(array_of(name, shape)):
        found = through_seldon(array, "tensor")
        assert found.dtype == np.float64
        assert found.flags.writeable
        np.testing.assert_array_equal(found, array.astype(np.float64))


@pytest.mark.parametrize("name", ["float64", "float32", "int32", "bool"])
def test_a_seldon_ndarray_is_a_list_of_numbers_or_bool(name):
    for shape in SHAPES[1:]:
        found = through_seldon(array_of(name, shape), "ndarray")
        assert found.dtype == (bool if name == "bool" and found.size else np.float64)
        if found.size:  # an empty list has no second dimension
            np.testing.assert_array_equal(found, array_of(name, shape).astype(found.dtype))


@pytest.mark.parametrize("name", NUMBERS)
def test_typed_fields_of_tensorflow_are_read_as_they_stand(name):
    """Set one by one through protobuf, as TF Serving does by default."""
    dtype = dtypes.BY_NAME[name]
    array = array_of(name, (4, 3))
    tensor = messages.TensorProto(dtype=messages.DataType.Value(dtype.tfs))
    tensor_proto.to_tensor_proto(array, tensor)
    tensor.ClearField("tensor_content")
    values = array.ravel()
    if name in ("float16", "bfloat16"):
        values = values.view(np.uint16)
    elif name.startswith("complex"):
        values = values.view(array.real.dtype)
    getattr(tensor, dtype.tfs_field).extend(values.tolist())
    if name not in ("float32", "float64", "complex64", "complex128"):  # protobuf makes other NaNs of NaNs
        assert same(tensor_proto.from_tensor_proto(tensor), array)
    else:
        np.testing.assert_array_equal(tensor_proto.from_tensor_proto(tensor), array)


@pytest.mark.parametrize("name", [dtype.name for dtype in dtypes.DTYPES if dtype.oip_field])
def test_typed_contents_of_oip_are_read_as_they_stand(name):
    dtype = dtypes.BY_NAME[name]
    array = array_of(name, (4, 3))
    answer = messages.ModelInferResponse()
    output = answer.outputs.add(name="y", datatype=dtype.oip, shape=array.shape)
    getattr(output.contents, dtype.oip_field).extend(array.ravel().tolist())
    np.testing.assert_array_equal(oip.outputs_of(answer)["y"], array)
    output.shape[0] = 5
    with pytest.raises(BadTensorError, match="takes 15 values, 12 were sent"):
        oip.outputs_of(answer)


def test_values_that_a_server_sends_one_by_one_unpacked_are_read_too():
    tensor = b"\x08\x01" + b"".join(b"\x2d" + np.float32(number).tobytes() for number in (1, 2.5))
    shape = b"\x12\x04\x12\x02\x08\x02"
    np.testing.assert_array_equal(
        tensor_proto.from_tensor_proto(messages.TensorProto.FromString(tensor + shape)), [1, 2.5]
    )
    np.testing.assert_array_equal(
        tensor_proto.from_tensor_proto(packed.TensorProto.FromString(tensor + shape)), [1, 2.5]
    )
    negative = b"\x08\x03\x38" + b"\xff" * 9 + b"\x01" + b"\x38\x05" + shape
    np.testing.assert_array_equal(tensor_proto.from_tensor_proto(packed.TensorProto.FromString(negative)), [-1, 5])
    mixed = tensor + b"\x2a\x04" + np.float32(3).tobytes() + b"\x12\x04\x12\x02\x08\x03"
    with pytest.raises(BadTensorError, match="some values are packed and some are not"):
        tensor_proto.from_tensor_proto(packed.TensorProto.FromString(mixed))


def test_integers_of_any_length_are_read_as_protobuf_reads_them():
    generator = random.Random(SEED)
    for _ in range(200):
        values = [generator.getrandbits(generator.randint(1, 64)) for _ in range(generator.randint(0, 30))]
        tensor = messages.TensorProto(uint64_val=values)
        data = b"".join(packed.TensorProto.FromString(tensor.SerializeToString()).uint64_val)
        assert packed.varints(data).tolist() == values
    with pytest.raises(BadTensorError, match="cut off"):
        packed.varints(b"\x01\x80")
    with pytest.raises(BadTensorError, match="has 11 bytes"):
        packed.varints(b"\x80" * 10 + b"\x01")


def test_the_last_typed_value_stands_for_the_rest_and_none_for_zeros():
    tensor = messages.TensorProto(dtype=3, int_val=[1, 2])
    tensor.tensor_shape.dim.add(size=5)
    assert tensor_proto.from_tensor_proto(tensor).tolist() == [1, 2, 2, 2, 2]
    del tensor.int_val[:]
    assert tensor_proto.from_tensor_proto(tensor).tolist() == [0] * 5
    tensor.dtype = 7
    tensor.string_val.append(b"a")
    assert tensor_proto.from_tensor_proto(tensor).tolist() == [b"a"] * 5


def test_a_bfloat16_is_a_float32_where_ml_dtypes_is_not_installed(monkeypatch):
    array = array_of("bfloat16", (50,))
    monkeypatch.setattr(dtypes, "_bfloat16", lambda: None)
    for through in (through_tfs, through_oip):
        found = through(array)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array.astype(np.float32))


def test_a_bool_of_any_byte_but_0_is_true():
    tensor = messages.TensorProto(dtype=10, tensor_content=b"\x00\x01\x02\xff")
    tensor.tensor_shape.dim.add(size=4)
    assert tensor_proto.from_tensor_proto(tensor).tobytes() == b"\x00\x01\x01\x01"


@pytest.mark.parametrize("protocol", ["tfs", "tfs typed", "oip", "oip typed", "seldon tensor"])
def test_a_million_floats_never_become_python_floats(protocol):
    array = np.random.default_rng(SEED).random(1_000_000, np.float32)
    if protocol == "oip typed":
        answer = messages.ModelInferResponse()
        answer.outputs.add(name="x", datatype="FP32", shape=array.shape).contents.fp32_contents.extend(array)
    elif protocol == "tfs typed":
        answer = messages.PredictResponse()
        answer.outputs["x"].dtype = 1
        answer.outputs["x"].float_val.extend(array)
        answer.outputs["x"].tensor_shape.dim.add(size=len(array))
    tracemalloc.start()
    if protocol == "tfs":
        found = through_tfs(array)
    elif protocol == "oip":
        found = through_oip(array)
    elif protocol == "seldon tensor":
        found = through_seldon(array, "tensor")
    else:
        data = answer.SerializeToString()
        tracemalloc.reset_peak()
        found = (oip if protocol == "oip typed" else tfs).outputs_of(type(answer).FromString(data))["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, array)
    # A Python float takes 24 bytes, and a list 8 more for each.
    assert peak < 24 * len(array)


# --- texts

TEXTS = ["", "a", "é", "日本語", "x" * 300]


@pytest.mark.parametrize(
    "array",
    [
        np.array(TEXTS),
        np.array(TEXTS, object),
        np.array([text.encode() for text in TEXTS]),
        np.array([b"\x00\xff\x00", b"", "é", b"x" * 300, b"\n"], object),
        np.array([["a", "b"], ["c", "d"]])[:, ::-1],
        np.array("alone"),
        np.array([], "U1").reshape(0, 2),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_texts_come_back_as_bytes(array):
    expected = [text if isinstance(text, bytes) else text.encode() for text in array.ravel().tolist()]
    for found in (through_tfs(array), through_oip(array), through_seldon(array, "tftensor")):
        assert found.dtype == object
        assert found.shape == array.shape
        assert found.ravel().tolist() == expected


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 has it")
def test_numpys_own_strings_are_texts():
    array = np.array(TEXTS, np.dtypes.StringDType())
    assert through_tfs(array).tolist() == [text.encode() for text in TEXTS]
    assert through_seldon(array).tolist() == TEXTS


def test_typed_texts_of_oip_are_read():
    answer = messages.ModelInferResponse()
    answer.outputs.add(name="t", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", b""])
    assert oip.outputs_of(answer)["t"].tolist() == [b"a", b""]


# --- Seldon's other kinds


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (b"\x89PNG", "binData"),
        ("text", "strData"),
        ({"a": [1.0, None, True, "x", {"b": []}]}, "jsonData"),
        ([1.0, [2.0]], "jsonData"),
        (2.5, "jsonData"),
        (True, "jsonData"),
        (None, "jsonData"),
    ],
)
def test_what_is_no_array_keeps_its_kind(value, field):
    message = messages.SeldonMessage.FromString(seldon.request(value, tags={"a": 1, "b": [None]}).SerializeToString())
    assert message.WhichOneof("data_oneof") == field
    assert seldon.value_of(message) == value
    assert seldon.meta_of(message) == {"tags": {"a": 1.0, "b": [None]}}


def test_json_may_hold_numbers_that_json_has_not():
    assert np.isnan(seldon.value_of(seldon.request({"a": float("nan")}))["a"])
    message = seldon.request("x", tags={"a": float("inf"), "b": float("nan")})
    assert seldon.tags_of(message)["a"] == float("inf")
    assert np.isnan(seldon.meta_of(message)["tags"]["b"])


def test_arrays_choose_the_kind_that_keeps_their_type():
    for array, kind in [
        (np.zeros((2, 2), np.float32), "tftensor"),
        (np.float32(1), "tftensor"),
        (np.array([True]), "tftensor"),
        (np.array([b"a"]), "tftensor"),
        (np.array(["a"]), "ndarray"),
    ]:
        data = seldon.request(array, names=["a"]).data
        assert data.WhichOneof("data_oneof") == kind
        assert list(data.names) == ["a"]


def test_whole_messages_and_any_pass_from_any_package():
    message = messages.SeldonMessage(strData="x")
    message.meta.puid = "p"
    found = seldon.request(message, tags={"model": "m"})
    assert packed.plain(found).strData == "x"
    assert seldon.meta_of(found) == {"puid": "p", "tags": {"model": "m"}}
    assert not message.meta.tags  # the caller's message is the caller's
    wrapped = messages.AnyMessage()
    wrapped.Pack(message)
    assert seldon.value_of(seldon.request(wrapped)) == wrapped
    assert seldon.value_of(messages.SeldonMessage()) is None


def test_an_ndarray_of_different_things_is_an_array_of_objects():
    message = messages.SeldonMessage()
    for items, expected in [
        ([1.0, "a"], np.array([1.0, "a"], object)),
        ([None, 1.0], np.array([None, 1.0], object)),
        ([{"a": 1.0}], np.array([{"a": 1.0}], object)),
        ([], np.empty(0)),
        (["a", "bc"], np.array(["a", "bc"])),
    ]:
        message.data.ndarray.Clear()
        message.data.ndarray.SetInParent()
        message.data.ndarray.extend(items)
        found = seldon.value_of(message)
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()
    message.data.ndarray.extend([[[1.0], [2.0, 3.0]]])
    assert seldon.value_of(message).dtype == object


# --- what cannot be sent


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tfs.request("m", np.zeros(2)), "named inputs"),
        (lambda: tfs.request("m", {"x": [[1], [2, 3]]}), "x: not an array"),
        (lambda: tfs.request("m", {"x": None}), "x: not an array"),
        (lambda: tfs.request("m", {"x": np.array(["2020"], "M8[Y]")}), "x: the protocol has no type for datetime64"),
        (lambda: tfs.request("m", {"x": np.longdouble(1)}), "no type for"),
        (lambda: tfs.request("m", {"x": 1}, version=1, label="a"), "give one of them"),
        (lambda: tfs.request("m", {"x": 1}, version=2**63), "more than 64 bits"),
        (lambda: oip.request("m", {"x": 1j}), "no type for complex128"),
        (lambda: oip.request("m", {"x": 1}, parameters={"p": None}), "parameter p"),
        (lambda: oip.request("m", {"x": 1}, parameters={"p": 2**63}), "more than 64 bits"),
        (lambda: seldon.request(np.complex64(1), kind="tensor"), "holds float64 only"),
        (lambda: seldon.request(np.array(["a"]), kind="tensor"), "holds float64 only"),
        (lambda: seldon.request(np.array([2**53 + 1]), kind="tensor"), "would round"),
        (lambda: seldon.request(np.array([-(2**63)]), kind="tensor"), "would round"),
        (lambda: seldon.request(np.float32(1), kind="ndarray"), "at least one dimension"),
        (lambda: seldon.request(np.array([b"a"]), kind="ndarray"), "use tftensor"),
        (lambda: seldon.request(np.zeros(1), kind="list"), "tftensor, tensor or ndarray"),
        (lambda: seldon.request([1, 2], kind="tensor"), "give numpy.asarray"),
        (lambda: seldon.request({1: 2}), "keys are texts"),
        (lambda: seldon.request({"a": {1, 2}}), "set is neither"),
        (lambda: seldon.request(1j), "complex is neither"),
        (lambda: seldon.request(messages.PredictRequest()), "a message of type tensorflow.serving.PredictRequest"),
    ],
)
def test_an_input_without_a_form_is_refused_with_words(make, words):
    with pytest.raises(InputError, match=words):
        make()


# --- answers that are none


def tensor(**fields) -> messages.TensorProto:
    shape = fields.pop("shape", [2])
    made = messages.TensorProto(**{"dtype": 1, **fields})
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tensor(tensor_content=b"1234567"), "takes 8 bytes, 7 were sent"),
        (tensor(float_val=[1, 2, 3]), "3 values were sent for a tensor of 2"),
        (tensor(shape=[-1]), "negative size"),
        (tensor(shape=[2**40]), "made by repeating values"),
        (tensor(dtype=7, shape=[2**40]), "made by repeating values"),
        (tensor(dtype=7, string_val=[b"a"] * 3), "takes 2 texts, 3 were sent"),
        (tensor(dtype=20), "numpy has no DT_RESOURCE"),
        (tensor(dtype=999), "numpy has no type 999"),
        (tensor(shape=[1] * 100, float_val=[1]), "shape"),
        (tensor(shape=[0, 2**62, 2**62]), "shape"),
        (tensor(dtype=7, shape=[1] * 100, string_val=[b"a"]), "shape"),
    ],
)
def test_a_tensor_that_contradicts_itself_is_named(made, words):
    with pytest.raises(BadTensorError, match=words):
        tensor_proto.from_tensor_proto(made)


def test_a_tensor_without_a_rank_has_no_array():
    made = messages.TensorProto(dtype=1)
    made.tensor_shape.unknown_rank = True
    with pytest.raises(BadTensorError, match="shape is not known"):
        tensor_proto.from_tensor_proto(made)


@pytest.mark.parametrize(
    ("outputs", "raw", "words"),
    [
        ([("y", "FP32", [2])], [b"1234"], "takes 8 bytes, 4 were sent"),
        ([("y", "FP32", [1]), ("y", "FP32", [1])], [b"1234", b"1234"], "two outputs"),
        ([("y", "FP32", [1]), ("z", "FP32", [1])], [b"1234"], "2 outputs, but raw contents of 1"),
        ([("y", "FP99", [1])], [b"1234"], "'FP99' is not a datatype"),
        ([("y", "FP16", [1])], [], "FP16 without raw contents"),
        ([("y", "BYTES", [1])], [b"\x02\x00\x00\x00a"], "cut off"),
        ([("y", "BYTES", [1])], [b"\x02\x00"], "cut off"),
        ([("y", "BYTES", [2])], [b"\x01\x00\x00\x00a"], "takes 2 texts, 1 were sent"),
        ([("y", "INT32", [-1])], [b"1234"], "negative size"),
    ],
)
def test_outputs_that_contradict_themselves_are_named(outputs, raw, words):
    answer = messages.ModelInferResponse(raw_output_contents=raw)
    for name, datatype, shape in outputs:
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
    with pytest.raises(BadTensorError, match=words):
        oip.outputs_of(answer)


def test_a_seldon_tensor_that_contradicts_itself_is_named():
    message = messages.SeldonMessage()
    message.data.tensor.shape.extend([2, 2])
    message.data.tensor.values.extend([1, 2, 3])
    with pytest.raises(BadTensorError, match="takes 4 values, 3 were sent"):
        seldon.value_of(message)


def test_no_damage_to_an_answer_ends_in_anything_but_a_named_error():
    generator = random.Random(SEED)
    arrays = {"x": array_of("float32", (3, 2)), "t": np.array(["a", "bc"]), "h": array_of("float16", (4,))}
    request = tfs.request("m", arrays)
    typed = messages.PredictResponse()
    for name, value in request.inputs.items():
        typed.outputs[name].ParseFromString(value.SerializeToString())
    typed.outputs["f"].CopyFrom(tensor(float_val=[1, 2]))
    typed.outputs["i"].CopyFrom(tensor(dtype=9, int64_val=[-1, 2**60]))
    infer = messages.ModelInferResponse(raw_output_contents=oip.request("m", arrays).raw_input_contents)
    for each in oip.request("m", arrays).inputs:
        infer.outputs.add(name=each.name, datatype=each.datatype, shape=each.shape)
    cases = [
        (typed.SerializeToString(), packed.PredictResponse, tfs.outputs_of),
        (infer.SerializeToString(), packed.ModelInferResponse, oip.outputs_of),
        *(
            (seldon.request(value, kind=kind).SerializeToString(), packed.SeldonMessage, seldon.value_of)
            for value, kind in [
                (arrays["x"], "tensor"),
                (arrays["x"], "tftensor"),
                (arrays["t"], None),
                ({"a": 1}, None),
            ]
        ),
    ]
    refused = 0
    for data, message_class, read in cases:
        for _ in range(400):
            damaged = bytearray(data)
            for _ in range(generator.randint(1, 3)):
                position = generator.randrange(len(damaged))
                if generator.random() < 0.3:
                    del damaged[position:]
                    damaged = damaged or bytearray(b"\x00")
                else:
                    damaged[position] = generator.randrange(256)
            try:
                read(message_class.FromString(bytes(damaged)))
            except (BadTensorError, DecodeError):
                refused += 1
    assert refused > 400  # the damage is real, of 2,400


# --- nothing is changed on the way


@pytest.mark.parametrize("value", [[b"ab\0", b""], [["a\0", "b"]], b"\0", "\0\0", (b"x", b"y\0")])
def test_zero_bytes_at_the_end_of_texts_stay(value):
    expected = [each.encode() if isinstance(each, str) else each for each in np.array(value, object).ravel().tolist()]
    sent = plain(tfs.request("m", {"x": value})).inputs["x"]
    assert list(sent.string_val) == expected
    raw = oip.request("m", {"x": value}).raw_input_contents[0]
    assert list(oip._split(raw)) == expected


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tfs.request("m", {"x": [2**60 + 1, 0.5]}), f"{2**60 + 1} among floats would be rounded"),
        (lambda: tfs.request("m", {"x": [2**63, -1]}), "would be rounded|of one kind"),
        (lambda: tfs.request("m", {"x": [1, "a"]}), "of one kind"),
        (lambda: tfs.request("m", {"x": np.ma.array([1, 2], mask=[0, 1])}), "masked array.*filled"),
        (lambda: oip.request("m", {"x": ["\ud800"]}), "cannot be encoded as UTF-8.*give bytes"),
        (lambda: seldon.request({"a": 2**53 + 1}), f"would round {2**53 + 1}: send an array of int64"),
        (lambda: seldon.request({"a": [np.int64(2**53 + 1)]}), "would round"),
        (lambda: seldon.request(np.array([2**53 + 1]), kind="ndarray"), "would round"),
        (lambda: seldon.request("x", tags={"id": 2**60}), "would round"),
    ],
)
def test_what_would_be_changed_on_the_way_is_refused_with_the_remedy(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_what_is_exact_passes():
    assert plain(seldon.request({"a": 2**53})).jsonData.struct_value.fields["a"].number_value == 2**53
    assert list(plain(tfs.request("m", {"x": np.ma.array([1, 2])})).inputs["x"].tensor_shape.dim) != []
    assert plain(tfs.request("m", {})).model_spec.name == "m"
    assert not plain(oip.request("m", {})).inputs


def test_torchs_tensors_go_by_every_protocol():
    import torch

    tensor = torch.tensor([1.5, -2.0], requires_grad=True)
    expected = np.array([1.5, -2.0], np.float32)
    for given in (tensor, tensor.expand(1, 2)[0], torch.complex(tensor, tensor).conj().real):
        found = seldon.value_of(plain(seldon.request(given)))
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())
        assert plain(tfs.request("m", {"x": given})).inputs["x"].tensor_content == expected.tobytes()
        assert oip.request("m", {"x": given}).raw_input_contents[0] == expected.tobytes()
    half = seldon.value_of(plain(seldon.request(tensor.bfloat16())))
    assert (half.dtype.name, half.tolist()) == ("bfloat16", [1.5, -2.0])


class Hostile:
    """What numpy, protobuf and we ask of a value, and get only trouble for."""

    def __getattr__(self, name):
        raise RuntimeError("nothing for you")

    def __str__(self):
        raise RuntimeError("no words")


RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)
ODD = [
    Hostile(), RECURSIVE, {1, 2}, object(), 1j, np.datetime64("2020"), np.zeros(1, "V3"), np.zeros(2, "i4,f4"),
    "\ud800", ["\ud800"], {"\ud800": 1}, {1: 2}, 2**70, [None, 1], [[1], [2, 3]], float("nan"), range(3),
    np.zeros((0, 2**40)), np.float128(1), np.array([object()]), memoryview(b"x"), lambda: 1, Exception, type,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(ODD)))
def test_whatever_a_caller_gives_the_client_raises_nothing_but_input_errors(index):
    odd = ODD[index]
    makers = [
        lambda: calls.predict_tfs("m", {"x": odd}),
        lambda: calls.predict_tfs("m", odd),
        lambda: calls.predict_tfs(odd, {"x": 1}),
        lambda: calls.predict_tfs("m", {odd if isinstance(odd, str) else 7: 1}),
        lambda: calls.predict_tfs("m", {"x": 1}, signature=odd, outputs=odd, version=odd),
        lambda: calls.predict_oip("m", {"x": odd}),
        lambda: calls.predict_oip(odd, odd, version=odd, outputs=odd, parameters=odd),
        lambda: calls.predict_oip("m", {"x": 1}, parameters={"p": odd}),
        lambda: calls.predict_seldon("m", odd, version="", tags=None),
        lambda: calls.predict_seldon(odd, 1, version=odd, tags=odd),
        lambda: calls.predict_seldon("m", np.zeros(1), version="", tags={"t": odd}, kind=odd, names=odd),
        lambda: calls.status_tfs(odd, odd),
        lambda: calls.is_serving(odd),
    ]
    for make in makers:
        with contextlib.suppress(InputError):
            make()
