"""A record or group that ends its slot is named, and so is how: by whom, after what it had printed."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jmr
from jmr.codec.values import dump, dump_at_most, load
from jmr.coordinator.mail import JobPoisoned, Origin
from jmr.engines import deaths
from jmr.engines.deaths import bad_record_of, error_of_death
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.session import running
from jmr.tasks.contract import Failures
from jmr.tasks.folding import NOWHERE, CarefulFolder, is_group
from jmr.tasks.map import MapTask, run_map
from jmr.tasks.partition import Groups
from jmr.wire.messages import GROUP_BYTES, TAIL_BYTES
from jmr.worker.output import Allowance, OutputReader, Tail, mark, notice
from jmr.worker.spot import Spot


def identity(key: Any, value: Any) -> Any:
    return [(key, value)]


def total(key: Any, values: list[int]) -> int:
    return sum(values)


PLAN = Plan.checked({}, identity, total)


def poison(index: int | None = 1, **fields: Any) -> JobPoisoned:
    """Of the second record of three, unless said otherwise."""
    split = b"".join(dump((["a", "b", "c"], [1, 2, 3])))
    common = {"task": "map-4", "slot": "h2/3", "n_deaths": 2, "status": 3, "peak_bytes": 40_000_000, "stack": []}
    return JobPoisoned(**common | {"index": index, "origin": Origin([split])} | fields)


# How a death is told


def test_a_death_is_told_with_its_record_its_exit_and_its_last_lines() -> None:
    error = error_of_death(poison(printed=b"one\ntwo\n\nthree\n", stack=["f (a.py:1)", "g (a.py:2)"]), PLAN)
    assert str(error) == (
        "mapfn ended its process 2 times, at record key='b' (split map-4, worker h2/3): exited with code 3, in "
        "f (a.py:1), called by g (a.py:2); peak memory 40.0 MB.\n"
        "It had printed last:\n"
        "    one\n"
        "    two\n"
        "    three\n"
        "To look into it: jmr.replay() calls mapfn on that record again, in a process of its own, and shows what it "
        'prints and how it ends. To go on without that record: on_error="skip".'
    )
    assert (error.key, error.value) == ("b", 2)


def test_a_death_at_a_record_that_is_not_kept_is_not_to_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "MOST_KEPT_BYTES", 1)
    error = error_of_death(poison(), PLAN)
    assert str(error).endswith(
        "\nTo look into it: have mapfn print where it is, as its last lines are told. To go on without that record: "
        'on_error="skip".'
    )
    with pytest.raises(jmr.ReplayError, match="it takes more than"):
        error.replay()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (0, "exited with code 0"),
        (-signal.SIGSEGV, "killed by signal 11 (SIGSEGV; C code touched memory that is not its own)"),
        (-signal.SIGTERM, "killed by signal 15 (SIGTERM)"),
        (-signal.SIGABRT, "killed by signal 6 (SIGABRT; C code called abort()"),
        (-63, "killed by signal 63 (unknown)"),
    ],
)
def test_every_way_to_end_has_words(status: int, told: str) -> None:
    assert f": {told}" in str(error_of_death(poison(status=status), PLAN))


def test_of_what_was_printed_the_last_five_lines_are_told_and_nothing_takes_effect() -> None:
    lines = [b"%d" % n for n in range(9)] + [b"\x1b[2Jcleared", b"\xff", b"x" * 1_000]
    error = error_of_death(poison(printed=b"\n".join(lines)), PLAN)
    (told,) = re.findall(r"(?s)printed last:\n(.*)\nTo look", str(error))
    assert told.split("\n") == ["    7", "    8", "    \\x1b[2Jcleared", "    \\xff", "    " + "x" * 197 + "..."]


def test_a_line_whose_beginning_is_cut_off_is_not_told() -> None:
    tail = Tail()
    tail.add(1, b"a long line " * 1_000 + b"\nlast\n")
    assert "It had printed last:\n    last\nTo" in str(error_of_death(poison(printed=tail.of(1)), PLAN))
    tail.add(1, b"y" * 3_000 + b"\n")
    assert "It had printed last:\n    yyyyy" in str(error_of_death(poison(printed=tail.of(1)), PLAN)), (
        "it is all there is"
    )


def test_the_last_lines_are_told_of_a_death_at_no_record_too() -> None:
    error = error_of_death(poison(None, printed=b"bye\n"), PLAN)
    told = "and at no single record: exited with code 3; peak memory 40.0 MB.\nIt had printed last:\n    bye\n"
    assert told in str(error)
    assert not hasattr(error, "key")


def test_a_worker_that_names_a_record_that_is_not_there_is_not_believed() -> None:
    assert "and at no single record" in str(error_of_death(poison(99), PLAN))
    assert "and at no single group" in str(error_of_death(poison(-7), PLAN))


# Groups that combinefn is given in a map task


def test_a_group_has_a_number_that_depends_on_its_key_alone() -> None:
    told: list[tuple[int, Any, list[int]]] = []

    def numbers(leave_out: frozenset[int], *keys: Any) -> list[int]:
        told.clear()
        folder = CarefulFolder(
            total, Failures(skips=False), lambda *at: told.append((at[0], at[1], at[2][:])), leave_out
        )
        groups = Groups()
        for key in keys:
            groups[key].append(1)
        folder.fold_all(groups)
        assert [number for number, *_ in told[1::2]] == [NOWHERE] * (len(told) // 2), "after each"
        return [number for number, *_ in told[::2]]

    first = numbers(frozenset(), "duck", 1, 2.5)
    assert all(map(is_group, first))
    assert len(set(first)) == 3
    assert told[0][1:] == ("duck", [1])
    again = numbers(frozenset(), 2.5, True, "goose", "duck")
    assert [again[0], again[1], again[3]] == [first[2], first[1], first[0]]
    assert numbers(frozenset({first[0]}), "duck", 1) == [first[1]], "that one is left out"
    assert numbers(frozenset(), range(3)) == [], "its place would be another one elsewhere"


def test_a_group_that_is_left_out_is_dead_in_the_output() -> None:
    split = b"".join(dump((["a", "b"], [1, 2])))
    at: list[Any] = []

    def attempt(leave_out: frozenset[int]) -> Any:
        task = MapTask(
            mapfn=identity,
            combinefn=total,
            n_partitions=1,
            skips=True,
            leave_out=leave_out,
            cursor=lambda index: None,
            at_group=lambda *told: at.append(told[:2]),
        )
        (pieces,) = run_map(task, split).partitions
        return load(bytearray(b"".join(pieces)))

    assert attempt(frozenset())[2] == [], "no position is dead"
    number, key = at[0]
    assert key == "a"
    keys, _, dead, lists = attempt(frozenset({number}))
    assert (keys, dead, lists) == (["a", "b"], [0], [[None], [2]])


def test_a_death_in_combinefn_names_the_group_that_its_slot_left() -> None:
    plan = Plan.checked({}, identity, total, combinefn=total)
    number = NOWHERE - 5
    whole = error_of_death(poison(number, group=b"".join(dump(("duck", [1, 2])))), plan)
    assert str(whole).startswith("combinefn ended its process 2 times, at group key='duck' (split map-4, worker h2/3)")
    assert (whole.key, whole.value) == ("duck", [1, 2])
    large = bad_record_of(poison(number, group=b"".join(dump(("duck",)))), plan)
    assert (large.phase, large.key, large.value) == ("combine", "duck", None)
    with pytest.raises(AttributeError, match="the group is not known here: its slot left no copy of it"):
        large.replay()
    for lie in (b"", b"garbage", b"".join(dump(7)), b"".join(dump((1, 2, 3)))):
        assert "and at no single group" in str(error_of_death(poison(number, group=lie), plan))


@pytest.fixture
def spot() -> Any:
    spot = Spot()
    yield spot
    spot.close()


def test_a_spot_tells_where_a_slot_is(spot: Spot) -> None:
    assert (spot.index, spot.group) == (None, b"")
    spot.tell(7)
    assert (spot.index, spot.group) == (7, b"")
    spot.tell_group(-9, "duck", [1, 2])
    assert (spot.index, load(bytearray(spot.group))) == (-9, ("duck", [1, 2]))
    spot.tell_group(-9, "duck", ["x" * GROUP_BYTES])
    assert load(bytearray(spot.group)) == ("duck",), "the values are too many"
    spot.tell_group(-9, "x" * GROUP_BYTES, [1])
    assert (spot.index, spot.group) == (-9, b"")
    spot.tell_group(NOWHERE, None, [])
    assert (spot.index, spot.group) == (None, b"")


def test_only_what_is_small_is_pickled_and_the_rest_is_not_looked_at_for_long() -> None:
    n_pickled = 0

    class Counted:
        def __reduce__(self) -> Any:
            nonlocal n_pickled
            n_pickled += 1
            return bytes, (bytes([n_pickled % 256]) * 100_000,)

    assert dump_at_most([Counted() for _ in range(1_000)], 1_000_000) is None
    assert n_pickled < 15
    array = np.arange(10_000)
    assert dump_at_most(array, 10_000) is None
    blob = dump_at_most(array, 100_000)
    assert blob is not None
    back = load(bytearray(blob))
    back[0] = 7
    assert back.sum() == array.sum() + 7
    assert dump_at_most(threading.Lock(), 100) is None, "it cannot be pickled"


# What was printed last


def test_the_tail_has_the_last_lines_of_the_job_whether_they_were_passed_on_or_not() -> None:
    tail = Tail()
    nothing = Allowance(0, 0)
    readers = [OutputReader("local/1", stream, nothing, tail) for stream in (1, 2)]
    for reader in readers:
        reader._own = nothing
    out, err = readers
    out.feed(mark(1) + b"of another job\n" + mark(2) + b"one\nha", 0.0)
    out.feed(b"lf\n", 0.0)
    assert tail.of(2) == b"one\nhalf\n"
    err.feed(mark(1) + b"late\n" + mark(2), 0.0)
    assert tail.of(2) == b"one\nhalf\n", "one stream is read before the other"
    err.feed(b"two\n" + notice("UserWarning: odd", "a.py", 3), 0.0)
    assert sum(message.n_hidden for message in err.flush() + out.flush()) > 0
    assert tail.of(2) == b"one\nhalf\ntwo\nUserWarning: odd\n"
    err.feed(b"z" * 100_000, 0.0)
    err.flush()
    assert len(tail.of(2)) <= TAIL_BYTES


# In real slots


def run(mapfn: Any = identity, reducefn: Any = None, *, on_error: Any = "raise", **options: Any) -> jmr.Result:
    source = {key: key for key in range(20)}
    return jmr.run(source, mapfn, reducefn, on_error=on_error, max_attempts=2, progress=False, **options)


def last_report() -> Report:
    report = running._last
    assert report is not None
    return report


def mod3(key: int, value: int) -> Any:
    return [(key % 3, value)]


def dying(end: Callable[[], object], at: int) -> Callable[[int, Any], Any]:
    """A function that ends its process at a key."""

    def function(key: int, value: Any) -> Any:
        print("at", key, flush=True)
        if key == at:
            end()
        return sum(value) if isinstance(value, list) else [(key, value)]

    return function


ENDS: dict[str, tuple[Callable[[], object], str]] = {
    "os._exit": (lambda: os._exit(7), "exited with code 7"),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9 (SIGKILL"),
    "segfault": (lambda: ctypes.string_at(0), "killed by signal 11 (SIGSEGV"),
    "abort": (os.abort, "killed by signal 6 (SIGABRT"),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_record_that_ends_its_slot_is_named_with_what_was_printed_before(end: str) -> None:
    function, told = ENDS[end]
    with pytest.raises(jmr.SlotDiedError, match=re.escape(told)) as caught:
        run(dying(function, at=5), workers=1)
    assert "mapfn ended its process 2 times, at record key=5" in str(caught.value)
    assert "    at 5\nTo look into it" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["os._exit", "segfault"])
@pytest.mark.parametrize(
    ("role", "phase", "key"), [("mapfn", "map", 5), ("combinefn", "combine", 1), ("reducefn", "reduce", 1)]
)
def test_poison_is_set_aside_like_any_bad_record(end: str, role: str, phase: str, key: int) -> None:
    functions: dict[str, Any] = {"mapfn": mod3, "reducefn": total}
    if role == "mapfn":
        inner = dying(ENDS[end][0], at=5)
        functions["mapfn"] = lambda k, v: [(k % 3, v) for k, v in inner(k, v)]
    else:
        functions[role] = dying(ENDS[end][0], at=1)
    result = run(**functions, on_error="skip", workers=2)
    expected = {0: 63, 1: 70, 2: 57}
    if role == "mapfn":
        expected[2] -= 5
    else:
        del expected[1]
    assert dict(result) == expected
    assert {(bad.phase, bad.key, type(bad.error)) for bad in result.errors} == {(phase, key, jmr.SlotDiedError)}
    assert all(bad.value for bad in result.errors)
    n_died = sum(attempt.outcome == "died" for attempt in result.timeline)
    assert n_died >= 2 * len(result.errors)
    assert result.errors.n_total == len(result.errors) == last_report().n_skipped


@pytest.mark.slow
def test_what_is_set_aside_of_a_split_is_in_source_order_however_it_ended() -> None:
    def mapfn(key: int, value: int) -> Any:
        if key == 200:
            os._exit(3)
        raise ValueError("odd")

    result = jmr.run(dict.fromkeys(range(400), 0), mapfn, on_error="skip", max_attempts=1, workers=2, progress=False)
    assert [bad.key for bad in result.errors] == list(range(400))
    assert isinstance(result.errors[200].error, jmr.SlotDiedError)


@pytest.mark.slow
def test_a_group_that_ends_its_slot_without_a_reducefn_is_combinefns() -> None:
    def fold(key: int, values: list[int]) -> int:
        if len(values) > 1:
            os._exit(3)
        return values[0]

    with pytest.raises(jmr.SlotDiedError, match=r"combinefn ended its process 2 times, at group key=\d \(reduce-"):
        jmr.run(
            [(1, 1), (2, 2)], mod3 if False else lambda k, v: [(0, v)], combinefn=fold, max_attempts=2, progress=False
        )
