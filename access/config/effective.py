"""The effective configuration: each value, and where it came from. For `check --all` and the admin port's /config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel

from access import document
from access.config.sections import AccessConfig


def values(config: AccessConfig) -> Iterator[tuple[document.Path, Any]]:
    """Yield the leaves of the configuration; of clusters and models only what was given. Passwords are hidden."""
    return _values((), config)


def page(config: AccessConfig, origin: Callable[[document.Path], str]) -> dict[str, Any]:
    """Return what /config shows.

    Args:
        config: the effective values.
        origin: of a value, as `access.config.load.Loaded.origin` says it.
    """
    return {
        "values": [
            {"name": document.place_of(path), "value": value, "from": _short(origin(path))}
            for path, value in values(config)
        ]
    }


def _short(origin: str) -> str:
    """Return an origin as one would write it: ``$DL_INFERENCE_LISTEN``, ``--listen``, ``access.yaml:3``."""
    if origin.startswith("environment "):
        return "$" + origin.removeprefix("environment ")
    return origin.removeprefix("flag ")


def _values(path: document.Path, value: Any) -> Iterator[tuple[document.Path, Any]]:
    for name in type(value).model_fields:
        item = getattr(value, name)
        place = (*path, name)
        if isinstance(item, BaseModel):
            if name in ("discovery", "shared_limits"):
                yield place, item.model_dump()
            else:
                yield from _values(place, item)
        elif isinstance(item, dict) and item and all(isinstance(each, BaseModel) for each in item.values()):
            for key, each in item.items():
                for given in sorted(each.model_fields_set):
                    yield (*place, key, given), _plain(getattr(each, given))
        else:
            yield place, _plain(item)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value
