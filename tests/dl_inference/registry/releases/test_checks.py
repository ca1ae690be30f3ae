"""Edits and checks of release documents, in memory: properties over sequences of what people may type."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_inference.commands.words import percent, plain
from dl_inference.registry.releases import edits
from dl_inference.registry.releases.change import RefusedError, Wanted, change
from dl_inference.registry.releases.checks import compare
from dl_inference.registry.releases.differences import differences
from dl_inference.registry.releases.store import Stored
from dl_inference.registry.schema import EndpointDocument, Release, ReleaseDocument

TIMEOUT_MS = 1000
ME = "me"
VERSIONS = st.sampled_from(["1", "2", "3", "4"])


class Memory:
    """A store without a place."""

    name = "memory"

    def __init__(self, endpoints=None, document=None):
        self.documents = [document] if document else []
        self._endpoints = endpoints

    def read(self, model):
        return Stored(self.documents[-1] if self.documents else None, None, len(self.documents), len(self.documents))

    def write(self, model, found, document):
        self.documents.append(document)
        return True

    def history(self, model):
        return list(self.documents)

    def endpoints(self, model):
        return self._endpoints

    def applied(self, model):
        return None


def endpoint(version, *, address="10.0.0.1:1", state="ready", versions=()):
    return EndpointDocument(address=address, protocol="tfs", model="m", version=version, versions=versions, state=state)


def document(releases, **more):
    made = {version: Release(**values) for version, values in releases.items()}
    return ReleaseDocument(model="m", revision=1, releases=made, **more)


def deploying(version, phase, **settings):
    given_settings = edits.Settings(**settings, phase=phase)
    return lambda now, endpoints: edits.deploy(now, endpoints, model="m", version=version, settings=given_settings)


def apply(store, edit, **options):
    return change(store, "m", Wanted(edit, ME, **options), timeout_ms=TIMEOUT_MS)


ENDPOINTS = st.lists(
    st.builds(
        endpoint,
        st.none() | VERSIONS,
        state=st.sampled_from(["ready", "draining"]),
        versions=st.lists(VERSIONS, max_size=2, unique=True).map(tuple),
    ),
    max_size=5,
)
LABELS = st.dictionaries(st.sampled_from(["stable", "next"]), VERSIONS | st.just(""), max_size=2)
EDITS = st.one_of(
    st.builds(
        lambda version, phase, weight, labels: deploying(version, phase, weight=weight, labels=labels),
        VERSIONS,
        st.none() | st.sampled_from(["staging", "canary", "production"]),
        st.none() | st.integers(0, 200),
        LABELS,
    ),
    VERSIONS.map(lambda version: lambda now, _: edits.remove(now, "m", version)),
    st.builds(
        lambda weight, labels: lambda now, _: edits.set_model(now, "m", edits.Settings(weight=weight, labels=labels)),
        st.none() | st.integers(0, 200),
        LABELS,
    ),
)


@given(ENDPOINTS, st.lists(EDITS, max_size=12))
def test_whatever_is_typed_without_force_can_be_routed(endpoints, typed):
    store = Memory(endpoints)
    for edit in typed:
        try:
            apply(store, edit)
        except RefusedError:
            continue
    for revision, written in enumerate(store.documents, start=1):
        assert written.revision == revision
        assert written.faults() == []
        ready = {each.version for each in endpoints if each.state == "ready"}
        assert set(written.shares()) <= ready
        assert abs(sum(percent(written).values()) - 100) < 1e-9
        assert set(written.labels.values()) <= set(written.releases)


@given(ENDPOINTS, st.lists(EDITS, max_size=8), st.data())
def test_a_refusal_writes_nothing_and_a_change_is_told(endpoints, typed, data):
    store = Memory(endpoints)
    for edit in typed:
        before = list(store.documents)
        try:
            done = apply(store, edit, force=data.draw(st.booleans()))
        except RefusedError:
            assert store.documents == before
            continue
        assert done.changed == (len(store.documents) > len(before))
        assert bool(differences(done.before, done.after)) == done.changed


@given(st.lists(EDITS, min_size=1, max_size=8), st.data())
def test_a_rollback_says_what_the_old_revision_said(typed, data):
    store = Memory()
    for edit in typed:
        try:
            apply(store, edit, force=True)
        except RefusedError:
            continue
    if not store.documents:
        return
    old = data.draw(st.sampled_from(store.documents))
    apply(store, lambda now, _: edits.restore(now, old, None), force=True)
    stamp = {"revision": 1, "time": "", "author": "", "reason": ""}
    assert store.documents[-1].model_copy(update=stamp) == old.model_copy(update=stamp)
    assert [each.revision for each in store.documents] == list(range(1, len(store.documents) + 1))


@given(st.lists(EDITS, max_size=8))
def test_what_a_newer_program_wrote_is_kept(typed):
    text = {"schema": 1, "model": "m", "revision": 1, "strategy": {"steps": [1, 5]}}
    text["releases"] = {"1": {"phase": "production", "mirror": "2"}, "9": {"phase": "staging", "quota": 5}}
    store = Memory(None, ReleaseDocument.parse(json.dumps(text).encode()))
    for edit in typed:
        try:
            apply(store, edit, force=True)
        except RefusedError:
            continue
    last = json.loads(store.documents[-1].dump())
    assert last["strategy"] == {"steps": [1, 5]}
    assert last["releases"]["9"]["quota"] == 5
    if all("1" in each.releases for each in store.documents):  # a release that ends takes its keys along
        assert last["releases"]["1"]["mirror"] == "2"


def test_production_without_a_weight_gets_every_call_and_the_others_wait_in_staging():
    store = Memory([endpoint("3"), endpoint("4")])
    apply(store, deploying("3", "production"))
    apply(store, deploying("4", "canary", weight=5))
    done = apply(store, deploying("4", "production"))
    assert percent(done.after) == {"4": 100.0}
    assert done.after.releases["3"].phase == "staging"


def test_production_with_a_weight_leaves_the_others_as_they_are():
    store = Memory([endpoint("3"), endpoint("4")])
    apply(store, deploying("3", "production"))
    done = apply(store, deploying("4", "production", weight=300))
    assert percent(done.after) == {"3": 25.0, "4": 75.0}


def test_the_first_document_takes_over_what_is_served():
    store = Memory([endpoint("3", versions=("2",)), endpoint("4"), endpoint("1", state="draining")])
    done = apply(store, deploying("4", "canary", weight=25))
    assert done.before is None
    assert percent(done.after) == {"3": 80.0, "4": 20.0}
    assert set(done.after.releases) == {"3", "4"}


def test_what_says_the_same_is_not_written():
    store = Memory([endpoint("3")])
    assert apply(store, deploying("3", "production")).changed
    assert not apply(store, deploying("3", "production")).changed
    assert len(store.documents) == 1


def test_a_timeout_of_0_and_no_priority_take_the_own_ones_away():
    store = Memory([endpoint("3")])
    apply(store, deploying("3", "production", timeout_ms=50, attempt_timeout_ms=20, priority="low"))
    done = apply(store, deploying("3", None, timeout_ms=0))
    assert done.after.releases["3"].priority == "low"
    done = apply(store, deploying("3", None, priority=""))
    assert done.after.releases["3"] == Release(phase="production", attempt_timeout_ms=20)


REFUSED = {
    "unknown": (deploying("9", "staging"), "version 9 of m is unknown.*announced are 2, 3.*start its endpoints"),
    "dead": (
        deploying("5", None, weight=50),
        r"version 5 of m would get calls, but no endpoint of it is ready \(1 drain",
    ),
    "asked": (deploying("2", "canary", weight=5), "no endpoint of it is ready to answer with it unasked"),
    "nothing": (deploying("3", "staging"), "no release in production or canary has a weight above 0.*give one"),
    "label": (lambda now, _: edits.set_model(now, "m", edits.Settings(labels={"next": "8"})), "'next' is of version 8"),
    "released": (lambda now, _: edits.remove(now, "m", "3"), "label 'stable' is of version 3.*release set m --label"),
    "absent": (lambda now, _: edits.remove(now, "m", "8"), r"version 8 of m is not released \(released: 3, 5\)"),
    "phase": (deploying("2", None), "version 2 of m is not released yet: say --phase"),
    "staged share": (
        deploying("5", "canary"),
        r"a canary needs a share: say --weight N \(the others have version 3: 100",
    ),
    "share": (deploying("2", "canary"), r"a canary needs a share: say --weight N \(the others have version 3: 100"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_do(case):
    edit, words = REFUSED[case]
    before = document({"3": {"phase": "production"}, "5": {"phase": "staging"}}, labels={"stable": "3"})
    if case == "dead":
        before = document({"3": {"phase": "production"}, "5": {"phase": "canary", "weight": 1}})
    store = Memory(
        [endpoint("3", versions=("2",)), endpoint("5", state="draining") if case == "dead" else endpoint("3")], before
    )
    with pytest.raises(RefusedError, match=words):
        apply(store, edit)
    assert store.documents == [before]


def test_the_last_release_is_not_removed_but_the_whole_document():
    store = Memory(None, document({"3": {"phase": "production"}}))
    with pytest.raises(RefusedError, match=r"the last release of m.*dl-inference release clear m"):
        apply(store, lambda now, _: edits.remove(now, "m", "3"), force=True)


def test_what_was_wrong_before_does_not_hold_up_who_moves_the_calls_away():
    store = Memory([endpoint("4")], document({"3": {"phase": "production"}, "4": {"phase": "canary", "weight": 1}}))
    done = apply(store, deploying("4", None, weight=500))
    assert done.overridden == ()
    assert done.notes == ("version 3 of m would get calls, but no endpoint of it is ready",)
    assert apply(store, deploying("4", "production")).notes == ()


def test_force_makes_it_and_says_what_it_overrode():
    store = Memory([endpoint("3")], document({"3": {"phase": "production"}}))
    done = apply(store, deploying("9", "production"), force=True)
    assert percent(store.documents[-1]) == {"9": 100.0}
    assert [text.partition(":")[0] for text in done.overridden] == ["version 9 of m is unknown"]


def test_a_version_of_an_earlier_document_is_known():
    store = Memory([endpoint("3")], document({"3": {"phase": "production"}, "2": {"phase": "staging"}}))
    apply(store, lambda now, _: edits.remove(now, "m", "2"))
    done = apply(store, deploying("2", "staging"))
    assert done.changed
    assert not done.overridden


def test_without_announcements_nothing_is_said_about_endpoints():
    found = compare(None, document({"3": {"phase": "production"}}), None, ())
    assert found == []


def test_an_author_too_long_is_refused_and_not_cut():
    with pytest.raises(RefusedError, match=r"reason: .*at most 1000 characters"):
        change(Memory(), "m", Wanted(deploying("3", "production"), ME, "x" * 1001), timeout_ms=TIMEOUT_MS)


def test_what_a_terminal_would_obey_is_not_printed():
    assert plain("a\x1b[31mb\nc") == "a\ufffd[31mb\ufffdc"


def test_edits_and_checks_know_no_network():
    folder = Path(edits.__file__).parent
    for name in ("checks.py", "edits.py"):
        assert "kazoo" not in (folder / name).read_text()
