"""A job with a checkpoint, run again: only what is left, or what depends on a change, runs; the answer is inline's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jmr
from jmr.checkpoint.journal import Cut, KeptMap, KeptResult, Run
from jmr.result import Result
from tests.checkpoints import Calls, alone, entries, note, value_of
from tests.namespaces import PATH, check_machine

RECORDS = [(key, 10 * key) for key in range(6)]


def mapper(calls: str, factor: int = 1) -> Callable[[int, bytearray], Iterator[tuple[str, int]]]:
    def mapfn(key: int, large: bytearray) -> Iterator[tuple[str, int]]:
        note(calls, key)
        value = factor * value_of(large)
        yield "odd" if key % 2 else "even", value
        yield f"key {key}", value

    return mapfn


def total(key: str, values: list[int]) -> int:
    return sum(values)


class Rerun:
    """Runs jobs on one checkpoint; each time says which records were mapped, and checks the answer."""

    def __init__(self, path: Path) -> None:
        self.path = path / "kept"
        self.calls = Calls(path / "calls")
        self.result: Result = Result()

    def __call__(
        self,
        records: Iterable[tuple[Any, int]] = RECORDS,
        mapfn: Callable[..., Any] | None = None,
        reducefn: Callable[..., Any] | None = total,
        **options: Any,
    ) -> list[int]:
        records, options = list(records), {"workers": 2, "n_partitions": 4} | options
        job = mapfn or mapper(self.calls.path), reducefn
        self.result = jmr.run(alone(records), *job, checkpoint=self.path, progress=False, **options)
        mapped = [int(key) for key in self.calls.take().elements()]
        del options["workers"]
        inline = jmr.run(alone(records), *job, engine="inline", progress=False, **options)
        self.calls.take()
        assert list(self.result.items()) == list(inline.items())
        assert list(map(type, self.result.values())) == list(map(type, inline.values()))
        assert [(bad.key, repr(bad.error)) for bad in self.result.errors] == [
            (bad.key, repr(bad.error)) for bad in inline.errors
        ]
        return sorted(mapped)

    @property
    def attempts(self) -> list[str]:
        """Attempts of the last run, map and reduce."""
        return [attempt.task.partition("-")[0] for attempt in self.result.timeline]

    @property
    def notes(self) -> list[str]:
        """What the last run had to say."""
        return self.result.summary._report.notes

    def a_file(self, kind: type[KeptMap | KeptResult]) -> Path:
        """One that has something in it."""
        kept = entries(self.path, kind)[-1]
        return self.path / (kept.path if isinstance(kept, KeptMap) else kept.blob.path)


@pytest.fixture
def rerun(tmp_path: Path) -> Rerun:
    return Rerun(tmp_path)


def test_a_finished_job_run_again_runs_nothing(rerun: Rerun) -> None:
    assert rerun() == [0, 1, 2, 3, 4, 5]
    assert rerun.notes == []
    assert rerun() == []
    assert rerun.attempts == []
    (note,) = rerun.notes
    assert note == f"6 of 6 map tasks and 4 of 4 reduce tasks were kept in {rerun.path}"
    assert (rerun.result.stats.n_records, rerun.result.stats.n_pairs) == (6, 12)


def test_the_card_of_a_job_that_ran_nothing_can_be_shown(rerun: Rerun) -> None:
    rerun()
    rerun()
    assert "were kept in" in str(rerun.result.summary)
    assert "were kept in" in rerun.result.summary._repr_mimebundle_()["text/html"]


def test_another_reducefn_runs_the_reduce_alone(rerun: Rerun) -> None:
    rerun()
    assert rerun(reducefn=lambda key, values: max(values)) == []
    assert set(rerun.attempts) == {"reduce"}
    assert rerun.notes == [f"6 of 6 map tasks and 0 of 4 reduce tasks were kept in {rerun.path}"]
    assert rerun(reducefn=None) == []


def test_another_captured_value_runs_all(rerun: Rerun) -> None:
    rerun()
    assert rerun(mapfn=mapper(rerun.calls.path, factor=2)) == [0, 1, 2, 3, 4, 5]
    assert rerun.notes == [f"mapfn, or what it uses, is not as it was in {rerun.path}: everything is done again"]
    assert rerun() == [0, 1, 2, 3, 4, 5]  # the other one's end has removed what was kept


def test_what_a_module_gave_that_was_edited_while_the_job_ran_is_not_kept(
    rerun: Rerun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited.py").write_text("VALUE = 1")
    marker, file = str(tmp_path / "marker"), str(tmp_path / "edited.py")

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[int, int]]:
        if key == 1 and not os.path.exists(marker):
            Path(marker).touch()
            Path(file).write_text("VALUE = 22")
        from edited import VALUE  # type: ignore[import-not-found]

        yield key, VALUE

    def run() -> Result:
        return jmr.run(alone([(1, 0)]), mapfn, checkpoint=rerun.path, workers=1, progress=False)

    result = run()
    assert result == {1: [22]}
    (note,) = result.summary._report.notes
    assert note == f"{file} was changed while the job ran: what it gave since is not kept"
    Path(file).write_text("VALUE = 1")
    assert run() == {1: [1]}


class Telling:
    """Does something else, once, while it is fingerprinted or pickled."""

    do: Callable[[], None] | None = None

    def __reduce__(self) -> Any:
        do, Telling.do = Telling.do, None
        if do is not None:
            do()
        return Telling, ()


def test_what_changes_while_a_job_begins_is_not_taken_for_what_it_was(rerun: Rerun) -> None:
    captured, telling = [1], Telling()

    def mapfn(key: int, large: bytearray, what: Any = (captured, telling)) -> Iterator[tuple[int, list[int]]]:
        yield key, what[0]

    Telling.do = lambda: captured.append(2)
    result = jmr.run(alone([(0, 0)]), mapfn, checkpoint=rerun.path, progress=False)
    assert result == {0: [[1, 2]]}
    assert result.summary._report.notes == [
        "what the functions use was changed while the job began: nothing of it is kept"
    ]
    captured.remove(2)
    assert jmr.run(alone([(0, 0)]), mapfn, checkpoint=rerun.path, progress=False) == {0: [[1]]}


def test_another_combinefn_runs_all_and_the_same_nothing(rerun: Rerun) -> None:
    rerun()
    assert rerun(combinefn=total) == [0, 1, 2, 3, 4, 5]
    told = f"mapfn, combinefn, or what they use, is not as it was in {rerun.path}: everything is done again"
    assert rerun.notes == [told]
    assert rerun(combinefn=total) == []


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ([*RECORDS[:2], (2, 77), *RECORDS[3:]], [2]),
        ([*RECORDS, (6, 60)], [6]),
        (RECORDS[:4], []),
        (RECORDS[1:], []),
        ([*RECORDS[:3], (9, 90), *RECORDS[3:]], [9]),
        (RECORDS[::-1], []),
    ],
    ids=["in place", "appended", "the end removed", "the first removed", "inserted", "turned around"],
)
def test_a_changed_record_runs_its_own_split_again(
    rerun: Rerun, changed: list[tuple[int, int]], again: list[int]
) -> None:
    rerun()
    assert rerun(changed) == again


def test_records_of_several_to_a_split_are_cut_where_they_were(tmp_path: Path) -> None:
    calls, kept = Calls(tmp_path / "calls"), tmp_path / "kept"

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        note(calls.path, key)
        yield key % 3, value

    def run(source: Any) -> set[str]:
        result = jmr.run(source, mapfn, checkpoint=kept, workers=2, progress=False)
        mapped = set(calls.take())
        assert list(result.items()) == list(jmr.run(source, mapfn, engine="inline").items())
        calls.take()
        return mapped

    source = {key: key for key in range(1000)}
    assert len(run(source)) == 1000
    ends = [cut.end for cut in entries(kept, Cut)]
    assert ends[-1] == 1000
    assert run(source) == set()
    changed = next(end for end in ends if end > 500)
    first = ends[ends.index(changed) - 1]
    assert run(source | {first: -1}) == {str(key) for key in range(first, changed)}
    assert [cut.end for cut in entries(kept, Cut)] == ends


def test_equal_splits_are_mapped_as_often_as_they_are_there(rerun: Rerun) -> None:
    """A mapfn that draws lots must not draw the same for all."""
    assert rerun([(1, 5), (1, 5), (2, 5)]) == [1, 1, 2]
    assert rerun([(1, 5), (1, 5), (2, 5)]) == []
    assert rerun([(1, 5), (2, 5), (1, 5), (1, 5)]) == [1]


def test_the_number_of_partitions_is_that_of_the_run_before(rerun: Rerun) -> None:
    rerun(n_partitions=3)
    assert rerun(n_partitions=None) == []
    assert entries(rerun.path, Run)[-1].n_partitions == 3
    assert rerun(n_partitions=5) == [0, 1, 2, 3, 4, 5]
    assert rerun.notes == [f"n_partitions was 3 in {rerun.path}: everything is done again"]


def test_a_failed_job_goes_on_where_it_was(rerun: Rerun, tmp_path: Path) -> None:
    fails, calls = str(tmp_path / "fails"), rerun.calls.path
    Path(fails).touch()

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[int, int]]:
        note(calls, key)
        if key == 4 and os.path.exists(fails):
            raise ValueError("not now")
        yield key % 2, value_of(large)

    with pytest.raises(jmr.MapError, match="not now"):
        rerun(mapfn=mapfn, workers=1)
    assert jmr.last._report.notes == [f"what was finished is kept in {rerun.path}: run it again to go on"]
    rerun.calls.take()
    os.unlink(fails)
    assert rerun(mapfn=mapfn, workers=1) == [4, 5]
    assert rerun.notes[0].startswith("4 of 6 map tasks and 0 of 2 reduce tasks were kept in ")


def test_a_reduce_that_failed_goes_on_where_it_was(rerun: Rerun, tmp_path: Path) -> None:
    fails, reduced = str(tmp_path / "fails"), Calls(tmp_path / "reduced")
    Path(fails).touch()

    def reducefn(key: str, values: list[int]) -> int:
        if key == "key 3" and os.path.exists(fails):
            raise ValueError("not now")
        note(reduced.path, key)
        return sum(values)

    with pytest.raises(jmr.ReduceError, match="not now"):
        rerun(reducefn=reducefn, workers=1)
    kept = len(entries(rerun.path, KeptResult))
    os.unlink(fails)
    rerun(reducefn=reducefn, workers=1)
    assert rerun.attempts == ["reduce"] * (4 - kept)
    assert rerun.notes == [f"6 of 6 map tasks and {kept} of 4 reduce tasks were kept in {rerun.path}"]


def test_what_is_skipped_is_kept_and_fails_a_job_that_does_not_skip(rerun: Rerun) -> None:
    calls = rerun.calls.path

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[str, int]]:
        note(calls, key)
        if key == 3:
            raise ValueError("an odd one")
        yield f"key {key}", value_of(large)

    def reducefn(key: str, values: list[int]) -> int:
        if key == "key 4":
            raise KeyError("another")
        return sum(values)

    assert rerun(mapfn=mapfn, reducefn=reducefn, on_error="skip") == [0, 1, 2, 3, 4, 5]
    assert rerun(mapfn=mapfn, reducefn=reducefn, on_error="skip") == []
    assert rerun.attempts == []
    assert [(bad.phase, bad.key) for bad in rerun.result.errors] == [("map", 3), ("reduce", "key 4")]
    with pytest.raises(jmr.MapError, match="an odd one"):
        rerun(mapfn=mapfn, reducefn=reducefn)
    assert rerun.calls.take() == {"3": 1}


def test_keys_without_a_stable_place_are_restored_too(rerun: Rerun) -> None:
    calls = rerun.calls.path

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[range, int]]:
        note(calls, key)
        yield range(key % 2), value_of(large)

    assert rerun(mapfn=mapfn) == [0, 1, 2, 3, 4, 5]
    assert len(entries(rerun.path, KeptResult)) == 1
    assert rerun(mapfn=mapfn) == []
    assert rerun.attempts == []


def test_a_record_that_ends_its_slot_is_tried_again_and_its_job_has_the_same_answer(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[int, int]]:
        if key == 2:
            os._exit(3)
        yield key, value_of(large)

    answers = []
    for _ in range(2):
        result = jmr.run(
            alone(RECORDS), mapfn, checkpoint=kept, on_error="skip", max_attempts=1, workers=2, progress=False
        )
        answers.append((dict(result), [bad.key for bad in result.errors]))
    assert answers[0] == answers[1] == ({key: [value] for key, value in RECORDS if key != 2}, [2])
    assert len(entries(kept, KeptMap)) == 5


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def test_an_array_of_a_kept_result_may_be_written(rerun: Rerun) -> None:
    def zeros(key: int, value: int) -> list[tuple[int, Any]]:
        return [(key, np.zeros(10_000))]

    for _ in range(2):
        result = jmr.run([(1, 1)], zeros, lambda key, values: values[0], checkpoint=rerun.path, progress=False)
        result[1] += 1
        assert result[1].sum() == 10_000


class Moody:
    """Cannot be unpickled at times."""

    def __reduce__(self) -> Any:
        return Moody.made, ()

    @classmethod
    def made(cls) -> Moody:
        return cls()


def test_a_result_that_cannot_be_unpickled_is_made_again(rerun: Rerun, monkeypatch: pytest.MonkeyPatch) -> None:
    def reducefn(key: str, values: list[int]) -> Any:
        from tests.test_restored import Moody

        return Moody() if key == "odd" else sum(values)

    job = partial(jmr.run, mapfn=mapper(rerun.calls.path), reducefn=reducefn, checkpoint=rerun.path, progress=False)
    job(alone(RECORDS), n_partitions=4)
    loads = []

    def first_fails(cls: type) -> Moody:
        loads.append(cls)
        if len(loads) == 1:
            raise AttributeError("it was renamed")
        return cls()

    monkeypatch.setattr(Moody, "made", classmethod(first_fails))
    result = job(alone(RECORDS))
    assert type(result["odd"]) is Moody
    assert result.summary._report.notes == [
        f"6 of 6 map tasks and 3 of 4 reduce tasks were kept in {rerun.path}",
        "some of the checkpoint cannot be unpickled here, and is done again",
    ]


@pytest.mark.parametrize("harm", [damage, cut_off, os.unlink], ids=["damaged", "cut off", "removed"])
def test_an_output_that_is_not_as_it_was_is_made_again(rerun: Rerun, harm: Callable[[Path], None]) -> None:
    rerun()
    harm(rerun.a_file(KeptMap))
    assert len(rerun()) == 1
    assert "some of the checkpoint was missing or damaged, and is done again" in rerun.notes
    assert rerun() == []


@pytest.mark.parametrize("harm", [damage, cut_off, os.unlink], ids=["damaged", "cut off", "removed"])
def test_a_result_that_is_not_as_it_was_is_made_again(rerun: Rerun, harm: Callable[[Path], None]) -> None:
    rerun()
    harm(rerun.a_file(KeptResult))
    assert rerun() == []
    assert rerun.attempts == ["reduce"]
    assert "some of the checkpoint was missing or damaged, and is done again" in rerun.notes
    rerun()
    assert rerun.attempts == []


def test_a_torn_line_of_the_journal_costs_what_it_told(rerun: Rerun) -> None:
    rerun()
    journal = rerun.path / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    last = max(index for index, line in enumerate(lines) if b'"kind":"map"' in line)
    journal.write_bytes(b"".join(lines[:last]) + lines[last][:40])
    assert len(rerun()) == 1
    assert "the checkpoint's journal was damaged in 1 line" in rerun.notes
    assert rerun() == []
    assert len(rerun.notes) == 1


def test_a_lost_journal_costs_everything_and_the_answer_is_right(rerun: Rerun) -> None:
    rerun()
    (rerun.path / "journal").unlink()
    assert rerun() == [0, 1, 2, 3, 4, 5]
    assert rerun() == []


def test_what_is_kept_while_the_source_waits(rerun: Rerun) -> None:
    """The thread that reads the source may wait in it for hours: what was mapped meanwhile is kept."""

    def waits() -> Iterator[tuple[int, bytearray]]:
        yield from alone(RECORDS[:1])
        while not entries(rerun.path, KeptMap):
            os.sched_yield()
        yield from alone(RECORDS[1:])

    jmr.run(waits(), mapper(rerun.calls.path), total, checkpoint=rerun.path, n_partitions=4, workers=2, progress=False)
    rerun.calls.take()
    assert rerun() == []


def test_a_submitted_job_has_a_checkpoint_too(rerun: Rerun) -> None:
    rerun()
    job = jmr.submit(alone(RECORDS), mapper(rerun.calls.path), total, checkpoint=rerun.path, progress=False)
    assert job.result() == rerun.result
    assert not rerun.calls.take()


def test_a_cancelled_job_goes_on_where_it_was(rerun: Rerun, tmp_path: Path) -> None:
    waits, calls = str(tmp_path / "waits"), rerun.calls.path
    Path(waits).touch()

    def mapfn(key: int, large: bytearray) -> Iterator[tuple[int, int]]:
        note(calls, key)
        while key >= 3 and os.path.exists(waits):
            os.sched_yield()
        yield key % 2, value_of(large)

    options = {"checkpoint": rerun.path, "n_partitions": 4, "workers": 2, "progress": False}
    job = jmr.submit(alone(RECORDS), mapfn, total, **options)
    while len(entries(rerun.path, KeptMap)) < 3:
        os.sched_yield()
    job.cancel()
    with pytest.raises(jmr.JobCancelled):
        job.result()
    os.unlink(waits)
    rerun.calls.take()
    assert rerun(mapfn=mapfn) == [3, 4, 5]


def test_two_jobs_on_one_checkpoint_are_refused(rerun: Rerun) -> None:
    def again() -> Iterator[tuple[int, bytearray]]:
        yield from alone(RECORDS[:1])
        with pytest.raises(jmr.ArgumentValueError, match="is in use, by another job of this very process"):
            jmr.run({1: 1}, total, checkpoint=rerun.path)
        yield from alone(RECORDS[1:])

    jmr.run(again(), mapper(rerun.calls.path), total, checkpoint=rerun.path, n_partitions=4, progress=False)
    assert rerun.calls.take().total() == 6


def test_the_records_of_a_slow_source_are_cut_where_they_were(tmp_path: Path, monkeypatch: Any) -> None:
    """One that takes longer than slots may be left waiting, so that a split would end before its size is reached."""
    calls, kept = Calls(tmp_path / "calls"), tmp_path / "kept"

    def mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
        note(calls.path, key)
        yield key, value

    def run() -> int:
        jmr.run(((key, (key, "x")) for key in range(300)), mapfn, checkpoint=kept, workers=2, progress=False)
        return calls.take().total()

    assert run() == 300
    monkeypatch.setattr("jmr.engines.splitting._READ_SECONDS", -1.0)
    assert run() == 0


def test_a_buffer_that_the_source_fills_again_is_seen_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("jmr.engines.splitting._READ_SECONDS", -1.0)
    calls, kept = Calls(tmp_path / "calls"), tmp_path / "kept"

    def source(fill: int) -> Iterator[tuple[int, bytearray]]:
        buffer = bytearray(3 << 20)
        for key in range(6):
            buffer[:] = bytes([key * fill]) * len(buffer)
            yield key, buffer

    def mapfn(key: int, value: bytearray) -> Iterator[tuple[int, int]]:
        note(calls.path, key)
        yield key, value[-1]

    def run(fill: int) -> tuple[list[int], int]:
        result = jmr.run(source(fill), mapfn, lambda key, values: values[0], checkpoint=kept, workers=2, progress=False)
        return list(result.values()), calls.take().total()

    assert run(1) == ([0, 1, 2, 3, 4, 5], 6)
    assert run(1) == ([0, 1, 2, 3, 4, 5], 0)
    assert run(2) == ([0, 2, 4, 6, 8, 10], 5)


def test_a_job_that_failed_lets_go_of_its_checkpoint(rerun: Rerun) -> None:
    with pytest.raises(jmr.SourceError):
        jmr.run(5, total, checkpoint=rerun.path)
    assert rerun() == [0, 1, 2, 3, 4, 5]


def test_the_inline_engine_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(jmr.ArgumentValueError, match='engine="inline" keeps nothing in a checkpoint'):
        jmr.run({}, total, checkpoint=tmp_path, engine="inline")


@pytest.mark.parametrize("wrong", [5, b"kept", "", "a\0b", True])
def test_a_checkpoint_is_a_path(wrong: Any) -> None:
    with pytest.raises((jmr.ArgumentTypeError, jmr.ArgumentValueError), match="checkpoint must be a directory's path"):
        jmr.run({}, total, checkpoint=wrong)


def test_a_checkpoint_is_on_this_host() -> None:
    with pytest.raises(jmr.ArgumentValueError) as caught:
        jmr.run({}, total, checkpoint="s3://me:secret@bucket/kept")
    assert str(caught.value) == (
        "checkpoint='s3://bucket/kept' is a URL, and a checkpoint needs a directory on this host"
    )


#: A disk that has less to spare than jobs leave to others: nothing can be kept there.
FULL = """
import os, sys
import jmr
source = {key: key for key in range(40)}
job = source, lambda key, value: [(key % 3, bytes(1000))], lambda key, values: len(b"".join(values))
result = jmr.run(*job, checkpoint="small", workers=2, progress=False)
assert list(result.items()) == list(jmr.run(*job, engine="inline").items())
print(*result.summary._report.notes, sep="; ")
"""


@pytest.mark.slow
def test_a_job_whose_checkpoint_has_no_room_gives_its_answer_and_says_so(tmp_path: Path) -> None:
    check_machine()
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=16M,mode=700 tmpfs small && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mount, "sh", sys.executable, "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PATH": PATH, "PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ outputs could not be kept in small: No space left on device\n", done.stdout), done.stdout
