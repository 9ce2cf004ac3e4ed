"""A group that is larger than a host's memory is named before it is whole, and nothing else is lost with it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import jmr
from jmr.codec.values import dump_groups, load_columns
from jmr.engines.base import bad_record, error_from
from jmr.errors import ReduceError, ReplayError, WorkerError
from jmr.plan import Plan
from jmr.tasks import fitting
from jmr.tasks.contract import Failures, TaskError
from jmr.tasks.reduce import Inputs, ReduceTask, run_reduce


class Heavy:
    """A value that knows how many there are."""

    live: ClassVar[int] = 0
    peak: ClassVar[int] = 0

    def __init__(self, number: int) -> None:
        self.number = number
        Heavy.live += 1
        Heavy.peak = max(Heavy.peak, Heavy.live)

    def __del__(self) -> None:
        Heavy.live -= 1

    def __reduce__(self) -> Any:
        return Heavy, (self.number,)


class Scale:
    """A memory in which nothing but heavy values takes anything: 100 MB each."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.n_given_back = 0

    def used_bytes(self) -> int:
        return Heavy.live * 100_000_000

    def most_bytes(self) -> int | None:
        return None if self.most is None else self.most * 100_000_000

    def give_back(self) -> None:
        self.n_given_back += 1


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(fitting, "_BYTES_PER_LOOK", 1)
    assert Heavy.live == 0
    Heavy.peak = 0
    yield
    assert Heavy.live == 0, "somebody holds on to what was merged"


def inputs_of(*splits: dict[Any, int]) -> Inputs:
    """Blobs with so many heavy values of each key."""
    blobs = []
    for split, n_of in enumerate(splits):
        lists: list[list[Any]] = [[Heavy(i) for i in range(n)] for n in n_of.values()]
        pieces = dump_groups(list(n_of), list(range(len(n_of))), [], lists=lists)
        blobs.append((split, bytearray(b"".join(pieces))))
    Heavy.peak = 0
    return blobs


def counts(key: Any, values: list[Any]) -> int:
    return len(values)


def reduced(inputs: Inputs, memory: Scale, *, skips: bool = False) -> tuple[dict[Any, int], Failures]:
    task = ReduceTask(reducefn=counts, combinefn=None, skips=skips, memory=memory)
    pieces, failures = run_reduce(task, [inputs])
    keys, _, values = load_columns(bytearray(b"".join(pieces)), 3)
    return dict(zip(keys, values, strict=True)), failures


LARGE = [{"a": 1, "large": 5, "b": 1}] * 20


def test_a_group_that_fits_reaches_reducefn_however_full_the_memory_is() -> None:
    memory = Scale(140)
    assert reduced(inputs_of(*LARGE), memory)[0] == {"a": 20, "large": 100, "b": 20}
    assert memory.n_given_back == 0


def test_where_nobody_knows_what_there_is_all_is_merged() -> None:
    assert reduced(inputs_of(*LARGE), Scale(None))[0]["large"] == 100


def test_one_that_does_not_fit_is_named_with_its_size_and_never_held() -> None:
    with pytest.raises(TaskError) as caught:
        reduced(inputs_of(*LARGE), Scale(50))
    error = error_from(caught.value.failure, "reduce-3, attempt 1, worker local/1")
    assert type(error) is ReduceError
    assert str(error) == (
        "the group of key='large' has 100 values, about 10 GB, and a slot of this host can have about 5 GB: fold "
        "them with a combinefn, or make the key finer\n"
        "Seen for group key='large' (reduce-3, attempt 1, worker local/1)."
    )
    assert Heavy.peak <= 50 + 2 * 7


def test_skipping_sets_it_aside_with_what_is_said_of_it_and_reduces_the_others() -> None:
    result, failures = reduced(inputs_of(*LARGE, {"c": 2}), Scale(50), skips=True)
    assert result == {"a": 20, "b": 20, "c": 2}
    assert Heavy.peak <= 50 + 2 * 7
    (failure,) = failures.first
    bad = bad_record(failure, Plan.checked({}, lambda key, value: [], lambda key, values: sum(values)))
    with pytest.raises(ReplayError, match="its value is too large to be kept"):
        bad.replay()
    assert (bad.phase, bad.key, bad.value) == ("reduce", "large", "100 values")
    assert "the group of key='large' has 100 values" in str(bad.error)


