"""Which models of `serve` are loaded: by orders, for calls, while they are used, within the memory that they may take.

Here is decided what is wanted; `models` carries it out. Only the main thread uses this, and nothing waits.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dl_inference.local.layout import Layout
from dl_inference.local.memory import Memory, in_words
from dl_inference.local.models import Model
from dl_inference.local.orders import Order, Orders
from dl_inference.local.processes import ModelProcess, State
from dl_inference.local.wanted import BY_ORDER, ON_DEMAND

log = logging.getLogger("serve")

Usage = Sequence[tuple[str, float | None, int, bool]]
"""Of each cluster its name, how long ago a call came that needs the model, if any did, the calls in flight, and whether
an endpoint is live."""


@dataclass(frozen=True)
class Rules:
    """What holds where a model folder says nothing.

    Attributes:
        on_demand: a model is loaded by the first call that needs it.
        idle_unload_s: one that is loaded on demand is unloaded when none has come for so long; None: never.
        memory_budget: bytes that all model processes may take together; None: what there is.
    """

    on_demand: bool = False
    idle_unload_s: int | None = None
    memory_budget: int | None = None


@dataclass
class _Use:
    """How a model is used: when a call came last that needs it, by time.monotonic; calls in flight."""

    at: float = 0.0
    was_called: bool = False
    in_flight: int = 0


class Loads:
    """Decides what is loaded.

    Args:
        rules: what holds for all.
        memory: what models take.
        orders: what callers order.
    """

    def __init__(self, rules: Rules, memory: Memory, orders: Orders) -> None:
        self._rules = rules
        self._memory = memory
        self._orders = orders
        self._used: dict[str, _Use] = {}
        self._was_ready: dict[str, bool] = {}
        self._queue: list[str] = []
        """Models that are to be loaded as soon as there is room."""

    # --- what is asked for

    def meet(self, model: Model, layout: Layout, models: Iterable[Model]) -> None:
        """Decide whether a folder that is new, or has changed, is loaded now; before `Model.want`.

        Args:
            model: of the folder.
            layout: what it asks for.
            models: all of them.
        """
        wanted = model.wanted
        is_new = model.layout is None and not model.groups
        before, wanted.is_on_demand = wanted.is_on_demand, self._is_on_demand(layout)
        if is_new and wanted.is_on_demand:
            wanted.away = ON_DEMAND
        elif is_new and self._rules.memory_budget is not None and wanted.is_loaded:
            model.layout = layout  # what it is going to take follows from that
            self._memory.look(models, at_once=True)
            others = [each for each in models if each is not model]
            if refusal := self._lack(self._memory.estimate(model), self._memory.used(others, ()), model.name):
                log.warning("%s", refusal)
                wanted.away = "there was no room for it"
                wanted.refuse(refusal, is_memory=True)
            model.layout = None
        elif before and not wanted.is_on_demand and wanted.away not in ("", BY_ORDER):
            wanted.load()

    def take(self, order: Order, models: Mapping[str, Model]) -> None:
        """Begin with one order."""
        model = models.get(order.model)
        if model is None:
            near = difflib.get_close_matches(order.model, models, 3, 0)
            known = f"nearest known: {', '.join(near)}" if near else "there are none"
            self._orders.end(order, "NOT_FOUND", f"no model {order.model:.100}; {known}")
        elif order.action == "call":
            self._call(model)
        elif order.action == "unload":
            order.leaving = self._unload(model, BY_ORDER)
        elif model.problem is not None:
            self._orders.end(order, "FAILED_PRECONDITION", model.problem.line)
        elif model.wanted.is_loaded:
            if order.action == "reload" or model.failure:
                log.info("%s: %s", model.name, "reloads" if order.action == "reload" else "is tried again")
                model.renew()
        else:
            self._want(model)

    def _call(self, model: Model) -> None:
        if model.problem is not None or (model.wanted.is_loaded and model.failure and not model.is_ready):
            model.wanted.refuse(model.reason)
        elif not model.wanted.is_loaded and model.wanted.by_call:
            self._want(model)

    def _want(self, model: Model) -> None:
        if model.name not in self._queue:
            self._queue.append(model.name)

    def _unload(self, model: Model, because: str) -> list[ModelProcess]:
        """Unload a model; return its processes."""
        leaving = [process for group in model.groups for replica in group.replicas for process in replica.processes]
        if model.wanted.is_loaded:
            log.info("%s: is unloaded: %s", model.name, because)
        self._queue = [name for name in self._queue if name != model.name]
        model.unload(because)
        return leaving

    # --- what follows

    def step(self, models: Mapping[str, Model], usage: Usage, others: Sequence[ModelProcess]) -> None:
        """Look at everything once.

        Args:
            models: all of them.
            usage: how the data plane's clusters are used.
            others: processes that are no model's any more, and have not ended.
        """
        self._memory.look(models.values())
        self._note_use(models, usage)
        for model in models.values():
            self._note(model)
        self._unload_idle(models.values())
        self._admit(models, others)

    def _note_use(self, models: Mapping[str, Model], usage: Usage) -> None:
        now = time.monotonic()
        self._used = {name: self._used.get(name, _Use(now)) for name in models}
        for use in self._used.values():
            use.in_flight = 0
        for cluster, unused_s, in_flight, _ in usage:
            name = cluster.rpartition("@")[0]
            if name not in self._used:
                continue
            use = self._used[name]
            use.in_flight += in_flight
            use.was_called |= unused_s is not None
            if unused_s is not None:
                use.at = max(use.at, now - unused_s)
            if in_flight:
                use.at = now

    def _note(self, model: Model) -> None:
        """Count loads; tell the calls that wait for one that failed."""
        was_ready, self._was_ready[model.name] = self._was_ready.get(model.name, False), model.is_ready
        wanted = model.wanted
        if model.is_ready and not was_ready:
            wanted.loads += 1
            wanted.refusal = ""
            self._used[model.name].at = time.monotonic()
        elif wanted.is_loaded and wanted.by_call and not model.is_ready and model.failure and not wanted.refusal:
            wanted.refuse(model.reason)

    def _unload_idle(self, models: Iterable[Model]) -> None:
        now = time.monotonic()
        for model in models:
            limit = self._rules.idle_unload_s if model.layout is None else model.layout.idle_unload_s
            limit = self._rules.idle_unload_s if limit is None else limit
            if limit is not None and self._may_go(model) and now - self._used[model.name].at >= limit:
                self._unload(model, f"no call has come for {limit} s")

    def _may_go(self, model: Model) -> bool:
        """Whether a model may be unloaded without an order: a call would load it again, and none is in it."""
        return model.wanted.by_call and model.is_ready and not self._used[model.name].in_flight

    def _admit(self, models: Mapping[str, Model], others: Sequence[ModelProcess]) -> None:
        """Load what is to be loaded, in turn, as far as there is room or can be made."""
        while self._queue:
            model = models.get(self._queue[0])
            if model is not None and model.layout is not None and not model.wanted.is_loaded:
                if self._rules.memory_budget is not None and not self._has_room(model, models, others):
                    return
                if not model.wanted.refusal or not model.wanted.is_memory:
                    model.load()
            self._queue.pop(0)

    def _has_room(self, model: Model, models: Mapping[str, Model], others: Sequence[ModelProcess]) -> bool:
        """Whether it is settled if a model is loaded: there is room, or never will be; False: room is being made."""
        model.wanted.refusal = ""
        self._memory.look(models.values(), at_once=True)
        need, used = self._memory.estimate(model), self._memory.used(models.values(), others)
        if not self._lack(need, used, model.name):
            return True
        leaving = [process for each in models.values() if not each.wanted.is_loaded for process in _of(each)]
        if any(process.state is not State.ENDED for process in (*others, *leaving)):
            return False
        going = []
        for each in sorted(filter(self._may_go, models.values()), key=lambda each: self._used[each.name].at):
            if not self._lack(need, used, model.name):
                break
            going.append(each)
            used -= self._memory.of(each)
        if refusal := self._lack(need, used, model.name):
            model.wanted.refuse(refusal, is_memory=True)
            return True
        for each in going:
            self._unload(each, f"{model.name} needs its memory (memory budget)")
        return False

    def _lack(self, need: int, used: int, name: str) -> str:
        """Return why there is no room for a model; empty where there is."""
        budget = self._rules.memory_budget
        if budget is None or used + need <= budget:
            return ""
        return (
            f"no room for model {name}: it needs about {in_words(need)}, and of the memory budget of "
            f"{in_words(budget)} other models keep {in_words(used)}, which are in use or loaded from the start; "
            "raise --memory-budget, unload another model, or try again later"
        )

    def settle(self, models: Mapping[str, Model], usage: Usage) -> None:
        """Say what came of the orders whose end has come; after the routes are those that follow from `step`.

        Args:
            models: all of them.
            usage: how the data plane's clusters are used now.
        """
        live = {cluster for cluster, _, _, is_live in usage if is_live}
        for order in self._orders.under_way():
            model = models.get(order.model)
            if order.action == "unload":
                if all(process.state is State.ENDED for process in order.leaving):
                    self._orders.end(order)
            elif model is None:
                self._orders.end(order, "NOT_FOUND", f"model {order.model} was deleted meanwhile")
            elif order.model in self._queue:
                continue
            elif not model.wanted.is_loaded:
                is_memory = bool(model.wanted.refusal) and model.wanted.is_memory
                code, text = ("RESOURCE_EXHAUSTED", model.wanted.refusal) if is_memory else ("ABORTED", "")
                self._orders.end(order, code, text or f"model {order.model} was unloaded meanwhile")
            elif model.problem is not None or model.failure:
                self._orders.end(order, "FAILED_PRECONDITION", model.failure)
            elif model.is_settled and all(f"{model.name}@{version}" in live for version in model.serving()):
                self._orders.end(order)

    # --- what is shown

    def status(self, model: Model) -> dict[str, Any]:
        """Return what /status shows of a model beside what it says itself."""
        use = self._used.get(model.name)
        ago = time.monotonic() - use.at if use is not None and use.was_called else None
        return {
            "wanted": "loaded" if model.wanted.is_loaded else "unloaded",
            "on_demand": model.wanted.is_on_demand,
            "away": model.wanted.away,
            "refusal": model.wanted.refusal,
            "loads": model.wanted.loads,
            "unloads": model.wanted.unloads,
            "memory_bytes": self._memory.of(model),
            "last_call_unix_s": None if ago is None else round(time.time() - ago),
            "in_flight": use.in_flight if use is not None else 0,
        }

    @property
    def is_busy(self) -> bool:
        """Whether something is under way that wants a look soon."""
        return bool(self._queue or self._orders.under_way())

    def _is_on_demand(self, layout: Layout) -> bool:
        return self._rules.on_demand if layout.on_demand is None else layout.on_demand


def _of(model: Model) -> list[ModelProcess]:
    return [process for group in model.groups for replica in group.replicas for process in replica.processes]
