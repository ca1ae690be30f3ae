"""The type that the configuration has at a path: for near names in errors, and for names of the environment."""

import difflib
import types
from collections.abc import Iterable
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Tag

from access.config.sections import AccessConfig
from access.discovery import RESOLVERS
from access.document import Path
from access.fields import Section


def type_at(path: Path) -> Any:
    """Return the type at a path of AccessConfig; None where there is none.

    Args:
        path: as in the file, or as pydantic writes it: with the kind after a discovery source.
    """
    annotation: Any = AccessConfig
    for step in path:
        annotation = _descend(annotation, step)
    return annotation


def plain(annotation: Any) -> Any:
    """Return a type without its annotations and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, types.UnionType):
            others = [each for each in get_args(annotation) if each is not type(None)]
            if len(others) == 1:
                annotation = others[0]
                continue
        return annotation


def section(annotation: Any) -> type[Section] | None:
    """Return the section that a type is; None for anything else."""
    annotation = plain(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was meant, or which ones there are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    if not names:
        return ""
    return f"known: {', '.join(names[:40])}" + (" ..." if len(names) > 40 else "")


def _descend(annotation: Any, step: str | int) -> Any:
    annotation = plain(annotation)
    if found := section(annotation):
        field = found.model_fields.get(str(step))
        return field.annotation if field else None
    origin = get_origin(annotation)
    if origin is dict:
        return get_args(annotation)[1]
    if origin is tuple:
        return get_args(annotation)[0]
    if origin in (Union, types.UnionType) and step in RESOLVERS:
        return RESOLVERS[str(step)].config
    return next((kind for kind in get_args(annotation) if Tag(str(step)) in getattr(kind, "__metadata__", ())), None)
