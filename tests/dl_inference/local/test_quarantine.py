"""Which versions are kept from calls, what stands in for them, and when they are tried again; no real processes."""

from __future__ import annotations

import pytest
from test_models import Stage, layout

from dl_inference.local.compare import changes, new_nan
from dl_inference.local.layout import FolderError
from dl_inference.problem import Problem
from dl_inference.serving.report import Report, Tensor

GOLDEN = Report(step="golden", reason="case 0 differs", remedy="correct the model", is_final=True)
CRASH = Report(step="warm-up")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    monkeypatch.setattr("time.time", lambda: 1_000_000.0 + Clock.now)
    return Clock


@pytest.fixture
def stage(clock):
    return Stage()


def tell(**sides: tuple[tuple[str, str, tuple[int, ...]], ...]) -> Report:
    made = {
        side: tuple(Tensor(name=name, dtype=dtype, shape=shape) for name, dtype, shape in specs)
        for side, specs in sides.items()
    }
    return Report(**made, is_complete=True)


IMAGES = tell(inputs=(("x", "float32", (-1, 3, 8, 8)),), outputs=(("scores", "float32", (-1, 10)),))
FEWER = tell(inputs=(("x", "float32", (-1, 3, 8, 8)),), outputs=(("scores", "float32", (-1, 5)),))


def ready(stage: Stage, index: int, report: Report | None = None) -> None:
    stage.started[index].report = report or Report()
    stage.started[index].ready()
    stage.step()


def kept_out(stage: Stage) -> list[tuple[int | None, str]]:
    return [(each.version, each.step) for each in stage.model.quarantined]


def test_a_version_that_fails_is_quarantined_with_everything_there_is_to_say_and_the_live_one_stays(stage, caplog):
    stage.want(layout(1))
    ready(stage, 0)
    stage.want(layout(2, keys={1: "key of 1", 2: "new"}))
    stage.started[1].report = GOLDEN
    stage.started[1].end("case 0 differs; correct the model")
    assert stage.step() == []
    assert stage.model.status()["quarantined"] == [
        {
            "version": 2,
            "step": "golden",
            "reason": "case 0 differs",
            "remedy": "correct the model",
            "since_unix_s": 1_000_100.0,
            "next_try": "when a file changes",
        }
    ]
    assert [(each["version"], each["state"]) for each in stage.model.status()["versions"]] == [
        (1, "serving"),
        (2, "quarantined"),
    ]
    assert stage.serves() == {1: [stage.started[0].address]}
    assert stage.state == "serving the former"
    lines = [record.getMessage() for record in caplog.records if "quarantined" in record.getMessage()]
    assert lines == [
        "m: version 2 is quarantined at the step golden: case 0 differs; correct the model; it is tried again when a "
        "file changes"
    ]


def test_what_would_fail_again_is_tried_when_a_file_changes_and_the_rest_after_a_pause_too(stage, clock):
    for report, count in ((GOLDEN, 1), (CRASH, 3)):
        stage = Stage()
        stage.want(layout(1))
        stage.started[0].report = report
        stage.started[0].end("killed by SIGSEGV")
        for _ in range(5):
            stage.step()
            clock.now += 1
        stage.started[-1].end("killed by SIGSEGV")
        for _ in range(3):
            stage.step()
            clock.now += 100
        assert len(stage.started) == count, report
        assert kept_out(stage)[0][0] == 1
    stage = Stage()
    stage.want(layout(1))
    stage.started[0].report = GOLDEN
    stage.started[0].end("differs")
    stage.step()
    stage.want(layout(1))  # a file that is none of the version's own: model.yaml
    assert len(stage.started) == 2
    ready(stage, 1)
    assert (stage.state, kept_out(stage), stage.model.status()["quarantined"]) == ("serving", [], [])


def test_a_quarantine_keeps_the_time_of_its_first_failure_and_is_logged_once(stage, clock, caplog):
    stage.want(layout(1))
    for _ in range(3):
        stage.started[-1].report = CRASH
        stage.started[-1].end("killed by SIGSEGV")
        stage.step()
        clock.now += 100
        stage.step()
    assert len(stage.started) == 4
    assert stage.model.quarantined[0].since_unix_s == 1_000_100.0
    assert sum("quarantined" in record.getMessage() for record in caplog.records) == 1


def test_a_process_that_had_served_and_dies_is_no_quarantine(stage):
    stage.want(layout(1))
    ready(stage, 0)
    stage.started[0].end("killed by SIGKILL")
    stage.step()
    assert kept_out(stage) == []
    assert stage.model.reason == "version 1: killed by SIGKILL"


