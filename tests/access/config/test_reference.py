import re
from pathlib import Path

import pytest

from access.config.reference import markdown
from access.config.sections import AccessConfig, ClusterConfig, ClusterSettings, Limits, ModelConfig, SplitTarget
from access.discovery import RESOLVERS
from access.fields import EndpointConfig

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
SECTIONS = [AccessConfig, Limits, ClusterSettings, ClusterConfig, ModelConfig, SplitTarget, EndpointConfig]


def test_the_page_is_not_stale():
    assert PAGE.read_text() == markdown(), "run: python -m access.config.reference > docs/configuration.md"


@pytest.mark.parametrize("section", [*SECTIONS, *(source.config for source in RESOLVERS.values())])
def test_every_key_has_a_meaning_and_is_on_the_page(section):
    for name, field in section.model_fields.items():
        assert field.description, name
        assert f"| `{name}` |" in markdown()


def test_every_time_and_size_has_its_unit_in_its_name_and_its_meaning():
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            if match := re.search(r"_(ms|bytes)$", name):
                assert re.search(rf"\b{match[1]}\b", field.description), name
