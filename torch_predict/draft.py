"""Write hooks and samples for a model that has none, in a process of its own, for `dl-inference new`.

`python -m torch_predict.draft OPTIONS INPUTS FILE`: OPTIONS is a `ServeOptions` document that names a folder with the
model file; INPUTS is a JSON list of [name, dtype, shape] for a model that does not tell them, else empty. What was
found out is written to FILE (`dl_inference.local.running`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dl_inference.serving import log
from dl_inference.serving.expected import FILE
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError
from torch_predict import draft_text, hooks, modules, repository, samples
from torch_predict.config import ServerSettings
from torch_predict.loading import device_of
from torch_predict.seldon import Answer, plain
from torch_predict.signature import Signature, Size, TensorSpec, merged
from torch_predict.summary import specs_text

if TYPE_CHECKING:
    from torch_predict.predictor import Predictor

ROWS = (2, 1)
"""Sizes of the first axis of the samples, where it varies."""
SIZES = (8, 16, 32, 64, 128, 224, 1)
"""Sizes that are tried for further axes that vary, until the model takes one."""
TOLERANCE = 1e-4
MAX_INLINE = 256
"""Of one input with more values, a sample is a file beside expected.json."""
MAX_VALUES = 10_000
"""Of an answer with more values, a sample has the shape only."""

_Array = np.ndarray[Any, Any]


def draft(folder: repository.ModelFolder, given: Sequence[TensorSpec], device_name: str) -> dict[str, Any]:
    """Write processor.py and samples/expected.json into a model folder; return what was found out, in words.

    Args:
        folder: with a model file alone.
        given: its inputs, where the model does not tell them.
        device_name: where the model runs.

    Raises:
        LoadError: the model cannot be loaded, or has other inputs than those given.
    """
    from torch_predict.predictor import Predictor  # noqa: PLC0415  (torch takes seconds)

    version = folder.chosen()[-1]
    device = device_of(device_name)
    modules.enter(version.path)
    model = repository.load(folder, version, allow_pickle=folder.settings.allow_pickle, device=device)
    signature = version.runtime.signature(model)
    inputs = _inputs(version.file, signature, given)
    plainly = Predictor(model, hooks.Hooks(), device, None, signature)
    outputs, why = signature.outputs, "the model does not tell its inputs: name them by --input NAME=DTYPE[SIZE,...]"
    if inputs:
        outputs, why = _sampled(plainly, folder.path, inputs, signature)
        outputs = signature.outputs or outputs
    (version.path / "processor.py").write_text(draft_text.processor(folder.name, inputs, outputs), encoding="utf-8")
    count = 0
    if not why:
        own = hooks.load(version.path)
        count = _answered(Predictor(model, own, device, None, signature), folder.path)
    return {"inputs": specs_text(inputs), "outputs": specs_text(outputs), "samples": count, "why": why}


def _inputs(file: Path, signature: Signature, given: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    if not given:
        return signature.inputs
    names = [name for argument in signature.arguments or () for name in argument.inputs([each.name for each in given])]
    strange = [each.name for each in given if signature.arguments is not None and each.name not in names]
    if strange:
        raise LoadError(file, f"has no input {strange[0]!r}", f"its inputs are {', '.join(names) or 'none'}")
    return tuple(given)


def _sampled(
    predictor: Predictor, folder: Path, inputs: Sequence[TensorSpec], signature: Signature
) -> tuple[tuple[TensorSpec, ...], str]:
    """Write requests that the model answers; return what it gave, and, where it answers none, why."""
    why = ""
    for size in SIZES:
        made = _arrays(inputs, signature.sizes, size)
        _write(folder, [{"request": _request(folder, f"input_{number}.npy", each)} for number, each in enumerate(made)])
        try:
            found = [predictor.observe(sample)[1] for sample in samples.read(folder)[0]]
        except Exception as error:  # the model's own code, too
            why = why or f"the model does not answer generated inputs: {error}"
            continue
        if not found:
            why = f"no message holds inputs of {specs_text(inputs)}"
            break
        return tuple(merged(specs) for specs in zip(*found, strict=True)), ""
    (folder / FILE).unlink()
    return (), why


def _arrays(
    inputs: Sequence[TensorSpec], bounds: Mapping[tuple[str, int], Size], size: int
) -> Iterator[dict[str, _Array]]:
    """Yield inputs for samples: random numbers, the same each time, with few digits."""
    for seed, rows in enumerate(ROWS):
        random = np.random.default_rng(seed)
        known: dict[object, int] = {}  # the same symbol is the same size
        arrays: dict[str, _Array] = {}
        for spec in inputs:
            shape = []
            for axis, fixed in enumerate(spec.shape):
                bound = bounds.get((spec.name, axis), Size())
                wanted = rows if axis == 0 else size
                free = max(bound.lowest, wanted if bound.highest is None else min(bound.highest, wanted))
                shape.append(known.setdefault(bound.symbol or (spec.name, axis), free) if fixed == -1 else fixed)
            arrays[spec.name] = _values(spec.dtype, shape, random)
        yield arrays


def _values(dtype: str, shape: list[int], random: np.random.Generator) -> _Array:
    if dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.startswith(("int", "uint")):
        return random.integers(0, 2, shape)  # an index into anything with two entries
    return random.random(shape).round(3)


def _request(folder: Path, file: str, arrays: dict[str, _Array]) -> dict[str, Any]:
    """Return a SeldonMessage in JSON with these inputs; a large one is written to a file beside it."""
    if len(arrays) > 1:
        return {"jsonData": {name: array.tolist() for name, array in arrays.items()}}
    (array,) = arrays.values()
    if array.dtype == bool:
        return {"data": {"ndarray": array.tolist()}}
    if array.size <= MAX_INLINE:
        return {"data": {"tensor": {"shape": list(array.shape), "values": array.reshape(-1).tolist()}}}
    (folder / FILE).parent.mkdir(exist_ok=True)
    np.save(folder / FILE.parent / file, array.astype(np.float32) if array.dtype.kind == "f" else array)
    return {"data": {"tensor": {"file": file}}}


def _answered(predictor: Predictor, folder: Path) -> int:
    """Write what the folder, with its hooks, answers beside the requests; return how many there are."""
    cases = json.loads((folder / FILE).read_text())
    for case, sample in zip(cases, samples.read(folder)[0], strict=True):
        case |= {"expect": _expected(predictor.predict(sample)), "tolerance": TOLERANCE}
    _write(folder, cases)
    return len(cases)


def _expected(answer: Answer) -> dict[str, Any]:
    value = answer.value
    if not isinstance(value, np.ndarray):
        return {"jsonData": plain(value)} if answer.kind == "jsonData" else {"data": {"ndarray": plain(value)}}
    tensor: dict[str, Any] = {"shape": list(value.shape)}
    if value.size <= MAX_VALUES and np.isfinite(value).all():
        tensor["values"] = value.reshape(-1).tolist()
    return {"data": {"tensor": tensor}}


def _write(folder: Path, cases: Iterable[Mapping[str, Any]]) -> None:
    file = folder / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n", encoding="utf-8")


def main(document: str, inputs: str, file: str) -> int:
    """Do what the module says; return the exit status."""
    log.begin(is_text=True)
    options = ServeOptions.model_validate_json(document)
    given = [TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in json.loads(inputs)]
    with open(file, "w", encoding="utf-8", buffering=1) as lines:
        try:
            folder = repository.find(options.model_dir, options.given(os.environ))
            settings = ServerSettings.from_environment(os.environ)
            found = draft(folder, given, settings.torch_device)
        except (ModelFolderError, LoadError, ValueError, OSError) as error:
            lines.write(json.dumps({"error": str(error)}) + "\n")
            return 1
        lines.write(json.dumps({**found, "ended": True}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
