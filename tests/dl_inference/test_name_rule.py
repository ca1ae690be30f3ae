"""One rule for names: what configuration, registry and model folders take, they take alike."""

import pytest
from pydantic import TypeAdapter, ValidationError

from access.fields import Name
from dl_inference.names import is_name
from dl_inference.registry.schema import release_path


@pytest.mark.parametrize("text", ["m", "69", "digits-2.1_b", "a" * 128])
def test_a_name(text):
    assert is_name(text)
    assert TypeAdapter(Name).validate_python(text) == text
    assert text in release_path(text)


@pytest.mark.parametrize("text", ["", ".m", "-m", "a/b", "a b", "ä", "m\n", "a" * 129])
def test_no_name(text):
    assert not is_name(text)
    with pytest.raises(ValidationError, match="is not a name"):
        TypeAdapter(Name).validate_python(text)
    with pytest.raises(ValueError, match="use letters"):
        release_path(text)
