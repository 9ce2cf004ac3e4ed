"""What failed is run again on the very record, here, where a debugger works; or in a slot, if it ended one."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jmr
from jmr import errors
from jmr.engines import replay as engines_replay
from jmr.result import BadRecord
from jmr.session import replaying

if TYPE_CHECKING:
    pass

SOURCE = [(key, [key, key * 10]) for key in range(12)]
ENGINES = [None, "inline"]


def run(source: Any = SOURCE, mapfn: Any = None, reducefn: Any = None, **options: Any) -> jmr.Result:
    return jmr.run(source, mapfn or identity, reducefn, progress=False, **options)


def identity(key: Any, value: Any) -> Any:
    return [(key, value)]


def failing(kind: type[errors.JmrError], *args: Any, **options: Any) -> Any:
    """The error of a job that fails."""
    with pytest.raises(kind) as caught:
        run(*args, **options)
    return caught.value


def innermost(error: BaseException) -> FrameType:
    """The frame that an exception was raised in."""
    traceback_ = error.__traceback__
    assert traceback_ is not None
    while traceback_.tb_next is not None:
        traceback_ = traceback_.tb_next
    return traceback_.tb_frame


def empties_and_raises(key: int, value: list[int]) -> Iterator[tuple[int, int]]:
    taken = [value.pop(), value.pop()]
    if key == 7:
        raise ValueError(f"odd duck {taken}")
    yield key, sum(taken)


# The record of an error


def test_the_error_has_the_record_as_it_was_before_mapfn_changed_it() -> None:
    error = failing(jmr.MapError, mapfn=empties_and_raises)
    assert (error.key, error.value) == (7, [7, 70])


@pytest.mark.parametrize("bad", [0, 7, 500])
def test_the_record_is_found_among_the_others_of_its_split(bad: int) -> None:
    """The first splits have one record each, later ones many."""
    error = failing(jmr.MapError, [(n, str(n)) for n in range(900)], lambda k, v: [(k, 1 / (k - bad))])
    assert (error.key, error.value) == (bad, str(bad))


def test_replay_raises_the_users_exception_with_its_frames_alive() -> None:
    error = failing(jmr.MapError, mapfn=empties_and_raises)
    for _ in range(2):  # the first has emptied its copy
        with pytest.raises(ValueError, match=r"odd duck \[70, 7\]") as caught:
            error.replay()
        frame = innermost(caught.value)
        assert frame.f_code is empties_and_raises.__code__
        assert (frame.f_locals["key"], frame.f_locals["taken"]) == (7, [70, 7])
        assert caught.value.__context__ is None
    ours = [frame.name for frame in traceback.extract_tb(caught.tb) if Path(frame.filename).parent.name == "jmr"]
    assert ours == []


def test_an_array_in_the_record_is_a_writable_copy() -> None:
    error = failing(jmr.MapError, [(7, np.full(10_000, 7))], lambda k, a: [(k, [][bump(a)])])
    for _ in range(2):
        assert error.value[0] == 7
        with pytest.raises(IndexError):
            error.replay()
    error.value[0] = 1
    assert error.value[0] == 7


def bump(array: np.ndarray[Any, Any]) -> int:
    array[0] += 1
    return int(array[0])


def sorts_and_raises(key: int, values: list[int]) -> int:
    values.sort()
    raise KeyError(values.pop())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_group_is_replayed_with_its_values_in_source_order(engine: Any) -> None:
    def mapfn(key: int, value: Any) -> Any:
        return [("all", -key)]

    error = failing(jmr.ReduceError, SOURCE, mapfn, sorts_and_raises, engine=engine)
    if engine is None:
        assert (error.key, error.value) == ("all", [-key for key in range(12)])
    with pytest.raises(KeyError) as caught:
        error.replay()
    assert innermost(caught.value).f_code is sorts_and_raises.__code__


@pytest.mark.parametrize("reducefn", [None, max])
def test_combinefn_is_replayed_with_the_values_that_it_was_given(reducefn: Any) -> None:
    def mapfn(key: int, value: Any) -> Any:
        return [("all", n) for n in (3, 1, 2)]

    error = failing(jmr.CombineError, {1: 0}, mapfn, reducefn, combinefn=sorts_and_raises)
    assert (error.key, error.value) == ("all", [3, 1, 2])
    with pytest.raises(KeyError, match="3"):
        error.replay()


def test_what_combinefn_is_given_after_the_splits_were_merged_is_a_group_like_any_other() -> None:
    def fold(key: str, values: list[int]) -> int:
        if len(values) > 1:
            raise ValueError("two")
        return values[0]

    error = failing(jmr.CombineError, [(1, 10), (2, 20)], lambda k, v: [("all", v)], combinefn=fold)
    assert error.value == [10, 20]


def test_inline_keeps_what_cannot_be_pickled() -> None:
    lock = threading.Lock()
    error = failing(jmr.MapError, [(1, lock)], lambda k, v: [][k], engine="inline")
    assert error.value is lock
    with pytest.raises(IndexError):
        error.replay()


def test_a_record_behind_a_pair_that_cannot_be_pickled_is_known() -> None:
    error = failing(jmr.NotPicklableError, SOURCE, lambda k, v: [(k, threading.Lock() if k == 5 else v)])
    assert error.key == 5
    with pytest.raises(jmr.NotPicklableError, match=r"(?s)cannot be sent on.*key=5 \(replayed here\)"):
        error.replay()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"mapfn": lambda k, v: k}, jmr.MapError, "which is no iterable of"),
        ({"mapfn": lambda k, v: [([], v)]}, jmr.MapError, "which is not hashable"),
        ({"combinefn": lambda k, v: (n for n in v)}, jmr.CombineError, "write return, not yield"),
    ],
    ids=["no pairs", "no hash", "a generator"],
)
def test_what_jmr_refuses_is_refused_again_in_the_same_words(engine: Any, options: Any, kind: Any, told: str) -> None:
    error = failing(kind, {3: 3}, engine=engine, **options)
    with pytest.raises(kind, match=told) as caught:
        error.replay()
    assert str(caught.value).startswith(str(error).partition("(")[0])
    assert caught.value.key == error.key == 3


def test_a_result_that_cannot_be_sent_back_is_refused_again() -> None:
    error = failing(jmr.NotPicklableError, {3: 4}, identity, lambda k, v: threading.Lock())
    with pytest.raises(jmr.NotPicklableError, match="reducefn returned a result that cannot be sent back"):
        error.replay()


def test_what_does_not_fail_any_more_gives_its_value_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def mapfn(key: int, value: int) -> Iterator[Any]:
        yield key, 1
        yield [key, helper(value)]

    helper = lambda value: 1 / value  # noqa: E731 - it is to be mended
    error = failing(jmr.MapError, {5: 0}, mapfn)
    helper = lambda value: 0.0  # noqa: E731
    assert error.replay() == [(5, 1), (5, 0.0)]
    assert capsys.readouterr().err == (
        "jmr: mapfn did not fail this time, for record key=5; the value of this call is the list of pairs that it "
        "emitted.\n"
    )


def test_what_a_generator_of_reducefns_yields_comes_as_a_list() -> None:
    def reducefn(key: int, values: list[int]) -> Iterator[int]:
        yield from values
        yield 1 // divisor

    divisor = 0
    error = failing(jmr.ReduceError, {5: 7}, identity, reducefn)
    divisor = 1
    assert error.replay() == [7, 1]


def test_a_failing_final_is_replayed_too() -> None:
    def final(key: int, value: Any) -> None:
        assert key != 2, f"two: {value}"

    error = failing(jmr.FinalError, final=final)
    assert (error.key, error.value) == (2, [[2, 20]])
    for replay in (error.replay, jmr.replay):
        with pytest.raises(AssertionError, match="two"):
            replay()


def test_breakpoint_works_in_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def mapfn(key: int, value: Any) -> Any:
        breakpoint()
        return [(key, value)]

    stops: list[int] = []
    error = failing(jmr.MapError, {5: 0}, mapfn)
    assert "breakpoint() in a slot has no terminal" in str(error)
    assert "jmr.replay() stops in it, in your own process; engine=" in str(error)
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1).f_locals["key"]))
    assert error.replay() == [(5, 0)]
    assert stops == [5]


@pytest.mark.parametrize("is_connected", [False, True])
@pytest.mark.parametrize("how", ["replay", "inline"])
def test_breakpoint_stops_in_a_kernel_whose_hook_waits_for_a_front_end(
    monkeypatch: pytest.MonkeyPatch, how: str, is_connected: bool
) -> None:
    def mapfn(key: int, value: int) -> Any:
        breakpoint()
        return [(key, value)]

    stops: list[str] = []

    def deaf() -> None:
        stops.append("the front end's")

    error = failing(jmr.MapError, {5: 0}, mapfn)
    deaf.__module__ = "debugpy.public_api"
    monkeypatch.setitem(sys.modules, "debugpy", types.SimpleNamespace(is_client_connected=lambda: is_connected))
    monkeypatch.setattr(sys, "breakpointhook", deaf)
    monkeypatch.setattr(sys, "__breakpointhook__", lambda: stops.append("Python's"))
    if how == "replay":
        assert error.replay() == [(5, 0)]
    else:
        assert jmr.run({5: 0}, mapfn, engine="inline", progress=False) == {5: [0]}
    assert stops == ["the front end's" if is_connected else "Python's"]
    assert sys.breakpointhook is deaf


# What is not kept


def test_a_record_that_is_too_large_is_told_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_replay, "MOST_KEPT_BYTES", 1_000)
    error = failing(jmr.MapError, {5: "x" * 2_000}, lambda k, v: [][k])
    told = "the record is not known here: it takes more than"
    with pytest.raises(errors.ReplayError, match=told):
        error.replay()
    with pytest.raises(AttributeError, match=told):
        error.value
    assert not hasattr(error, "key")
    assert str(error).endswith('run it again with engine="inline", under python -m pdb.')
    with pytest.raises(errors.ReplayError, match=told):
        jmr.replay()


def test_a_large_input_is_not_read_for_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_replay, "MOST_READ_BYTES", 100)
    error = failing(jmr.MapError, {5: "x" * 2_000}, lambda k, v: [][k])
    with pytest.raises(errors.ReplayError, match=r"it lies in a split of 2\.\d+ kB"):
        error.replay()
    error = failing(jmr.ReduceError, {5: "x" * 2_000}, identity, lambda k, v: [][k])
    with pytest.raises(errors.ReplayError, match=r"the group is not known here: it lies in a partition of 2\.\d+ kB"):
        error.replay()


class InSlotsOnly:
    """Unpickles in slots, and not here."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() == state["home"]:
            raise OSError("not at home")
        self.__dict__.update(state)


