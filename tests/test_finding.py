"""A group is found by its index where there is no room for all of them."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest

import jmr
from jmr.codec.values import dump_groups
from jmr.coordinator.mail import JobPoisoned, Origin
from jmr.engines import replay
from jmr.engines.deaths import bad_record_of, error_of_death
from jmr.plan import Plan
from jmr.tasks.finding import group_at
from jmr.tasks.folding import NOWHERE
from jmr.tasks.reduce import Inputs, ReduceTask, deal, run_reduce


class Counted:
    """A value that knows how many there are."""

    live: ClassVar[int] = 0
    peak: ClassVar[int] = 0

    def __init__(self) -> None:
        Counted.live += 1
        Counted.peak = max(Counted.peak, Counted.live)

    def __del__(self) -> None:
        Counted.live -= 1

    def __reduce__(self) -> Any:
        return Counted, ()


def inputs_of(*splits: dict[Any, list[Any]]) -> Inputs:
    return [
        (i, bytearray(b"".join(dump_groups(list(split), list(range(len(split))), [], lists=list(split.values())))))
        for i, split in enumerate(splits)
    ]


@pytest.mark.parametrize("n_parts", [1, 3])
def test_a_group_has_the_index_that_its_reducing_slot_has_told(n_parts: int) -> None:
    inputs = inputs_of({"a": [1], "b": [2, 3], math.nan: [4]}, {"c": [5], "b": [6]}, {float("nan"): [7], "d": [8]})
    dealt: list[list[Any]] = [[] for _ in range(n_parts)]
    for part, split, pieces in deal(inputs, 4, n_parts):
        dealt[part].append((split, bytearray(b"".join(pieces))))
    given: list[tuple[Any, list[Any]]] = []
    told: list[int] = []

    def reducefn(key: Any, values: list[Any]) -> None:
        given.append((key, values))

    run_reduce(ReduceTask(reducefn=reducefn, combinefn=None, skips=False, cursor=told.append), dealt)
    found = [group_at(lambda: inputs, 4, n_parts, index, 1_000) for index in told if index != NOWHERE]
    assert len(given) == 5
    assert repr(found) == repr(given)
    assert group_at(lambda: inputs, 4, n_parts, 5, 1_000) is None


def test_the_other_groups_are_not_held() -> None:
    splits = [{"large": [Counted() for _ in range(10)], "small": [Counted()]} for _ in range(8)]
    inputs = inputs_of(*splits)
    splits.clear()
    Counted.peak = 0
    found = group_at(lambda: inputs, 1, 1, 1, 1_000)
    assert found is not None
    assert (found[0], len(found[1])) == ("small", 8)
    assert Counted.peak <= 2 * 11 + 8, "a batch, the one after it, and the group; of 88"


def test_of_a_large_group_there_is_the_key_alone() -> None:
    inputs = inputs_of(*[{"large": ["x" * 100] * 10}] * 5)
    assert group_at(lambda: inputs, 1, 1, 0, 700) == ("large",)


def test_a_large_group_that_ends_its_process_is_named_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_KEPT_BYTES", 1_000)
    inputs = inputs_of({"small": [1], "large": [f"{i}" for i in range(1_000)]})
    origin = Origin(None, [(0, (None, 0, 0, None))], [inputs[0][1]], 1, 1)
    poison = JobPoisoned("reduce-0", "local/1", 4, 1, -9, 10**6, [], origin)
    plan = Plan.checked({}, lambda key, value: [], lambda key, values: None)
    error = error_of_death(poison, plan)
    assert "at group key='large' (reduce-0" in str(error)
    with pytest.raises(jmr.errors.ReplayError, match=r"is not known here: it takes more than 1\.00 kB"):
        error.replay()
    bad = bad_record_of(poison, plan)
    assert (bad.key, bad.value) == ("large", None)
    with pytest.raises(jmr.errors.ReplayError, match="it takes more than"):
        bad.replay()
