"""preprocess -> run_model -> postprocess over a batch; an error belongs to its item.

Knows nothing of sockets or folders: it gets the loaded model and the hooks, and answers batches of the native
front. The rules are compat.md's, sections 3 and 4.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_predict import oip, outputs
from torch_predict.blame import place_of
from torch_predict.calling import Model
from torch_predict.errors import BadAnswer, BadInput, RequestError, status_of, words_of
from torch_predict.hooks import Hooks, Meta
from torch_predict.seldon import Answer, answer_of, payload_of, plain
from torch_predict.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from dl_inference._native import Batch, Item
    from torch_predict.samples import Sample

_LOGGER = logging.getLogger(__name__)

Measured = Callable[[float, float, float], None]
"""Takes the seconds of one item's preprocess, model and postprocess."""

Step = Callable[[Any], Any]
"""One stage of a request."""

_MAX_TOLD = 64
"""Places of failures that are remembered; a model has a few."""


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
        self._model = Model(model, device, signature)
        self._hooks = hooks
        self._class_names = class_names
        self._model_at = self._result_at = 0.0  # when the last item came to the model, and left it
        self.metadata = self._own_metadata()
        """What callers are told of inputs and outputs."""
        self._told: set[tuple[object, ...]] = set()
        """Kinds of failures whose traceback is in the log."""

    def answer(self, batch: Batch, measured: Measured = lambda preprocess_s, model_s, postprocess_s: None) -> None:
        """Answer every item of a batch, each with its own result or its own error.

        Args:
            batch: of the front.
            measured: told how long the stages of each answered item took; `Worker.measured`.
        """
        for index in range(len(batch)):
            item = batch[index]
            began = time.perf_counter()
            try:
                _reply(batch, index, self.predict(item))
                model_at, result_at = self._model_at, self._result_at
                measured(model_at - began, result_at - model_at, time.perf_counter() - result_at)
            except BaseException as error:  # whatever a hook raises, the next item is still answered
                # Before the caller knows of it, who may look for it at once. A handler of the hook's own may fail, too.
                with contextlib.suppress(BaseException):
                    self._log(error, item.request_id)
                batch.fail(index, *status_of(error, item.request_id))

    def predict(self, item: Item | Sample) -> Answer:
        """Return one item's answer; raises what its hooks raise.

        Raises:
            InvalidInput: the item's payload does not do for this model.
            BadAnswer: the result cannot be sent.
        """
        if item.kind == "infer":
            return Answer(item.kind, oip.outputs_of(self._infer(item.value, item.meta)), [])
        return answer_of(self.run(payload_of(item), item.meta, item.kind), item.kind, self._class_names)

    def steps(self, sample: Sample) -> list[tuple[str, Step]]:
        """Return what `predict` does with a sample, each step with the result of the one before; for `check`."""
        hooks, meta, kind = self._hooks, sample.meta, sample.kind
        preprocess, run_model, postprocess = hooks.preprocess, hooks.run_model, hooks.postprocess
        steps: list[tuple[str, Step]] = [("decode", lambda _: payload_of(sample))]
        if preprocess is not None:
            steps.append(("preprocess", lambda x: preprocess(x, meta)))
        if run_model is None:
            steps.append(("model", lambda x: self._call_model(x, meta, kind)))
        else:
            steps.append(("model", lambda x: run_model(self._model.module, x, meta)))
        if postprocess is not None:
            steps.append(("postprocess", lambda x: postprocess(x, meta)))
        return [*steps, ("encode", lambda x: answer_of(self._sent(x, kind), kind, self._class_names))]

    def observe(self, sample: Sample) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Answer a sample, and return which inputs and outputs the same request has in OIP.

        Raises: as `predict`.
        """
        payload = payload_of(sample)
        result = self._result(payload, sample.meta, sample.kind)
        answer_of(self._sent(result, sample.kind), sample.kind, self._class_names)
        if self._has_input_hook:
            inputs = [oip.seen_input("input", payload, None)]
        else:  # which gets a dict in JSON by the names of its own inputs
            dtype = str(self._model.dtype).removeprefix("torch.")
            named = self._model.named(payload, sample.kind)
            inputs = [oip.seen_input(name, array, dtype) for name, array in named.items()]
        return inputs, oip.seen_outputs(oip.outputs_of(self._sent(result, "infer")))

    def learn(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Fill `metadata` with what samples showed, where nothing better is known."""
        known = self.metadata
        self.metadata = Signature(None, known.inputs or inputs, known.outputs or outputs)

    def _own_metadata(self) -> Signature:
        # Where a hook stands in between, what the model takes or gives is not what callers send or get.
        is_changed = self._hooks.run_model is not None or self._hooks.postprocess is not None
        known = self._model.signature
        inputs = () if self._has_input_hook else known.inputs
        return Signature(None, inputs, () if is_changed else known.outputs)

    @property
    def _has_input_hook(self) -> bool:
        """Whether a hook gets what a request brings, and not the model itself."""
        return self._hooks.preprocess is not None or self._hooks.run_model is not None

    @torch.no_grad()
    def _infer(self, inputs: dict[str, np.ndarray[Any, Any]], meta: Meta) -> Any:
        """Return what hooks and model make of an OIP request's inputs."""
        if self._has_input_hook:
            return self.run(oip.hook_input_of(inputs), meta, "infer")
        given = self._model.signature.bind(inputs)
        self._model_at = time.perf_counter()
        x = self._model.call(given, {})
        self._result_at = time.perf_counter()
        postprocess = self._hooks.postprocess
        return self._sent(x if postprocess is None else postprocess(x, meta), "infer")

    def run(self, x: Any, meta: Meta, kind: str) -> Any:
        """Return what hooks and model make of a decoded payload of a kind."""
        return self._sent(self._result(x, meta, kind), kind)

    def _sent(self, result: Any, kind: str) -> Any:
        # What a hook returned is sent as it is, as in the original: a tensor is an error then.
        is_models_own = self._hooks.run_model is None and self._hooks.postprocess is None
        return outputs.sent(result, kind) if is_models_own else result

    # no_grad as the original has it; inference_mode would be a little cheaper, but a run_model that turns
    # gradients on for a moment, or writes in place to what it kept, fails under it.
    @torch.no_grad()
    def _result(self, x: Any, meta: Meta, kind: str) -> Any:
        hooks = self._hooks
        if hooks.preprocess is not None:
            x = hooks.preprocess(x, meta)
        run_model = hooks.run_model
        self._model_at = time.perf_counter()
        x = self._call_model(x, meta, kind) if run_model is None else run_model(self._model.module, x, meta)
        self._result_at = time.perf_counter()
        return x if hooks.postprocess is None else hooks.postprocess(x, meta)

    def _call_model(self, x: Any, meta: Meta, kind: str) -> Any:
        tags = {name: value for name, value in meta.get("tags", {}).items() if name != "model"}
        # OIP's parameters are the protocol's as much as the caller's. With one tag it is the route key; with more, the
        # original passed all of them, the key too.
        if kind == "infer" or len(tags) <= 1:
            tags = {}
        self._model.check_tags(tags)
        if self._hooks.preprocess is None:  # as the caller sent it, and so the caller's mistake where it does not fit
            return self._model.call(self._model.named(x, kind), tags)
        return self._model.call_made(x, tags, is_named=kind == "infer")

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


def _reply(batch: Batch, index: int, answer: Answer) -> None:
    try:
        try:
            batch.reply(index, *answer)
        except (TypeError, ValueError):
            if answer.kind not in ("jsonData", "ndarray"):
                raise
            # Only now, as it takes time: a hook's values may be numpy's.
            batch.reply(index, answer.kind, plain(answer.value), answer.names)
    except (TypeError, ValueError, RecursionError) as error:
        # The front looked inside: text that is no UTF-8, a dtype that no message has.
        raise BadAnswer(f"its content does not fit {answer.kind}: {error}") from error