def test_a_record_that_does_not_unpickle_here_is_told() -> None:
    error = failing(jmr.MapError, {5: InSlotsOnly(os.getpid())}, lambda k, v: [][k])
    with pytest.raises(errors.ReplayError, match=r"cannot be unpickled: OSError\('not at home'\)"):
        error.replay()
    result = run({5: InSlotsOnly(os.getpid())}, lambda k, v: [][k], on_error="skip")
    with pytest.raises(errors.ReplayError, match=r"cannot be unpickled: OSError\('not at home'\)"):
        result.errors[0].replay()


def test_an_error_of_no_record_says_so() -> None:
    for error in (jmr.MapError("what"), jmr.SlotDiedError("what"), jmr.NotPicklableError("what")):
        with pytest.raises(errors.ReplayError, match=f"this {type(error).__name__} is of no single record"):
            error.replay()
        assert not hasattr(error, "key")
    with pytest.raises(errors.ReplayError, match="no job has made this BadRecord"):
        BadRecord("map", 1, 2, ValueError(), "").replay()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_takes_its_record_along_when_it_is_pickled_and_leaves_the_functions(engine: Any) -> None:
    error = failing(jmr.MapError, {5: "five"}, lambda k, v: [][k], engine=engine)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.key, back.value) == (jmr.MapError, str(error), 5, "five")
    with pytest.raises(errors.ReplayError, match="mapfn did not travel with this error"):
        back.replay()


