"""What `dl-inference describe` does: asks, and prints what is known, or why nothing is."""

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.text import Text

from dl_inference.client import Client
from dl_inference.client.errors import CallError
from dl_inference.codec.tfs import TensorSpec
from dl_inference.commands import model_facts
from dl_inference.commands.call_send import show_failure
from dl_inference.commands.console import err, out
from dl_inference.commands.model_facts import Facts
from dl_inference.commands.status import StatusError, fetch

_DEFAULT_TO = "127.0.0.1:8500"
_MOST_VALUES = 64
"""An example with more numbers would fill the screen."""
_PAYLOADS = {"binData": "FILE", "strData": '"text"', "jsonData": "JSON"}
"""What `call` is given for inputs that stand for one of Seldon's payloads."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says.

    Attributes:
        model: its name.
        to: address to ask.
        admin: address of the access service's admin port, for labels; None: do not ask.
        version: of the model; None: the default one.
        signature: tfs only; empty: the default one.
        timeout_ms: of each call.
        api_key: to call with, if any.
    """

    model: str
    to: str
    admin: str | None
    version: int | None
    signature: str
    timeout_ms: int
    api_key: str | None = None


def run(asked: Asked, *, as_json: bool) -> int:
    """Ask, print, and return the exit status: 0, or 1 where nothing is known."""
    try:
        with Client(asked.to, timeout_ms=asked.timeout_ms, api_key=asked.api_key) as client:
            facts = model_facts.ask(client, asked.model, asked.version, asked.signature)
        labels = _labels(asked)
    except CallError as error:
        show_failure(error, asked.to, as_json)
        return 1
    except StatusError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        return 1
    call = example(asked, facts)
    if as_json:
        print(json.dumps({"model": asked.model, **asdict(facts), "labels": labels, "call": call}))
        return 0
    out.print(Text(f"{asked.model} at {asked.to}", style="bold"), soft_wrap=True)
    for name, value in _lines(facts, labels):
        out.print(Text(f"  {name:<11}{value}"), soft_wrap=True)
    out.print(Text(f"\n{call}"), soft_wrap=True)
    return 0


def example(asked: Asked, facts: Facts) -> str:
    """Return a command line that calls the model, with zeros of the right shapes where it says what it takes."""
    inputs = dict(facts.inputs)
    protocol = facts.protocols[0]
    if protocol == "seldon" and len(inputs) > 1 and "oip" in facts.protocols:
        protocol = "oip"  # Seldon's messages have no names for several
    value: Any = {name: _zeros(spec) for name, spec in inputs.items()}
    if protocol == "seldon":
        value = next(iter(value.values()), None)
    words = ["dl-inference", "call", asked.model]
    if not inputs:
        words.append("INPUT")
    elif protocol == "seldon" and (payload := _PAYLOADS.get(next(iter(inputs)))):
        words.append(payload)
    elif sum(map(_count, inputs.values())) <= _MOST_VALUES:
        words.append(json.dumps(value))
    else:
        words.append("input.npy" if protocol == "seldon" else "input.npz")
    options = {
        "--to": asked.to if asked.to != _DEFAULT_TO else None,
        "--protocol": protocol if protocol != facts.protocols[0] else None,
        "--model-version": None if asked.version is None else str(asked.version),
        "--signature": asked.signature or None,
    }
    return shlex.join([*words, *(each for key, text in options.items() if text is not None for each in (key, text))])


def _labels(asked: Asked) -> Mapping[str, str]:
    if asked.admin is None:
        return {}
    models = fetch(asked.admin).get("models", [])
    return next((each["labels"] for each in models if each["name"] == asked.model), {})


def _lines(facts: Facts, labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    yield "protocols", ", ".join(facts.protocols)
    if facts.platform:
        yield "platform", facts.platform
    if facts.versions:
        yield "versions", ", ".join(f"{version} {state}".rstrip() for version, state in facts.versions.items())
    if labels:
        yield "labels", ", ".join(f"{label} (version {version})" for label, version in sorted(labels.items()))
    for title, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for spec in tensors.values():
            yield title, f"{spec.name}  {spec.dtype} {_shape(spec)}"
        if not tensors:
            yield title, "the server does not say"
    if facts.signatures:
        yield "signatures", f"also {', '.join(facts.signatures)}: --signature NAME"


def _shape(spec: TensorSpec) -> str:
    return "of any shape" if spec.shape is None else str(list(spec.shape))


def _count(spec: TensorSpec) -> int:
    return math.prod(_sizes(spec))


def _sizes(spec: TensorSpec) -> list[int]:
    """Return a shape that fits: one where any size does."""
    return [max(size, 1) if size < 0 else size for size in spec.shape or (1,)]


def _zeros(spec: TensorSpec) -> Any:
    if spec.dtype == "bytes":
        return np.full(_sizes(spec), "text").tolist()
    is_whole = spec.dtype.startswith(("int", "uint"))
    return np.zeros(_sizes(spec), np.int64 if is_whole else bool if spec.dtype == "bool" else np.float64).tolist()
