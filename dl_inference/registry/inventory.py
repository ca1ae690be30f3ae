"""What is in the registry, and what an import makes of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import unquote

from dl_inference.names import is_name
from dl_inference.registry.connection import Connection, Node
from dl_inference.registry.releases.change import RefusedError
from dl_inference.registry.releases.nodes import parse_endpoint
from dl_inference.registry.schema import MODELS, EndpointDocument, SchemaError, endpoint_path

IMPORTER = "dl-inference registry import"
"""`program` of what an import lists: that is what `--prune` may take away."""

# A transaction has at most 1 MiB (jute.maxbuffer), an endpoint's document a few hundred bytes.
_MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Listed:
    """One node among the endpoints of a model.

    Attributes:
        model: as the path says.
        name: of the node: the address, quoted.
        node: what is there.
        document: what it says; None: it cannot be used.
        fault: why not; empty where it can.
    """

    model: str
    name: str
    node: Node
    document: EndpointDocument | None
    fault: str

    @property
    def path(self) -> str:
        """Return the place, of `dl_inference.registry.schema`."""
        return f"{MODELS}/{self.model}/endpoints/{self.name}"


@dataclass(frozen=True, slots=True)
class Step:
    """What an import does about one endpoint.

    Attributes:
        action: what.
        model: the route key.
        address: of the endpoint.
        document: as it will be; None: it goes, or is left as it is.
        present: as it is; None: it is not there.
        words: what changes, or why it is left.
        is_refused: it is left although nobody else's.
    """

    action: Literal["add", "change", "remove", "same", "leave"]
    model: str
    address: str
    document: EndpointDocument | None
    present: Listed | None
    words: str = ""
    is_refused: bool = False


def models(connection: Connection) -> list[str]:
    """Return the models that there is anything of."""
    (names,) = connection.children([MODELS])
    return names or []


def listed(connection: Connection, chosen: Sequence[str]) -> list[Listed]:
    """Return every endpoint of some models, by model and address."""
    places = [f"{MODELS}/{model}/endpoints" for model in chosen]
    names = [
        (model, name)
        for model, each in zip(chosen, connection.children(places, skip_denied=True), strict=True)
        for name in each or ()
    ]
    nodes = connection.get([f"{MODELS}/{model}/endpoints/{name}" for model, name in names])
    return [look(model, name, node) for (model, name), node in zip(names, nodes, strict=True) if node is not None]


def look(model: str, name: str, node: Node) -> Listed:
    """Return what is made of a node."""
    try:
        if node.fault:
            raise SchemaError(node.fault)
        if not is_name(model):
            raise SchemaError(f"{model!r} is not a model's name")
        return Listed(model, name, node, parse_endpoint(model, name, node.data), "")
    except SchemaError as error:
        return Listed(model, name, node, None, str(error))


def plan(wanted: Iterable[EndpointDocument], present: Iterable[Listed], *, prune: bool, force: bool) -> Iterator[Step]:
    """Yield what has to be done that the registry lists what is wanted. What live sessions announce is theirs.

    Args:
        wanted: the endpoints; a version that is not given stays as it is.
        present: what is there.
        prune: take away what an earlier import listed and is not wanted any more.
        force: write over what is no document, and list endpoints that speak another protocol than running servers.
    """
    there = {each.path: each for each in present}
    spoken: dict[str, set[str]] = {}
    for each in there.values():
        if each.document is not None and each.node.ephemeral:
            spoken.setdefault(each.model, set()).add(each.document.protocol)
    for document in wanted:
        step = _step(document, there.pop(endpoint_path(document.model, document.address), None), force=force)
        protocols = spoken.get(document.model, {document.protocol})
        if step.document is not None and document.protocol not in protocols and not force:
            # The majority's protocol counts: an import could take a model from the servers that run.
            words = f"running servers of {document.model} speak {', '.join(sorted(protocols))}, not {document.protocol}"
            words += f": import it with --protocol {min(protocols)}, or with --force"
            step = Step("leave", step.model, step.address, None, step.present, words, is_refused=True)
        yield step
    for each in there.values():
        is_ours = each.document is not None and each.document.program == IMPORTER and not each.node.ephemeral
        if prune and is_ours and each.document is not None:
            yield Step("remove", each.model, each.document.address, None, each)


def carry_out(connection: Connection, steps: Iterable[Step]) -> None:
    """Do what is planned; in one transaction, or in several of 500 endpoints.

    Raises:
        RegistryError: somebody changed one of them meanwhile, or the registry cannot be used; done again, it goes on
            where it ended.
    """
    due = [step for step in steps if step.action in ("add", "change", "remove")]
    connection.make_parents(endpoint_path(step.model, step.address) for step in due if step.action == "add")
    for start in range(0, len(due), _MOST_AT_ONCE):
        connection.change(partial(_write, connection, due[start : start + _MOST_AT_ONCE]))


def remove(connection: Connection, model: str, address: str | None, *, force: bool) -> list[str]:
    """Take an endpoint away; without an address the whole model, with its releases. Return what was taken away.

    Raises:
        RefusedError: there is no such endpoint, or a running server announces it and `force` is not given.
        RegistryError: somebody changed it meanwhile, or the registry cannot be used.
    """
    found = listed(connection, [model])
    if address is not None:
        found = [each for each in found if unquote(each.name) == address]
        if not found:
            raise RefusedError(f"{model} has no endpoint {address}: dl-inference registry ls {model} lists them")
    live = [unquote(each.name) for each in found if each.node.ephemeral]
    if live and not force:
        raise RefusedError(
            f"running servers announce {', '.join(live[:5])} of {model}: stop them; --force takes away what they"
            " announce, until they announce it again"
        )
    paths = [each.path for each in found] if address is not None else _tree(connection, f"{MODELS}/{model}")
    for start in range(0, len(paths), _MOST_AT_ONCE):
        connection.change(partial(_delete, connection, paths[start : start + _MOST_AT_ONCE]))
    return paths


def _write(connection: Connection, some: Sequence[Step], transaction: Any) -> None:
    for step in some:
        path = connection.path(endpoint_path(step.model, step.address))
        version = step.present.node.version if step.present is not None else -1
        if step.document is None:
            transaction.delete(path, version)
        elif step.present is None:
            transaction.create(path, step.document.dump())
        else:
            transaction.set_data(path, step.document.dump(), version)


def _delete(connection: Connection, some: Sequence[str], transaction: Any) -> None:
    for path in some:
        transaction.delete(connection.path(path))


def _tree(connection: Connection, top: str) -> list[str]:
    """Return a path and all below it, the deepest first."""
    levels = [[top]]
    while levels[-1]:
        names = connection.children(levels[-1])
        levels.append([f"{path}/{name}" for path, each in zip(levels[-1], names, strict=True) for name in each or ()])
    return [path for level in reversed(levels) for path in level]


def _step(document: EndpointDocument, present: Listed | None, *, force: bool) -> Step:
    model, address = document.model, document.address
    if present is None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Step("add", model, address, document.model_copy(update={"since": now}), None)
    if present.node.ephemeral:
        return Step("leave", model, address, None, present, "a running server announces it")
    if present.document is None:
        if force and not present.node.fault:
            return Step("change", model, address, document, present, f"the node was not an endpoint: {present.fault}")
        words = f"the node is not an endpoint ({present.fault}): replace it with --force"
        words = present.node.fault or words
        return Step("leave", model, address, None, present, words, is_refused=True)
    old = present.document
    update = {"protocol": document.protocol, "weight": document.weight, "version": document.version or old.version}
    changes = [f"{key} {getattr(old, key)} -> {value}" for key, value in update.items() if getattr(old, key) != value]
    if not changes:
        return Step("same", model, address, None, present)
    return Step("change", model, address, old.model_copy(update=update), present, ", ".join(changes))
