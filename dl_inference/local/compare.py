"""What callers of a model would notice of a new version: its inputs and outputs beside those of the live one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dl_inference.serving.report import Report, Tensor

REMEDY = (
    "keep the inputs and outputs, or give the changed model another name; to allow it, set 'allow_signature_change: "
    "true' in model.yaml"
)
NAN_REMEDY = "correct the model, or write down what is meant as expected answers in samples/expected.json"


def changes(live: Report, new: Report) -> list[str]:
    """Return what a caller of the live version could not do any more; nothing where either tells nothing."""
    found: list[str] = []
    # Shapes that other samples have shown say nothing of the model.
    knows_inputs, knows_outputs = (a == b for a, b in zip(live.learned, new.learned, strict=True))
    former, now = ({each.way for each in (*report.inputs, *report.outputs)} for report in (live, new))
    if now:
        found += [f"signature {way} is gone" for way in sorted(former - now)]
    # What is called in a way of its own is compared with what was called so; nobody knows a way yet that is new.
    inputs, outputs, new_inputs, new_outputs = (
        [each for each in side if each.way in former & now]
        for side in (live.inputs, live.outputs, new.inputs, new.outputs)
    )
    if inputs and new_inputs:
        found += _inputs(inputs, new_inputs, has_shapes=knows_inputs)
    if outputs and new_outputs:
        found += _outputs(outputs, new_outputs, has_shapes=knows_outputs)
    return found


def new_nan(live: Report, new: Report) -> list[str]:
    """Return the outputs that hold NaN or infinity for a sample of both versions, and held none of it before."""
    names = [set(new.nan[sample]) - set(live.nan[sample]) for sample in new.nan.keys() & live.nan.keys()]
    return sorted(set().union(*names))


def _inputs(live: Iterable[Tensor], new: Iterable[Tensor], *, has_shapes: bool) -> Iterator[str]:
    former, now = ({each.name: each for each in side} for side in (live, new))
    for name, each in former.items():
        if name not in now:
            yield f"input {name} is gone"
            continue
        yield from _dtype("input", each, now[name])
        if has_shapes:
            yield from _shape("input", each, now[name])
        if each.is_optional and not now[name].is_optional:
            yield f"input {name} must be sent now"
    for name, each in now.items():
        if name not in former and not each.is_optional:
            yield f"input {name} is new and must be sent"


def _outputs(live: Iterable[Tensor], new: Iterable[Tensor], *, has_shapes: bool) -> Iterator[str]:
    now = {each.name: each for each in new}
    for each in live:
        if each.name not in now:
            yield f"output {each.name} is gone"
            continue
        yield from _dtype("output", each, now[each.name])
        if has_shapes:
            yield from _shape("output", each, now[each.name])


def _dtype(side: str, former: Tensor, now: Tensor) -> Iterator[str]:
    if former.dtype != now.dtype:
        yield f"{side} {former.name} is {now.dtype}, and was {former.dtype}"


def _shape(side: str, former: Tensor, now: Tensor) -> Iterator[str]:
    name = f"{side} {former.name}"
    if former.shape is None or now.shape is None:
        # Axes of any number: as with sizes below.
        if former.shape is None and now.shape is not None and side == "input":
            yield f"{name} has {len(now.shape)} axes, {list(now.shape)}, and had any number"
        return
    if len(former.shape) != len(now.shape):
        yield f"{name} has {len(now.shape)} axes, {list(now.shape)}, and had {len(former.shape)}, {list(former.shape)}"
        return
    for axis, (before, size) in enumerate(zip(former.shape, now.shape, strict=True)):
        # An input's size that is free now takes all that callers send; an output's that is free may be what it was.
        is_narrower = before != size and (size != -1 if side == "input" else -1 not in (before, size))
        if is_narrower:
            yield f"{name} has the size {size} on axis {axis}, and had {before if before != -1 else 'any'}"
