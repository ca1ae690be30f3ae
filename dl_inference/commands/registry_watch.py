"""`dl-inference registry watch`: the difference between two readings of the registry, in lines."""

import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from dl_inference.commands.words import plain
from dl_inference.registry.following.tree import Reading, View
from dl_inference.registry.releases.differences import differences
from dl_inference.registry.schema import Document, EndpointDocument
from dl_inference.registry.zookeeper import RegistryError, Zookeeper, missing

_STYLES = {"appeared": "green", "released": "green", "went": "red", "problem": "red", "connection": "yellow"}
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Attributes:
        event: `following`, `appeared`, `changed`, `draining`, `went`, `released`, `problem` or `connection`.
        words: for people.
        fields: more, for programs.
        at: when it was seen.
    """

    event: str
    words: str
    fields: dict[str, Any]
    at: datetime

    @property
    def text(self) -> Text:
        """Return the line for people."""
        style = _STYLES.get(self.event, "")
        return Text.assemble((self.at.astimezone().strftime("%H:%M:%S "), "dim"), (plain(self.words), style))

    @property
    def json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"time": self.at.isoformat(timespec="milliseconds"), "event": self.event, **self.fields}


def following(place: Zookeeper, model: str | None, timeout_ms: int) -> Generator[Line]:
    """Yield a line for whatever happens, until it is closed.

    Args:
        place: the registry.
        model: which model to tell of; None: all.
        timeout_ms: most that the first reading may take; later the registry is waited for.

    Raises:
        RegistryError: there is no first reading, or kazoo is not installed.
    """
    try:
        from dl_inference.registry.following.follower import Follower  # noqa: PLC0415  (kazoo is an extra)
    except ModuleNotFoundError as error:
        raise missing(error) from error
    something = threading.Event()
    follower = Follower(place, lambda: place.password, something.set)
    follower.start()
    try:
        before = chosen(follower.read(timeout_ms / 1000), model)
        yield _first(place, before)
        is_away = False
        while True:
            if not something.wait(_LOOK_S):
                continue
            something.clear()
            try:
                now = chosen(follower.read(0), model)
            except RegistryError as error:
                if not is_away:  # the reasons change with every attempt
                    yield _line("connection", str(error))
                is_away = True
                continue
            if is_away:
                yield _line("connection", "connected again")
            is_away = False
            yield from changes(before, now)
            before = now
    finally:
        follower.stop()


def chosen(reading: Reading, model: str | None) -> Reading:
    """Return a reading of one model only; of all where it is None."""
    if model is None:
        return reading
    return Reading({name: view for name, view in reading.views.items() if name == model})


def changes(before: Reading, now: Reading) -> Iterator[Line]:
    """Yield what happened between two readings."""
    for model in sorted({*before.views, *now.views}):
        old, new = before.views.get(model, View()), now.views.get(model, View())
        if old is not new:
            yield from _endpoints(model, old, new)
            yield from _release(model, old, new)
    old_faults, new_faults = _faults(before), _faults(now)
    for path, message in new_faults.items():
        if old_faults.get(path) != message:
            yield _line("problem", f"problem {path}: {message}", path=path, problem=message)


def _endpoints(model: str, old: View, new: View) -> Iterator[Line]:
    olds = {each.address: each for each in old.endpoints}
    news = {each.address: each for each in new.endpoints}
    for address, document in news.items():
        if address not in olds:
            yield _line("appeared", f"appeared {_words(document)}", **_named(model, address, document))
        elif document != olds[address]:
            words = ", ".join(_keys(olds[address], document))
            yield _line("changed", f"changed {model} {address} {words}", **_named(model, address, document))
    for address, document in olds.items():
        if address not in news:
            event = "draining" if address in new.leaving else "went"
            yield _line(event, f"{event} {model} {address}", **_named(model, address, document))


def _release(model: str, old: View, new: View) -> Iterator[Line]:
    if old.release == new.release:
        return
    if new.release is None:
        yield _line("released", f"released {model}: its release document was removed", model=model, release=None)
        return
    words = "; ".join(differences(old.release, new.release)) or "the same"
    yield _line(
        "released",
        f"released {model} revision {new.release.revision} by {new.release.author}: {words}",
        model=model,
        release=_as_json(new.release),
    )


def _first(place: Zookeeper, reading: Reading) -> Line:
    endpoints = sum(len(view.endpoints) for view in reading.views.values())
    releases = sum(view.release is not None for view in reading.views.values())
    words = f"following {place.url}: {endpoints} endpoints ready, {releases} models with releases"
    return _line("following", words, registry=place.url, endpoints=endpoints, releases=releases)


def _faults(reading: Reading) -> Mapping[str, str]:
    views = reading.views.values()
    return {fault.path: fault.message for fault in (*reading.faults, *(each for view in views for each in view.faults))}


def _words(document: EndpointDocument) -> str:
    version = f"version {document.version}, " if document.version else ""
    return f"{document.model} {document.address} {version}{document.protocol}, weight {document.weight}"


def _keys(old: EndpointDocument, new: EndpointDocument) -> Iterator[str]:
    before, after = _as_json(old), _as_json(new)
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            yield f"{key} {before.get(key)} -> {after.get(key)}"


def _named(model: str, address: str, document: EndpointDocument) -> dict[str, Any]:
    return {"model": model, "address": address, "document": _as_json(document)}


def _as_json(document: Document) -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True, exclude_none=True)


def _line(event: str, words: str, **fields: Any) -> Line:
    return Line(event, words, fields or {"words": words}, datetime.now(UTC))