def test_an_error_whose_record_cannot_be_pickled_is_pickled_without() -> None:
    error = failing(jmr.MapError, {5: threading.Lock()}, lambda k, v: [][k], engine="inline")
    back = pickle.loads(pickle.dumps(error))
    with pytest.raises(errors.ReplayError, match="it was not pickled with the rest"):
        back.replay()


# Bad records


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_record_is_replayed(engine: Any) -> None:
    def mapfn(key: int, value: list[int]) -> Any:
        total = sum(value)
        if key % 2:
            raise ValueError(total)
        return [(key, total)]

    result = run(SOURCE, mapfn, on_error="skip", engine=engine)
    with pytest.raises(ValueError, match="77") as caught:
        result.errors[3].replay()
    assert innermost(caught.value).f_locals == {"key": 7, "value": [7, 70], "total": 77}


def test_a_bad_record_is_kept_as_it_was_before_mapfn_changed_it() -> None:
    result = run(mapfn=empties_and_raises, on_error="skip")
    (bad,) = result.errors
    assert (bad.key, bad.value) == (7, [7, 70])
    for _ in range(2):
        with pytest.raises(ValueError, match="odd duck"):
            bad.replay()
    assert bad.value == [7, 70], "it was given copies"


def test_a_bad_group_is_kept_as_it_was_before_reducefn_changed_it() -> None:
    result = run(SOURCE, lambda k, v: [("all", -k)], sorts_and_raises, on_error="skip")
    (bad,) = result.errors
    assert (bad.phase, bad.value) == ("reduce", [-key for key in range(12)])
    with pytest.raises(KeyError):
        bad.replay()


