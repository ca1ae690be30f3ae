"""Send a model folder's samples to its server: each alone, then many at the same time."""

from __future__ import annotations

import base64
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format

from dl_inference import messages
from dl_inference.codec import oip, packed, seldon
from torch_predict import oip_samples
from torch_predict.samples import Sample

RUNS = 5
"""A sample is sent alone so often to find the median of its times."""
TOGETHER = 16
"""So many are sent at the same time."""


@dataclass(frozen=True)
class Reply:
    """What one call was answered with.

    Attributes:
        value: of the answer: arrays as lists, bytes in base64; None where it failed.
        code: name of the gRPC code where it failed, else empty.
        text: its words.
        ms: how long it took.
    """

    value: Any = None
    code: str = ""
    text: str = ""
    ms: float = 0.0


@dataclass
class Asked:
    """What a sample was answered with.

    Attributes:
        alone: the first answer, with the median of the times.
        together: the answers of calls that were made at the same time as others.
    """

    alone: Reply
    together: list[Reply] = field(default_factory=list)


def ask(address: str, samples: Sequence[Sample], timeout_s: float) -> dict[str, Asked]:
    """Send samples to a server; return what each was answered with, by its label.

    Args:
        address: of the server.
        samples: of the model folder.
        timeout_s: most time for all of it; calls beyond it end with DEADLINE_EXCEEDED.
    """
    options = [
        ("grpc.default_authority", "localhost"),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
    ]
    limit = time.monotonic() + timeout_s
    requests = {sample.label: _message(sample) for sample in samples}
    reads = {sample.label: _infer if sample.kind == "infer" else _seldon for sample in samples}
    found: dict[str, Asked] = {}
    with grpc.insecure_channel(address, options=options) as channel:
        calls = {sample.label: channel.unary_unary(sample.method) for sample in samples}
        for label, request in requests.items():
            replies = [_reply(_begin(calls[label], request, limit), reads[label]) for _ in range(RUNS)]
            median = statistics.median(reply.ms for reply in replies)
            first = replies[0]
            found[label] = Asked(Reply(first.value, first.code, first.text, median))
        labels = (list(requests) * TOGETHER)[: max(TOGETHER, len(requests))]
        begun = [(label, _begin(calls[label], requests[label], limit)) for label in labels]
        for label, each in begun:
            found[label].together.append(_reply(each, reads[label]))
    return found


def _begin(call: Any, request: bytes, limit: float) -> tuple[Any, float]:
    now = time.monotonic()
    return call.future(request, timeout=max(0.001, limit - now)), now


def _reply(begun: tuple[Any, float], read: Callable[[bytes], Any]) -> Reply:
    future, began = begun
    try:
        data = future.result()
    except grpc.RpcError:
        return Reply(code=future.code().name, text=future.details() or "", ms=(time.monotonic() - began) * 1000)
    ms = (time.monotonic() - began) * 1000
    return Reply(read(data), ms=ms)


def _seldon(data: bytes) -> Any:
    return _plain(seldon.value_of(messages.SeldonMessage.FromString(data)))


def _infer(data: bytes) -> Any:
    return oip_samples.plain_outputs(oip.outputs_of(packed.ModelInferResponse.FromString(data)))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "SerializeToString"):
        return base64.b64encode(value.SerializeToString()).decode()
    return value


def _message(sample: Sample) -> bytes:
    """Return a sample as the request that it stands for."""
    if sample.kind == "infer":
        return bytes(oip_samples.message_of(sample.value, sample.meta, sample.inputs or {}).SerializeToString())
    message: Any = messages.SeldonMessage()
    if sample.kind == "tensor":
        message.ParseFromString(seldon.request(sample.value, kind="tensor").SerializeToString())
    elif sample.kind == "ndarray":
        json_format.ParseDict({"data": {"ndarray": sample.value}}, message)
    else:
        value = base64.b64encode(sample.value).decode() if isinstance(sample.value, bytes) else sample.value
        json_format.ParseDict({sample.kind: value}, message)
    json_format.ParseDict({"meta": sample.meta}, message)
    return bytes(message.SerializeToString())