def test_several_that_do_not_fit_are_all_set_aside() -> None:
    result, failures = reduced(inputs_of(*[{"x": 2, "y": 3, "z": 1}] * 30), Scale(40), skips=True)
    assert result == {"z": 30}
    assert sorted(failure.key_text for failure in failures.first) == ["'x'", "'y'"]


def test_indices_of_groups_do_not_change_when_some_are_left_out() -> None:
    told: list[int] = []
    task = ReduceTask(reducefn=counts, combinefn=None, skips=True, memory=Scale(50), cursor=told.append)
    run_reduce(task, [inputs_of(*LARGE)])
    assert told == [0, 2, -1]


def test_groups_that_fit_one_by_one_and_not_together_end_the_job_even_if_bad_ones_are_skipped() -> None:
    with pytest.raises(TaskError) as caught:
        reduced(inputs_of(*[dict.fromkeys(range(20), 1)] * 10), Scale(50), skips=True)
    error = error_from(caught.value.failure, "reduce-0, attempt 1, worker local/1")
    assert type(error) is WorkerError
    assert "20 groups that have to be in memory at once take about" in str(error)
    assert "whose groups can be reduced apart" in str(error)


def test_what_the_slot_had_before_is_not_blamed_on_a_group() -> None:
    others = [Heavy(i) for i in range(60)]
    assert reduced(inputs_of({"a": 5}, {"a": 5}), Scale(50))[0] == {"a": 10}
    del others


def test_small_inputs_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_BYTES_PER_LOOK", 1 << 22)
    memory = Scale(1)
    monkeypatch.setattr(memory, "used_bytes", None)
    assert reduced(inputs_of({"a": 5}, {"a": 5}), memory)[0] == {"a": 10}


@pytest.fixture
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """For slots; what map tasks leave goes to disk."""
    monkeypatch.setenv("JMR_MEMORY_LIMIT", "240M")
    monkeypatch.setenv("JMR_MEMORY", "0")


def blocks(key: int, n: int) -> Iterator[tuple[Any, Any]]:
    for i in range(n):
        yield "all", f"{key} {i} " * 100
    yield key % 4, key


def told(key: Any, values: list[Any]) -> Any:
    return len(values), values[-1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
def test_a_group_larger_than_its_slots_share_still_reaches_reducefn() -> None:
    with jmr.Cluster(workers=2):
        result = jmr.run(dict.fromkeys(range(60), 2000), blocks, told, progress=False, n_partitions=2)
    n_values, last, peak = result["all"]
    assert (n_values, last) == (120_000, "59 1999 " * 100)
    assert 100_000_000 < peak < 240 << 20
    assert [result[key][:2] for key in range(4)] == [(15, 56 + key) for key in range(4)]


@pytest.mark.slow
@pytest.mark.usefixtures("_little_memory")
def test_a_group_larger_than_the_host_is_told_by_key_and_size_and_the_cluster_goes_on() -> None:
    source = dict.fromkeys(range(100), 4000)
    with jmr.Cluster(workers=1):
        with pytest.raises(jmr.ReduceError, match=r"the group of key='all' has 400,000 values, about 0\.3") as caught:
            jmr.run(source, blocks, told, progress=False)
        assert "a slot of this host can have about 0.2" in str(caught.value)
        result = jmr.run(source, blocks, told, progress=False, on_error="skip")
    assert list(result) == list(range(4))
    assert max(peak for _, _, peak in result.values()) < 240 << 20
    ((phase, key, value),) = [(bad.phase, bad.key, bad.value) for bad in result.errors]
    assert (phase, key, value) == ("reduce", "all", "400,000 values")
