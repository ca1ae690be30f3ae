"""What vanishes at once is not believed at once; what says goodbye, or goes bit by bit, is."""

from hypothesis import given
from hypothesis import strategies as st

from access.discovery.base import Announced, Entry, Snapshot
from access.following.empty_grace import EmptyGrace

GRACE_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def snapshot(numbers, leaving=(), key="digits") -> Snapshot:
    entry = Entry(
        tuple(Announced(address=f"10.0.0.{each}:5000") for each in numbers),
        leaving=frozenset(f"10.0.0.{each}:5000" for each in leaving),
    )
    return Snapshot({key: entry})


def numbers(held: Snapshot, key="digits") -> list[int]:
    return sorted(int(each.address.split(":")[0].rpartition(".")[2]) for each in held.entries[key].endpoints)


def make(grace_s: float = GRACE_S) -> tuple[EmptyGrace, Clock]:
    clock = Clock()
    return EmptyGrace("zookeeper", grace_s, clock), clock


def test_a_list_that_turns_empty_stays_until_the_grace_is_over():
    grace, clock = make()
    grace.hold(snapshot([1, 2, 3]))
    held = grace.hold(snapshot([]))
    assert numbers(held) == [1, 2, 3]
    assert "3 of 3 endpoints disappeared without draining" in held.warnings[0].message
    clock.now_s += GRACE_S - 0.1
    assert not grace.is_over
    assert numbers(grace.hold(snapshot([]))) == [1, 2, 3]
    clock.now_s += 0.2
    assert grace.is_over
    gone = grace.hold(snapshot([]))
    assert numbers(gone) == []
    assert not gone.warnings
    assert not grace.is_over


def test_a_list_that_keeps_half_is_believed_at_once():
    grace, _ = make()
    grace.hold(snapshot([1, 2, 3, 4]))
    assert numbers(grace.hold(snapshot([1, 2]))) == [1, 2]


def test_a_list_that_crumbles_within_the_grace_counts_as_a_whole():
    grace, _ = make()
    for left in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4], [1, 2, 3]):
        assert numbers(grace.hold(snapshot(left))) == left
    assert numbers(grace.hold(snapshot([1, 2]))) == [1, 2, 3, 4, 5, 6]


def test_a_goodbye_is_believed_at_once():
    grace, _ = make()
    grace.hold(snapshot([1, 2, 3]))
    assert numbers(grace.hold(snapshot([], leaving=[1, 2, 3]))) == []


def test_a_goodbye_heard_before_the_address_vanished_still_counts():
    grace, _ = make()
    grace.hold(snapshot([1, 2, 3]))
    grace.hold(snapshot([3], leaving=[1, 2]))
    assert numbers(grace.hold(snapshot([3]))) == [3]


def test_one_goodbye_does_not_excuse_the_others():
    grace, _ = make()
    grace.hold(snapshot([1, 2, 3, 4]))
    assert numbers(grace.hold(snapshot([], leaving=[4]))) == [1, 2, 3]


def test_an_endpoint_that_comes_back_is_there_once_with_what_it_says_now():
    grace, _ = make()
    grace.hold(snapshot([1, 2, 3]))
    grace.hold(snapshot([]))
    back = Snapshot({"digits": Entry((Announced(address="10.0.0.1:5000", weight=7),))})
    held = grace.hold(back)
    assert numbers(held) == [1, 2, 3]
    assert [each.weight for each in held.entries["digits"].endpoints if each.address == "10.0.0.1:5000"] == [7]


def test_a_key_that_is_gone_altogether_is_held_like_an_empty_list_and_then_goes():
    grace, clock = make()
    grace.hold(snapshot([1], key="digits"))
    assert numbers(grace.hold(Snapshot())) == [1]
    clock.now_s += GRACE_S
    assert not grace.hold(Snapshot()).entries


def test_one_models_loss_does_not_hold_another():
    grace, _ = make()
    both = Snapshot({**snapshot([1, 2], key="a").entries, **snapshot([3, 4], key="b").entries})
    grace.hold(both)
    held = grace.hold(Snapshot({**snapshot([], key="a").entries, **snapshot([3], key="b").entries}))
    assert numbers(held, "a") == [1, 2]
    assert numbers(held, "b") == [3]


def test_no_grace_believes_everything():
    grace, _ = make(0)
    grace.hold(snapshot([1, 2, 3]))
    assert numbers(grace.hold(snapshot([]))) == []


@given(st.lists(st.tuples(st.sets(st.integers(1, 6)), st.sets(st.integers(1, 6)), st.floats(0, 40)), max_size=30))
def test_whatever_happens_the_announced_are_there_and_the_unannounced_end(steps):
    grace, clock = make()
    missing_since: dict[int, float] = {}
    for present, leaving, pause_s in steps:
        clock.now_s += pause_s
        held = set(numbers(grace.hold(snapshot(sorted(present), leaving - present))))
        assert present <= held
        assert not held & (leaving - present)
        for each in range(1, 7):
            if each in present:
                missing_since.pop(each, None)
            else:
                missing_since.setdefault(each, clock.now_s)
        assert all(clock.now_s < missing_since[each] + GRACE_S for each in held - present)
    grace.hold(snapshot([]))
    clock.now_s += GRACE_S
    assert numbers(grace.hold(snapshot([]))) == []
