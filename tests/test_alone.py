"""One call of a function in a slot of its own is the very call that failed."""

from __future__ import annotations

import os
from typing import Any

import pytest

import jmr
from jmr.engines.alone import run_alone

pytestmark = pytest.mark.slow


def count(key: Any, values: list[Any]) -> int:
    return len(values)


@pytest.mark.parametrize("phase", ["combine", "reduce"])
@pytest.mark.parametrize("n_values", [1, 100])
def test_a_group_is_given_whole_and_once(phase: str, n_values: int, cluster: jmr.Cluster) -> None:
    assert run_alone(phase, count, ("key", list(range(n_values)))) == n_values


def test_what_combinefn_ends_its_process_at_only_in_large_groups_ends_it_here_too(cluster: jmr.Cluster) -> None:
    def ends(key: str, values: list[int]) -> int:
        return os._exit(3) if len(values) > 40 else len(values)

    with pytest.raises(jmr.SlotDiedError, match=r"combinefn ended its process once, at group key='key'"):
        run_alone("combine", ends, ("key", list(range(50))))


def test_a_combinefn_that_is_a_generator_is_refused_here_too(cluster: jmr.Cluster) -> None:
    def yields(key: str, values: list[int]) -> Any:
        yield from values

    with pytest.raises(jmr.CombineError, match="combinefn returned a generator"):
        run_alone("combine", yields, ("key", [1]))
