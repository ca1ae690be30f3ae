"""A batch of requests on its way through hooks and model: joined where they may be, each with its own answer or error.

Stage by stage: what a hook does to one request concerns no other. Where joined requests fail, they are tried again by
halves, so that the one to blame fails alone.
"""

from __future__ import annotations

import copy
import functools
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from torch_predict import context, joining, methods
from torch_predict.errors import BadAnswer
from torch_predict.hooks import Hooks, Meta
from torch_predict.overlap import Overlap

if TYPE_CHECKING:
    from dl_inference._native import Batch, Item
    from torch_predict.calling import Model

_LOGGER = logging.getLogger(__name__)


class Counts(Protocol):
    """What is told how batches went: the native front."""

    def measured(self, calls: int, rows: int, preprocess_s: float, model_s: float, postprocess_s: float) -> None: ...  # noqa: D102

    def left_out(self, calls: int) -> None: ...  # noqa: D102

    def next_beside(self) -> Batch | None: ...  # noqa: D102

    def turn(self, prepared_s: float) -> None: ...  # noqa: D102


class Stages(Protocol):
    """What happens to one request, or to joined ones: a predictor."""

    model: Model
    hooks: Hooks
    joining: joining.Joining
    overlap: Overlap

    def payload_of(self, item: Item) -> Any: ...  # noqa: D102
    def tags_key(self, meta: Meta) -> Hashable: ...  # noqa: D102
    def call(self, x: Any, meta: Meta, kind: str) -> Any: ...  # noqa: D102
    def call_to_the_end(self, x: Any, meta: Meta, kind: str) -> Any: ...  # noqa: D102
    def plain(self, result: Any) -> Any: ...  # noqa: D102
    def join_no_more(self) -> None: ...  # noqa: D102
    def reply(self, batch: Batch, index: int, result: Any, kind: str) -> None: ...  # noqa: D102
    def answer_alone(self, batch: Batch, index: int, item: Item, counts: Counts) -> None: ...  # noqa: D102
    def fail(self, batch: Batch, index: int, error: BaseException, request_id: str) -> None: ...  # noqa: D102


class Work:
    """One request of a batch."""

    __slots__ = ("index", "item", "kind", "meta", "rows", "x")

    def __init__(self, index: int, item: Item) -> None:
        self.index = index
        self.item = item
        self.meta: Meta = item.meta
        self.kind = item.kind
        self.x: Any = None
        """What the last stage made of it."""
        self.rows = 1


Group = list[Work]


