"""What is set aside, by many tasks: the first of it is kept, and the rest counted."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jmr.codec.values import dump
from jmr.engines.answers import SetAside
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.result import BadRecord
from jmr.tasks.contract import Failures


def nothing(key: Any, value: Any) -> list[Any]:
    return []


def failures_of(split: int, n_records: int) -> bytes:
    failures = Failures(skips=True)
    for index in range(n_records):
        failures.add("map", (split, index), None, ValueError("odd duck"), index)
    return b"".join(dump(failures))


def test_of_all_that_is_set_aside_the_first_is_kept_and_little_more_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmr.engines.answers.KEPT_FAILURES", 50)
    plan = Plan.checked({}, nothing)
    splits = [(split, 15) for split in range(20)]
    random.Random(7).shuffle(splits)
    bad, report, held = SetAside(), Report("job"), []
    for split, n_records in splits:
        bad.add((0, split), failures_of(split, n_records), plan)
        bad.add_one((0, split), n_records, BadRecord("map", (split, n_records), None, ValueError(), ""))
        held.append(len(bad._found))
    bad.tell(report)
    assert max(held) <= 100
    every = [(split, index) for split in range(20) for index in range(16)]
    assert [bad.key for bad in report.errors] == every[:50]
    assert report.n_skipped == report.errors.n_total == len(every)
