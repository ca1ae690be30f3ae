"""Whether a model is to be loaded, who may change that, and why it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ON_DEMAND = "it is loaded on demand"
BY_ORDER = "somebody unloaded it"


@dataclass
class Wanted:
    """What is wanted of one model.

    Attributes:
        away: why it is not to be loaded; empty: it is.
        is_on_demand: what says how it is loaded says: by the first call that needs it.
        refusal: why it was not loaded when that was tried last; empty when it was, or is being loaded.
        is_memory: the refusal is about the memory budget.
        refusals: how often that was refused so far.
        generation: how often everything of it was to be loaded anew.
        loads: how often it became ready.
        unloads: how often it was unloaded.
    """

    away: str = ""
    is_on_demand: bool = False
    refusal: str = ""
    is_memory: bool = False
    refusals: int = 0
    generation: int = 0
    loads: int = 0
    unloads: int = 0

    @property
    def is_loaded(self) -> bool:
        """Whether it is to be loaded."""
        return not self.away

    @property
    def by_call(self) -> bool:
        """Whether a call loads it; not what somebody has unloaded."""
        return self.is_on_demand and self.away != BY_ORDER

    def load(self) -> None:
        """Have it loaded from now on."""
        self.away = self.refusal = ""

    def unload(self, because: str) -> None:
        """Have it unloaded from now on."""
        self.unloads += self.is_loaded
        self.away, self.refusal = because, ""

    def refuse(self, text: str, *, is_memory: bool = False) -> None:
        """Tell the calls that wait for it why they do so in vain."""
        self.refusal, self.is_memory = text, is_memory
        self.refusals += 1

    def keys(self, keys: Mapping[int, str]) -> Mapping[int, str]:
        """Return the keys of a layout (`Layout.keys`), others after each time that it is to be loaded anew."""
        return {number: f"{key}-{self.generation}" for number, key in keys.items()} if self.generation else keys

    def route(self, model: str) -> dict[str, Any] | None:
        """Return what calls hear while there is no process, as the data plane's `UnloadedConfig`; None: it starts."""
        if self.is_loaded and not self.is_on_demand:
            return None
        refusal = {"text": self.refusal, "is_memory": self.is_memory} if self.refusal else None
        return {"model": model, "on_demand": self.by_call, "refusal": refusal, "refusals": self.refusals}
