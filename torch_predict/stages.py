"""Run a model folder's samples stage by stage, in a process of its own, for `dl-inference check --stages`.

`python -m torch_predict.stages OPTIONS FILE` loads what a `ServeOptions` document names as the server does, and writes
a line of JSON to FILE for each thing that it knows. A line is written before each stage, too, so that a stage that
crashes, exits or hangs is known: the last line names it.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving import log
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.settings import ModelFolderError
from torch_predict import repository, samples
from torch_predict.config import ServerSettings
from torch_predict.errors import status_of
from torch_predict.loading import load_predictor
from torch_predict.oip_samples import plain_outputs
from torch_predict.seldon import plain

if TYPE_CHECKING:
    from torch_predict.predictor import Predictor
    from torch_predict.samples import Sample
    from torch_predict.seldon import Answer

RUNS = 15
RUNS_S = 1.0
"""A sample is run so often to find the median of its times, but no longer than this."""
_MAX_PARTS = 4

Tell = Callable[[Mapping[str, Any]], None]


def run(predictor: Predictor, chosen: list[Sample], tell: Tell) -> None:
    """Run samples, and tell what each stage made of them, how long it took, and the answer or the error.

    Args:
        predictor: with the loaded model.
        chosen: the samples.
        tell: gets ``{"at": [case, stage]}`` before a stage is run, and for each sample ``{"case", "stages"}`` with
            ``"answer"``, and ``"again"`` where that is another one each time, or with ``"error"``.
    """
    for sample in chosen:
        tell(_ran(predictor, sample, lambda stage, label=sample.label: tell({"at": [label, stage]})))  # type: ignore[misc]


def _ran(predictor: Predictor, sample: Sample, at: Callable[[str], None]) -> dict[str, Any]:
    stages: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    answers: list[Any] = []
    began = time.perf_counter()
    while len(answers) < RUNS and (not answers or time.perf_counter() - began < RUNS_S):
        x: Any = None
        for name, step in predictor.steps(copy.deepcopy(sample)):  # a hook may write into what it gets
            if not answers:
                at(name)
            start = time.perf_counter()
            try:
                x = _done(step, x)
            except BaseException as error:  # sys.exit() in a hook, too
                return {"case": sample.label, "stages": _told(stages, times), "error": _error(name, error, sample)}
            times.setdefault(name, []).append(time.perf_counter() - start)
            stages.setdefault(name, described(x))
        answers.append(_plain_answer(x))
    told = {"case": sample.label, "stages": _told(stages, times), "answer": answers[0]}
    return told if answers[0] == answers[-1] else told | {"again": answers[-1]}


def _done(step: Callable[[Any], Any], x: Any) -> Any:
    import torch  # noqa: PLC0415  (the module is read where torch is not)

    with torch.no_grad():
        x = step(x)
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # it may still be at it
            torch.cuda.synchronize()
    return x


def _told(stages: Mapping[str, str], times: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    return [{"name": name, "what": what, "ms": statistics.median(times[name]) * 1000} for name, what in stages.items()]


def _error(stage: str, error: BaseException, sample: Sample) -> dict[str, Any]:
    status = status_of(error, sample.request_id)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(os.getcwd())]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return {
        "stage": stage,
        "code": status.code,
        "message": status.message,
        "what": f"{type(error).__name__}: {error}{place}",
        # of which the caller gets another text than the exception's, with the id of the request
        "is_hidden": sample.request_id in status.message,
    }


def described(x: Any, *, is_inner: bool = False) -> str:
    """Return what a value is, for people: types, shapes and lengths, and no values."""
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
    if isinstance(x, dict) and not is_inner:
        shown = [f"{key}: {described(value, is_inner=True)}" for key, value in list(x.items())[:_MAX_PARTS]]
        return f"{{{', '.join([*shown, *(['...'] if len(x) > _MAX_PARTS else [])])}}}"
    if isinstance(x, list | tuple) and x and not is_inner:
        return f"{type(x).__name__} of {len(x)}: {described(x[0], is_inner=True)}"
    return f"{type(x).__name__} of {len(x)}" if hasattr(x, "__len__") else type(x).__name__


def _plain_answer(answer: Answer) -> dict[str, Any]:
    value = answer.value
    if isinstance(value, bytes):
        return {"kind": answer.kind, "value": base64.b64encode(value).decode()}
    if answer.kind == "infer":
        return {"kind": answer.kind, "value": plain_outputs(value)}
    return {"kind": answer.kind, "value": plain(value)}


def main(document: str, file: str) -> int:
    """Run what the module says; return the exit status."""
    log.begin(is_text=True)
    options = ServeOptions.model_validate_json(document)
    with open(file, "w", encoding="utf-8", buffering=1) as lines:

        def tell(line: Mapping[str, Any]) -> None:
            lines.write(json.dumps(line) + "\n")

        try:
            folder = repository.find(options.model_dir, options.given(os.environ))
            version = folder.chosen(options.version)[-1]
            settings = ServerSettings.from_environment(os.environ)
            predictor = load_predictor(
                folder, version, allow_pickle=options.allow_pickle, settings=settings, is_judged=False
            )
        except (ModelFolderError, LoadError, ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        run(predictor, samples.with_trials(samples.read(folder.path)[0], predictor.hooks.methods), tell)
        tell({"ended": True})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
