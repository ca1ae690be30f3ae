"""What a server says about one of its models: its protocols, inputs and outputs, and versions.

Each protocol's own question is asked, so that it works with every server that answers one of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dl_inference import messages
from dl_inference.client import Client
from dl_inference.client.errors import CallError
from dl_inference.codec.tfs import TensorSpec
from dl_inference.commands.call_http import HttpClient

T = TypeVar("T")
_DEFAULT_SIGNATURE = "serving_default"
_SELDON_METADATA = "/seldon.protos.Model/Metadata"
# Our PyTorch server says so in its metadata; it answers Seldon's protocol too, and does not know Seldon's question.
_OURS = "pytorch_"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a model.

    Attributes:
        protocols: seldon, tfs, oip: those that it answers, the one to call it by first.
        platform: the server's name for the model's format; empty where it does not say.
        inputs: by name, of the default signature; empty where the server does not say.
        outputs: the same.
        signatures: names of further signatures (tfs).
        versions: version -> its state; an empty state where the server does not say.
    """

    protocols: tuple[str, ...]
    platform: str = ""
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    outputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    signatures: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def ask(client: Client | HttpClient, model: str, version: int | None = None, signature: str = "") -> Facts:
    """Return what a server says about a model.

    Raises:
        CallError: it answers none of the questions; the error is that of the first one that it knows.
    """
    failures: list[CallError] = []
    oip = _known(failures, lambda: client.metadata_oip(model, version="" if version is None else version))
    tfs = None if oip else _known(failures, lambda: client.signatures_tfs(model, version=version))
    states = _known([], lambda: client.status_tfs(model)) if oip or tfs else None
    versions = {str(number): state for number, state in sorted((states or {}).items())}
    if oip is not None:
        versions = {**dict.fromkeys(oip.versions, ""), **versions}
        protocols = ("seldon", "oip") if oip.platform.startswith(_OURS) else ("oip",)
        return Facts(protocols, oip.platform, oip.inputs, oip.outputs, (), versions)
    if tfs is not None:
        chosen = tfs.get(signature or _DEFAULT_SIGNATURE)
        others = tuple(name for name in tfs if tfs[name] is not chosen and not name.startswith("__"))
        inputs, outputs = (chosen.inputs, chosen.outputs) if chosen else ({}, {})
        return Facts(("tfs",), "tensorflow", inputs, outputs, others, versions)
    seldon = _known(failures, lambda: _seldon_metadata(client, model))
    if seldon is not None:
        return Facts(("seldon",), seldon.platform, versions=dict.fromkeys(seldon.versions, ""))
    raise next((each for each in failures if each.code != "UNIMPLEMENTED"), failures[0])


def _seldon_metadata(client: Client | HttpClient, model: str) -> Any:
    empty, answer = (
        messages.message_class("google.protobuf.Empty")(),
        messages.message_class("seldon.protos.SeldonModelMetadata"),
    )
    return client.send(_SELDON_METADATA, empty, answer, model=model).message


def _known(failures: list[CallError], question: Callable[[], T]) -> T | None:
    """Return the answer; None where the server has none, and why is added to `failures`.

    Raises:
        CallError: nobody answers: the next question would wait as long.
    """
    try:
        return question()
    except CallError as error:
        if error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            raise
        failures.append(error)
        return None
