"""`dl-inference predict` without what it needs."""

from __future__ import annotations

import sys
from pathlib import Path

from fixtures.command_line import command


def test_without_tensorflow_predict_says_what_to_install(saved_model: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "tf_predict.saved_model", raising=False)
    result = command("predict", saved_model, "--listen", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "tensorflow is not installed: pip install 'dl-inference[tensorflow]'" in result.stderr


def test_without_torch_predict_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("torch_predict")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "model.py").write_text("class Model: ...\n")
    result = command("predict", tmp_path)
    assert result.exit_code == 1
    assert "torch is not installed: pip install 'dl-inference[torch]'" in result.stderr
