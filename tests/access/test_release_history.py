"""The histories of releases that the admin port shows: what was followed, and what the source keeps."""

import threading

import pytest

from access.discovery.base import Entry, Snapshot
from access.errors import DiscoveryError
from access.release_history import RETRY_S, SHOWN, ReleaseHistory, path_of
from dl_inference.registry.schema import Release, ReleaseDocument

LIMIT_S = 30.0


def document(revision, weight=None, model="m"):
    release = Release(phase="production", weight=weight or revision)
    return ReleaseDocument(model=model, revision=revision, author="ann", reason="why", releases={"1": release})


class Source:
    """One that says and keeps what a test wants."""

    name = "a source"

    def __init__(self, *models):
        self.kept = None
        self.fault = None
        self.asked = []
        self.say(*models)

    def say(self, *documents):
        entries = {each.model: Entry((), release=each) for each in documents}
        self.value = Snapshot({"plain": Entry(()), **entries})

    def release_history(self, models, last):
        self.asked.append((list(models), last))
        if self.fault:
            raise DiscoveryError(self.fault)
        return None if self.kept is None else {name: self.kept for name in models}


class Scene:
    def __init__(self):
        self.source, self.now, self.pages = Source(), 0.0, {}
        self.read = threading.Semaphore(0)
        self.history = ReleaseHistory(self.pages.__setitem__, self.read.release, lambda: self.now)

    def apply(self, *documents):
        self.source.say(*documents)
        self.history.applied([self.source])

    def ask(self):
        """Have what is new read, and wait for it."""
        self.history.look()
        assert self.read.acquire(timeout=LIMIT_S), "nothing was read"
        for thread in threading.enumerate():
            if thread.name == "release-history":
                thread.join(LIMIT_S)
        self.history.look()

    def revisions(self, model="m"):
        return [row["revision"] for row in self.pages[path_of(model)]["revisions"]]


def test_what_was_followed_is_shown_at_once_the_newest_first_with_what_it_changed():
    scene = Scene()
    scene.apply(document(4))
    scene.apply(document(4))
    scene.apply(document(5))
    page = scene.pages["/releases/m"]
    assert page["begins"] == "start"
    assert [(row["revision"], row["author"], row["reason"], row["changes"]) for row in page["revisions"]] == [
        (5, "ann", "why", ["version 1: weight 4 -> 5"]),
        (4, "ann", "why", ["(what was before is not kept)"]),
    ]
    assert scene.pages.keys() == {"/releases/m"}, "who has no release document has no history"


def test_the_last_twenty_that_the_source_keeps_are_shown_and_the_oldest_knows_what_it_changed():
    scene = Scene()
    scene.source.kept = [document(revision) for revision in range(1, 40)]
    scene.apply(document(39))
    scene.ask()
    assert scene.source.asked == [(["m"], SHOWN + 1)]
    assert scene.revisions() == list(range(39, 19, -1))
    page = scene.pages["/releases/m"]
    assert page["begins"] == "registry"
    assert page["revisions"][-1]["changes"] == ["version 1: weight 19 -> 20"]


def test_the_source_is_asked_again_after_a_change_only():
    scene = Scene()
    scene.source.kept = [document(1)]
    scene.apply(document(1))
    scene.ask()
    for _ in range(3):
        scene.now += 10 * RETRY_S
        scene.apply(document(1))
        scene.history.look()
    assert len(scene.source.asked) == 1
    scene.apply(document(2))
    scene.ask()
    assert len(scene.source.asked) == 2
    assert scene.revisions() == [2, 1]


def test_a_history_that_cannot_be_read_is_said_and_tried_again_later():
    scene = Scene()
    scene.source.fault = "nobody answers"
    scene.apply(document(3))
    scene.ask()
    page = scene.pages["/releases/m"]
    assert page["begins"] == "start"
    assert "cannot be read now" in page["problem"]
    scene.history.look()
    assert len(scene.source.asked) == 1, "not at once"
    scene.now += RETRY_S
    scene.source.fault, scene.source.kept = None, [document(2)]
    scene.ask()
    assert scene.revisions() == [3, 2]
    assert scene.pages["/releases/m"]["problem"] is None


def test_what_is_followed_stands_whatever_the_source_keeps_and_a_new_count_forgets_the_old_one():
    scene = Scene()
    scene.source.kept = [document(1), document(2, weight=77), document(9)]
    scene.apply(document(2))
    scene.ask()
    assert scene.revisions() == [2, 1]
    assert scene.pages["/releases/m"]["revisions"][0]["changes"] == ["version 1: weight 1 -> 2"]
    scene.apply(document(1, weight=5))
    assert scene.revisions() == [1]


def test_a_model_that_is_gone_has_no_history_and_the_first_source_that_names_one_counts():
    scene = Scene()
    scene.apply(document(1), document(1, model="n"))
    scene.apply(document(1))
    assert scene.pages["/releases/n"] is None
    other = Source(document(7))
    scene.history.applied([scene.source, other])
    assert scene.revisions() == [1]


def test_a_model_whose_releases_ended_has_no_history_any_more():
    scene = Scene()
    scene.apply(document(1))
    scene.source.value = Snapshot({"m": Entry(())})
    scene.history.applied([scene.source])
    assert scene.pages["/releases/m"] is None


@pytest.mark.parametrize("kept", [None, []])
def test_a_source_that_keeps_nothing_shows_what_was_seen_since_the_start(kept):
    scene = Scene()
    scene.source.kept = kept
    scene.apply(document(1))
    scene.ask()
    assert scene.pages["/releases/m"]["begins"] == "start"
    assert scene.revisions() == [1]


def test_each_document_that_is_followed_is_told_with_the_one_before_and_where_it_is_from():
    told = []
    history = ReleaseHistory(lambda *_: None, lambda: None, followed=lambda *what: told.append(what))
    first, second = document(1), document(2)
    source = Source(first)
    history.applied([source])
    history.applied([source])
    source.say(second)
    history.applied([source])
    assert told == [("m", None, first, "a source"), ("m", first, second, "a source")]
