"""docs/tensorflow.md says what the server does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from dl_inference.serving.given import numbers_of
from tf_predict.config import ModelSettings, ServerSettings

PAGE = (Path(__file__).parents[2] / "docs" / "tensorflow.md").read_text()


def test_the_page_has_every_setting_of_the_process():
    named = set(re.findall(r"^\| `(DL_INFERENCE_\w+)`", PAGE, re.MULTILINE))
    assert named == {
        f"DL_INFERENCE_{name.upper()}" for name in [*ServerSettings.model_fields, *numbers_of(ModelSettings)]
    }


def test_the_page_has_every_key_of_model_yaml():
    block = PAGE.partition("```yaml\n")[2].partition("```")[0]
    described = yaml.safe_load(block)
    assert set(described) == set(ModelSettings.model_fields)
    ModelSettings.model_validate(described)
