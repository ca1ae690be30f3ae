"""preprocess -> run_model -> postprocess over a batch; an error belongs to its item.

Knows nothing of sockets or folders: it gets the loaded model and the hooks, and answers batches of the native
front. The rules are compat.md's, sections 3 and 4.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from torch_predict import context, oip, outputs
from torch_predict.answering import Answering, Counts, answer, go_on
from torch_predict.arrays import array_of
from torch_predict.blame import place_of
from torch_predict.calling import Model
from torch_predict.errors import BadAnswer, BadInput, RequestError, status_of, words_of
from torch_predict.hooks import Hooks, Meta
from torch_predict.joining import Joining
from torch_predict.overlap import Overlap, runs_apart
from torch_predict.seldon import Answer, answer_of, payload_of, plain
from torch_predict.signature import SINGLE, Signature, TensorSpec

if TYPE_CHECKING:
    from dl_inference._native import Batch, Item
    from torch_predict.samples import Sample

_LOGGER = logging.getLogger(__name__)


class _Nobody:
    """Is told how batches went where nobody wants to know."""

    def measured(self, calls: int, rows: int, preprocess_s: float, model_s: float, postprocess_s: float) -> None:
        """Forget it."""

    def left_out(self, calls: int) -> None:
        """Forget it."""

    def next_beside(self) -> Batch | None:
        """Have none."""
        return None

    def turn(self, prepared_s: float) -> None:
        """Forget it."""


NOBODY = _Nobody()

Step = Callable[[Any], Any]
"""One stage of a request."""

Reply = Callable[[int, str, Any, list[str]], None]

_QUICK_S, _QUICK_CALLS = 0.0001, 32
"""Hooks are quick whose last calls were all shorter than this."""
_KEPT_S = 0.0002
"""How long answers of quick hooks wait for each other."""

_MAX_TOLD = 64
"""Places of failures that are remembered; a model has a few."""


class Observed(NamedTuple):
    """What a sample showed: what the same request has in OIP, what it was answered, and where that is no number."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    answer: Answer
    nan: tuple[str, ...]
    """Outputs that hold NaN or infinity."""
    is_method: bool = False
    """It named a method, whose inputs and outputs are not those of other calls, and are left out."""