def test_a_version_whose_callers_would_notice_may_not_take_over_and_its_process_ends(stage):
    stage.want(layout(1))
    ready(stage, 0, IMAGES)
    stage.want(layout(2, keys={1: "key of 1", 2: "new"}))
    ready(stage, 1, FEWER)
    (found,) = stage.model.quarantined
    assert (found.version, found.step) == (2, "compare")
    assert "output scores has the size 5 on axis 1, and had 10" in found.reason
    assert "allow_signature_change: true" in found.remedy
    assert stage.serves() == {1: [stage.started[0].address]}
    assert stage.started[1].was_killed
    stage.step()
    assert len(stage.started) == 2
    # in words
    stage.want(layout(2, keys={1: "key of 1", 2: "new"}, allow_signature_change=True))
    ready(stage, 2, FEWER)
    assert stage.serves() == {2: [stage.started[2].address]}
    assert kept_out(stage) == []


def test_a_new_content_of_a_version_that_is_not_the_default_is_compared_with_the_former_one(stage):
    stage.want(layout(1, 2))
    ready(stage, 0, FEWER)
    ready(stage, 1, IMAGES)  # side by side: two versions that are asked for by number may differ
    assert kept_out(stage) == []
    stage.want(layout(1, 2, keys={1: "changed", 2: "key of 2"}))
    ready(stage, 2, IMAGES)
    assert kept_out(stage) == [(1, "compare")]


def test_a_version_that_is_served_beside_the_default_may_differ_from_it(stage):
    stage.want(layout(2, keys={1: "one", 2: "two"}))
    ready(stage, 0, IMAGES)
    stage.want(layout(1, 2, keys={1: "one", 2: "two"}))
    ready(stage, 1, FEWER)
    assert kept_out(stage) == []
    assert sorted(stage.serves()) == [1, 2]


def test_nan_where_the_live_version_answers_numbers_keeps_a_version_out(stage):
    stage.want(layout(1))
    ready(stage, 0, Report(nan={"a": (), "b": ("output",)}))
    stage.want(layout(1, keys={1: "new"}, allow_signature_change=True))
    ready(stage, 1, Report(nan={"a": ("output",), "b": ("output",)}))
    assert kept_out(stage) == [(1, "compare")]
    assert "['output']" in stage.model.reason


def test_a_version_that_could_not_tell_its_signature_waits_and_is_tried_again(stage, clock):
    for allowed in (False, True):
        stage = Stage()
        stage.want(layout(1))
        ready(stage, 0, IMAGES)
        stage.want(layout(2, keys={1: "key of 1", 2: "new"}, allow_signature_change=allowed))
        ready(stage, 1, Report(step="load"))
        assert [*stage.serves()] == [2 if allowed else 1]
    assert kept_out(stage) == []
    stage = Stage()
    stage.want(layout(1))
    ready(stage, 0, IMAGES)
    stage.want(layout(2, keys={1: "key of 1", 2: "new"}))
    ready(stage, 1, Report(step="load"))
    (kept,) = stage.model.quarantined
    assert (kept.step, kept.is_final) == ("compare", False)
    assert "could not be written down; free space on that disk" in kept.text
    clock.now += 5
    stage.step()
    ready(stage, 2, IMAGES)
    assert [*stage.serves()] == [2]
    assert kept_out(stage) == []


def test_a_folder_of_which_nothing_can_be_told_is_quarantined_as_a_whole(stage):
    stage.want(layout(1))
    ready(stage, 0)
    stage.model.reject(FolderError("model.yaml:3: is not YAML", "correct this line"))
    stage.step()
    assert kept_out(stage) == [(None, "find")]
    assert stage.model.quarantined[0].remedy == "correct this line"
    assert stage.serves() == {1: [stage.started[0].address]}


FAULTS = {2: (Problem("m/2", "holds no model", "put one there"),)}


def test_a_version_that_is_still_empty_costs_the_live_one_nothing_not_even_its_next_process(stage, clock):
    stage.want(layout(1))
    ready(stage, 0)
    stage.want(layout(2, keys={1: "key of 1", 2: "new"}, faults=FAULTS))
    assert kept_out(stage) == [(2, "find")]
    assert len(stage.started) == 1
    stage.started[0].end("killed")
    stage.step()
    stage.step()
    assert [process.version for process in stage.started] == [1, 1]


def test_a_live_version_whose_files_are_damaged_in_place_goes_on(stage):
    stage.want(layout(2, keys={1: "key of 1", 2: "key of 2"}))
    ready(stage, 0)
    stage.want(layout(2, keys={1: "key of 1", 2: "damaged"}, faults=FAULTS))
    assert stage.step() == []
    assert stage.serves() == {2: [stage.started[0].address]}
    assert len(stage.started) == 1  # no older version comes back for it


