"""`compile: true` of model.yaml: torch.compile, all of it done before the model is ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dl_inference.serving.load_error import LoadError

Backend = Callable[[Any, list[Any]], Callable[..., Any]]


def inductor() -> Backend:
    """Return what makes code of a graph by default."""
    return torch._dynamo.lookup_backend("inductor")


class Compilation:
    """Compiles one model at its first call, and remembers what became of it."""

    def __init__(self) -> None:
        self._backend = inductor()
        self._graphs = 0
        self._failure: Exception | None = None

    def of(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """Return a model that is compiled when it is called first, for any number of rows: others cost nothing then."""
        return torch.compile(model, backend=self._compile, dynamic=True)

    def check(self, file: Path) -> None:
        """Look at what the samples have brought about.

        Raises:
            LoadError: the compiler failed, or no sample has reached it: the first caller would wait for it.
        """
        if self._failure is not None:
            words = str(self._failure).strip().partition("\n")[0][:300]
            raise LoadError(
                file,
                f"torch.compile failed: {type(self._failure).__name__}: {words}",
                "take 'compile: true' out of model.yaml; or see that a C++ compiler is there, and look at the log",
            )
        if not self._graphs:
            raise LoadError(
                file,
                "cannot be compiled before it is ready: no sample has run anything that torch.compile takes",
                "add a request to samples/expected.json, or take 'compile: true' out of model.yaml",
            )

    def _compile(self, graph: Any, examples: list[Any]) -> Callable[..., Any]:
        try:
            made = self._backend(graph, examples)
        except Exception as error:
            self._failure = error
            raise
        self._graphs += 1
        return made
