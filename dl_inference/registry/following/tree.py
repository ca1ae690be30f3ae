"""What has been read of a registry, and what of it can be used. No network, no clock.

One bad document costs its own node only: it is skipped and named. So is a node whose document is about another model or
address than its path, and one that speaks another protocol than most of its model. A release document that cannot be
used changes nothing: the last good one stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from dl_inference.registry.schema import (
    MODELS,
    EndpointDocument,
    Protocol,
    ReleaseDocument,
    SchemaError,
    endpoint_path,
)

# An address that said goodbye is remembered after its node has gone, for readers that look now and then only.
MAX_GOODBYES = 1000
# Names and messages come from anybody who can write; 10,000 long ones would fill a log.
MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in the registry that is not used.

    Attributes:
        path: its znode's, under the chroot.
        message: what is wrong with it, and what holds instead.
    """

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class View:
    """What of one model can be used.

    Attributes:
        endpoints: those that take calls, in the order of their addresses.
        leaving: addresses that said goodbye and have not come back.
        protocol: what the endpoints speak; None without any.
        release: which versions get which share; None: nobody has said.
        faults: what is not used.
        is_release_unknown: there is a release document that cannot be used, and there was none before it.
    """

    endpoints: tuple[EndpointDocument, ...] = ()
    leaving: frozenset[str] = frozenset()
    protocol: Protocol | None = None
    release: ReleaseDocument | None = None
    faults: tuple[Fault, ...] = ()
    is_release_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The whole registry at one moment.

    Attributes:
        views: model -> what can be used of it; a model without endpoints is there too.
        faults: what is in no model.
    """

    views: Mapping[str, View]
    faults: tuple[Fault, ...] = ()


@dataclass(slots=True)
class Node:
    """One endpoint's node.

    Attributes:
        watched: number of the reading in which its data was asked for: only then is there a watch on it.
        modified: zxid of its data; -1 while it has never been read.
        created: zxid of its creation.
        document: what it says; None when that cannot be used.
        fault: why it cannot be used, or cannot be read.
    """

    watched: int = -1
    modified: int = -1
    created: int = -1
    document: EndpointDocument | None = None
    fault: str | None = None


@dataclass(slots=True)
class Model:
    """What has been read of one model.

    Attributes:
        name: the route key.
        nodes: name of the node -> node.
        release: the last good release document, while there is any.
        release_modified: zxid of the last one read; -1: none.
        release_fault: why the present one is not used.
        fault: why its endpoints cannot be listed.
        goodbyes: addresses whose nodes went while they were draining, oldest first.
        watched: number of the reading in which it was asked for.
        pending: requests about it that are not answered yet.
    """

    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    release: ReleaseDocument | None = None
    release_modified: int = -1
    release_fault: str | None = None
    fault: str | None = None
    goodbyes: dict[str, None] = field(default_factory=dict)
    watched: int = -1
    pending: int = 0

    @property
    def path(self) -> str:
        """Return its znode's path, under the chroot."""
        return f"{MODELS}/{self.name}"

    def unread(self) -> None:
        """Take every document as changed: an ensemble that got an old backup counts its changes over again."""
        self.release_modified = -1
        for node in self.nodes.values():
            node.modified = -1

    def listed(self, names: list[str]) -> None:
        """Take over which nodes there are; those that went are forgotten, but for their goodbyes."""
        self.fault = None
        present = set(names)
        for gone in [name for name in self.nodes if name not in present]:
            self.gone(gone)
        for name in names:
            if name not in self.nodes:
                self.nodes[name] = Node()

    def gone(self, name: str) -> None:
        """Forget a node; only what was read counts as a goodbye, not what might have been written at the end."""
        node = self.nodes.pop(name, None)
        if node is None or node.document is None or node.document.state != "draining":
            return
        self.goodbyes[node.document.address] = None
        while len(self.goodbyes) > MAX_GOODBYES:
            del self.goodbyes[next(iter(self.goodbyes))]

    def said(self, name: str, data: bytes, created: int, modified: int) -> None:
        """Take over a node's document; the same one is not parsed again."""
        node = self.nodes.get(name)
        if node is None or (node.modified == modified and node.created == created):
            return
        node.created, node.modified = created, modified
        node.document, node.fault = None, None
        try:
            document = EndpointDocument.parse(data)
        except SchemaError as error:
            node.fault = f"the endpoint is skipped: {error}"
            return
        if document.model != self.name:
            node.fault = f"the endpoint is skipped: its model is {document.model!r}"
        elif endpoint_path(self.name, document.address) != f"{self.path}/endpoints/{name}":
            node.fault = f"the endpoint is skipped: its address is {document.address!r}, which is not its name"
        else:
            node.document = document
            if document.state == "ready":
                self.goodbyes.pop(document.address, None)

    def released(self, data: bytes, modified: int) -> None:
        """Take over the release document, if it can be used."""
        if modified == self.release_modified:
            return
        self.release_modified = modified
        try:
            document = ReleaseDocument.parse(data)
            if document.model != self.name:
                raise SchemaError(f"its model is {document.model!r}")
            if faults := document.faults():
                raise SchemaError("; ".join(faults))
        except SchemaError as error:
            stays = f"revision {self.release.revision} stays" if self.release else "it counts as none"
            self.release_fault = f"the release document is not used, {stays}: {error}"
        else:
            self.release, self.release_fault = document, None

    def release_denied(self, reason: str) -> None:
        """Take over that the release document may not be read: as with one that cannot be used."""
        stays = f"revision {self.release.revision} stays" if self.release else "it counts as none"
        self.release_modified, self.release_fault = -1, f"the release document cannot be read, {stays}: {reason}"

    def unreleased(self) -> None:
        """Take over that there is no release document."""
        self.release, self.release_modified, self.release_fault = None, -1, None

    def denied(self, name: str, reason: str) -> None:
        """Take over that a node may not be read: what it said before holds, and is read again when it may."""
        if (node := self.nodes.get(name)) is not None:
            node.modified, node.fault = (
                -1,
                f"the endpoint {'stays as it was' if node.document else 'is skipped'}: {reason}",
            )

    def view(self) -> View:
        """Return what can be used."""
        usable = {name: node for name, node in sorted(self.nodes.items()) if node.document is not None}
        faults = {name: node.fault for name, node in sorted(self.nodes.items()) if node.fault is not None}
        protocol = _majority(usable)
        ready, leaving = [], set(self.goodbyes)
        for name, node in usable.items():
            document = node.document
            assert document is not None  # chosen so above; mypy cannot see it
            if document.state == "draining":
                leaving.add(document.address)
            elif document.protocol != protocol:
                faults[name] = f"the endpoint is skipped: it speaks {document.protocol}, most of its model {protocol}"
            else:
                ready.append(document)
        found = [Fault(printable(f"{self.path}/endpoints/{name}"), printable(text)) for name, text in faults.items()]
        if self.fault is not None:
            found.insert(0, Fault(f"{self.path}/endpoints", printable(self.fault)))
        if self.release_fault is not None:
            found.insert(0, Fault(f"{self.path}/release", printable(self.release_fault)))
        is_unknown = self.release is None and self.release_fault is not None
        return View(
            tuple(ready), frozenset(leaving), protocol if ready else None, self.release, tuple(found), is_unknown
        )


def printable(text: str) -> str:
    """Return a text fit for a log's line: other people's control characters written out, and not too long."""
    shown = text if text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT - 4]} ..."


def _majority(nodes: Mapping[str, Node]) -> Protocol | None:
    """Return what most endpoints speak; of equally many, what the one does that was there first.

    First there, by its creation: a change of its weight makes nobody younger.
    """
    documents = [(node.created, node.document.protocol) for node in nodes.values() if node.document is not None]
    count = Counter(protocol for _, protocol in documents)
    oldest = {protocol: created for created, protocol in sorted(documents, reverse=True)}
    return min(count, key=lambda protocol: (-count[protocol], oldest[protocol]), default=None)
