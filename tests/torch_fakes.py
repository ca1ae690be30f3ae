"""Items and batches as the native front hands them over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeItem:
    """As dl_inference._native.Item."""

    kind: str = "tensor"
    value: Any = None
    meta: dict[str, Any] = field(default_factory=dict)
    method: str = "/seldon.protos.Model/Predict"
    request_id: str = "id-1"


class FakeBatch:
    """As dl_inference._native.Batch; keeps what each item was answered with."""

    def __init__(self, *items: FakeItem, refuse: str | None = None) -> None:
        self.items = items
        self.answers: dict[int, tuple[Any, ...]] = {}
        self.failures: dict[int, tuple[Any, ...]] = {}
        self.refuse = refuse

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> FakeItem:
        return self.items[index]

    def reply(self, index: int, kind: str, value: Any, names: list[str]) -> None:
        if self.refuse is not None:
            raise ValueError(self.refuse)
        self.answers[index] = (kind, value, names)

    def fail(self, index: int, code: int, message: str, kind: str) -> None:
        self.failures[index] = (code, message, kind)
