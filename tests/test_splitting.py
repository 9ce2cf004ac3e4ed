"""How many records a split takes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest

from jmr.codec.values import load_all
from jmr.engines.splitting import SplitSizer, cut
from jmr.errors import SourceError
from jmr.sources import records
from jmr.tasks.map import records_of


def shared_out(sizer: SplitSizer, n_records: int, seconds_per_record: float, flush: float = 0.0) -> list[int]:
    """The sizes of all splits, each finished at once; a part of its time is the flush."""
    sizes: list[int] = []
    n_left = n_records
    while n_left:
        sizes.append(min(sizer.next_size(), n_left))
        n_left -= sizes[-1]
        sizer.sent(sizes[-1], sizes[-1])
        sizer.finished(sizes[-1], sizes[-1] * seconds_per_record, sizes[-1] * seconds_per_record * flush)
    return sizes


def test_splits_grow_to_a_fifth_of_a_second() -> None:
    sizer = SplitSizer(n_slots=2, n_records=None)
    sizes = []
    for _ in range(8):
        size = sizer.next_size()
        sizes.append(size)
        sizer.sent(size, 10 * size)
        sizer.finished(size, size * 1e-5, 0.0)
    assert sizes[:3] == [1, 256, 20_000]
    assert set(sizes[2:]) == {20_000}


def test_a_dear_flush_makes_splits_longer() -> None:
    sizer = SplitSizer(n_slots=2, n_records=None)
    for _ in range(12):
        size = sizer.next_size()
        sizer.finished(size, size * 2**-16, size * 2**-19)
    assert sizer.next_size() == 2 * 2**16


def test_where_a_flush_is_dear_the_tail_is_cut_into_fewer() -> None:
    counts = []
    for flush in (0.0, 0.2):
        sizer = SplitSizer(n_slots=2, n_records=1_000_000)
        sizer.finished(30_000, 0.3, 0.3 * flush)
        counts.append(len(shared_out(sizer, 1_000_000, 1e-5, flush)))
    assert counts == [64, 10]


def test_a_large_output_makes_small_splits() -> None:
    sizer = SplitSizer(n_slots=2, n_records=None, most_output_bytes=1_000_000)
    sizer.finished(100, 1e-4, 0.0, output_bytes=1_000_000)
    assert sizer.next_size() == 100


def test_the_tail_is_shared_out() -> None:
    sizer = SplitSizer(n_slots=2, n_records=100)
    sizer.finished(1, 0.02, 0.0)
    sizes = shared_out(sizer, 100, 0.02)
    assert sizes[-4:] == [2, 2, 1, 1]
    assert max(sizes) <= 10


def test_slots_get_equal_parts_of_what_is_left() -> None:
    sizer = SplitSizer(n_slots=4, n_records=1_000)
    sizer.finished(1_000, 0.1, 0.0)
    assert shared_out(sizer, 1_000, 1e-4) == [125] * 4 + [63] * 4 + [31] * 4 + [20] * 6 + [4]


def test_large_records_make_small_splits() -> None:
    sizer = SplitSizer(n_slots=2, n_records=None)
    sizer.sent(1, 2 << 20)
    sizer.finished(1, 1e-6, 0.0)
    assert sizer.next_size() == 2


def test_a_slow_source_does_not_let_slots_wait() -> None:
    now = 0.0

    def slow() -> Iterator[tuple[int, int]]:
        nonlocal now
        for i in range(1000):
            now += 0.02
            yield i, i

    source = records(slow())
    pieces, n_records = cut(source, 1000, clock=lambda: now)
    assert n_records == 3
    assert list(load_all(b"".join(pieces))) == [([0, 1, 2], [0, 1, 2])]


def test_a_record_that_may_change_is_pickled_before_the_next_is_read() -> None:
    def refilled() -> Iterator[tuple[str, Any]]:
        buffer = [0]
        for i in range(3):
            buffer[0] = i
            yield "a", buffer
        yield "b", (1, "frozen")

    pieces, n_records = cut(records(refilled()), 10)
    assert n_records == 4
    assert list(load_all(b"".join(pieces))) == [
        (["a"], [[0]]),
        (["a"], [[1]]),
        (["a"], [[2]]),
        (["b"], [(1, "frozen")]),
    ]


def test_large_records_after_small_ones_end_the_split_early() -> None:
    large = [(i, "x" * 20_000) for i in range(4_000)]
    for source in (large, iter(large)):
        pieces, n_records = cut(records(source), 4_000, lambda: 0.0)
        assert n_records <= 2048
        assert 32e6 < sum(map(len, pieces)) < 37e6


def test_a_split_grows_no_larger_because_records_do() -> None:
    def grown(place: str) -> Any:
        for i in range(2_000):
            yield i, i
        for i in range(300):
            text = f"{i:0400000d}"
            yield {"key": (text, i), "value": (i, text), "tuple": (i, (i, text)), "list": (i, [text])}[place]

    for place in ("key", "value", "tuple", "list"):
        for source in (grown(place), list(grown(place))):
            pieces, _ = cut(records(source), 3_000, lambda: 0.0)
            assert sum(map(len, pieces)) < 140e6


@pytest.mark.parametrize("kind", [list, dict])
def test_what_was_read_ahead_is_cut_in_order(kind: Any) -> None:
    source = records(kind((i, str(i)) for i in range(3_000)))
    sizes, cut_records = iter([1, 40, 7, 900, 5_000]), []
    for size in sizes:
        while len(cut_records) < 900 and source.read_ahead():
            pass
        pieces, n_records = cut(source, size)
        cut_records += records_of(b"".join(pieces))
        assert n_records == min(size, 3_000 - (len(cut_records) - n_records))
    assert cut_records == [(i, str(i)) for i in range(3_000)]
    assert not source.read_ahead()


def test_only_lists_and_dicts_are_read_ahead() -> None:
    assert not records(iter([(1, 2)])).read_ahead()
    assert not records(OrderedDict({1: 2})).read_ahead()


def test_a_list_ends_before_the_first_record_that_is_no_pair() -> None:
    source = records([[i, i] for i in range(10)] + [(10, 10), 11, (12, 12)])
    assert [next(source.pairs) for _ in range(11)] == [(i, i) for i in range(11)]
    with pytest.raises(SourceError, match="record number 11"):
        next(source.pairs)


def test_the_end_of_a_source_is_an_empty_split() -> None:
    source = records({})
    assert cut(source, 10) == ([], 0)


@pytest.mark.parametrize(
    "source",
    [[(i, [i]) for i in range(500)], ((i, bytearray([i])) for i in range(200)), ((i, str(i)) for i in range(200))],
    ids=["a list", "an iterator of what may change", "an iterator of what does not"],
)
def test_whoever_looks_sees_all_records_in_order_before_they_may_change(source: Any) -> None:
    seen: list[tuple[Any, str]] = []
    of = records(source)
    n_records = 0
    while n := cut(of, 60, look=lambda keys, values, _: seen.extend(zip(keys, map(repr, values), strict=True)))[1]:
        n_records += n
    assert len(seen) == n_records
    assert [key for key, _ in seen] == list(range(n_records))


def test_where_tasks_are_dear_the_first_takes_a_small_part_of_what_is_known_to_come() -> None:
    sizer = SplitSizer(n_slots=2, n_records=1_024_000, least_seconds=0.1)
    assert sizer.next_size() == 2_000
    assert SplitSizer(n_slots=2, n_records=500, least_seconds=0.1).next_size() == 1
    assert SplitSizer(n_slots=2, n_records=None, least_seconds=0.1).next_size() == 1


def test_where_rounds_are_dear_what_is_little_for_each_slot_is_one_round() -> None:
    sizes = []
    for round_seconds in 0.0, 3.0:
        sizer = SplitSizer(n_slots=2, n_records=1_024_000, least_seconds=0.1, round_seconds=round_seconds)
        for _ in range(2):
            sizer.sent(sizer.next_size(), 16_000)
        for _ in range(2):
            sizer.finished(2_000, seconds=0.01, flush_seconds=0.0)
        sizes.append(sizer.next_size())
    assert sizes == [255_001, 510_002]
