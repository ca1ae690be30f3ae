"""The model's run of one batch beside the hooks of the next, where that pays.

The model runs in one more thread, in which nobody's hooks ever are: torch lets go of the GIL, and the hooks' thread
prepares the next batch meanwhile. Only for programs that have no Python of the user's in them.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

LEAST_PREPARE_S = 0.0002
LEAST_MODEL_S = 0.001
"""Of shorter batches the change of threads costs too large a part."""

_KEPT = 5
_OPERATORS = frozenset({"aten", "prim", "prims", "quantized", "torchvision"})
"""Where operators come from that are no Python of the user's."""


class Overlap:
    """Knows whether it pays, and runs the model so."""

    def __init__(self, *, may_run: bool) -> None:
        """Take whether the model may be called in another thread than the hooks."""
        self._may_run = may_run
        self._prepare: deque[float] = deque(maxlen=_KEPT)
        self._model: deque[float] = deque(maxlen=_KEPT)
        self._by_rows: dict[int, float] = {}
        """The model's last time by the number of bits of the number of rows."""
        self._thread: ThreadPoolExecutor | None = None

    def learn(self, rows: int, prepare_s: float, model_s: float) -> None:
        """Take how long a batch was prepared, and how long the model took for it."""
        if self._may_run:
            self._prepare.append(prepare_s)
            self._model.append(model_s)
            self._by_rows[rows.bit_length()] = model_s

    @property
    def pays(self) -> bool:
        """Whether batches have lately taken long enough, in hooks and model."""
        return (
            self._may_run
            and len(self._model) == _KEPT
            and _median(self._prepare) >= LEAST_PREPARE_S
            and _median(self._model) >= LEAST_MODEL_S
            and not _is_special()
        )

    def run(self, rows: int, call: Callable[[], Any], meanwhile: Callable[[], None]) -> tuple[Any, float]:
        """Call the model in its own thread.

        Args:
            rows: how many it gets.
            call: calls it.
            meanwhile: prepares the next batch; called so late that it ends when the model does, for until then
                requests for that batch can come, and not at all where the model has ended before.

        Returns: what the model returned, and its seconds.

        Raises: what the model raised.
        """
        if self._thread is None:
            threads = torch.get_num_threads()
            self._thread = ThreadPoolExecutor(1, "model", torch.set_num_threads, (threads,))
        running: Future[tuple[Any, float]] = self._thread.submit(_timed, call)
        try:
            if not self._ends_within(running, self._expected(rows) - _median(self._prepare)):
                meanwhile()
        finally:
            wait([running])  # as long as the model itself would take: `hang_timeout_ms` watches over both
        return running.result()

    def _expected(self, rows: int) -> float:
        known = self._by_rows.get(rows.bit_length())
        return min(self._by_rows.values(), default=0.0) if known is None else known

    @staticmethod
    def _ends_within(running: Future[Any], seconds: float) -> bool:
        return bool(wait([running], max(seconds, 0.0)).done)


def runs_apart(model: Callable[..., Any]) -> bool:
    """Say whether a model may run beside hooks: it is made of torch's operators alone."""
    if isinstance(model, torch.fx.GraphModule):
        calls = [node.target for node in model.graph.nodes if node.op == "call_function"]
        own = {call.namespace for call in calls if isinstance(call, torch._ops.OpOverload)}
    elif isinstance(model, torch.jit.ScriptModule):
        own = set(re.findall(r"\b(\w+)::\w+\(", str(model.inlined_graph)))
    else:
        return False
    return own <= _OPERATORS


def _is_special() -> bool:
    """Say whether the hooks' thread has settings of torch that no other thread would have."""
    return (
        torch.is_autocast_enabled("cpu")
        or torch.is_autocast_enabled("cuda")
        or torch.get_default_device().type != "cpu"
    )


@torch.no_grad()
def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def _median(values: deque[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
