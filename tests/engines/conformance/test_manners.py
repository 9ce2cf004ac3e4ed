"""What an engine refuses, with a sentence; what it leaves as it was; and what it says when it cannot go on."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pytest

import jmr
from tests.engines.trial import ELSEWHERE, Trial, on

SOURCE = {n: n for n in range(20)}


def identity(key: int, value: int) -> list[tuple[int, int]]:
    return [(key, value)]


@on(*ELSEWHERE)
@pytest.mark.parametrize("option", ["checkpoint", "workers", "speculate"])
def test_an_option_of_our_own_clusters_is_refused_and_who_can_is_told(
    engine: Trial, option: str, tmp_path: Any
) -> None:
    value = {"checkpoint": str(tmp_path / "kept"), "workers": 2, "speculate": True}[option]
    with pytest.raises(ValueError, match=rf"{option}= is for jmr's own clusters .*jmr\.Cluster"):
        engine.run(SOURCE, identity, **{option: value})
    assert os.listdir(tmp_path) == []


@on(*ELSEWHERE)
def test_what_is_allowed_everywhere_is_allowed_here(engine: Trial) -> None:
    engine.run(SOURCE, identity, speculate=False, max_attempts=1, n_partitions=3, name="plain")


@pytest.mark.parametrize(
    "value", ["no engine", "", 5, [], object, {"engine": "dask"}, 2.5, np.zeros(3), jmr.Cluster], ids=repr
)
def test_nonsense_is_no_engine(value: Any) -> None:
    with pytest.raises(TypeError, match=r'engine must be None, "inline", a jmr\.Cluster, "dask"'):
        jmr.run(SOURCE, identity, engine=value)
    with pytest.raises(TypeError, match="engine must be"):
        jmr.submit(SOURCE, identity, engine=value)


def test_an_engine_is_the_users_and_stays_open(engine: Trial) -> None:
    engine.run(SOURCE, identity)
    assert is_usable(engine)
    with pytest.raises(jmr.MapError):
        engine.run(SOURCE, lambda key, value: 1 / 0)
    assert is_usable(engine)


def is_usable(engine: Trial) -> bool:
    """Asked without jmr."""
    match engine.name:
        case "inline":
            return True
        case "cluster":
            return bool(engine.value.n_slots == 2)
        case "executor" | "threads":
            return bool(engine.value.submit(pow, 2, 3).result(20) == 8)
        case "dask":
            return bool(engine.value.status == "running" and engine.value.submit(pow, 2, 3).result(20) == 8)
        case "ray":
            import ray

            return bool(ray.is_initialized() and ray.get(ray.remote(lambda: 8).remote(), timeout=60) == 8)
        case _:
            return bool(engine.value.range(3).count() == 3)


class Broken(Executor):
    """An executor whose calls fail in a way of its own."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Any:
        raise RuntimeError("cannot schedule new futures after shutdown")


def test_an_executor_that_takes_nothing_is_told() -> None:
    with pytest.raises(jmr.WorkerError, match="takes no work: cannot schedule new futures after shutdown"):
        jmr.run(SOURCE, identity, engine=Broken(), progress=False)
