"""The one list of gRPC's codes is gRPC's."""

import grpc
import pytest
from pydantic import TypeAdapter, ValidationError

import torch_predict
from access import fields
from dl_inference.code import Code


def test_the_list_is_complete():
    assert {code.name: int(code) for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_hooks_name_the_same_codes():
    assert torch_predict.Code is Code


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_the_configuration_takes_every_code_but_ok(code):
    codes = TypeAdapter(fields.Code)
    if code is grpc.StatusCode.OK:
        with pytest.raises(ValidationError, match="'OK' is not a gRPC code"):
            codes.validate_python(code.name)
    else:
        assert codes.validate_python(code.name) == code.name
