"""The files that `dl-inference new` writes for a model, but for its samples: texts from the names, types and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from torch_predict.signature import TensorSpec

MODEL_YAML = """\
# Settings of this model. Each that is not here has its default: dl-inference check --all shows them.
timeout_ms: 60000
"""

_HEAD = '''\
"""Hooks of the model {name}. Each one is optional: remove what you do not need.

The model takes (-1 is a size that varies)
{inputs}
and gives
{outputs}
"""

'''
_IMPORTS = """\
from typing import Any

import numpy as np
import torch

import torch_predict

"""
_PREPROCESS = '''
def preprocess(x: Any, **kwargs: Any) -> torch.Tensor:
    """Make the model's input {name}, {dtype} {shape}, of what the request holds: here of an array of numbers."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "{kinds}" or {misfit}:
        raise torch_predict.InvalidInput("send {what} of shape {shape}")  # the caller reads this text
{whole}    return torch.from_numpy(x).to(torch.{dtype})

'''
_WHOLE = """\
    if not (np.isfinite(x).all() and (x == np.trunc(x)).all()):
        raise torch_predict.InvalidInput("send whole numbers")
"""
_BY_NAME = """
# Without preprocess, the inputs of a request go to the model by their names: as jsonData, {"NAME": [[...]]}, or as the
# tensors of an Open Inference Protocol request. With it, write run_model, too, which calls the model.

"""
_POSTPROCESS = '''
def postprocess(x: torch.Tensor, **kwargs: Any) -> np.ndarray:
    """Make the answer of the model's {name}, {dtype} {shape}: an array, a list, a dict for JSON, str or bytes."""
    return x.{cast}cpu().numpy()
'''
_SEVERAL = """
# Without postprocess, the outputs are sent by their names.
"""
_README = """\
# {name}

Made by `dl-inference new` from `{source}`.

| file | what it is |
|---|---|
| `{file}` | the model |
| `processor.py` | hooks around it |
| `model.yaml` | settings |
{samples}
```bash
dl-inference check {name} --stages     # runs the samples stage by stage, and as the server answers them
dl-inference predict {name}            # serves it on 127.0.0.1:5000
```
"""
_SAMPLES = "| `samples/expected.json` | made-up requests, and what the model answered; replace them by real ones |\n"


def processor(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """Return processor.py: hooks that do what the server does without them, with the checks of the caller's input.

    Args:
        name: of the model.
        inputs: what the model takes; empty where it is not known.
        outputs: what it gives; empty where it is not known.
    """
    head = _HEAD.format(name=name, inputs=_listed(inputs), outputs=_listed(outputs))
    parts = [_preprocess(inputs[0]) if len(inputs) == 1 else _BY_NAME]
    is_single = [spec.name for spec in outputs] == ["output"]
    parts.append(_postprocess(outputs[0]) if is_single else _SEVERAL)
    has_code = len(inputs) == 1 or is_single
    imports = _IMPORTS if has_code else ""
    if has_code and len(inputs) != 1:
        imports = imports.replace("\nimport torch_predict\n", "")
    return head + imports + "".join(parts)


def readme(name: str, source: str, file: str, *, has_samples: bool) -> str:
    """Return README.md of the folder."""
    return _README.format(name=name, source=source, file=file, samples=_SAMPLES if has_samples else "")


def _listed(specs: Sequence[TensorSpec]) -> str:
    return "\n".join(f"    {each.name}: {each.dtype} {list(each.shape)}" for each in specs) or "    (not known)"


def _preprocess(spec: TensorSpec) -> str:
    sizes = [f"x.shape[{axis}] != {size}" for axis, size in enumerate(spec.shape) if size != -1]
    is_whole = spec.dtype.startswith(("int", "uint"))
    is_truth = spec.dtype == "bool"
    return _PREPROCESS.format(
        name=spec.name,
        dtype=spec.dtype,
        shape=list(spec.shape),
        kinds="b" if is_truth else "biuf",
        misfit=" or ".join([f"x.ndim != {len(spec.shape)}", *sizes]),
        what="bools" if is_truth else "whole numbers" if is_whole else "numbers",
        whole=_WHOLE if is_whole else "",
    )


def _postprocess(spec: TensorSpec) -> str:
    cast = "float()." if spec.dtype == "bfloat16" else ""  # which numpy does not have
    return _POSTPROCESS.format(name=spec.name, dtype=spec.dtype, shape=list(spec.shape), cast=cast)
