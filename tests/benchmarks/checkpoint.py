"""What a checkpoint costs: the same jobs with one and without, in turn.

    python -m tests.benchmarks.checkpoint [--seconds 10] [--rounds 4] [--directory DIR] [WORKLOAD ...]

Each job is made as long as asked for, by the number of its records, which a shorter run tells. In each round it runs
without a checkpoint and with one, in turns which comes first; the ratio is the median of the rounds' ratios, for a
machine may become slower meanwhile, or faster; a half of them lie between the two that stand beside it. The directory
is a new one each time; where it lies decides, as all map outputs go to that disk. The last column is a finished job run
again: its source is read and fingerprinted, and what was kept is verified.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jmr

_WORDS = [f"word{number}" for number in range(5_000)]


@dataclass(frozen=True)
class Workload:
    """A job of as many records as one likes."""

    about: str
    #: All of its records, again and again.
    values: Callable[[], list[Any]]
    mapfn: Callable[[Any, Any], Any]
    combinefn: Callable[[Any, list[Any]], Any] | None = None
    reducefn: Callable[[Any, list[Any]], Any] | None = None

    def run(self, values: list[Any], n_records: int, kept: Path | None) -> float:
        """Seconds that it takes."""
        began = time.perf_counter()
        source = zip(range(n_records), itertools.cycle(values), strict=False)
        jmr.run(
            source, self.mapfn, self.reducefn, combinefn=self.combinefn, checkpoint=kept, progress=False, n_partitions=8
        )
        return time.perf_counter() - began


def texts(n_bytes: int, n: int = 2_000) -> list[str]:
    """Texts of words, each about so long."""
    draw = random.Random(1)
    return [" ".join(draw.choices(_WORDS, k=n_bytes // 9)) for _ in range(n)]


def burn(key: int, text: str) -> Iterator[tuple[int, int]]:
    """A millisecond or so of work."""
    yield key % 100, sum(map(len, [text] * 20_000))


def count_words(key: int, text: str) -> Iterator[tuple[str, int]]:
    """One for each word."""
    for word in text.split():
        yield word, 1


def pass_on(key: int, text: str) -> Iterator[tuple[int, str]]:
    """The record itself, to be shuffled."""
    yield key, text


def halve(key: int, number: int) -> Iterator[tuple[int, int]]:
    """Nearly nothing."""
    yield number % 1_000, number // 2


def total(key: Any, values: list[Any]) -> Any:
    """Of numbers."""
    return sum(values)


def length(key: Any, values: list[Any]) -> int:
    """Of all texts."""
    return sum(map(len, values))


WORKLOADS = {
    "burn": Workload("1 kB records, 1 ms of work each", lambda: texts(1_000), burn, total, total),
    "words": Workload("1 kB records, their words counted", lambda: texts(1_000), count_words, total, total),
    "shuffle": Workload("1 kB records, all of them shuffled", lambda: texts(1_000), pass_on, None, length),
    "large": Workload("100 kB records, their words counted", lambda: texts(100_000, 100), count_words, total, total),
    "tiny": Workload("numbers, a little work each", lambda: list(range(10_000)), halve, total, total),
}


def n_records_for(workload: Workload, values: list[Any], seconds: float) -> int:
    """So many that it takes about as long."""
    n_records = 100
    workload.run(values, n_records, None)  # slots have to start
    while (took := workload.run(values, n_records, None)) < seconds / 10:
        n_records *= 4
    return max(1, int(n_records * seconds / took))


def measure(workload: Workload, seconds: float, n_rounds: int, parent: str | None) -> str:
    """A row of the table."""
    values = workload.values()
    n_records = n_records_for(workload, values, seconds)
    found: list[tuple[float, float]] = []
    for number in range(n_rounds):
        with tempfile.TemporaryDirectory(dir=parent) as directory:
            kept = Path(directory, "kept")
            order = [None, kept] if number % 2 else [kept, None]
            took = {where: workload.run(values, n_records, where) for where in order}
            found.append((took[None], took[kept]))
            if number == n_rounds - 1:
                again = workload.run(values, n_records, kept)
    without, first = (statistics.median(column) for column in zip(*found, strict=True))
    low, ratio, high = statistics.quantiles([one / other for other, one in found], n=4)
    return f"{without:7.2f} s {first:6.2f} s  {ratio:6.3f} ({low:.3f} to {high:.3f}) {again:6.2f} s"


def main() -> int:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checkpoint", description=__doc__.split("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)} [all]")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long a job takes [10]")
    parser.add_argument("--rounds", type=int, default=4, help="how often to run them, twice at least [4]")
    parser.add_argument("--directory", help="where the checkpoints lie [the usual place for temporary files]")
    options = parser.parse_args()
    print(f"{'':40}  without     with   ratio                     again")
    for name in options.workloads or WORKLOADS:
        row = measure(WORKLOADS[name], options.seconds, options.rounds, options.directory)
        print(f"{WORKLOADS[name].about:40}{row}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
