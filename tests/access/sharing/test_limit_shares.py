"""How limits are divided by what is wanted of them: over many drawn cases, and the ones that matter."""

from __future__ import annotations

import random

import pytest

from access.sharing.shares import FLOOR, Calm, Key, least, shares

KEYS: list[Key] = [("", "m", "requests_per_s"), ("shop", "", "in_flight"), ("shop", "m", "bytes_per_s")]
M = KEYS[0]


def _drawn(draw: random.Random) -> list[dict[Key, float]]:
    """Return what each of some access services wants."""
    some = [draw.choice([1e-9, draw.random(), 1.0]) for _ in range(4)]
    return [
        {key: draw.choice(some) for key in KEYS if draw.random() < 0.6} for _ in range(draw.choice([1, 2, 3, 10, 30]))
    ]


def test_parts_are_one_whole_and_none_is_below_the_floor() -> None:
    draw = random.Random(15)
    for _ in range(60):
        every = _drawn(draw)
        totals: dict[Key, float] = {}
        for index, own in enumerate(every):
            rest, parts = shares(own, every[:index] + every[index + 1 :])
            assert rest == 1 / len(every)
            for key in KEYS:
                part = parts.get(key, rest)
                assert least(len(every)) <= part <= 1
                totals[key] = totals.get(key, 0.0) + part
        assert all(total == pytest.approx(1) for total in totals.values())


def test_parts_follow_what_is_wanted() -> None:
    rest, parts = shares({M: 0.6}, [{M: 0.2}, {}])
    assert rest == pytest.approx(1 / 3)
    assert parts == {M: pytest.approx(FLOOR / 3 + (1 - FLOOR) * 0.75)}
    assert shares({}, [{M: 0.2}, {}])[1] == {M: pytest.approx(FLOOR / 3)}
    assert shares({M: 0.1}, [])[1] == {M: pytest.approx(1)}, "whoever is alone has all"


def test_who_wants_less_than_there_is_gets_what_he_wants() -> None:
    draw = random.Random(16)
    for _ in range(200):
        wanted = [draw.random() for _ in range(5)]
        most = sum(wanted) * (1 + FLOOR)
        own, *others = [{M: each / most} for each in wanted]
        assert shares(own, others)[1][M] >= own[M] * (1 - 1e-9)


def test_a_part_falls_at_once_and_rises_one_exchange_later() -> None:
    calm = Calm(0.5)
    assert calm.next(1.0, {M: 0.9}) == (0.5, {M: 0.5})
    assert calm.next(1.0, {M: 0.9}) == (1.0, {M: 0.9})
    assert calm.next(1.0, {M: 0.2}) == (1.0, {M: 0.2})
    assert calm.next(1.0, {}) == (1.0, {M: 0.2}), "it rises to the rest"
    assert calm.next(1.0, {}) == (1.0, {})
    assert calm.next(0.3, {M: 0.4}) == (0.3, {M: 0.4})


@pytest.mark.parametrize("count", [2, 3, 10])
def test_while_demand_swings_the_parts_together_are_hardly_more_than_the_whole(count: int) -> None:
    """Each sees of the others what they wrote last; without `Calm` they would allow up to twice the whole."""
    draw = random.Random(17)
    wanted = [0.0] * count
    calm = [Calm(1 / count) for _ in range(count)]
    allowed = [1 / count] * count
    sums = []
    for step in range(3000):
        index = step % count
        if draw.random() < 0.7:  # as the data plane says it: it falls by half at most
            wanted[index] = max(draw.choice([0.0, 0.01, 0.5, 1.0]), wanted[index] / 2)
        written = [{M: each} if each >= least(count) else {} for each in wanted]
        rest, parts = calm[index].next(*shares(written.pop(index), written))
        allowed[index] = parts.get(M, rest)
        sums.append(sum(allowed))
    assert max(sums) < 1.2
    assert 0.5 < sum(sums) / len(sums) <= 1
