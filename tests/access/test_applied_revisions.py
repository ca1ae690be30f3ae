"""What an access service reports: the revision of each model that it has applied, since it first did."""

from access.applied_revisions import AppliedRevisions
from access.discovery.base import Entry, Snapshot
from dl_inference.registry.schema import ReleaseDocument


def snapshot(**revisions: int) -> Snapshot:
    def release(model: str, revision: int) -> ReleaseDocument:
        return ReleaseDocument.model_validate(
            {"schema": 1, "model": model, "revision": revision, "releases": {"3": {"phase": "production"}}}
        )

    return Snapshot({model: Entry((), release=release(model, number)) for model, number in revisions.items()})


def test_it_says_which_revisions_are_applied_and_where():
    document = AppliedRevisions(["0.0.0.0:8500"]).applied([snapshot(a=3), snapshot(b=1), Snapshot({"c": Entry(())})])
    assert document.listen == ("0.0.0.0:8500",)
    assert {model: revision for model, (revision, _) in document.applied.items()} == {"a": 3, "b": 1}


def test_since_is_when_the_revision_was_first_applied():
    report = AppliedRevisions([])
    first = report.applied([snapshot(a=3, b=1)]).applied
    second = report.applied([snapshot(a=4, b=1)]).applied
    assert second["b"] == first["b"]
    assert second["a"][0] == 4
    assert second["a"][1] >= first["a"][1]
    assert report.applied([snapshot(a=4, b=1)]) is report.applied([snapshot(a=4, b=1)])


def test_a_model_whose_releases_ended_is_reported_no_more():
    report = AppliedRevisions([])
    report.applied([snapshot(a=3)])
    assert report.applied([snapshot()]).applied == {}