def test_a_bad_record_whose_array_mapfn_changed_is_kept_as_it_was() -> None:
    source = [(7, np.full(10_000, 7)), (8, np.full(10_000, 8))]
    result = run(source, lambda k, a: [(k, [][bump(a)])], on_error="skip", workers=1)
    assert [bad.value[0] for bad in result.errors] == [7, 8]
    result = run(source, lambda k, a: [(bump(a), threading.Lock())], on_error="skip", workers=1)
    assert [bad.value[0] for bad in result.errors] == [7, 8], "also where all is mapped twice, to find the culprit"


def test_a_pickled_result_has_its_bad_records_without_the_functions() -> None:
    huge = bytes(1_000_000)
    result = run(mapfn=lambda k, v: [(k, len(huge))] if k != 7 else [][k], on_error="skip")
    blob = pickle.dumps(result)
    assert len(blob) < 20_000
    (bad,) = pickle.loads(blob).errors
    assert (bad.key, bad.value) == (7, [7, 70])
    with pytest.raises(errors.ReplayError, match="mapfn did not travel"):
        bad.replay()


def test_a_bad_record_of_which_only_a_description_is_kept_is_not_replayed() -> None:
    result = run({5: threading.Lock()}, lambda k, v: [][k], on_error="skip", engine="inline")
    with pytest.raises(errors.ReplayError, match="its value is too large to be kept, or cannot be pickled"):
        result.errors[0].replay()


# jmr.replay


def test_replay_is_of_the_last_job_that_failed() -> None:
    failing(jmr.MapError, {1: 0}, lambda k, v: [][k])
    failing(jmr.ReduceError, {1: 0}, identity, lambda k, v: {}[k])
    run()
    with pytest.raises(KeyError):
        jmr.replay()


def test_replay_is_of_a_submitted_job_too() -> None:
    job = jmr.submit({1: 0}, lambda k, v: 1 / v, progress=False)
    with pytest.raises(jmr.MapError):
        job.result()
    with pytest.raises(ZeroDivisionError):
        jmr.replay()


def test_replay_before_any_job_has_failed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "_last", None)
    with pytest.raises(errors.ReplayError, match="no job has failed in this process"):
        jmr.replay()