class Predictor:
    """One model with its hooks. One thread calls it."""

    def __init__(
        self,
        model: Callable[..., Any],
        hooks: Hooks,
        device: torch.device,
        class_names: list[str] | None = None,
        signature: Signature | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            model: what `run_model` gets, or what is called where there is none.
            hooks: of the model's processor.py.
            device: where tensors go before the model is called.
            class_names: data.names of every answer of rank >= 2; None: ``t:0``, ``t:1`` ...
            signature: what the model's runtime knows of it; None: the names of its arguments.
        """
        self.model = Model(model, device, signature)
        self.hooks = hooks
        self._class_names = class_names
        self.joining = Joining()
        """Whether requests are joined: not before somebody has seen that they may be."""
        self.overlap = Overlap(may_run=hooks.run_model is None and runs_apart(model))
        self._ahead: Answering | None = None
        """The batch after the last one, where it is prepared already."""
        self._model_at = self._result_at = 0.0  # when the last item came to the model, and left it
        self.metadata = self._own_metadata()
        """What callers are told of inputs and outputs."""
        self.finish = hooks.finish
        """To be called at the end of the process, if there is one."""
        self._quick_calls = 0
        """Items that were answered quickly since the last one that was not."""
        self._told: set[tuple[object, ...]] = set()
        """Kinds of failures whose traceback is in the log."""

    def answer(self, batch: Batch, counts: Counts = NOBODY) -> None:
        """Answer every item of a batch, each with its own result or its own error.

        Args:
            batch: of the front.
            counts: told how it went.
        """
        if self.is_joining:
            self._ahead = answer(self, batch, counts)
        else:
            self._answer_each(batch, counts)
        context.enter(None)

    @torch.no_grad()
    def _answer_each(self, batch: Batch, counts: Counts) -> None:
        """Answer items one after the other; those of quick hooks together, so quick that no caller sees it."""
        sent_at = time.perf_counter()
        for index, item in enumerate(batch.items):
            if torch.is_grad_enabled():  # the hook before has left it so
                torch.set_grad_enabled(False)
            began = time.perf_counter()
            reply = batch.keep if self._quick_calls >= _QUICK_CALLS else batch.reply
            self.answer_alone(batch, index, item, counts, reply)
            ended = time.perf_counter()
            self._quick_calls = self._quick_calls + 1 if ended - began < _QUICK_S else 0
            if ended - sent_at >= _KEPT_S or not self._quick_calls:
                batch.send()
                sent_at = ended
        batch.send()

    @property
    def is_ahead(self) -> bool:
        """Whether a batch is prepared, which `go_on` answers before any other is asked for."""
        return self._ahead is not None

    def go_on(self, counts: Counts) -> None:
        """Answer the batch that is prepared."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._ahead = go_on(ahead, counts)
        context.enter(None)

    def answer_alone(
        self, batch: Batch, index: int, item: Item, counts: Counts = NOBODY, reply: Reply | None = None
    ) -> None:
        """Answer one item of a batch, unless nobody waits for it."""
        if batch.is_gone(index):
            counts.left_out(1)
            return
        context.enter(item)
        began = time.perf_counter()
        try:
            answer = self._predict(item)
            model_at, result_at = self._model_at, self._result_at
            batch.spent(model_at - began, result_at - model_at, time.perf_counter() - result_at)
            _reply(reply or batch.reply, index, answer)
            rows = len(item.value) if isinstance(item.value, np.ndarray) and item.value.ndim else 1
            counts.measured(1, rows, model_at - began, result_at - model_at, time.perf_counter() - result_at)
        except BaseException as error:  # whatever a hook raises, the next item is still answered
            self.fail(batch, index, error, item.request_id)

    @property
    def is_program(self) -> bool:
        """Whether the model is a program that knows its own shapes."""
        return self.model.signature.arrange is not None

    @property
    def is_joining(self) -> bool:
        """Whether a batch is more than its requests one after the other."""
        return self.joining.is_on or bool(self.hooks.batched)

    @property
    def alike(self) -> str:
        """What the front takes together: requests alike in their `tags`, or their `shapes`, too; or `all`."""
        if not self.joining.is_on or "run_model" in self.hooks.batched:
            return "all"
        makes_shapes = self.hooks.preprocess is not None and self.hooks.modes.get("preprocess", "each") != "joined"
        return "tags" if makes_shapes else "shapes"

    def fail(self, batch: Batch, index: int, error: BaseException, request_id: str) -> None:
        """Answer an item with an error; the log has what the caller may not see."""
        # Before the caller knows of it, who may look for it at once. A handler of the hook's own may fail, too.
        with contextlib.suppress(BaseException):
            self._log(error, request_id)
        batch.fail(index, *status_of(error, request_id))

    def reply(self, batch: Batch, index: int, result: Any, kind: str) -> None:
        """Answer an item with what its last stage made; it goes out at `Batch.send`."""
        _reply(batch.keep, index, self._answer(self._sent(result, kind), kind))

    def payload_of(self, item: Item | Sample) -> Any:
        """Return what the first stage gets of an item.

        Raises:
            InvalidInput: there is no such thing in it.
        """
        if item.kind != "infer":
            return payload_of(item)
        return oip.hook_input_of(item.value) if self._has_input_hook else item.value

    def call(self, x: Any, meta: Meta, kind: str) -> Any:
        """Return what `run_model`, or the model, makes of what the first stage made."""
        run_model = self.hooks.run_model
        if run_model is not None:
            return run_model(self.model.module, x, meta)
        if kind == "infer" and not self._has_input_hook:
            return self._call_named(x)
        return self._call_model(x, meta, kind)

    def call_to_the_end(self, x: Any, meta: Meta, kind: str) -> Any:
        """As `call`; the result is there when it returns, also where a GPU makes it."""
        result = self.plain(self.call(x, meta, kind))
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return result

    def plain(self, result: Any) -> Any:
        """Return a model's result as it is split: one that no hook wants as an array, which is cheaper."""
        is_models_own = self.hooks.run_model is None and self.hooks.postprocess is None
        return array_of(result) if is_models_own and isinstance(result, torch.Tensor) else result

    def tags_key(self, meta: Meta) -> Hashable:
        """Return what the metas of requests that are joined must have in common."""
        tags = meta.get("tags")
        return repr(sorted(tags.items())) if tags else None

    def join_no_more(self) -> None:
        """Call the model for each request from now on: its answers have shown that they are not made row by row."""
        if self.joining.is_on:
            reason = "an answer of the model has not one row for each row of its input"
            _LOGGER.warning("requests are not joined any more: %s", reason)
            self.joining = replace(self.joining, is_on=False, reason=reason)

    @torch.no_grad()
    def predict(self, item: Item | Sample) -> Answer:
        """Return one item's answer; raises what its hooks raise.

        Raises:
            InvalidInput: the item's payload does not do for this model.
            BadAnswer: the result cannot be sent.
        """
        return self._predict(item)

    def _predict(self, item: Item | Sample) -> Answer:
        if item.kind == "infer":
            return self._answer(self._infer(item.value, item.meta), item.kind)
        return self._answer(self._sent(self._result(payload_of(item), item.meta, item.kind), item.kind), item.kind)

    def steps(self, sample: Sample) -> list[tuple[str, Step]]:
        """Return what `predict` does with a sample, each step with the result of the one before; for `check`."""
        hooks, meta, kind = self.hooks, sample.meta, sample.kind
        preprocess, postprocess = hooks.preprocess, hooks.postprocess
        context.enter(sample)
        if hooks.methods and (method := hooks.method_of(meta)) is not None:
            run = lambda x: outputs.sent(method(self.model.module, x, meta), kind)  # noqa: E731
            encode = lambda x: self._answer(x, kind)  # noqa: E731
            decode = lambda _: oip.hook_input_of(sample.value) if kind == "infer" else payload_of(sample)  # noqa: E731
            return [("decode", decode), ("method", run), ("encode", encode)]
        steps: list[tuple[str, Step]] = [("decode", lambda _: self.payload_of(sample))]
        if preprocess is not None:
            steps.append(("preprocess", lambda x: preprocess(x, meta)))
        steps.append(("model", lambda x: self.call(x, meta, kind)))
        if postprocess is not None:
            steps.append(("postprocess", lambda x: postprocess(x, meta)))
        return [*steps, ("encode", lambda x: self._answer(self._sent(x, kind), kind))]

    @property
    def optional_inputs(self) -> list[str]:
        """Return the inputs that callers may leave out."""
        return [] if self._has_input_hook else self.model.signature.optional()

    @torch.no_grad()
    def observe(self, sample: Sample) -> Observed:
        """Answer a sample, and return what it showed.

        Raises: as `predict`.
        """
        context.enter(sample)
        if sample.kind == "infer":
            return self._observe_infer(sample)
        payload = payload_of(sample)
        result = self._result(payload, sample.meta, sample.kind)
        answer = answer_of(self._sent(result, sample.kind), sample.kind, self._class_names)
        if self.hooks.method_of(sample.meta) is not None:  # it shows nothing of the calls that name none
            return Observed([], [], answer, (), is_method=True)
        if self._has_input_hook:
            inputs = [oip.seen_input("input", payload, None)]
        else:  # which gets a dict in JSON by the names of its own inputs
            dtype = str(self.model.dtype).removeprefix("torch.")
            named = self.model.named(payload, sample.kind)
            inputs = [oip.seen_input(name, array, dtype) for name, array in named.items()]
        outputs = oip.outputs_of(self._sent(result, "infer"))
        return Observed(inputs, oip.seen_outputs(outputs), answer, oip.not_finite(outputs))

    def _observe_infer(self, sample: Sample) -> Observed:
        given = dict(sample.value)
        if self.hooks.method_of(sample.meta) is not None:
            return Observed([], [], self.predict(sample), (), is_method=True)
        if self._has_input_hook:  # whose one input has whatever name its callers like
            is_named = len(given) > 1 or not given.keys().isdisjoint(SINGLE)
            inputs = [oip.seen_input(name if is_named else "input", array, None) for name, array in given.items()]
        else:
            dtype = str(self.model.dtype).removeprefix("torch.")
            bound = self.model.signature.bind(given)
            inputs = [oip.seen_input(name, array, dtype) for name, array in bound.items()]
        answer = self.predict(sample)
        return Observed(inputs, oip.seen_outputs(answer.value), answer, oip.not_finite(answer.value))

    def learn(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Fill `metadata` with what samples showed, where nothing better is known."""
        known = self.metadata
        self.metadata = Signature(None, known.inputs or inputs, known.outputs or outputs)

    def _own_metadata(self) -> Signature:
        # Where a hook stands in between, what the model takes or gives is not what callers send or get.
        is_changed = self.hooks.run_model is not None or self.hooks.postprocess is not None
        known = self.model.signature
        inputs = () if self._has_input_hook else known.inputs
        return Signature(None, inputs, () if is_changed else known.outputs)

    @property
    def _has_input_hook(self) -> bool:
        """Whether a hook gets what a request brings, and not the model itself."""
        return self.hooks.preprocess is not None or self.hooks.run_model is not None

    def _infer(self, inputs: dict[str, np.ndarray[Any, Any]], meta: Meta) -> Any:
        """Return what hooks and model make of an OIP request's inputs."""
        if self._has_input_hook or (self.hooks.methods and self.hooks.method_of(meta) is not None):
            return self._sent(self._result(oip.hook_input_of(inputs), meta, "infer"), "infer")
        self._model_at = time.perf_counter()
        x = self._call_named(inputs)
        self._result_at = time.perf_counter()
        postprocess = self.hooks.postprocess
        return self._sent(x if postprocess is None else postprocess(x, meta), "infer")

    # no_grad, around each of those who call hooks and model, as the original has it; inference_mode would be a little
    # cheaper, but a run_model that turns gradients on for a moment, or writes in place to what it kept, fails under it.
    @torch.no_grad()
    def run(self, x: Any, meta: Meta, kind: str) -> Any:
        """Return what hooks and model make of a decoded payload of a kind."""
        return self._sent(self._result(x, meta, kind), kind)

    def _answer(self, sent: Any, kind: str) -> Answer:
        if kind == "infer":
            return Answer(kind, oip.outputs_of(sent), [])
        return answer_of(sent, kind, self._class_names)

    def _sent(self, result: Any, kind: str) -> Any:
        # What a hook returned is sent as it is, as in the original: a tensor is an error then.
        is_models_own = self.hooks.run_model is None and self.hooks.postprocess is None
        return outputs.sent(result, kind) if is_models_own else result

    def _result(self, x: Any, meta: Meta, kind: str) -> Any:
        hooks = self.hooks
        method = hooks.method_of(meta) if hooks.methods else None
        if method is not None:  # a whole run of its own
            self._model_at = time.perf_counter()
            x = outputs.sent(method(self.model.module, x, meta), kind)
            self._result_at = time.perf_counter()
            return x
        if hooks.preprocess is not None:
            x = hooks.preprocess(x, meta)
        run_model = hooks.run_model
        self._model_at = time.perf_counter()
        x = self._call_model(x, meta, kind) if run_model is None else run_model(self.model.module, x, meta)
        self._result_at = time.perf_counter()
        return x if hooks.postprocess is None else hooks.postprocess(x, meta)

    def _call_named(self, inputs: dict[str, np.ndarray[Any, Any]]) -> Any:
        model = self.model
        if model.takes_named(inputs):
            (x,) = inputs.values()
            return model.call_direct(x, is_made=False)
        return model.call(model.signature.bind(inputs), {})

    def _call_model(self, x: Any, meta: Meta, kind: str) -> Any:
        if "tags" not in meta and self.model.takes(x):
            return self.model.call_direct(x, is_made=self.hooks.preprocess is not None)
        tags = {name: value for name, value in meta.get("tags", {}).items() if name != "model"}
        # OIP's parameters are the protocol's as much as the caller's. With one tag it is the route key; with more, the
        # original passed all of them, the key too.
        if kind == "infer" or len(tags) <= 1:
            tags = {}
        self.model.check_tags(tags)
        if self.hooks.preprocess is None:  # as the caller sent it, and so the caller's mistake where it does not fit
            return self.model.call(self.model.named(x, kind), tags)
        return self.model.call_made(x, tags, is_named=kind == "infer")

    def _log(self, error: BaseException, request_id: str) -> None:
        """Log a failure; those that callers can bring about have their traceback in the log once for each place."""
        if not isinstance(error, RequestError | BadAnswer | BadInput):
            _LOGGER.error("request %s failed", request_id, exc_info=error)
            return
        text = words_of(getattr(error, "text", error))
        cause = error.__cause__
        if cause is not None and len(self._told) < _MAX_TOLD and (place := place_of(cause)) not in self._told:
            self._told.add(place)
            _LOGGER.warning("request %s: %s (the traceback is logged once)", request_id, text, exc_info=cause)
        elif isinstance(error, RequestError):  # words for the caller; nothing is wrong with the server
            _LOGGER.info("request %s: %s: %s", request_id, type(error).__name__, text)
        elif isinstance(error, BadAnswer):
            _LOGGER.error("request %s: the answer cannot be sent: %s", request_id, text)
        else:
            _LOGGER.error("request %s: %s", request_id, text)


def _reply(reply: Reply, index: int, answer: Answer) -> None:
    try:
        try:
            reply(index, *answer)
        except (TypeError, ValueError):
            if answer.kind not in ("jsonData", "ndarray"):
                raise
            # Only now, as it takes time: a hook's values may be numpy's.
            reply(index, answer.kind, plain(answer.value), answer.names)
    except (TypeError, ValueError, RecursionError) as error:
        # The front looked inside: text that is no UTF-8, a dtype that no message has.
        raise BadAnswer(f"its content does not fit {answer.kind}: {error}") from error
