"""Sources whose splits are read on the workers: the protocol, whatever it is that they read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import jmr
from jmr.codec.values import dump_columns
from jmr.sources import InColumns, NotHereError, SetAside, dump_split, load_records
from jmr.tasks.contract import TaskError
from jmr.tasks.map import MapTask, run_map
from tests.checkpoints import Calls, note

UNREADABLE, ABSENT, BROKEN = -1, -2, -3


@dataclass(frozen=True)
class Numbers(jmr.Split):
    """Its numbers, each under its name; some cannot be read."""

    numbers: tuple[int, ...]
    told: str = ""

    def read(self, set_aside: SetAside) -> tuple[list[Any], list[Any]]:
        keys: list[Any] = []
        values: list[Any] = []
        for number in self.numbers:
            if number == UNREADABLE:
                set_aside(f"file {number}", PermissionError(13, "Permission denied"), len(keys))
            elif number == ABSENT:
                set_aside(f"file {number}", NotHereError(f"file {number}", "it is another one"), len(keys))
            elif number == BROKEN:
                raise ValueError("its own")
            else:
                keys.append(f"n{number}")
                values.append([number])
        return keys, values

    def fingerprint(self) -> str:
        return self.told


@dataclass(frozen=True)
class Listed(jmr.Source):
    """Splits as given; how large each should be is written down."""

    given: list[Any]
    wanted: list[int | None] = field(default_factory=list)

    def splits(self) -> Iterator[Any]:
        return iter(self.given)

    def sized_splits(self, wanted: Callable[[], int | None]) -> Iterator[Any]:
        for split in self.given:
            self.wanted.append(wanted())
            yield split


def numbers(*splits: tuple[int, ...]) -> Listed:
    return Listed([Numbers(split) for split in splits])


def parity(name: str, value: list[int]) -> Iterator[tuple[int, str]]:
    yield value[0] % 2, name


def run_both(source: Callable[[], Any], *args: Any, **options: Any) -> Any:
    """The result of our slots, which must be that of the inline engine."""
    inline = jmr.run(source(), *args, engine="inline", **options)
    slots = jmr.run(source(), *args, **options)
    assert list(slots.items()) == list(inline.items())
    told = [[(bad.phase, bad.key, bad.value, str(bad.error)) for bad in each.errors] for each in (slots, inline)]
    assert told[0] == told[1]
    assert slots.stats.n_records == inline.stats.n_records
    return slots


def test_slots_read_splits_and_give_what_one_loop_gives() -> None:
    result = run_both(lambda: numbers(tuple(range(10)), (), tuple(range(10, 100))), parity)
    assert result[1][:2] == ["n1", "n3"]
    assert result.stats.n_map_tasks == 3


def test_a_source_without_splits_is_an_empty_one() -> None:
    assert run_both(numbers, parity) == {}


def test_a_blob_of_records_and_that_of_a_split_are_read_alike() -> None:
    split = b"".join(dump_split(Numbers((1, 2))))
    records = b"".join(dump_columns(["n1", "n2"], [[1], [2]]))
    assert load_records(split) == load_records(records) == InColumns(["n1", "n2"], [[1], [2]])


def test_a_class_of_this_program_travels_as_a_split() -> None:
    @dataclass(frozen=True)
    class Local(jmr.Split):
        n: int

        def read(self, set_aside: SetAside) -> tuple[list[Any], list[Any]]:
            return [self.n], [os.getpid()]

    result = jmr.run(Listed([Local(1), Local(2)]), lambda key, pid: [(key, pid)])
    assert list(result) == [1, 2]
    assert os.getpid() not in [pid for pids in result.values() for pid in pids]


def test_a_source_is_told_how_large_the_next_split_should_be_if_it_asks() -> None:
    source = numbers(*((n,) for n in range(50)))
    jmr.run(source, parity)
    assert len(source.wanted) == 50
    assert source.wanted[0] == 1
    assert all(isinstance(wanted, int) and wanted > 1 for wanted in source.wanted[-10:])


# What cannot be read


def test_workers_of_another_engine_read_splits_too() -> None:
    def mapfn(name: str, value: list[int]) -> Iterator[tuple[int, str]]:
        if value[0] == 7:
            raise ValueError(name)
        yield value[0] % 2, name

    with ThreadPoolExecutor(2) as executor:
        result = jmr.run(numbers((1, 2), (), (3,)), mapfn, engine=executor)
        assert list(result.items()) == [(1, ["n1", "n3"]), (0, ["n2"])]
        result = jmr.run(numbers((6, UNREADABLE, 7), (8,)), mapfn, engine=executor, on_error="skip")
        assert (dict(result), [bad.key for bad in result.errors]) == ({0: ["n6", "n8"]}, ["file -1", "n7"])
        with pytest.raises(jmr.SourceError, match=r"^'file -1' cannot be read: Permission denied"):
            jmr.run(numbers((1, UNREADABLE)), mapfn, engine=executor)
        with pytest.raises(jmr.MapError, match="key='n7'") as caught:
            jmr.run(numbers((1, 7)), mapfn, engine=executor)
    assert (caught.value.key, caught.value.value) == ("n7", [7])


@pytest.mark.parametrize("engine", [None, "inline"])
def test_what_cannot_be_read_ends_the_job_with_its_key_and_the_reason(engine: Any) -> None:
    with pytest.raises(jmr.SourceError, match=r"^'file -1' cannot be read: Permission denied") as caught:
        jmr.run(numbers((1, UNREADABLE, 2)), parity, engine=engine)
    assert isinstance(caught.value.__cause__, PermissionError)


@pytest.mark.parametrize("engine", [None, "inline"])
def test_what_is_not_as_it_was_ends_the_job_too(engine: Any) -> None:
    with pytest.raises(jmr.SourceError, match=r"^'file -2' cannot be read: it is another one"):
        jmr.run(numbers((1, ABSENT)), parity, engine=engine)


def test_what_cannot_be_read_is_set_aside_at_its_place_and_the_rest_is_read() -> None:
    def mapfn(name: str, value: list[int]) -> Iterator[tuple[int, str]]:
        if value[0] in (3, 7):
            raise ValueError(name)
        yield value[0] % 2, name

    splits = ((1, 3, UNREADABLE, 2, ABSENT, 7), (UNREADABLE, 4), (7,))
    result = run_both(lambda: numbers(*splits), mapfn, on_error="skip")
    assert result == {1: ["n1"], 0: ["n2", "n4"]}
    assert [(bad.phase, bad.key) for bad in result.errors] == [
        ("map", "n3"),
        ("read", "file -1"),
        ("read", "file -2"),
        ("map", "n7"),
        ("read", "file -1"),
        ("map", "n7"),
    ]
    assert result.errors.n_total == 6
    with pytest.raises(jmr.ReplayError, match="'file -1' could not be read, so no function was called on it"):
        result.errors[1].replay()


@pytest.mark.parametrize("engine", [None, "inline"])
def test_an_error_of_the_source_that_it_does_not_tell_ends_the_job(engine: Any) -> None:
    with pytest.raises(jmr.SourceError, match=r"^a split of the source cannot be read: ValueError") as caught:
        jmr.run(numbers((BROKEN,)), parity, on_error="skip", engine=engine)
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_splits_comes_out_as_it_is() -> None:
    class Failing(jmr.Source):
        def splits(self) -> Iterator[jmr.Split]:
            yield Numbers((1,))
            raise ZeroDivisionError

    for engine in (None, "inline"):
        with pytest.raises(ZeroDivisionError):
            jmr.run(Failing(), parity, engine=engine)


def test_what_is_no_split_is_refused_and_what_cannot_travel() -> None:
    with pytest.raises(jmr.SourceError, match=r"Listed.splits\(\) yielded 1, which has no read\(\)"):
        jmr.run(Listed([1]), parity)
    with open(__file__) as file, pytest.raises(jmr.NotPicklableError, match="a split of the source"):
        jmr.run(Listed([Numbers((1,), told=file)]), parity)  # type: ignore[arg-type]


def test_where_the_kernel_can_be_asked_what_is_not_here_is_asked_for() -> None:
    split = b"".join(dump_split(Numbers((1, ABSENT))))
    common: dict[str, Any] = {"mapfn": parity, "combinefn": None, "n_partitions": 1}
    with pytest.raises(NotHereError):
        run_map(MapTask(**common, skips=True, asks=True), split)
    with pytest.raises(TaskError):
        run_map(MapTask(**common, skips=False), split)
    assert run_map(MapTask(**common, skips=True), split).failures.n_failures == 1


# A failing record is read again


def test_a_failing_record_is_found_by_reading_its_split_again() -> None:
    with pytest.raises(jmr.MapError, match="key='n5'") as caught:
        jmr.run(numbers((1, 2), (4, 5, 6)), lambda key, value: [(key, 1 / (value[0] - 5))])
    assert (caught.value.key, caught.value.value) == ("n5", [5])
    with pytest.raises(ZeroDivisionError):
        jmr.replay()


def test_records_that_mapfn_has_changed_are_set_aside_as_they_were() -> None:
    def mapfn(name: str, value: list[int]) -> Iterator[tuple[int, str]]:
        value[0] += 100
        if value[0] == 102:
            raise ValueError
        yield value[0], name

    result = jmr.run(numbers((1, UNREADABLE, 2)), mapfn, on_error="skip")
    assert [(bad.key, bad.value) for bad in result.errors] == [("file -1", None), ("n2", [2])]


def test_a_pair_that_does_not_pickle_is_found_in_a_second_reading() -> None:
    def mapfn(name: str, value: list[int]) -> Iterator[tuple[int, Any]]:
        yield value[0], open(os.devnull) if value[0] == 2 else 1

    with pytest.raises(jmr.NotPicklableError, match="key='n2'"):
        jmr.run(numbers((1, 2, 3)), mapfn)
    result = jmr.run(numbers((1, UNREADABLE, 2, 3)), mapfn, on_error="skip")
    assert dict(result) == {1: [1], 3: [1]}
    assert [bad.key for bad in result.errors] == ["file -1", "n2"]


@pytest.mark.slow
def test_a_record_that_ends_its_slot_is_found_and_left_out() -> None:
    def mapfn(name: str, value: list[int]) -> Iterator[tuple[int, str]]:
        if value[0] == 5:
            os._exit(3)
        yield value[0] % 2, name

    with pytest.raises(jmr.SlotDiedError, match="key='n5'"):
        jmr.run(numbers((1,), (4, 5, 6)), mapfn, max_attempts=2)
    result = jmr.run(numbers((1,), (4, UNREADABLE, 5, 6)), mapfn, max_attempts=2, on_error="skip")
    assert dict(result) == {1: ["n1"], 0: ["n4", "n6"]}
    assert [(bad.phase, bad.key, bad.value) for bad in result.errors] == [
        ("read", "file -1", None),
        ("map", "n5", [5]),
    ]


# Checkpoints


def test_a_checkpoint_knows_splits_by_their_fingerprints(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls")

    def mapfn(name: str, value: list[int], path: str = calls.path) -> Iterator[tuple[int, str]]:
        note(path, name)
        yield value[0] % 2, name

    def run(*splits: Numbers) -> Any:
        source = Listed(list(splits))
        result = jmr.run(source, mapfn, checkpoint=tmp_path / "kept")
        assert source.wanted == [None] * len(splits)
        return result

    first = run(Numbers((1,), "a"), Numbers((2,), "b"), Numbers((3,), ""))
    assert calls.take() == {"n1": 1, "n2": 1, "n3": 1}
    second = run(Numbers((1,), "a"), Numbers((2,), "b2"), Numbers((3,), ""))
    assert calls.take() == {"n2": 1, "n3": 1}
    assert first == second
    assert dict(run(Numbers((4,), "a"), Numbers((2,), "b2"))) == {1: ["n1"], 0: ["n2"]}
    assert calls.take() == {}


@dataclass(frozen=True)
class Unprinted(jmr.Split):
    """A number, and no fingerprint."""

    number: int

    def read(self, set_aside: SetAside) -> tuple[list[Any], list[Any]]:
        return [self.number], [self.number]


def test_a_checkpoint_says_once_that_splits_without_a_fingerprint_are_not_kept(tmp_path: Path) -> None:
    def notes(*splits: Any) -> list[str]:
        checkpoint = tmp_path / type(splits[0]).__name__
        result = jmr.run(Listed(list(splits)), lambda key, _: [(key, 1)], checkpoint=checkpoint)
        return result.summary._report.notes

    assert notes(Unprinted(1), Unprinted(2)) == [
        "splits of Listed have no fingerprint(), so checkpoint= keeps nothing of them"
    ]
    assert notes(Numbers((1,), "a"), Numbers((2,), "")) == []


# A look before


def test_a_preview_reads_the_first_records_here() -> None:
    seen = jmr.preview(numbers((1,), (2, 3), (BROKEN,)), parity, n=3)
    assert [key for key, _ in seen.records] == ["n1", "n2", "n3"]
    assert seen.n_records is None
    with pytest.raises(jmr.SourceError, match="'file -1' cannot be read"):
        jmr.preview(numbers((1, UNREADABLE)), parity)
