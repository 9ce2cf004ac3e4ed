"""The engines, one after another: each is started once, before the first test on it, and closed after the last.

engine                all of them, one at a time, as they lie in ENGINES
@on(PROCESSES)        a test for some only
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

import jmr
from tests.engines.clusters import (
    connect_session,
    dask_client,
    process_pool,
    ray_running,
    spark_session,
    thread_pool,
)
from tests.engines.gate import Gate
from tests.engines.trial import ENGINES, Trial, marked


@contextlib.contextmanager
def inline() -> Iterator[str]:
    yield "inline"


STARTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inline": inline,
    "cluster": lambda: jmr.Cluster(workers=2),
    "executor": process_pool,
    "threads": thread_pool,
    "dask": dask_client,
    "ray": ray_running,
    "spark": spark_session,
    "connect": connect_session,
}


@pytest.fixture(scope="package", params=marked(ENGINES))
def engine(request: pytest.FixtureRequest, warm_cluster: None) -> Iterator[Trial]:
    """One that has run a job already: what starts with the first job is no leak of a test."""
    with STARTED[request.param]() as value:
        trial = Trial(request.param, value)
        trial.run({1: 1}, lambda key, value: [(key, value)])
        yield trial


@pytest.fixture
def gate() -> Iterator[Gate]:
    """It is open when the test ends, so that nobody waits there for ever."""
    gate = Gate()
    yield gate
    gate.open()
