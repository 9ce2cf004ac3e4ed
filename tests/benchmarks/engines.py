"""One million records through other engines: jobs written by hand for each, and jmr on the same cluster.

python -m tests.benchmarks.engines dask [ray] [spark] [-n ROUNDS] [--scale 0.1]

In each round every way runs once, and they take turns; answers must be equal. The table has the median seconds of each
way by hand and of jmr, and the median of their ratios in the same round.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jmr
from tests.benchmarks.workloads import WORKLOADS, Workload

#: By the job's name: the workload, and how much of it is a million records.
JOBS: dict[str, tuple[Workload, float]] = {
    "words": (WORKLOADS["wordcount_combine"], 1.0),
    "numbers": (WORKLOADS["groupby"], 1 / 3),
}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engines", description=__doc__.partition("\n")[0])
    parser.add_argument("engines", nargs="+", choices=["dask", "ray", "spark"])
    parser.add_argument("-n", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the million, to try things out")
    options = parser.parse_args()
    sources = {name: workload.build(part * options.scale) for name, (workload, part) in JOBS.items()}
    print("| engine | job | by hand | seconds | jmr | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for engine in options.engines:
        by_hand = importlib.import_module(f"tests.benchmarks.by_hand.{engine}")
        started = by_hand.start()
        try:
            for name, source in sources.items():
                for row in _rows(name, source, by_hand.WAYS[name], started, options.n):
                    print(f"| {engine} | {name} | {row} |", flush=True)
        finally:
            by_hand.stop()


def _rows(name: str, source: Any, ways: dict[str, Callable[[Any], dict]], engine: Any, n_rounds: int) -> Iterator[str]:
    """The first round, in which workers import and the machine warms up, does not count."""
    ways = ways | {"jmr": functools.partial(_run, JOBS[name][0], engine)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for round_number in range(n_rounds + 1):
        answers = {}
        for way in order:
            began = time.perf_counter()
            answers[way] = ways[way](source)
            seconds[way].append(time.perf_counter() - began)
        order.append(order.pop(0))
        if not all(_equal(answer, answers["jmr"]) for answer in answers.values()):
            sys.exit(f"{name}: the answers differ")
        if not round_number:
            seconds = {way: [] for way in ways}
    ours = seconds.pop("jmr")
    for way, theirs in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        yield f"{way} | {statistics.median(theirs):.2f} | {statistics.median(ours):.2f} | {ratio:.2f}"


def _run(workload: Workload, engine: Any, source: Any) -> dict:
    return jmr.run(
        source, workload.mapfn, workload.reducefn, combinefn=workload.combinefn, engine=engine, progress=False
    )


def _equal(one: dict, other: dict) -> bool:
    """Sums of floats depend on the order in which they are added."""
    return one.keys() == other.keys() and all(math.isclose(one[key], other[key], rel_tol=1e-9) for key in one)


if __name__ == "__main__":
    main()
