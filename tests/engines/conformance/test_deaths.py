"""A worker's process dies: the job ends with a sentence, never hangs, and the engine is usable, or says why not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import jmr
from tests.engines.clusters import process_pool
from tests.engines.trial import PROCESSES, Trial, on

pytestmark = pytest.mark.slow

SOURCE = {n: n for n in range(20)}


def dies_in_map(key: int, value: int) -> list[tuple[int, int]]:
    if key == 7:
        os._exit(3)
    return [(key % 3, value)]


def in_threes(key: int, value: int) -> list[tuple[int, int]]:
    return [(key % 3, value)]


def dies_in_reduce(key: int, values: list[int]) -> int:
    if key == 1:
        os._exit(3)
    return sum(values)


@pytest.fixture
def mortal(engine: Trial) -> Iterator[Any]:
    """The engine; of one that does not survive it, another."""
    if engine.name == "executor":
        with process_pool() as executor:
            yield executor
    else:
        yield engine.value


@on(*PROCESSES)
@pytest.mark.parametrize("functions", [(dies_in_map, None), (in_threes, dies_in_reduce)], ids=["map", "reduce"])
def test_a_worker_that_dies_ends_the_job_with_a_sentence(engine: Trial, mortal: Any, functions: Any) -> None:
    with pytest.raises((jmr.WorkerError, jmr.SlotDiedError)) as caught:
        jmr.run(SOURCE, *functions, engine=mortal, progress=False, max_attempts=2)
    message = str(caught.value)
    assert len(message.partition("\n")[0]) < 500
    assert "Java" not in message
    assert "at org.apache" not in message
    if engine.name == "executor":
        with pytest.raises(jmr.WorkerError, match="takes no more work: make a new one"):
            jmr.run(SOURCE, in_threes, engine=mortal, progress=False)
    else:
        engine.check(SOURCE, in_threes)