class Answering:
    """One batch, once."""

    def __init__(self, predictor: Stages, batch: Batch, counts: Counts) -> None:
        self._predictor = predictor
        self._hooks = predictor.hooks
        self._joining = predictor.joining
        self._batch = batch
        self._counts = counts
        self._began = self._prepared = 0.0
        self._hooks_s = [0.0, 0.0]
        """Seconds of the joined hooks before and after the model, which are called with it."""
        self._is_one_call = "run_model" not in self._hooks.batched
        """Whether joined hooks and the model are one call: nothing is split between them."""
        self._works: Group = []
        self._may_overlap = False
        """Whether the next call of the model may run beside the hooks of the next batch."""
        self._beside_s = 0.0
        """Seconds in which the model had ended, and the next batch was prepared."""
        self.next: Answering | None = None
        """The next batch, prepared while the model worked on this one."""

    def prepare(self) -> None:
        """Do what comes before the model."""
        self._began = time.perf_counter()
        works = [Work(index, item) for index, item in enumerate(self._batch.items)]
        if self._hooks.methods:
            works = self._without_named(works)
        self._works = self._prepare(works)
        self._prepared = time.perf_counter()

    @property
    def prepared_s(self) -> float:
        """Seconds that `prepare` took."""
        return self._prepared - self._began

    def run(self) -> None:
        """Answer every request of the prepared batch."""
        works, overlap = self._works, self._predictor.overlap
        groups = self._groups(works) if self._is_one_call else [works]
        for group in groups:
            self._may_overlap = group is groups[-1] and overlap.pays and self._batch.was_waiting
            self._answer(group)

    def _prepare_next(self) -> None:
        """Take the requests that are there by now, and prepare them."""
        batch = self._counts.next_beside()
        if batch is not None:
            before = context.entered()
            self.next = Answering(self._predictor, batch, self._counts)
            self.next.prepare()
            context.enter(before)

    def _without_named(self, works: Group) -> Group:
        """Answer requests that name a method, each by itself; return the others."""
        others = []
        for work in works:
            if methods.TAG in work.meta.get("tags", {}):
                self._predictor.answer_alone(self._batch, work.index, work.item, self._counts)
            else:
                others.append(work)
        return others

    def _prepare(self, works: Group) -> Group:
        """Give each request what comes before it may be joined; return those that did not fail."""
        payload_of = self._predictor.payload_of
        hook = self._hooks.preprocess
        mode = self._hooks.modes.get("preprocess", "each")
        if hook is not None and mode == "each":
            return self._each(works, lambda work: hook(payload_of(work.item), work.meta))
        works = self._each(works, lambda work: payload_of(work.item))
        if mode == "batched":
            return self._batched(works, self._hooks.batched["preprocess"])
        if hook is not None and not self._is_one_call:
            step = lambda group: self._share(group, lambda x: hook(x, _shared(group)))  # noqa: E731
            return [work for group in self._groups(works) for work in self._halved(group, step)]
        return works

    def _groups(self, works: Group) -> list[Group]:
        """Return the requests that may be joined together, and each other one alone."""
        plan = self._joining
        if not plan.is_on or len(works) == 1:
            return [[work] for work in works]
        groups: dict[Hashable, Group] = {}
        alone: list[Group] = []
        last: Work | None = None
        same: Group = []
        for work in works:
            if last is not None and _is_alike(last, work):
                work.rows = last.rows
                same.append(work)
                continue
            key = joining.key_of(work.x, plan.pad)
            rows = joining.rows_of(work.x)
            if key is None or rows is None or not plan.least_rows <= rows <= plan.max_rows:
                alone.append([work])
                continue
            last, work.rows = work, rows
            same = groups.setdefault((work.kind == "infer", self._predictor.tags_key(work.meta), key), [])
            same.append(work)
        return [*(part for group in groups.values() for part in self._sized(group)), *alone]

    def _sized(self, group: Group) -> list[Group]:
        """Return a group in parts of at most `max_rows`."""
        parts: list[Group] = [[]]
        rows = 0
        for work in group:
            if parts[-1] and rows + work.rows > self._joining.max_rows:
                parts.append([])
                rows = 0
            parts[-1].append(work)
            rows += work.rows
        return parts

    def _answer(self, group: Group) -> None:
        live = [work for work in group if not self._batch.is_gone(work.index)]
        if len(live) < len(group):
            self._counts.left_out(len(group) - len(live))
        if not live:
            return
        began = time.perf_counter()
        self._hooks_s = [0.0, 0.0]
        self._beside_s = 0.0
        done = self._halved(live, self._call_model)
        ended = time.perf_counter()
        answered = self._finish(done)
        if answered:
            count = len(answered)
            rows = sum(work.rows for work in answered)
            # Each waits for the others: its stage is as long as theirs together.
            before = self.prepared_s + self._hooks_s[0]
            model_s = ended - began - sum(self._hooks_s) - self._beside_s
            after = time.perf_counter() - ended + self._hooks_s[1]
            self._batch.spent(before, model_s, after)
            self._batch.send()
            self._counts.measured(count, rows, before, model_s, after)
            self._predictor.overlap.learn(rows, self.prepared_s, model_s)

    def _call_model(self, group: Group) -> None:
        predictor = self._predictor
        run_batch = self._hooks.batched.get("run_model")
        if run_batch is not None:
            self._spread(group, run_batch(predictor.model.module, _given(group), [work.meta for work in group]))
            return
        self._share(group, functools.partial(self._joined_stages, _shared(group), group[0].kind))

    def _joined_stages(self, meta: Meta, kind: str, x: Any) -> Any:
        """Return what the model, and the joined hooks beside it, make of what a group brought."""
        hooks = self._hooks
        began = time.perf_counter()
        if hooks.preprocess is not None and hooks.modes.get("preprocess") == "joined":
            x = hooks.preprocess(x, meta)
        prepared = time.perf_counter()
        x = self._called(x, meta, kind)
        called = time.perf_counter()
        if hooks.postprocess is not None and hooks.modes.get("postprocess") == "joined":
            x = hooks.postprocess(x, meta)
        self._hooks_s[0] += prepared - began
        self._hooks_s[1] += time.perf_counter() - called
        return x

    def _called(self, x: Any, meta: Meta, kind: str) -> Any:
        """Return what the model makes of what a group brought; meanwhile the next batch may be prepared."""
        if not self._may_overlap:
            return self._predictor.call(x, meta, kind)
        self._may_overlap = False
        began = time.perf_counter()
        call = functools.partial(self._predictor.call_to_the_end, x, meta, kind)
        result, model_s = self._predictor.overlap.run(joining.rows_of(x) or 1, call, self._prepare_next)
        self._beside_s += time.perf_counter() - began - model_s
        return result

    def _share(self, group: Group, call: Callable[[Any], Any]) -> None:
        """Give each request of a group its part of what a call with all of them returns."""
        plan = self._joining
        if len(group) == 1 and not self._is_cut(group[0]):
            group[0].x = call(group[0].x)
            return
        x = joining.joined([work.x for work in group], plan.pad)
        try:
            total = joining.rows_of(x) or 0
            if total > plan.max_rows:
                result = joining.put_together([call(piece) for piece in joining.pieces(x, plan.max_rows)])
            else:
                rows = plan.rounded(total)
                result = call(joining.filled(x, rows) if rows != total else x)
                total = rows
            lengths = self._lengths(group)
            parts = joining.split(self._predictor.plain(result), [work.rows for work in group], total, lengths)
        except joining.NotByRowError:
            self._predictor.join_no_more()
            if len(group) > 1:
                raise
            parts = [call(x)]
        for work, part in zip(group, parts, strict=True):
            work.x = part

    def _is_cut(self, work: Work) -> bool:
        """Say whether a request that is alone gets another number of rows than it brought."""
        if not self._joining.is_on:
            return False
        rows = joining.rows_of(work.x)
        if rows is None or joining.key_of(work.x) is None:
            return False
        work.rows = rows
        return rows > self._joining.max_rows or self._joining.rounded(rows) != rows

    def _lengths(self, group: Group) -> tuple[int, Sequence[int]] | None:
        pad = self._joining.pad
        if pad is None:
            return None
        firsts = [next(iter(work.x.values())) if isinstance(work.x, dict) else work.x for work in group]
        sizes = [first.shape[pad.axis] if first.ndim > pad.axis else 0 for first in firsts]
        return (pad.axis, sizes) if len(set(sizes)) > 1 else None

    def _finish(self, works: Group) -> Group:
        hook = self._hooks.postprocess
        if hook is not None:
            mode = self._hooks.modes.get("postprocess", "each")
            if mode == "batched":
                works = self._batched(works, self._hooks.batched["postprocess"])
            elif mode == "joined" and not self._is_one_call:
                for work in works:
                    work.rows = joining.rows_of(work.x) or 1
                step = lambda group: self._share(group, lambda x: hook(x, _shared(group)))  # noqa: E731
                works = [work for group in self._groups(works) for work in self._halved(group, step)]
            elif mode == "each":
                works = self._each(works, lambda work: hook(work.x, work.meta))
        return self._each(works, self._reply)

    def _reply(self, work: Work) -> None:
        self._predictor.reply(self._batch, work.index, work.x, work.kind)

    def _each(self, works: Group, step: Callable[[Work], Any]) -> Group:
        """Take a step with each request; return those with which it did not fail."""
        done = []
        for work in works:
            context.enter(work.item)
            try:
                work.x = step(work)
                done.append(work)
            except BaseException as error:  # whatever a hook raises, the next request is still answered
                self._fail(work, error)
        return done

    def _batched(self, works: Group, hook: Callable[[list[Any], list[Meta]], Any]) -> Group:
        return self._halved(
            works, lambda works: self._spread(works, hook(_given(works), [work.meta for work in works]))
        )

    def _spread(self, works: Group, results: Any) -> None:
        """Give each request its result of a hook for batches."""
        if not isinstance(results, list | tuple) or len(results) != len(works):
            what = f"{len(results)} results" if isinstance(results, list | tuple) else f"a {type(results).__name__}"
            raise BadAnswer(f"a batched hook returned {what} for {len(works)} requests; return a list of as many")
        for work, result in zip(works, results, strict=True):
            work.x = result

    def _halved(self, works: Group, step: Callable[[Group], None]) -> Group:
        """Take a step with requests together, by halves where it fails; return those with which it did not fail."""
        if not works:
            return []
        before = [work.x for work in works]
        context.enter(works[0].item if len(works) == 1 else None)
        try:
            step(works)
        except BaseException as error:
            if len(works) == 1:
                self._fail(works[0], error)
                return []
            has_failed = True
        else:
            has_failed = False
        if has_failed:  # outside of the handler: the halves' errors are not consequences of this one
            for work, x in zip(works, before, strict=True):
                work.x = x
            middle = len(works) // 2
            return [*self._halved(works[:middle], step), *self._halved(works[middle:], step)]
        done = []
        for work in works:
            if isinstance(work.x, BaseException):  # of a batched hook
                self._fail(work, work.x)
            else:
                done.append(work)
        return done

    def _fail(self, work: Work, error: BaseException) -> None:
        self._predictor.fail(self._batch, work.index, error, work.item.request_id)