def test_replay_of_a_job_that_failed_elsewhere_says_why_it_did() -> None:
    failing(jmr.SourceError, 5, name="counts")
    with pytest.raises(errors.ReplayError, match=r"'counts', the last .* at no single .*: SourceE.*here: engine=\"inl"):
        jmr.replay()


def test_a_cancelled_job_has_not_failed() -> None:
    failing(jmr.MapError, {1: 0}, lambda k, v: 1 / v)
    started, go_on = threading.Event(), threading.Event()

    def source() -> Iterator[tuple[int, int]]:
        started.set()
        go_on.wait()
        yield 1, 1

    job = jmr.submit(source(), identity, engine="inline", progress=False)
    started.wait()
    job.cancel()
    go_on.set()
    with pytest.raises(jmr.JobCancelled):
        job.result()
    with pytest.raises(ZeroDivisionError):
        jmr.replay()


def test_the_last_failure_keeps_no_frames_and_no_large_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_replay, "MOST_KEPT_BYTES", 1_000)

    def fail() -> None:
        with pytest.raises(jmr.MapError) as caught:
            jmr.run({1: "x" * 2_000}, lambda k, v: [][k], engine="inline", progress=False)
        assert len(caught.value.value) == 2_000, "while the error is kept"

    fail()
    gc.collect()
    with pytest.raises(errors.ReplayError, match="and its record is gone: MapError: mapfn raised IndexError"):
        jmr.replay()


# What ended its process


@pytest.mark.slow
def test_what_ended_its_process_is_replayed_in_another_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    poisonous = tmp_path / "poisonous"
    poisonous.touch()

    def mapfn(key: int, value: int) -> Any:
        print("at", key, flush=True)
        if key == 5 and poisonous.exists():
            os._exit(3)
        return [(key, os.getpid()), (key, value)]

    error = failing(jmr.SlotDiedError, dict.fromkeys(range(9), 0), mapfn, max_attempts=1)
    assert (error.key, error.value) == (5, 0)
    capfd.readouterr()
    for replay in (error.replay, jmr.replay):
        with pytest.raises(jmr.SlotDiedError, match=r"mapfn ended its process once, at record key=5") as caught:
            replay()
        assert "exited with code 3" in str(caught.value)
        assert "It had printed last:\n    at 5\n" in str(caught.value)
        told = "\nTo look into it: have mapfn print where it is, as its last lines are told."
        assert str(caught.value).endswith(told), "it has just been replayed"
        assert capfd.readouterr().out.endswith("] at 5\n")
    poisonous.unlink()
    (_, pid), last = caught.value.replay()
    assert pid != os.getpid()
    assert last == (5, 0)
    assert "jmr: mapfn did not end its process this time" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("role", ["combinefn", "reducefn"])
def test_a_group_that_ended_its_process_is_replayed_in_another_one(tmp_path: Path, role: str) -> None:
    poisonous = tmp_path / "poisonous"
    poisonous.touch()

    def fold(key: str, values: list[int]) -> int:
        if poisonous.exists():
            os._exit(3)
        return sum(values)

    source = [(1, 10), (2, 20)]
    mapfn = lambda k, v: [("all", v), ("all", 1)]  # noqa: E731
    error = failing(jmr.SlotDiedError, source, mapfn, max_attempts=1, **{role: fold})
    assert error.key == "all"
    with pytest.raises(jmr.SlotDiedError, match=f"{role} ended its process once, at group key='all'"):
        error.replay()
    poisonous.unlink()
    assert error.replay() == sum(error.value)


@pytest.mark.slow
def test_skipped_poison_is_replayed_in_another_process() -> None:
    result = run(mapfn=lambda k, v: os._exit(3) if k == 5 else [(k, v)], on_error="skip", max_attempts=1)
    (bad,) = result.errors
    assert (bad.key, bad.value) == (5, [5, 50])
    with pytest.raises(jmr.SlotDiedError, match="at record key=5"):
        bad.replay()
