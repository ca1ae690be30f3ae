"""What `check --stages` finds out: a folder's samples stage by stage, and whether the server answers alike.

The samples go to the server, alone and many at the same time; then, when that server has ended, they run stage by stage
in a process of their own. Nothing of the folder runs in this process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dl_inference.code import Code
from dl_inference.local.asking import Asked, Reply, ask
from dl_inference.local.difference import difference
from dl_inference.local.layout import Layout
from dl_inference.local.loading import Loaded, load
from dl_inference.local.running import run
from dl_inference.local.staged import Row, Staged
from dl_inference.problem import Problem
from dl_inference.serving.expected import FILE
from dl_inference.serving.options import ServeOptions
from torch_predict import samples
from torch_predict.samples import Sample
from torch_predict.sources import methods_in

PROGRAM = (sys.executable, "-P", "-m", "torch_predict.stages")
_REMEDY = "correct this stage, or the sample; a case that should fail has an 'error' in place of 'expect'"


def stage(
    layout: Layout, *, allow_pickle: bool, timeout_s: float, tolerance: float, program: Sequence[str] = PROGRAM
) -> tuple[Loaded, tuple[Staged, ...]]:
    """Load every version that would be served, send its samples, and run them stage by stage.

    Args:
        layout: of a PyTorch model folder.
        allow_pickle: whether the server would be started with ``--allow-pickle``.
        timeout_s: most time for each of: a version is ready, its samples are answered, its samples have run.
        tolerance: by how much numbers of two answers may differ, in parts of the number or, below 1, of 1.
        program: command line of what runs the stages, up to its options.
    """
    chosen = samples.read(layout.path)[0]
    asked: dict[int, dict[str, Asked]] = {}

    def all_of(version: int) -> list[Sample]:
        return samples.with_trials(chosen, methods_in(layout.places[version]))

    def asking(address: str, version: int) -> None:
        asked[version] = ask(address, all_of(version), timeout_s)

    found, problems = load(layout, allow_pickle=allow_pickle, timeout_s=timeout_s, ask=asking)
    if not chosen:
        return (found | {"stages": f"no samples to run: write some into {FILE}"}, problems), ()
    staged = []
    for version, replies in asked.items():
        options = ServeOptions(model_dir=layout.path, name=layout.name, version=version, allow_pickle=allow_pickle)
        told, end = run([*program, options.model_dump_json()], timeout_s)
        rows, wrong = _compared(layout.path, all_of(version), told, replies, tolerance)
        if end:
            wrong.append(_ended(layout.path, told, end))
        problems += wrong
        staged.append(Staged(version, tuple(rows)))
    # What the server said of samples that failed while it got warm is said here with the stage.
    problems = [each for each in problems if f"of {FILE} failed: " not in each.message]
    return (found, problems), tuple(staged)


def _compared(
    folder: Path,
    chosen: Sequence[Sample],
    told: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Asked],
    tolerance: float,
) -> tuple[list[Row], list[Problem]]:
    rows, problems = [], []
    offline = {line["case"]: line for line in told if "case" in line}
    for sample in chosen:
        line = offline.get(sample.label)
        if line is None:
            continue
        stages = {each["name"]: (each["what"], each["ms"]) for each in line["stages"] if each["name"] != "encode"}
        error = line.get("error")
        if error:
            stages[error["stage"]] = (error["what"], None)
        served = asked[sample.label]
        wrong = _faults(sample, line, served, tolerance)
        problems += [Problem(str(folder / FILE), f"case {sample.label} {text}", remedy) for text, remedy in wrong]
        rows.append(Row(sample.label, stages, served.alone.ms, _verdict(sample, line, is_wrong=bool(wrong))))
    return rows, [*problems, *_unanswered(folder, chosen, offline)]


def _verdict(sample: Sample, line: Mapping[str, Any], *, is_wrong: bool) -> str:
    if is_wrong:
        return "differs"
    if "error" in line:
        return "not for this method" if sample.trial else "refused alike"
    return "varies" if "again" in line else "same"


def _unanswered(folder: Path, chosen: Sequence[Sample], offline: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the methods that no sample names and that answered none of those that were tried."""
    for method in dict.fromkeys(sample.trial for sample in chosen if sample.trial):
        lines = [line for each in chosen if each.trial == method and (line := offline.get(each.label)) is not None]
        if lines and all("error" in line for line in lines):
            text = f"no case shows what the method {method} does: with case {lines[0]['case'].split()[0]} it fails: "
            tag = f'{{"meta": {{"tags": {{"method": "{method}"}}}}}}'
            remedy = f"correct it, or write a case for it, whose request has {tag}, or the OIP parameter method"
            yield Problem(str(folder / FILE), f"{text}{lines[0]['error']['what']}", remedy)


def _faults(sample: Sample, line: Mapping[str, Any], served: Asked, tolerance: float) -> list[tuple[str, str]]:
    """Return what is wrong with the answers to a sample: texts and remedies."""
    error = line.get("error")
    if error and sample.trial:
        return []  # it was not made for this method
    if error and not (sample.error is not None):
        return [(f"of {FILE} failed at stage {error['stage']}: {error['what']}", _REMEDY)]
    if (sample.error is not None) and not error:
        return [(f"of {FILE} should be refused, but all its stages answered", "correct its 'error', or the hook")]
    if "again" in line and difference(line["answer"]["value"], line["again"]["value"], tolerance):
        return []  # it answers differently each time: there is nothing to compare
    faults = []
    if text := _unlike(line, served.alone, tolerance):
        remedy = "find out what differs in a server: threads, working folder, what hooks keep between calls"
        faults.append((f"is answered otherwise when it is served: {text}", remedy))
    elif text := next((text for reply in served.together if (text := _unlike(line, reply, tolerance))), ""):
        remedy = "look for what calls share: a hook's globals, or rows of one batch that change each other"
        faults.append((f"is answered otherwise among others at the same time: {text}", remedy))
    return faults


def _unlike(line: Mapping[str, Any], reply: Reply, tolerance: float) -> str:
    """Say how an answer of the server differs from that of the stages; empty where it does not."""
    error = line.get("error")
    if error is None:
        if reply.code:
            return f"{reply.code}: {reply.text}"
        return difference(line["answer"]["value"], reply.value, tolerance)
    code = Code(error["code"]).name
    is_alike = reply.code == code and (error["is_hidden"] or reply.text == error["message"])
    return "" if is_alike else f"{reply.code or 'an answer'} {reply.text} in place of {code}: {error['message']}"


def _ended(folder: Path, told: Sequence[Mapping[str, Any]], end: str) -> Problem:
    at = next((line["at"] for line in reversed(told) if "at" in line), None)
    where = "before its samples ran" if at is None else f"in case {at[0]} of {FILE} at stage {at[1]}"
    return Problem(str(folder), f"the process that runs the stages {end} {where}", "look at what this stage does")