def _shared(works: Group) -> Meta:
    """Return the meta that a joined hook gets: of several requests what is the same in all of them, their tags."""
    if len(works) == 1:
        return works[0].meta
    tags = works[0].meta.get("tags")
    return {"tags": tags} if tags else {}


def _given(works: Group) -> list[Any]:
    """Return what a batched hook gets: copies, where it is called again by halves if it fails after it changed some."""
    return [work.x for work in works] if len(works) == 1 else [copy.deepcopy(work.x) for work in works]


def _is_alike(one: Work, other: Work) -> bool:
    """Say whether two requests can be joined, as most can: plain arrays of one shape."""
    x, y = one.x, other.x
    return (
        type(x) is type(y) is np.ndarray
        and x.shape == y.shape
        and x.dtype == y.dtype
        and one.kind == other.kind
        and one.meta.get("tags") == other.meta.get("tags")
    )


@torch.no_grad()
def answer(predictor: Stages, batch: Batch, counts: Counts) -> Answering | None:
    """Answer every request of a batch, each with its own result or its own error.

    Returns: the next batch, where it is prepared already: for `go_on`.
    """
    answering = Answering(predictor, batch, counts)
    answering.prepare()
    answering.run()
    return answering.next


@torch.no_grad()
def go_on(answering: Answering, counts: Counts) -> Answering | None:
    """Answer a batch that is prepared; as `answer`."""
    counts.turn(answering.prepared_s)
    answering.run()
    return answering.next
