"""Packages of AOTInductor (model.pt2 of `torch._inductor.aoti_compile_and_package`): a program as machine code.

Compiled for one kind of processor or GPU and one version of torch. Loading one runs its code, so it needs the same
permission as a pickle.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_inference.serving.load_error import LoadError
from torch_predict.runtimes.base import Runtime, zip_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

_PROGRAMS = ("serialized_exported_program.json", "models/model.json")
"""An archive that has one of these is an exported program beside its machine code, and is loaded as that."""
# Else compiled code reads past the end of a tensor that is smaller than what it was compiled for. The library reads it.
_CHECKS = "AOTI_RUNTIME_CHECK_INPUTS"


class AotInductor(Runtime):
    """A compiled package; its inputs are tensors, and it does not tell their names."""

    name = "aotinductor"
    suffixes = (".pt2",)

    def recognises(self, file: Path) -> bool:
        """Say whether it is an archive of machine code without the program that it was made from."""
        names = zip_names(file)
        return any("/aotinductor/" in name for name in names) and not any(name.endswith(_PROGRAMS) for name in names)

    def runs_code(self, file: Path) -> bool:
        """Say that it does: a shared library is code."""
        return True

    def refusal(self, file: Path) -> LoadError:
        """Return what is said where nobody has allowed that."""
        return LoadError(
            file,
            "is a package of AOTInductor, which is machine code: loading it runs whatever its author compiled",
            "save the program that it was compiled from (torch.export.save, model.pt2); if you trust the file, allow "
            "it explicitly: --allow-pickle, or 'allow_pickle: true' in model.yaml",
        )

    def load(self, file: Path, device: torch.device) -> Callable[..., Any]:
        """Return the compiled program.

        Raises:
            LoadError: it is damaged, of another torch, compiled for another device, or takes more than tensors.
        """
        import torch  # noqa: PLC0415  (base.py, module head)

        os.environ.setdefault(_CHECKS, "1")
        try:
            index = -1 if device.index is None else device.index
            compiled = torch._inductor.aoti_load_package(str(file), device_index=index)
            kind = compiled.get_metadata().get("AOTI_DEVICE_KEY", device.type)
            names, keywords = _inputs(compiled)
        except Exception as error:  # zip, dynamic linker, missing operators
            raise LoadError(
                file,
                f"torch {torch.__version__} cannot load it: {type(error).__name__}: {str(error)[:500]}",
                "compile it again on this kind of machine, with the torch version that serves it",
            ) from error
        if kind != device.type:
            remedy = f"compile it for {device.type}, or set device: {kind} in model.yaml"
            raise LoadError(file, f"is compiled for {kind}, and is to run on {device.type}", remedy)
        return _callable(compiled, names, keywords)


def _inputs(compiled: Any) -> tuple[list[str], list[str]]:
    """Return names for what is taken by position, and the names of what is taken by keyword.

    Raises:
        ValueError: it takes lists or dicts of tensors.
    """
    _, tree = json.loads(compiled.loader.get_call_spec()[0])
    positional, by_name = tree["children_spec"]
    if any(child["children_spec"] for child in (*positional["children_spec"], *by_name["children_spec"])):
        raise ValueError("it takes tuples, lists or dicts of tensors: compile one that takes tensors alone")
    count = len(positional["children_spec"])
    names = ["x"] if count == 1 else [f"x_{index}" for index in range(count)]
    return names, json.loads(by_name["context"]) if by_name["children_spec"] else []


def _callable(compiled: Any, names: list[str], keywords: list[str]) -> Callable[..., Any]:
    """Return a function whose signature says what is taken."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled(*args, **kwargs)

    kinds = inspect.Parameter
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what inspect looks for
        [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in names]
        + [kinds(name, kinds.KEYWORD_ONLY) for name in keywords]
    )
    return call
