"""What `serve` says about its models in a registry. Pure: no processes, no clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dl_inference.local.models import Model
from dl_inference.local.routes import Routes
from dl_inference.registry.announcing.registration import Served
from dl_inference.registry.schema import Protocol


def served(models: Iterable[Model], routes: Routes, withdrawn: Collection[str]) -> list[Served]:
    """Return every model whose default version answers now, under each name that leads to it.

    Args:
        models: all of them.
        routes: the current ones.
        withdrawn: names of models that are to go.
    """
    names: dict[str, list[str]] = {}
    for name, owner in routes.owners.items():
        names.setdefault(owner, []).append(name)
    there = (model for model in models if model.name not in withdrawn and model.name in names)
    return [each for model in there if (each := _served(model, tuple(names[model.name]))) is not None]


def _served(model: Model, names: tuple[str, ...]) -> Served | None:
    default = model.default
    if model.layout is None or default is None or not default.ready:
        return None
    answering = [version for version, group in model.serving().items() if group.ready]
    protocol: Protocol = "tfs" if model.layout.kind == "TensorFlow" else "seldon"
    return Served(
        names=names,
        protocol=protocol,
        version=str(default.version),
        versions=tuple(str(version) for version in sorted(answering) if version != default.version),
        labels=tuple(label for label, version in model.layout.labels.items() if version in answering),
    )
