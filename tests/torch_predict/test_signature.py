from __future__ import annotations

import typing

import numpy as np
import pytest

from torch_predict.arguments import Argument, Form, arguments_of
from torch_predict.errors import InvalidInput
from torch_predict.signature import Signature, TensorSpec, merged

PAIR = Signature(
    (Argument("a"), Argument("b", is_required=False), Argument("scale", is_required=False, is_keyword_only=True)),
    (TensorSpec("a", "float32", (-1, 2)), TensorSpec("b", "int64", (3,))),
)
A, B = np.ones((4, 2)), np.arange(3)


def called(signature, inputs):
    seen = []
    signature.call(lambda *args, **kwargs: seen.append((args, kwargs)), signature.bind(inputs), {})
    return seen[0]


def test_inputs_go_by_name_whatever_their_order():
    (a, b), keywords = called(PAIR, {"b": B, "a": A})
    assert (a is A, b is B, keywords) == (True, True, {})


def test_inputs_with_names_of_their_own_go_by_position():
    (a, b), _ = called(PAIR, {"INPUT__0": A, "INPUT__1": B})
    assert a is A
    assert b is B
    assert called(PAIR, {"whatever": A}) == ((A,), {})


def test_what_follows_a_gap_goes_by_keyword():
    (a,), keywords = called(PAIR, {"a": A, "scale": B})
    assert a is A
    assert keywords == {"scale": B}


def test_a_model_that_does_not_tell_gets_everything_in_order():
    assert called(Signature(None), {"x": 1, "y": 2}) == ((1, 2), {})


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"a": A, "c": B}, "unexpected inputs 'c': this model takes 'a', 'b', 'scale'"),
        ({"c": A, "d": B, "e": B, "f": B}, "unexpected inputs 'c', 'd', 'e', 'f': this model takes 'a', 'b', 'scale'"),
        ({"b": B}, "missing inputs 'a': this model takes 'a', 'b', 'scale'"),
        ({"a": np.ones((4, 3))}, r"input 'a' has the shape [4, 3]: this model takes [-1, 2]"),
        ({"a": np.ones(2)}, r"input 'a' has the shape [2]: this model takes [-1, 2]"),
        ({"a": np.array([[b"x", b"y"]], object)}, "input 'a' holds bytes: this model takes float32"),
        ({"a": A, "b": np.ones(3)}, "input 'b' holds float64: this model takes int64"),
        ({"a": A, "b": B.astype(np.uint64)}, "input 'b' holds uint64: this model takes int64"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(inputs, text):
    with pytest.raises(InvalidInput) as caught:
        PAIR.bind(inputs)
    assert caught.value.text == text


def test_numbers_that_lose_nothing_are_taken():
    for dtype in (np.float16, np.float32, np.float64, np.int64, np.uint8):
        PAIR.bind({"a": A.astype(dtype)})
    for dtype in (np.int8, np.int32, np.uint32, np.bool_):
        PAIR.bind({"a": A, "b": B.astype(dtype)})


def test_arguments_are_read_from_forward_or_from_the_function():
    class Model:
        def forward(self, x, mask=None, *, scale=1.0): ...

        __call__ = forward

    expected = (Argument("x"), Argument("mask", False), Argument("scale", False, True))
    assert arguments_of(Model()) == expected
    assert arguments_of(lambda x: x) == (Argument("x"),)
    assert arguments_of(lambda x, **tags: x) is None
    assert arguments_of(lambda *xs: xs) is None


def test_sizes_that_samples_agree_on_are_kept_but_for_the_batch():
    def spec(*shape):
        return TensorSpec("x", "float32", shape)

    assert merged([spec(2, 4, 5), spec(2, 4, 6)]).shape == (-1, 4, -1)
    assert merged([spec()]).shape == ()
    assert merged([TensorSpec("binData", "object", (1,))]).shape == (1,)


@pytest.mark.parametrize(
    "annotation",
    [
        typing.List,  # noqa: UP006  (it has an origin, and no arguments)
        typing.Dict,  # noqa: UP006
        typing.Sequence,
        typing.Literal["a"],
        "NotDefined",
    ],
)
def test_an_annotation_that_says_little_is_a_tensor(annotation):
    def forward(x): ...

    forward.__annotations__["x"] = annotation
    (argument,) = arguments_of(forward)
    assert (argument.name, argument.form, argument.is_required) == ("x", Form.TENSOR, True)


def test_what_is_written_beside_a_type_changes_nothing():
    def forward(x, y=1): ...

    forward.__annotations__ |= {"x": list[typing.Annotated[int, []]], "y": typing.Annotated[int, []]}
    assert [each.form for each in arguments_of(forward)] == [Form.NUMBERS, Form.INT]
