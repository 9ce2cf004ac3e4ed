"""What the benchmarks make of their runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.hand2 import two
from tests.benchmarks.measure import SYSTEMS, Figures, interval
from tests.benchmarks.peers import hand2, jmr, serial
from tests.benchmarks.scheduler import Simulation
from tests.benchmarks.workloads import WORKLOADS


def test_the_interval_of_a_median_is_that_of_the_tables() -> None:
    assert interval(range(1, 10)) == (2, 8)
    assert interval(range(1, 7)) == (1, 6)
    assert interval(range(1, 21)) == (6, 15)
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0), "too few for an interval: the range"


def run(seconds: float, digest: str = "a") -> dict[str, Any]:
    return {"seconds": seconds, "digest": digest}


def test_ratios_are_taken_within_a_round() -> None:
    figures = Figures()
    for ours, by_hand in [(run(2.0), run(1.0)), ({"error": "boom"}, run(1.0)), (run(6.0), run(2.0))]:
        figures.add("tiny", "jmr", ours)
        figures.add("tiny", "hand2", by_hand)
    assert figures.ratios("tiny", "jmr") == [2.0, 3.0]
    assert figures.seconds("tiny", "jmr") == [2.0, 6.0]
    assert figures.trouble("tiny") == ["jmr: boom"]


def test_another_answer_is_named() -> None:
    figures = Figures()
    for system, digest in [("serial", "a"), ("jmr", "b"), ("hand2", "a")]:
        figures.add("tiny", system, run(1.0, digest))
    assert figures.trouble("tiny") == ["jmr: ITS ANSWER IS ANOTHER ONE"]
    assert SYSTEMS.keys() >= {"jmr", "serial", "hand2"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    "name", ["tiny", "skewed", "wordcount", "wordcount_combine", "index", "arrays_in", "arrays_shuffle"]
)
def test_all_give_the_same_answer(name: str) -> None:
    workload = WORKLOADS[name]
    source = workload.build(0.05 if name.startswith("arrays") else 0.002)
    answers = [system.run(workload, source) for system in (serial, jmr, hand2)]
    two._reap()  # as its next call would
    plain = [
        {key: getattr(value, "tolist", lambda value=value: value)() for key, value in of.items()} for of in answers
    ]
    assert plain[0] == plain[1] == plain[2]


def test_the_same_seed_tells_the_same_story() -> None:
    stories = []
    for _ in range(2):
        simulation = Simulation(n_slots=40, n_hosts=4, n_tasks=1_000, n_jobs=2)
        stories.append((simulation.run(), simulation.n_events, simulation.busy))
    assert stories[0] == stories[1]


def test_a_small_simulation_commits_every_task_once() -> None:
    for n_jobs in (1, 3):
        simulation = Simulation(n_slots=40, n_hosts=4, n_tasks=3_000, n_jobs=n_jobs)
        simulation.run()
        assert len(simulation.committed) == 3_000 + 2_000 // n_jobs * n_jobs
