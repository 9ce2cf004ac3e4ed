"""How a source is read: lazily, once, in the calling thread, and not far ahead of the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import jmr
from jmr.session.running import running_jobs
from tests.engines.trial import Trial

#: No job of these tests reads as many, unless it reads all there are.
ENDLESS = 1_000_000


def counting(read: list[int]) -> Iterator[tuple[int, int]]:
    """As good as endless."""
    for number in range(ENDLESS):
        read.append(number)
        yield number, number
    pytest.fail("the source was read to its end")


def test_a_job_on_an_endless_source_can_fail(engine: Trial) -> None:
    read: list[int] = []
    with pytest.raises(jmr.MapError, match="ZeroDivisionError"):
        engine.run(counting(read), lambda key, value: 1 / (key - 50) and [])
    assert read == list(range(len(read)))


@pytest.mark.slow
def test_large_records_are_not_read_far_ahead(engine: Trial) -> None:
    ahead: list[int] = []

    def large() -> Iterator[tuple[int, bytes]]:
        for number in range(300):
            (report,) = running_jobs()
            ahead.append(number - report.n_records)
            yield number, bytes(1 << 20)

    result = engine.run(large(), lambda key, value: [("bytes", len(value))], lambda key, values: sum(values))
    assert result == {"bytes": 300 << 20}
    assert max(ahead) <= 256, "in megabytes"


def test_the_job_is_seen_to_go_on_while_the_source_is_read(engine: Trial) -> None:
    def until_some_are_mapped() -> Iterator[tuple[int, int]]:
        for number in range(ENDLESS):
            yield number, 1
            (report,) = running_jobs()
            if report.n_records:
                return
        pytest.fail("nothing was counted while the source was read")

    result = engine.run(until_some_are_mapped(), lambda key, value: [("n", value)], lambda key, values: sum(values))
    assert result == {"n": result.stats.n_records}


def test_a_source_is_read_in_the_thread_that_calls(engine: Trial) -> None:
    threads: set[threading.Thread] = set()

    def source() -> Iterator[tuple[int, int]]:
        for number in range(100):
            threads.add(threading.current_thread())
            yield number, number

    engine.run(source(), lambda key, value: [(key, value)])
    assert threads == {threading.current_thread()}


class OddSource(Exception):
    pass


def test_what_a_source_raises_comes_out_unchanged(engine: Trial) -> None:
    raised = OddSource("no more ducks")

    def source() -> Iterator[tuple[int, int]]:
        for number in range(100):
            yield number, number
        raise raised

    with pytest.raises(OddSource) as caught:
        engine.run(source(), lambda key, value: [(key, value)])
    assert caught.value is raised
    assert caught.traceback[-1].name == "source"
    assert raised.__cause__ is None


@pytest.mark.parametrize(
    ("source", "words"),
    [(5, "source is 5"), ("abc", "source is 'abc'"), ([1, 2], "source yielded 1"), ([(1, 2, 3)], "source yielded")],
    ids=repr,
)
def test_a_source_of_no_pairs_is_told(engine: Trial, source: Any, words: str) -> None:
    with pytest.raises(jmr.SourceError, match=words):
        engine.run(source, lambda key, value: [(key, value)])
