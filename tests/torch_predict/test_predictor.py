from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures.torch_fakes import FakeBatch, FakeItem
from google.protobuf import any_pb2

from torch_predict.arguments import Argument
from torch_predict.errors import BadAnswer, Error, InvalidInput
from torch_predict.hooks import Hooks
from torch_predict.predictor import Predictor
from torch_predict.samples import Sample
from torch_predict.seldon import plain
from torch_predict.signature import Signature, Size, TensorSpec

CPU = torch.device("cpu")


class Recorder(torch.nn.Module):
    """Keeps what it was called with and returns its input."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, dtype=dtype))
        self.calls = []

    def forward(self, x, **tags):
        self.calls.append((x, tags))
        return x


def hook(function):
    return lambda x, meta: function(x)


def ask(item, *, hooks=None, model=None, class_names=None):
    batch = FakeBatch(item)
    Predictor(model or Recorder(), hooks or Hooks(), CPU, class_names).answer(batch)
    return batch


def returning(result, item=None, class_names=None):
    """Answer with what postprocess returned."""
    hooks = Hooks(run_model=lambda model, x, meta: x, postprocess=hook(lambda x: result))
    return ask(item or FakeItem("tensor", np.zeros((1, 2))), hooks=hooks, class_names=class_names)


def seen_by_preprocess(item):
    seen = []
    ask(item, hooks=Hooks(preprocess=hook(lambda x: seen.append(x) or x), run_model=lambda model, x, meta: "done"))
    return seen[0]


# --- what hooks get (compat.md, section 3)


def test_a_tensor_is_a_float64_array_that_may_be_written():
    x = seen_by_preprocess(FakeItem("tensor", np.zeros((2, 2))))
    assert x.dtype == np.float64
    x /= 255


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1.0, 2.0], np.dtype("float64"), [1.0, 2.0]),
        ([[1.0], [2.0]], np.dtype("float64"), [[1.0], [2.0]]),
        ([True, False], np.dtype("bool"), [True, False]),
        (["a", "bc"], np.dtype("<U2"), ["a", "bc"]),
        ([1.0, "a"], np.dtype("<U32"), ["1.0", "a"]),
        ([1.0, None], np.dtype("O"), [1.0, None]),
        ([{"a": 1.0}], np.dtype("O"), [{"a": 1.0}]),
        ([], np.dtype("float64"), []),
    ],
)
def test_an_ndarray_is_what_numpy_makes_of_the_list(values, dtype, expected):
    x = seen_by_preprocess(FakeItem("ndarray", values))
    assert x.dtype == dtype
    assert x.tolist() == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("strData", "text"),
        ("binData", b"\x00\x01"),
        ("jsonData", {"a": [1.0, None]}),
        ("jsonData", [1.0]),
        ("jsonData", 2.5),
        ("jsonData", "s"),
        ("jsonData", True),
        ("jsonData", None),
        ("tftensor", np.array([1, 2], np.int32)),
    ],
)
def test_other_payloads_arrive_as_they_are(kind, value):
    assert seen_by_preprocess(FakeItem(kind, value)) is value


def test_custom_data_is_an_any():
    packed = any_pb2.Any(type_url="x/y", value=b"1")
    assert seen_by_preprocess(FakeItem("customData", packed.SerializeToString())) == packed


def test_a_ragged_ndarray_is_an_invalid_input():
    batch = ask(FakeItem("ndarray", [[1.0], [1.0, 2.0]]))
    assert batch.failures[0] == (3, "data.ndarray is ragged: its lists differ in length", "bad_request")


def test_a_message_without_payload_is_an_invalid_input():
    code, message, kind = ask(FakeItem("none", None)).failures[0]
    assert (code, kind) == (3, "bad_request")
    assert message.startswith("the message has no payload")


def test_hooks_run_in_order_and_all_get_meta():
    seen = []
    hooks = Hooks(
        preprocess=lambda x, meta: seen.append(("pre", meta)) or x + 1,
        run_model=lambda model, x, meta: seen.append(("run", meta)) or x * 10,
        postprocess=lambda x, meta: seen.append(("post", meta)) or x - 1,
    )
    meta = {"tags": {"taskId": 39.0}, "requestPath": {"a": "b"}}
    batch = ask(FakeItem("tensor", np.ones((1, 1)), meta), hooks=hooks)
    assert batch.answers[0][1].tolist() == [[19.0]]
    assert seen == [("pre", meta), ("run", meta), ("post", meta)]


# --- the model's call


@pytest.mark.parametrize(
    ("tags", "passed"),
    [
        ({}, {}),
        ({"taskId": 39.0}, {}),
        ({"model": "m"}, {}),
        ({"model": "m", "taskId": 39.0}, {}),
        ({"taskId": 39.0, "k": 2.0}, {"taskId": 39.0, "k": 2.0}),
        ({"model": "m", "taskId": 39.0, "k": 2.0}, {"taskId": 39.0, "k": 2.0}),
        ({"a": 1.0, "b": "x"}, {"a": 1.0, "b": "x"}),
    ],
)
def test_more_than_one_tag_beside_model_goes_to_the_model(tags, passed):
    model = Recorder()
    ask(FakeItem("tensor", np.zeros((1, 1)), {"tags": tags}), model=model)
    assert model.calls[0][1] == passed


def test_with_run_model_tags_never_reach_the_model():
    model = Recorder()
    hooks = Hooks(run_model=lambda model, x, meta: model(torch.zeros(1, 1)).numpy())
    ask(FakeItem("tensor", np.zeros((1, 1)), {"tags": {"a": 1.0, "b": 2.0}}), hooks=hooks, model=model)
    assert model.calls[0][1] == {}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_without_hooks_floats_take_the_models_dtype(dtype):
    model = Recorder(dtype)
    batch = ask(FakeItem("tensor", np.ones((1, 2))), model=model)
    assert model.calls[0][0].dtype is dtype
    assert batch.answers[0][1].tolist() == [[1.0, 1.0]]


def test_integers_keep_their_dtype():
    model = Recorder()
    batch = ask(FakeItem("tftensor", np.array([[1, 2]], np.int64)), model=model)
    assert model.calls[0][0].dtype is torch.int64
    assert batch.answers[0][1].dtype == np.int64


def test_a_tensor_that_preprocess_made_is_not_cast():
    model = Recorder()
    ask(FakeItem("tensor", np.ones((1, 2))), hooks=Hooks(preprocess=hook(torch.from_numpy)), model=model)
    assert model.calls[0][0].dtype is torch.float64


def test_what_preprocess_made_is_passed_on_as_it_is():
    model = Recorder()
    hooks = Hooks(preprocess=hook(lambda x: {"ids": [1]}), postprocess=hook(lambda x: x))
    batch = ask(FakeItem("strData", "text"), hooks=hooks, model=model)
    assert model.calls[0][0] == {"ids": [1]}
    assert batch.answers[0] == ("jsonData", {"ids": [1]}, [])


def test_postprocess_gets_the_models_own_tensor():
    hooks = Hooks(postprocess=hook(lambda x: {"type": type(x).__name__}))
    assert ask(FakeItem("tensor", np.ones((1, 1))), hooks=hooks).answers[0][1] == {"type": "Tensor"}


def test_no_gradients_are_recorded_but_a_hook_may_turn_them_on():
    def run_model(model, x, meta):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            weight = torch.ones(1, requires_grad=True)
            (weight * 3).backward()
        return weight.grad.numpy()

    assert ask(FakeItem("tensor", np.ones((1, 1))), hooks=Hooks(run_model=run_model)).answers[0][1].tolist() == [3.0]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("strData", "text", "send data instead of strData"),
        ("binData", b"\x00", "send data instead of binData"),
        ("jsonData", {"a": 1.0}, "send data instead of jsonData"),
        ("jsonData", [[1.0], []], "jsonData is ragged"),
        ("ndarray", ["a"], "not of strings"),
        ("ndarray", [1.0, None], "not of mixed values"),
    ],
)
def test_a_model_without_preprocess_takes_numbers_only(kind, value, words):
    code, message, _ = ask(FakeItem(kind, value)).failures[0]
    assert code == 3
    assert words in message


def test_a_json_list_of_numbers_is_an_array():
    assert ask(FakeItem("jsonData", [[1.0, 2.0]])).answers[0][1].tolist() == [[1.0, 2.0]]


def test_a_read_only_or_reversed_array_is_fine():
    x = np.arange(4.0).reshape(1, 4)[:, ::-1]
    x.flags.writeable = False
    assert ask(FakeItem("tensor", x)).answers[0][1].tolist() == [[3.0, 2.0, 1.0, 0.0]]


def test_a_bfloat16_result_is_sent_as_numbers():
    batch = ask(FakeItem("tensor", np.ones((1, 2))), model=Recorder(torch.bfloat16))
    assert batch.answers[0][0] == "tensor"
    assert batch.answers[0][1].tolist() == [[1.0, 1.0]]


def test_a_bfloat16_result_stays_so_in_a_tftensor(monkeypatch):
    item = FakeItem("tftensor", np.ones((1, 2), np.float32))
    assert ask(item, model=Recorder(torch.bfloat16)).answers[0][1].dtype.name == "bfloat16"
    assert ask(FakeItem("ndarray", [[1.0, 2.0]]), model=Recorder(torch.bfloat16)).answers[0][1] == [[1.0, 2.0]]
    monkeypatch.setattr("torch_predict.arrays.bfloat16", lambda: None)
    assert ask(item, model=Recorder(torch.bfloat16)).answers[0][1].dtype == np.float32


# --- what answers become (compat.md, section 4)

NUMBERS = np.array([[1, 2]], np.float32)


@pytest.mark.parametrize("result", [NUMBERS, [[1, 2]], NUMBERS.astype(np.int8)])
@pytest.mark.parametrize(
    ("asked", "value", "kind"),
    [
        ("tensor", np.zeros(1), "tensor"),
        ("ndarray", [1.0], "ndarray"),
        ("tftensor", np.zeros(1), "tftensor"),
        ("binData", b"", "tensor"),
        ("strData", "", "tensor"),
        ("jsonData", {}, "tensor"),
        ("customData", b"", "tensor"),
    ],
)
def test_a_numeric_answer_has_the_requests_own_data_kind_or_is_a_tensor(result, asked, value, kind):
    answered, sent, names = returning(result, FakeItem(asked, value)).answers[0]
    assert answered == kind
    assert np.array(sent).tolist() == [[1.0, 2.0]]
    assert names == ["t:0", "t:1"]


@pytest.mark.parametrize(
    "result",
    [np.array([True, False]), ["a", "b"], np.array(["a"]), [1.0, "a"], [{"a": 1}, None], np.array([None, 1.5])],
)
@pytest.mark.parametrize("asked", ["tensor", "tftensor", "strData"])
def test_an_answer_without_numbers_is_an_ndarray(result, asked):
    kind, value, _ = returning(result, FakeItem(asked, np.zeros(1))).answers[0]
    assert kind == "ndarray"
    assert value == np.array(result).tolist()


@pytest.mark.parametrize(
    ("result", "kind", "value"),
    [
        ({"a": [1, "x", None]}, "jsonData", {"a": [1, "x", None]}),
        ({}, "jsonData", {}),
        ("text", "strData", "text"),
        (np.str_("text"), "strData", "text"),
        (b"\x00", "binData", b"\x00"),
        (bytearray(b"\x01"), "binData", b"\x01"),
        (
            any_pb2.Any(type_url="u", value=b"v"),
            "customData",
            any_pb2.Any(type_url="u", value=b"v").SerializeToString(),
        ),
    ],
)
def test_other_answers_have_the_kind_of_their_type(result, kind, value):
    assert returning(result).answers[0] == (kind, value, [])


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((), []),
        ((0,), []),
        ((3,), []),
        ((2, 3), ["t:0", "t:1", "t:2"]),
        ((0, 2), ["t:0", "t:1"]),
        ((1, 2, 5), ["t:0", "t:1"]),
    ],
)
def test_columns_have_names_from_rank_2_on(shape, names):
    kind, value, answered = returning(np.zeros(shape)).answers[0]
    assert (kind, value.shape, value.dtype) == ("tensor", shape, np.float64)
    assert answered == names


def test_class_names_of_the_model_folder_replace_the_numbered_ones_whatever_the_width():
    names = [f"class:{i}" for i in range(10)]
    assert returning(np.zeros((1, 2)), class_names=names).answers[0][2] == names
    assert returning(np.zeros(2), class_names=names).answers[0][2] == []


def test_a_tftensor_keeps_its_dtype_and_a_tensor_is_doubles():
    result = np.array([[2**53 + 1]], np.int64)
    assert returning(result, FakeItem("tftensor", np.zeros(1))).answers[0][1].dtype == np.int64
    assert returning(result).answers[0][1].dtype == np.float64


def test_rank_0_goes_into_tensor_and_tftensor():
    assert returning(np.array(5)).answers[0][1].shape == ()
    assert returning(np.array(5), FakeItem("tftensor", np.zeros(1))).answers[0][1].shape == ()


def test_special_numbers_pass():
    values = [float("nan"), float("inf"), -0.0]
    assert str(returning(np.array(values)).answers[0][1].tolist()) == str(values)
    assert str(returning(np.array(values), FakeItem("ndarray", [])).answers[0][1]) == str(values)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ((1, 2), "it is a tuple"),
        (1, "it is a int"),
        (1.5, "it is a float"),
        (np.float32(1), "it is a float32"),
        (True, "it is a bool"),
        (None, "it is a NoneType"),
        (torch.zeros(1), "it is a Tensor"),
        (object(), "it is a object"),
        ([[1], [1, 2]], "it is a ragged list"),
        (np.array([1j]), "a tensor cannot hold complex128"),
    ],
)
def test_an_answer_that_no_message_holds_is_a_clear_internal_error(result, words):
    batch = returning(result)
    code, message, kind = batch.failures[0]
    assert (code, kind) == (13, "hook")
    assert f"the model's answer cannot be sent: {words}" in message
    assert message.endswith("request id id-1")


@pytest.mark.parametrize(("result", "words"), [(np.array(5), "rank 0"), (np.array([1j]), "complex128")])
def test_an_ndarray_answer_has_its_own_limits(result, words):
    assert words in returning(result, FakeItem("ndarray", [1.0])).failures[0][1]


def test_byte_strings_fit_no_answer():
    assert "an ndarray cannot hold |S1" in returning(np.array([b"a"]), FakeItem("tftensor", np.zeros(1))).failures[0][1]


def test_content_that_the_front_refuses_is_the_hooks_fault():
    batch = FakeBatch(FakeItem("tensor", np.zeros(1)), refuse="no UTF-8")
    Predictor(Recorder(), Hooks(run_model=lambda m, x, meta: {"a": "\ud800"}), CPU).answer(batch)
    code, message, kind = batch.failures[0]
    assert (code, kind) == (13, "hook")
    assert "its content does not fit jsonData: no UTF-8" in message


def test_a_tensor_returned_by_run_model_is_an_error_as_in_the_original():
    hooks = Hooks(run_model=lambda model, x, meta: torch.zeros(1))
    assert "it is a Tensor" in ask(FakeItem("tensor", np.zeros(1)), hooks=hooks).failures[0][1]


# --- errors


def test_an_error_belongs_to_its_item():
    def preprocess(x):
        if x[0] < 0:
            raise InvalidInput("negative")
        return x

    items = [FakeItem("tensor", np.array([float(v)]), request_id=f"r{v}") for v in (1, -1, 2)]
    batch = FakeBatch(*items)
    Predictor(Recorder(), Hooks(preprocess=hook(preprocess)), CPU).answer(batch)
    assert sorted(batch.answers) == [0, 2]
    assert batch.failures == {1: (3, "negative", "bad_request")}


def test_a_hook_that_raised_is_in_the_log_under_the_request_id_and_nowhere_else(caplog):
    def postprocess(x):
        raise KeyError("password=1234")

    with caplog.at_level(logging.ERROR):
        batch = ask(FakeItem("tensor", np.zeros(1)), hooks=Hooks(postprocess=hook(postprocess)))
    assert batch.failures[0] == (13, "the model failed on this request; request id id-1", "hook")
    assert "request id-1 failed" in caplog.text
    assert "password=1234" in caplog.text
    assert "in postprocess" in caplog.text


def test_a_hook_chooses_its_own_code_and_text():
    def preprocess(x):
        raise Error("NOT_FOUND", "no such user")

    batch = ask(FakeItem("tensor", np.zeros(1)), hooks=Hooks(preprocess=hook(preprocess)))
    assert batch.failures[0] == (5, "no such user", "hook")


def test_a_hook_that_exits_does_not_end_the_server():
    assert ask(FakeItem("tensor", np.zeros(1)), hooks=Hooks(preprocess=hook(exit))).failures[0][0] == 13


def test_a_type_error_does_not_run_hooks_twice():
    calls = []

    def preprocess(x):
        calls.append(x)
        raise TypeError("x")

    ask(FakeItem("tensor", np.zeros(1)), hooks=Hooks(preprocess=hook(preprocess)))
    assert len(calls) == 1


# --- whose mistake it is: what a model without hooks takes is known, whatever the protocol


PAIR = Signature((Argument("a"), Argument("b")), (TensorSpec("a", "float32", (-1, 2)), TensorSpec("b", "int64", (-1,))))
ONE = Signature((Argument("input"),), (TensorSpec("input", "float32", (-1, 2)),), sizes={("input", 0): Size(1, 8)})
WORDS = Signature((Argument("ids"),), (TensorSpec("ids", "int64", (-1,)),))


def ask_known(signature, item, model):
    batch = FakeBatch(item)
    Predictor(model, Hooks(), CPU, None, signature).answer(batch)
    return batch


@pytest.mark.parametrize("kind", ["tensor", "tftensor", "ndarray", "jsonData"])
@pytest.mark.parametrize(
    ("signature", "value", "words"),
    [
        (ONE, np.zeros((1, 3)), "input 'input' has the shape [1, 3]: this model takes [-1, 2]"),
        (ONE, np.zeros(2), "input 'input' has the shape [2]: this model takes [-1, 2]"),
        (ONE, np.zeros((9, 2)), "input 'input' has the size 9 on axis 0: this model takes 1 to 8"),
        (WORDS, np.array([0.5]), "input 'ids' holds float64 values that are no int64, which this model takes"),
        (WORDS, np.array([2.0**60]), "input 'ids' holds float64 values that are no int64, which this model takes"),
        (
            PAIR,
            np.zeros((1, 2)),
            "this model takes the inputs 'a', 'b': send them by name, as jsonData or by the Open Inference Protocol",
        ),
    ],
)
def test_what_a_known_model_does_not_take_is_the_callers_mistake(kind, signature, value, words):
    sent = value.tolist() if kind in ("ndarray", "jsonData") else value
    assert ask_known(signature, FakeItem(kind, sent), Recorder()).failures[0] == (3, words, "bad_request")


@pytest.mark.parametrize("kind", ["tensor", "ndarray", "jsonData"])
def test_whole_numbers_of_json_become_the_integers_that_a_model_takes(kind):
    model = Recorder()
    value = [1.0, 2.0] if kind != "tensor" else np.array([1.0, 2.0])
    batch = ask_known(WORDS, FakeItem(kind, value), model)
    assert batch.failures == {}
    assert model.calls[0][0].dtype is torch.int64


def test_inputs_by_name_in_json_go_to_the_models_arguments():
    class Sum(torch.nn.Module):
        def forward(self, a, b):
            assert a.dtype is torch.float32
            assert b.dtype is torch.int64
            return a.sum(1) + b

    def ask_sum(value):
        return ask_known(PAIR, FakeItem("jsonData", value), Sum())

    assert ask_sum({"b": [1.0], "a": [[1.0, 2.0]]}).answers[0][1].tolist() == [4.0]
    assert ask_sum({"a": [[1.0, 2.0]]}).failures[0][:2] == (3, "missing inputs 'b': this model takes 'a', 'b'")
    assert "holds float64" in ask_sum({"a": [[1.0, 2.0]], "b": [1.5]}).failures[0][1]


def test_a_sample_in_json_shows_the_inputs_by_the_models_own_names():
    known = Signature((Argument("a"), Argument("b")))
    predictor = Predictor(lambda a, b: a + b, Hooks(), CPU, None, known)
    inputs, outputs, *_ = predictor.observe(Sample("jsonData", {"a": [[1.0, 2.0]], "b": [[3.0, 4.0]]}))
    assert inputs == [TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (1, 2))]
    assert outputs == [TensorSpec("output", "float32", (1, 2))]


class Returning(torch.nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, x):
        return self.result


T = torch.tensor([1.0, 2.0])


def quantized():
    return torch.quantize_per_tensor(T, 1.0, 0, torch.qint8)


@pytest.mark.parametrize(
    ("result", "kind", "value"),
    [
        (
            {"a": T, "n": None, "deep": {"b": [T]}},
            "jsonData",
            {"a": [1.0, 2.0], "n": None, "deep": {"b": [[1.0, 2.0]]}},
        ),
        ((T, T.int()), "jsonData", {"output_0": [1.0, 2.0], "output_1": [1, 2]}),
        ([T, None], "jsonData", {"output_0": [1.0, 2.0], "output_1": None}),
        ((T,), "tensor", [1.0, 2.0]),
        (torch.complex(T, T).conj().imag, "tensor", [-1.0, -2.0]),
        (T.to_sparse(), "tensor", [1.0, 2.0]),
        (quantized, "tensor", [1.0, 2.0]),
        (T.bfloat16().requires_grad_(), "tensor", [1.0, 2.0]),
        (T.to(torch.float8_e4m3fn), "tensor", [1.0, 2.0]),
        (T.expand(2, 2).T, "tensor", [[1.0, 1.0], [2.0, 2.0]]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantiz")  # torch takes them back some day; until then there are such models
def test_whatever_a_model_gives_is_sent(result, kind, value):
    result = result() if callable(result) else result
    batch = ask(FakeItem("tensor", np.zeros((1, 1))), model=Returning(result))
    assert batch.failures == {}
    assert (batch.answers[0][0], np.asarray(batch.answers[0][1], object).tolist()) == (
        kind,
        np.asarray(value, object).tolist(),
    )


def test_what_numpy_has_nothing_for_is_named():
    jagged = torch.nested.nested_tensor([T, T[:1]], layout=torch.jagged)
    code, message, kind = ask(FakeItem("tensor", np.zeros((1, 1))), model=Returning(jagged)).failures[0]
    assert (code, kind) == (13, "hook")
    assert "a tensor (torch.float32, torch.jagged) that numpy has no array for" in message


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [{"b": object()}]}, "it['a'][0]['b'] is a object; make it a dict, list, float, int, str, bool or None"),
        ({"a": {1: 2}}, "it['a'] has a key of type int; make it str"),
        ({"a": np.zeros(1, np.complex64)}, "it['a'] is a complex64; make it"),
        ({"a": b"bytes"}, "it['a'] is a bytes; make it"),
    ],
)
def test_what_json_cannot_hold_is_named_by_its_place(value, words):
    with pytest.raises(BadAnswer) as caught:
        plain(value)
    assert str(caught.value).startswith(words)


def test_numpys_values_in_a_dict_are_sent_as_pythons():
    value = {
        "a": np.float32(0.5),
        "b": [np.int64(1), np.bool_(True)],
        "c": np.arange(2),
        "d": torch.tensor(2),
        "e": "x",
    }
    assert plain(value) == {"a": 0.5, "b": [1, True], "c": [0, 1], "d": 2, "e": "x"}


def test_the_stages_of_each_answered_item_are_measured_and_none_of_one_that_fails():
    def slow(x):
        time.sleep(0.02)
        return x

    hooks = Hooks(preprocess=hook(slow), run_model=lambda model, x, meta: x * model(x), postprocess=None)
    measured = []
    counts = SimpleNamespace(measured=lambda *told: measured.append(told))
    predictor = Predictor(lambda x: slow(slow(x)), hooks, CPU)
    batch = FakeBatch(FakeItem("tensor", np.ones((1, 2))), FakeItem("strData", "x"))
    predictor.answer(batch, counts)
    ((calls, rows, preprocess_s, model_s, postprocess_s),) = measured
    assert (calls, rows) == (1, 1)
    ((_, told_model_s, _),) = batch.stages
    assert told_model_s == model_s
    assert 0.02 <= preprocess_s < model_s
    assert model_s >= 0.04
    assert postprocess_s >= 0
