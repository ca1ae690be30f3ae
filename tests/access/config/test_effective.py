"""What /config and `check --all` show of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

from access.config import effective
from access.config.load import load, load_without_file

TEXT = """\
listen: 127.0.0.1:8500
limits:
  max_streams: 9
models:
  m: {endpoints: ["a:1"]}
discovery:
  - {kind: zookeeper, hosts: "zk:2181", username: me, password: hunter2}
"""


def shown(path: Path, environment: dict[str, str], **flags: object) -> dict[str, tuple[object, str]]:
    loaded = load(path, flags=flags, environment=environment)
    rows = effective.page(loaded.config, loaded.origin)["values"]
    return {row["name"]: (row["value"], row["from"]) for row in rows}


def test_each_value_says_whether_a_line_a_variable_a_flag_or_nobody_gave_it(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(TEXT)
    found = shown(tmp_path / "access.yaml", {"DL_INFERENCE_WORKERS": "3"}, admin="127.0.0.1:1")
    assert found["listen"] == (["127.0.0.1:8500"], "access.yaml:1")
    assert found["limits.max_streams"] == (9, "access.yaml:3")
    assert found["models.m.endpoints"][1] == "access.yaml:5"
    assert found["workers"] == (3, "$DL_INFERENCE_WORKERS")
    assert found["admin"] == ("127.0.0.1:1", "--admin")
    assert found["drain_timeout_ms"][1] == "default"


def test_no_password_is_shown(tmp_path: Path) -> None:
    (tmp_path / "access.yaml").write_text(TEXT)
    text = json.dumps(shown(tmp_path / "access.yaml", {}), default=str)
    assert "zk:2181" in text
    assert "hunter2" not in text


def test_where_there_is_no_file_flags_and_variables_are_named_too() -> None:
    loaded = load_without_file({"workers": 1}, flags={"listen": ["a:1"]}, environment={"DL_INFERENCE_STATE_DIR": "x"})
    origins = {row["name"]: row["from"] for row in effective.page(loaded.config, loaded.origin)["values"]}
    assert [origins[name] for name in ("listen", "state_dir", "workers")] == [
        "--listen",
        "$DL_INFERENCE_STATE_DIR",
        "default",
    ]
