"""What reading files costs: jmr.files against a plain loop over the same file, and against a dict that holds it all.

    python -m tests.benchmarks.files [--megabytes 1000] [--files 2000] [--runs 5] [--directory DIR]

lines    a large text, line by line. Alone: CPU seconds of making all records, in one process, against `for line in
         open(path)`, and against such a loop that makes the same keys. As a job: seconds times slots of jmr.run,
         against a loop that calls the same function on each line; as many of these at once as there are slots, each
         over all of the file, since two processes at work slow each other down. Memory: the most that a process takes
         which reads all splits, against one that reads a tenth of them.
words    a word count over a directory of texts, against the same job over a dict of them.

All that is compared takes turns, after a first round that is not counted; a ratio is the median of those of the rounds.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jmr
from jmr.sources import Split
from jmr.sources.base import read_split, refuse

_WORDS = [f"w{number}" for number in range(3_000)]
_SPLIT_BYTES = 1 << 23


def text_of(n_bytes: int, seed: int) -> str:
    """Lines of 3 to 18 words."""
    draw = random.Random(seed)
    lines: list[str] = []
    left = n_bytes
    while left > 0:
        lines.append(" ".join(draw.choices(_WORDS, k=draw.randint(3, 18))) + "\n")
        left -= len(lines[-1])
    return "".join(lines)


def write_lines(path: Path, n_bytes: int) -> None:
    """A large text: one of ten megabytes, again and again."""
    piece = text_of(10_000_000, seed=1)
    with open(path, "w") as file:
        for _ in range(max(1, n_bytes // len(piece))):
            file.write(piece)


def count_words(_: Any, text: str) -> Iterator[tuple[str, int]]:
    """The mapfn of all jobs."""
    for word in text.split():
        yield word, 1


def add(_: str, counts: list[int]) -> int:
    """Its combinefn and reducefn."""
    return sum(counts)


def splits_of(path: Path) -> Iterator[Split]:
    """Of the size that a long job comes to."""
    return jmr.files(path, by="line").sized_splits(lambda: _SPLIT_BYTES)


def read_all(path: Path, most: int | None = None) -> int:
    """Make all records of a file, or of its first splits; returns how many."""
    n_records = 0
    for split in islice(splits_of(path), most):
        records = read_split(split, refuse)
        deque(records.pairs(), maxlen=0)
        n_records += len(records)
    return n_records


def loop(path: Path) -> None:
    """The plain loop."""
    with open(path, encoding="utf-8") as file:
        deque(file, maxlen=0)


def loop_with_keys(path: Path) -> None:
    """One that knows, as jmr.files does, where each line stands."""
    name, at = str(path), 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            key = name, at
            at += len(line)
    assert key[1] < at


def loop_with_words(path: Path) -> None:
    """The whole job as a loop."""
    counts: dict[str, int] = {}
    name, at = str(path), 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            for word, count in count_words((name, at), line):
                counts[word] = counts.get(word, 0) + count
            at += len(line)


def loops_at_once(path: Path, n_loops: int) -> float:
    """The whole job as a loop, so many times at once; returns the seconds of the slowest."""
    command = [sys.executable, "-m", "tests.benchmarks.files", "--loop", str(path)]
    loops = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(n_loops)]
    return max(float(one.communicate()[0]) for one in loops)


def seconds_of(function: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def job(source: Any, n_slots: int) -> Any:
    """The job."""
    return jmr.run(source, count_words, add, combinefn=add, workers=n_slots, progress=False)


def in_turn(n_runs: int, clock: Callable[[], float], *functions: Callable[[], object]) -> list[tuple[float, ...]]:
    """Rounds, each with the seconds of all of them."""
    rounds = []
    for number in range(n_runs + 1):
        took = []
        for function in functions:
            began = clock()
            function()
            took.append(clock() - began)
        if number:
            rounds.append(tuple(took))
    return rounds


def ratio(rounds: Sequence[tuple[float, ...]], of: int, to: int, factor: float = 1.0) -> str:
    """Of two columns: the median, and the least and the largest."""
    ratios = sorted(factor * took[of] / took[to] for took in rounds)
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def peak_megabytes(path: Path, most: int) -> float:
    """Of a process of its own that reads so many splits."""
    command = [sys.executable, "-m", "tests.benchmarks.files", "--read", str(path), "--splits", str(most)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def lines(directory: Path, n_bytes: int, n_runs: int, n_slots: int) -> None:
    """Of a large text."""
    path = directory / "lines.txt"
    write_lines(path, n_bytes)
    n_splits = sum(1 for _ in splits_of(path))
    alone = in_turn(n_runs, time.process_time, lambda: read_all(path), lambda: loop(path), lambda: loop_with_keys(path))
    print(f"lines, alone: {ratio(alone, 0, 1)} of a plain loop, {ratio(alone, 0, 2)} of one with the same keys")
    whole = [
        (seconds_of(lambda: job(jmr.files(path, by="line"), n_slots)), loops_at_once(path, n_slots))
        for _ in range(n_runs + 1)
    ][1:]
    print(f"lines, as a job: {ratio(whole, 0, 1, n_slots)} of a plain loop per core, on {n_slots} slots")
    few, many = peak_megabytes(path, max(1, n_splits // 10)), peak_megabytes(path, n_splits)
    print(f"lines, memory: {many:.0f} MB for {n_splits} splits, {few:.0f} MB for a tenth of them")
    path.unlink()


def words(directory: Path, n_files: int, n_runs: int, n_slots: int) -> None:
    """Of a directory of texts."""
    texts: dict[str, str] = {}
    for number in range(n_files):
        path = directory / f"{number:06}.txt"
        texts[str(path)] = text_of(20_000, seed=number % 100)
        path.write_text(texts[str(path)])
    assert job(jmr.files(directory), n_slots) == job(texts, n_slots)
    rounds = in_turn(n_runs, time.perf_counter, lambda: job(jmr.files(directory), n_slots), lambda: job(texts, n_slots))
    print(f"words, {n_files:,} files: {ratio(rounds, 0, 1)} of the job over a dict")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What reading files costs.")
    parser.add_argument("--megabytes", type=int, default=1_000)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--splits", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        read_all(options.read, options.splits)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        return
    if options.loop is not None:
        print(seconds_of(lambda: loop_with_words(options.loop)))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        lines(Path(directory), options.megabytes * 1_000_000, options.runs, options.slots)
        words(Path(directory), options.files, options.runs, options.slots)


if __name__ == "__main__":
    main()
