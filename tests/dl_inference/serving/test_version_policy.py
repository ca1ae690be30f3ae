"""Which versions model.yaml asks for, by number or by policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.serve_process import write_model

from dl_inference.serving.settings import ModelFolderError
from torch_predict import repository
from torch_predict.config import ModelSettings

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "model.schema.json").read_text())


def served(folder: Path, **settings: Any) -> list[int]:
    for version in (1, 2, 10):
        write_model(folder / str(version), "A")
    (folder / "model.yaml").write_text(json.dumps(settings))
    return [each.number for each in repository.find(folder).chosen()]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        (None, [10]),
        ("latest", [10]),
        ({"latest": 2}, [2, 10]),
        ({"latest": 7}, [1, 2, 10]),
        ("all", [1, 2, 10]),
        ({"specific": [1, 10]}, [1, 10]),
    ],
)
def test_a_policy_names_the_versions_that_are_served(tmp_path, policy, versions):
    assert served(tmp_path / "m", version_policy=policy) == versions


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"versions": [1], "version_policy": "all"}, "keep one of the two"),
        ({"version_policy": {"specific": [1], "latest": 1}}, "version_policy"),
        ({"version_policy": {"latest": 0}}, "version_policy"),
        ({"version_policy": "newest"}, "version_policy"),
        ({"version_policy": {"specific": [3]}}, "there is no version 3; found: 1, 2, 10"),
        ({"version_policy": {"specific": [1]}, "labels": {"stable": 2}}, "which is not in versions"),
    ],
)
def test_a_policy_that_says_nothing_clear_is_refused(tmp_path, settings, words):
    with pytest.raises(ModelFolderError, match=words):
        served(tmp_path / "m", **settings)


def test_the_published_schema_knows_every_key():
    assert set(SCHEMA["properties"]) == set(ModelSettings.model_fields)
    assert SCHEMA["additionalProperties"] is False
