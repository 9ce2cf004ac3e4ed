"""User code forks in a slot, and comes back in both processes: only the slot goes on, with all that it has on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import jmr
from jmr.worker.signals import SPILL_SIGNAL

pytestmark = pytest.mark.slow


def fall_out(key: int) -> None:
    sys.exit(0)


def fail(key: int) -> None:
    raise ValueError(key)


def give_nothing(key: int) -> None:
    """As a function of the user's may."""


def fork(end: Callable[[int], None], key: int) -> bool:
    """Whether this is the new process; the old one waits for its end."""
    if os.fork():
        os.wait()
        return False
    end(key)
    return True


@pytest.mark.parametrize("options", [{}, {"on_error": "skip"}], ids=["plain", "skip"])
@pytest.mark.parametrize("end", [fall_out, fail, give_nothing])
def test_what_mapfn_forks_leaves_what_is_spilled_and_what_is_stored_alone(
    end: Callable[[int], None], options: dict[str, Any], cluster: jmr.Cluster
) -> None:
    def mapfn(key: int, value: int) -> Iterator[tuple[int, str]]:
        yield key, "spilled"
        os.kill(os.getpid(), SPILL_SIGNAL)
        yield key, "large " * 20_000
        if fork(end, key):
            return
        os.kill(os.getpid(), SPILL_SIGNAL)
        yield key, "last"

    result = jmr.run({1: 1, 2: 2}, mapfn, lambda key, values: list(map(len, values)), progress=False, **options)
    assert result == {1: [7, 120_000, 4], 2: [7, 120_000, 4]}
    assert not result.errors


@pytest.mark.parametrize("end", [fall_out, fail, give_nothing])
def test_what_reducefn_forks_leaves_the_parts_of_its_partition_alone(
    end: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JMR_MEMORY", "1M")  # so that a partition of a few megabytes is dealt out

    def mapfn(key: int, value: int) -> Iterator[tuple[int, str]]:
        yield key, "large " * 50_000

    def reducefn(key: int, values: list[str]) -> int | None:
        return None if fork(end, key) else sum(map(len, values))

    with jmr.Cluster(workers=1):
        result = jmr.run(dict.fromkeys(range(20)), mapfn, reducefn, n_partitions=1, progress=False)
    assert result == dict.fromkeys(range(20), 300_000)
