"""Which variables are about the registry, for those who leave them alone."""

import pytest

from dl_inference.registry.announcing.registration import Registration
from dl_inference.registry.variables import ANNOUNCING, LOGIN, is_about_registry, login_variable
from dl_inference.registry.zookeeper import Zookeeper
from dl_inference.variables import variable


@pytest.mark.parametrize(
    "name",
    ["DL_INFERENCE_REGISTRY", *map(login_variable, LOGIN), *map(variable, ANNOUNCING), "DL_INFERENCE_REGISTRY_X"],
)
def test_what_says_where_the_registry_is_or_how_to_get_in_is_about_it(name):
    assert is_about_registry(name)


@pytest.mark.parametrize("name", ["DL_INFERENCE_LISTEN", "DL_INFERENCE_REGISTRYX", "REGISTRY", "DL_INFERENCE_WEIGHTS"])
def test_nothing_else_is(name):
    assert not is_about_registry(name)


def test_every_variable_is_a_field_of_what_is_read_from_it():
    assert set(LOGIN) <= {field for field in Zookeeper.__dataclass_fields__}
    assert set(ANNOUNCING) == (Registration.model_fields.keys() - {"place"}) | {"register"}
