"""What engines of others call on their workers: pure functions of bytes."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jmr.codec.functions import dump_functions
from jmr.codec.values import dump_columns, load, load_columns
from jmr.engines import calls, prints
from jmr.engines.calls import JobCall, Receipt, call_map, call_reduce
from jmr.tasks.contract import Failure


def job_of(mapfn: Any, reducefn: Any = None, combinefn: Any = None, **options: Any) -> JobCall:
    functions = b"".join(dump_functions({"mapfn": mapfn, "reducefn": reducefn, "combinefn": combinefn}))
    given = {"id": uuid.uuid4().hex, "functions": functions, "n_partitions": 4, "skips": False} | options
    return JobCall(**given)


def split_of(records: dict[Any, Any]) -> bytes:
    return b"".join(dump_columns(list(records), list(records.values())))


def failure_of(receipt: Receipt) -> Failure:
    failure = load(receipt.failed)
    assert isinstance(failure, Failure)
    return failure


def words(name: str, text: str) -> Any:
    for word in text.split():
        yield word, 1


def test_what_maps_leave_is_reduced_in_the_order_of_splits() -> None:
    job = job_of(lambda key, value: [(value % 10, key)])
    left = [call_map(job, index, split_of({10 * index + i: i for i in range(5)})) for index in range(3)]
    found: dict[Any, Any] = {}
    for partition in range(4):
        inputs = [(index, blobs[partition]) for index, (_, blobs) in enumerate(left) if blobs[partition]]
        receipt, blob = call_reduce(job, partition, inputs)
        keys, orders, values = load_columns(blob, 3)
        assert orders == sorted(orders)
        found.update(zip(keys, values, strict=True))
        assert receipt.lengths == (len(blob),)
    assert found == {i: [i, 10 + i, 20 + i] for i in range(5)}
    receipt, blobs = left[0]
    assert (receipt.n_records, receipt.n_pairs, receipt.lengths) == (5, 5, tuple(map(len, blobs)))


def test_a_failure_is_a_value_and_carries_the_record_as_it_was() -> None:
    def mapfn(key: str, value: list[int]) -> Any:
        value.clear()
        raise ValueError(key)

    receipt, blobs = call_map(job_of(mapfn), 0, split_of({"a": [1, 2]}))
    failure = failure_of(receipt)
    assert blobs == []
    assert (failure.phase, failure.key_text, failure.is_whole) == ("map", "'a'", True)
    assert failure.record is not None
    assert load(failure.record) == ("a", [1, 2])


def test_a_failing_group_carries_its_values_as_they_were() -> None:
    def reducefn(key: str, values: list[int]) -> Any:
        values.sort()
        raise ValueError(key)

    job = job_of(words, reducefn, n_partitions=1)
    _, (blob,) = call_map(job, 0, split_of({"a.txt": "the cat the dog"}))
    receipt, nothing = call_reduce(job, 0, [(0, blob)])
    failure = failure_of(receipt)
    assert nothing == b""
    assert failure.record is not None
    assert load(failure.record) == ("the", [1, 1])


def test_a_failing_combiner_carries_what_it_was_given() -> None:
    def combinefn(key: str, values: list[int]) -> Any:
        raise ValueError(key)

    receipt, _ = call_map(job_of(words, combinefn=combinefn), 0, split_of({"a.txt": "the " * 1_000}))
    failure = failure_of(receipt)
    assert failure.phase == "combine"
    assert failure.record is not None
    key, values = load(failure.record)
    assert (key, set(values)) == ("the", {1})


def test_bad_records_are_set_aside_where_the_job_skips() -> None:
    job = job_of(lambda key, value: [(key, 1 / value)], skips=True)
    receipt, _ = call_map(job, 0, split_of({"a": 1, "b": 0, "c": 0}))
    assert (receipt.failed, receipt.n_failures, receipt.n_pairs) == (b"", 2, 1)
    assert [failure.key_text for failure in load(receipt.failures).first] == ["'b'", "'c'"]


def test_what_user_code_receives_is_writable_and_the_input_stays_as_it_is() -> None:
    def mapfn(key: int, value: Any) -> Any:
        value += 1
        yield 0, value

    def reducefn(key: int, values: list[Any]) -> Any:
        values[0] += 1
        return int(values[0].sum())

    job = job_of(mapfn, reducefn, n_partitions=1)
    split = split_of({0: np.zeros(100_000)})
    before = bytes(split)
    _, (blob,) = call_map(job, 0, split)
    assert split == before
    for given in (blob, memoryview(blob), bytearray(blob)):
        _, result = call_reduce(job, 0, [(0, given)])
        assert load_columns(result, 3)[2] == [200_000]


def test_a_worker_of_another_python_says_which_it_has() -> None:
    receipt, _ = call_map(job_of(words, id="of another", python=(2, 7)), 0, split_of({"a": "b"}))
    failure = failure_of(receipt)
    assert failure.phase == "functions"
    own = ".".join(map(str, sys.version_info[:2]))
    assert f"the kernel runs Python 2.7, and this worker Python {own}" in failure.raised.text


def test_functions_that_cannot_be_unpickled_are_told() -> None:
    receipt, _ = call_map(replace(job_of(words), id="bad", functions=b"rubbish"), 0, split_of({"a": "b"}))
    assert failure_of(receipt).phase == "functions"


def test_a_process_holds_the_functions_of_few_jobs_and_unpickles_them_once() -> None:
    jobs = [job_of(words, id=f"job {number}") for number in range(10)]
    for job in jobs:
        call_map(job, 0, split_of({"a": "b"}))
    assert list(calls._functions) == [f"job {number}" for number in range(6, 10)]
    kept = calls._functions["job 9"]
    call_map(replace(jobs[9], functions=b"not read again"), 0, split_of({"a": "b"}))
    assert calls._functions["job 9"] is kept


def test_of_functions_that_are_large_those_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job_of(words, id=f"large {number}") for number in range(3)]
    calls._functions.clear()
    monkeypatch.setattr(calls, "_MOST_FUNCTION_BYTES", 2 * len(jobs[0].functions))
    for job, left in [(0, "0"), (1, "01"), (0, "10"), (2, "02")]:
        call_map(jobs[job], 0, split_of({"a": "b"}))
        assert list(calls._functions) == [f"large {number}" for number in left]
    monkeypatch.setattr(calls, "_MOST_FUNCTION_BYTES", 0)
    call_map(jobs[1], 0, split_of({"a": "b"}))  # the latest is needed, whatever it takes
    assert list(calls._functions) == ["large 1"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_was_forked_while_a_lock_was_held_runs_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    job = job_of(words)
    with calls._lock, prints._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)
            try:
                os._exit(call_map(job, 0, split_of({"a": "b c"}))[0].n_pairs)
            finally:
                os._exit(99)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 2


def test_a_key_without_a_stable_hash_is_told() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Odd)

        def __hash__(self) -> int:
            return 1

    receipt, _ = call_map(job_of(lambda key, value: [(Odd(), value)]), 0, split_of({"a": 1}))
    assert receipt.is_unstable


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()])
def test_user_code_that_ends_its_process_or_interrupts_it_fails(ending: BaseException) -> None:
    def mapfn(key: str, value: int) -> Any:
        raise ending

    failure = failure_of(call_map(job_of(mapfn), 0, split_of({"a": 1}))[0])
    assert failure.raised.type_name == type(ending).__name__


def test_what_a_task_prints_comes_with_its_receipt_and_other_prints_go_where_they_went(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mapfn(key: str, value: int) -> Any:
        print("from mapfn", key)
        sys.stderr.writelines(["odd ", "duck"])
        return []

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # both are put back at the end
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    receipt, _ = call_map(job_of(mapfn), 0, split_of({"a": 1, "b": 2}))
    print("from the test")
    assert receipt.printed == ((1, b"from mapfn a\nfrom mapfn b\n", 0), (2, b"odd duckodd duck\n", 0))
    assert capsys.readouterr().out == "from the test\n"


def test_in_the_kernel_itself_prints_need_no_help(capsys: pytest.CaptureFixture[str]) -> None:
    job = job_of(lambda key, value: print("seen"), kernel=calls.here()[:2])
    receipt, _ = call_map(job, 0, split_of({"a": 1}))
    assert receipt.printed == ()
    assert capsys.readouterr().out == "seen\n"


def test_of_a_flood_the_first_is_kept_and_the_rest_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def mapfn(key: str, value: int) -> Any:
        for _ in range(value):
            sys.stdout.write("x" * 999 + "\n")

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    receipt, _ = call_map(job_of(mapfn), 0, split_of({"a": 100}))
    ((stream, text, n_hidden),) = receipt.printed
    assert (stream, text.count(b"\n"), n_hidden) == (1, 65, 35)
