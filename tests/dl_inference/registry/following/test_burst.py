import itertools

from hypothesis import given, seed
from hypothesis import strategies as st

from dl_inference.registry.following.burst import BURST_S, SETTLE_S, Burst


def run(changes: list[float], read_s: float = 0.001) -> tuple[list[tuple[float, list[str]]], list[float]]:
    """Live through changes at these times as the reader does: what was read when, and when it was shown."""
    burst, now, reads, shown, busy_until = Burst(), 0.0, [], [], 0.0
    times = sorted(changes)
    while times or burst:
        now += 0.001
        while times and times[0] <= now:
            burst.add(f"/{len(changes) - len(times)}", now)
            times.pop(0)
        if paths := burst.take(now):
            reads.append((now, paths))
            busy_until = now + read_s
        is_reading = now < busy_until
        if burst.ends(now, is_reading):
            shown.append(now)
        at = burst.next_at(is_reading)
        assert at is not None or not burst
    return reads, shown


def test_one_change_is_read_and_shown_once_soon():
    reads, shown = run([0.010])
    assert [paths for _, paths in reads] == [["/0"]]
    assert len(shown) == 1
    assert shown[0] <= 0.010 + SETTLE_S + 0.005


def test_changes_that_come_together_are_shown_as_one():
    reads, shown = run([0.010 + number * 0.0015 for number in range(100)])
    assert len(shown) == 1
    assert sum(len(paths) for _, paths in reads) == 100
    assert len(reads) < 10


def test_changes_without_an_end_are_shown_now_and_then():
    _, shown = run([number * 0.005 for number in range(400)])
    assert shown[0] <= BURST_S + 0.005
    gaps = [later - sooner for sooner, later in itertools.pairwise(shown)]
    assert max(gaps) <= BURST_S + 0.005
    assert len(shown) <= 2 / BURST_S + 1


def test_a_path_that_changes_often_is_read_once():
    burst = Burst()
    for moment in range(10):
        burst.add("/a", moment / 1000)
    assert burst.take(SETTLE_S) == ["/a"]
    assert burst.take(SETTLE_S) == []


def test_what_is_cleared_is_neither_read_nor_shown():
    burst = Burst()
    burst.add("/a", 0)
    burst.clear()
    assert not burst
    assert burst.take(1) == []
    assert not burst.ends(1, False)
    assert burst.next_at(False) is None


@seed(20261121)
@given(st.lists(st.floats(0, 1), max_size=60), st.floats(0.001, 0.5))
def test_every_change_is_read_and_then_shown(changes, read_s):
    reads, shown = run(changes, read_s)
    assert sum(len(paths) for _, paths in reads) == len(changes)
    if changes:
        assert shown[-1] >= reads[-1][0]
