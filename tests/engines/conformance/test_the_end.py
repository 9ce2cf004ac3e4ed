"""What an engine says that was closed; these tests come last, since a SparkSession cannot be closed but for all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import jmr
from tests.engines.clusters import process_pool
from tests.engines.trial import Trial, on


def close(engine: Trial) -> Any:
    """One of that kind that is closed already."""
    match engine.name:
        case "cluster":
            closed: Any = jmr.Cluster(workers=1)
            closed.close()
        case "executor":
            with process_pool() as closed:
                pass
        case "threads":
            with ThreadPoolExecutor(1) as closed:
                pass
        case "dask":
            closed = type(engine.value)(engine.value.scheduler.address)
            closed.close()
        case "spark":
            closed = engine.value
            closed.stop()
        case "connect":
            address = f"sc://{engine.value.client._builder.endpoint}"
            closed = type(engine.value).builder.remote(address).create()
            closed.stop()
    return closed


@on("cluster", "executor", "threads", "dask", "spark", "connect")
def test_one_that_is_closed_is_refused_at_once(engine: Trial) -> None:
    closed = close(engine)
    with pytest.raises(jmr.JmrError, match=r"closed|takes no work|stopped") as caught:
        jmr.run({1: 1}, lambda key, value: [(key, value)], engine=closed, progress=False)
    assert len(str(caught.value)) < 300, "a sentence"
