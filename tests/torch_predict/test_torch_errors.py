from __future__ import annotations

import grpc
import pytest

import torch_predict
from dl_inference._native import ERROR_KINDS
from dl_inference.code import Code
from torch_predict import errors
from torch_predict.errors import status_of


def test_the_public_names_are_complete():
    expected = "Code Error InvalidInput batched cancelled counter gauge histogram joined method request settings"
    assert torch_predict.__all__ == expected.split()


def test_codes_are_grpcs():
    assert {c.name: int(c) for c in Code} == {c.name: c.value[0] for c in grpc.StatusCode}


@pytest.mark.parametrize(
    ("error", "code", "message", "kind"),
    [
        (errors.InvalidInput("image too small"), 3, "image too small", "bad_request"),
        (errors.Error("NOT_FOUND", "no such user"), 5, "no such user", "hook"),
        (errors.Error(9, "too early"), 9, "too early", "hook"),
        (errors.Error(grpc.StatusCode.ABORTED, "try again"), 10, "try again", "hook"),
        (
            errors.BadAnswer("it is a tuple"),
            13,
            "the model's answer cannot be sent: it is a tuple; request id r-1",
            "hook",
        ),
        (KeyError("password=x"), 13, "the model failed on this request; request id r-1", "hook"),
        (SystemExit("secret"), 13, "the model failed on this request; request id r-1", "hook"),
    ],
)
def test_every_failure_has_its_status(error, code, message, kind):
    assert status_of(error, "r-1")[:3] == (code, message, kind)


class Mute(Exception):
    def __str__(self):
        raise KeyError("no words")


class WithoutOurInit(errors.InvalidInput):
    def __init__(self, code):
        self.code = code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("no label \ud800"), (3, "no label \\ud800", "bad_request")),
        (errors.InvalidInput(ValueError("bad")), (3, "bad", "bad_request")),
        (errors.InvalidInput(Mute()), (3, "Mute without a text", "bad_request")),
        (errors.InvalidInput(None), (3, "None", "bad_request")),
        (
            errors.BadAnswer("it is \udfff"),
            (13, "the model's answer cannot be sent: it is \\udfff; request id r", "hook"),
        ),
        (WithoutOurInit("ABORTED"), (10, "ABORTED", "bad_request")),
        (WithoutOurInit(0), (13, "the model failed on this request; request id r", "hook")),
        (WithoutOurInit(Mute()), (13, "the model failed on this request; request id r", "hook")),
        (Mute(), (13, "the model failed on this request; request id r", "hook")),
        (KeyboardInterrupt(), (13, "the model failed on this request; request id r", "hook")),
    ],
)
def test_whatever_an_exception_holds_it_has_a_status_that_can_be_sent(error, status):
    found = status_of(error, "r")
    assert found[:3] == status
    found.message.encode()


def test_every_kind_is_one_of_the_error_table():
    failures = [*errors.RequestError.__subclasses__(), errors.BadAnswer, Exception]
    kinds = {getattr(each, "kind", None) or status_of(each("text"), "r-1").kind for each in failures}
    assert kinds == {"bad_request", "hook"}
    assert kinds <= {each.name for each in ERROR_KINDS}


def test_every_request_error_is_in_the_table_above():
    assert set(errors.RequestError.__subclasses__()) == {errors.InvalidInput, errors.Error}


@pytest.mark.parametrize("code", [0, "OK", 17, "NOT_A_CODE", None, grpc.StatusCode.OK, True - 1])
def test_an_error_needs_a_real_code(code):
    with pytest.raises(ValueError, match=r"code"):
        errors.Error(code, "text")
