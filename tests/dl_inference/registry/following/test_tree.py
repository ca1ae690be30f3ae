import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from dl_inference.registry.following.tree import MAX_GOODBYES, MAX_TEXT, Model, Node, printable
from dl_inference.registry.schema import EndpointDocument, Release, ReleaseDocument


def document(address: str, **more: object) -> bytes:
    return EndpointDocument(**{"protocol": "tfs", **more, "model": "m", "address": address}).dump()


def model(*said: tuple[str, str, int]) -> Model:
    """Make a model of (address, protocol, zxid of the creation)."""
    made = Model("m")
    made.listed([address for address, _, _ in said])
    for address, protocol, created in said:
        made.said(address, document(address, protocol=protocol), created, created)
    return made


def test_an_endpoint_that_speaks_another_protocol_than_most_is_skipped_and_named():
    view = model(("a:1", "tfs", 3), ("b:1", "seldon", 1), ("c:1", "tfs", 2)).view()
    assert [each.address for each in view.endpoints] == ["a:1", "c:1"]
    assert view.protocol == "tfs"
    assert [(fault.path, fault.message) for fault in view.faults] == [
        ("/models/m/endpoints/b:1", "the endpoint is skipped: it speaks seldon, most of its model tfs")
    ]


@pytest.mark.parametrize(("first", "second"), [("tfs", "seldon"), ("seldon", "tfs")])
def test_of_two_protocols_the_one_that_was_there_first_counts_and_a_change_makes_it_no_younger(first, second):
    tied = model(("a:1", second, 7), ("b:1", first, 5))
    assert tied.view().protocol == first
    tied.said("b:1", document("b:1", protocol=first, weight=9), 5, 99)
    view = tied.view()
    assert [(each.address, each.weight) for each in view.endpoints] == [("b:1", 9)]


def test_a_document_that_did_not_change_is_not_parsed_again(monkeypatch):
    known = model(("a:1", "tfs", 1))
    monkeypatch.setattr(EndpointDocument, "parse", None)
    known.said("a:1", b"never looked at", 1, 1)
    assert [each.address for each in known.view().endpoints] == ["a:1"]


def test_an_old_backup_is_read_although_its_changes_have_the_numbers_of_others():
    known = model(("a:1", "tfs", 1))
    known.released(ReleaseDocument(model="m", revision=2, releases={"1": Release(phase="production")}).dump(), 2)
    known.unread()
    known.said("a:1", document("a:1", weight=9), 1, 1)
    known.released(ReleaseDocument(model="m", revision=1, releases={"1": Release(phase="production")}).dump(), 2)
    view = known.view()
    assert view.endpoints[0].weight == 9
    assert view.release
    assert view.release.revision == 1


def test_what_may_no_longer_be_read_stays_and_is_read_again_when_it_may():
    known = model(("a:1", "tfs", 1))
    known.denied("a:1", "no")
    view = known.view()
    assert [each.address for each in view.endpoints] == ["a:1"]
    assert view.faults[0].message == "the endpoint stays as it was: no"
    known.said("a:1", document("a:1"), 1, 1)
    assert not known.view().faults


def test_only_a_goodbye_that_was_read_is_one():
    known = model(("a:1", "tfs", 1), ("b:1", "tfs", 2))
    known.said("a:1", document("a:1", state="draining"), 1, 3)
    assert known.view().leaving == {"a:1"}
    known.listed([])
    view = known.view()
    assert view.leaving == {"a:1"}
    assert not view.endpoints


def test_goodbyes_are_forgotten_when_the_endpoint_is_back_and_when_there_are_too_many():
    known = Model("m")
    for number in range(MAX_GOODBYES + 5):
        known.listed([f"h{number}:1"])
        known.said(f"h{number}:1", document(f"h{number}:1", state="draining"), number, number)
    known.listed([])
    assert len(known.view().leaving) == MAX_GOODBYES
    assert "h0:1" not in known.view().leaving
    known.listed(["h9:1"])
    known.said("h9:1", document("h9:1"), 9999, 9999)
    assert "h9:1" not in known.view().leaving


def test_an_ipv6_address_is_its_own_name():
    assert not model(("[::1]:80", "tfs", 1)).view().faults


def test_a_release_of_another_model_is_not_used():
    known = Model("m")
    releases = {"1": Release(phase="production")}
    known.released(ReleaseDocument(model="n", revision=1, releases=releases).dump(), 1)
    view = known.view()
    assert view.release is None
    assert "counts as none: its model is 'n'" in view.faults[0].message
    known.released(ReleaseDocument(model="m", revision=1, releases=releases).dump(), 2)
    known.release_denied("no")
    view = known.view()
    assert view.release is not None
    assert view.faults[0].message == "the release document cannot be read, revision 1 stays: no"


@seed(20261121)
@given(st.text(max_size=2 * MAX_TEXT))
def test_a_text_from_outside_is_one_short_printable_line(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= MAX_TEXT


@seed(20261121)
@given(st.binary(max_size=300))
def test_any_bytes_give_an_endpoint_or_a_fault(data):
    known = Model("m", {"a:1": Node()})
    known.said("a:1", data, 1, 1)
    known.released(data, 1)
    view = known.view()
    assert len(view.endpoints) + len(view.faults) == 2 - bool(view.release)
