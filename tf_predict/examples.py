"""Classify, Regress and MultiInference: tf.Example in, classes or numbers out. Checks and texts of TF Serving."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
import numpy as np

from dl_inference.messages import ClassificationResponse, MultiInferenceResponse, RegressionResponse
from tf_predict.errors import RequestError, failed_precondition, invalid_argument
from tf_predict.predict import CLASSIFY, DEFAULT_SIGNATURE, REGRESS, spec_of
from tf_predict.results import CLASSES, OUTPUTS, SCORES, write_classes, write_numbers
from tf_predict.servable import Output, Servable

INPUTS = "inputs"
"""The alias of the one input that such signatures have: serialized examples."""


class _Plan(NamedTuple):
    """What a signature needs: name of the input tensor; alias -> name of each output tensor."""

    feed: str
    fetches: dict[str, str]


def classify(servable: Servable, version: int, request: Any) -> Any:
    """Answer a ClassificationRequest.

    Raises:
        RequestError: the signature is not one for classes, or does not fit the examples.
    """
    plan = _classes_plan(_signature(servable, request.model_spec))
    outputs, count = _run(servable, request.input, plan.feed, plan.fetches)
    answer: Any = ClassificationResponse()
    answer.model_spec.CopyFrom(spec_of(request.model_spec, version))
    write_classes(answer.result, outputs, count)
    return answer


def regress(servable: Servable, version: int, request: Any) -> Any:
    """Answer a RegressionRequest.

    Raises:
        RequestError: the signature is not one for numbers, or does not fit the examples.
    """
    plan = _numbers_plan(_signature(servable, request.model_spec))
    outputs, count = _run(servable, request.input, plan.feed, plan.fetches)
    answer: Any = RegressionResponse()
    answer.model_spec.CopyFrom(spec_of(request.model_spec, version))
    write_numbers(answer.result, outputs, count)
    return answer


def multi_inference(servable: Servable, version: int, request: Any) -> Any:
    """Answer a MultiInferenceRequest: several signatures over the same examples, in one run.

    Raises:
        RequestError: a task does not fit its signature or the other tasks.
    """
    plans = _plans(servable, request.tasks)
    feeds = {plan.feed for plan in plans}
    if len(feeds) > 1:
        raise invalid_argument("Input tensor must be the same for all Signatures.")
    fetches = {name: name for plan in plans for name in plan.fetches.values()}
    tensors, count = _run(servable, request.input, feeds.pop() if feeds else "", fetches)
    answer: Any = MultiInferenceResponse()
    for task, plan in zip(request.tasks, plans, strict=True):
        result = answer.results.add()
        result.model_spec.CopyFrom(spec_of(task.model_spec, version))
        outputs = {alias: tensors[name] for alias, name in plan.fetches.items()}
        if task.method_name == CLASSIFY:
            write_classes(result.classification_result, outputs, count)
        else:
            write_numbers(result.regression_result, outputs, count)
    return answer


def _plans(servable: Servable, tasks: Any) -> list[_Plan]:
    plans: list[_Plan] = []
    seen: set[str] = set()
    for task in tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != tasks[0].model_spec.name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = servable.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in (CLASSIFY, REGRESS):
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        plans.append(_classes_plan(signature) if task.method_name == CLASSIFY else _numbers_plan(signature))
    return plans


def _signature(servable: Servable, spec: Any) -> Any:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return servable.signatures[name]


def _classes_plan(signature: Any) -> _Plan:
    _check_method(signature, "classification", CLASSIFY)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise failed_precondition(f"No classification inputs found in SignatureDef: {signature}")
    fetches = {alias: signature.outputs[alias].name for alias in (CLASSES, SCORES) if alias in signature.outputs}
    if not fetches:
        raise failed_precondition(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {signature}"
        )
    return _Plan(signature.inputs[INPUTS].name, fetches)


def _numbers_plan(signature: Any) -> _Plan:
    _check_method(signature, "regression", REGRESS)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise failed_precondition(f"No regression inputs found in SignatureDef: {signature}")
    if OUTPUTS not in signature.outputs:
        raise failed_precondition(f"No regression outputs found in SignatureDef: {signature}")
    return _Plan(signature.inputs[INPUTS].name, {OUTPUTS: signature.outputs[OUTPUTS].name})


def _check_method(signature: Any, kind: str, method: str) -> None:
    if signature.method_name != method:
        raise invalid_argument(f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}")


def _run(servable: Servable, given: Any, feed: str, fetches: dict[str, str]) -> tuple[dict[str, Output], int]:
    """Return the outputs by alias, and the number of examples."""
    examples = _serialized(given)
    if not examples:
        raise invalid_argument("Input is empty.")
    outputs = servable.run({feed: np.array(examples, dtype=object)}, list(fetches.values()))
    return dict(zip(fetches, outputs, strict=True)), len(examples)


def _serialized(given: Any) -> list[bytes]:
    """Return each example as bytes; a context is put before each: bytes of two messages one after another merge."""
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        return [context + example.SerializeToString() for example in given.example_list_with_context.examples]
    return [example.SerializeToString() for example in given.example_list.examples]