def test_where_the_latest_version_never_served_the_one_before_stands_in_until_it_does(stage, clock):
    stage.want(layout(3, keys={1: "one", 2: "two", 3: "three"}, has_fallback=True))
    stage.started[0].report = GOLDEN
    stage.started[0].end("differs")
    stage.step()
    assert [process.version for process in stage.started] == [3]
    stage.step()
    assert [process.version for process in stage.started] == [3, 2]
    stage.started[1].report = GOLDEN
    stage.started[1].end("differs")
    stage.step()
    stage.step()
    ready(stage, 2)
    assert list(stage.serves()) == [1]
    assert stage.model.default.version == 1
    assert sorted(kept_out(stage)) == [(2, "golden"), (3, "golden")]
    assert stage.state == "serving the former"
    # mended: it takes over, and the others go
    stage.want(layout(3, keys={1: "one", 2: "two", 3: "mended"}, has_fallback=True))
    stage.started[-1].ready()
    assert stage.started[2] in stage.step()
    assert list(stage.serves()) == [3]
    assert [group.version for group in stage.model.groups] == [3]


def test_nothing_stands_in_for_versions_that_are_named(stage):
    stage.want(layout(3, keys={1: "one", 3: "three"}))
    stage.started[0].report = GOLDEN
    stage.started[0].end("differs")
    stage.step()
    stage.step()
    assert len(stage.started) == 1
    assert stage.state == "failed"


# --- what callers would notice


def with_input(dtype: str = "float32", shape: tuple[int, ...] = (-1, 4), *, is_optional: bool = False) -> Report:
    return Report(inputs=(Tensor(name="x", dtype=dtype, shape=shape, is_optional=is_optional),))


def with_output(name: str = "y", dtype: str = "float32", shape: tuple[int, ...] = (-1, 4)) -> Report:
    return tell(outputs=((name, dtype, shape),))


@pytest.mark.parametrize(
    ("live", "new", "words"),
    [
        (with_input(), tell(inputs=(("other", "float32", (-1, 4)),)), "input x is gone"),
        (with_input(), tell(inputs=(("x", "float32", (-1, 4)), ("z", "int64", (1,)))), "z is new and must be sent"),
        (with_input(is_optional=True), with_input(), "input x must be sent now"),
        (with_input(), with_input("int64"), "input x is int64, and was float32"),
        (with_input(), with_input(shape=(-1, 4, 1)), "has 3 axes, [-1, 4, 1], and had 2, [-1, 4]"),
        (with_input(), with_input(shape=(-1, 5)), "input x has the size 5 on axis 1, and had 4"),
        (with_input(), with_input(shape=(8, 4)), "input x has the size 8 on axis 0, and had any"),
        (with_output(), with_output("z"), "output y is gone"),
        (with_output(), with_output(dtype="float64"), "output y is float64, and was float32"),
        (with_output(), with_output(shape=(-1, 5)), "output y has the size 5 on axis 1, and had 4"),
    ],
)
def test_what_callers_would_notice_is_named(live, new, words):
    (found,) = [each for each in changes(live, new) if words in each]
    assert found
    assert changes(live, live) == changes(new, new) == []


@pytest.mark.parametrize(
    ("live", "new"),
    [
        (with_output(), tell(outputs=(("y", "float32", (-1, 4)), ("z", "int64", (1,))))),
        (with_input(), with_input(shape=(-1, -1))),
        (with_output(), with_output(shape=(-1, -1))),
        (with_input(), with_input(is_optional=True)),
        (with_input(), with_input().model_copy(update={"inputs": ()})),  # of a model that tells nothing
        # samples of other shapes have shown them
        (
            with_input(shape=(-1, 480)).model_copy(update={"learned": ("a", "")}),
            with_input(shape=(-1, 600)).model_copy(update={"learned": ("b", "")}),
        ),
    ],
)
def test_what_callers_would_not_notice_passes(live, new):
    assert changes(live, new) == []


def test_an_input_that_may_be_left_out_is_an_extension():
    more = Report(inputs=(*with_input().inputs, Tensor(name="z", dtype="int64", shape=(1,), is_optional=True)))
    assert changes(with_input(), more) == []


def test_nan_is_compared_for_samples_that_both_versions_have_answered():
    assert new_nan(Report(nan={"a": ()}), Report(nan={"b": ("y",)})) == []
    assert new_nan(Report(nan={"a": ("y",)}), Report(nan={"a": ("y", "z")})) == ["z"]
