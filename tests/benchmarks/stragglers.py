"""What one slow slot costs a job, and whether a healthy job does anything twice.

    python -m tests.benchmarks.stragglers [--slots 8] [--seconds 60] [--longest 2] [--slowness 5]

Real slots, whose mapfn sleeps: so many of them need no processors. Three jobs of about a minute: all slots are well;
one takes five times as long for whatever it does; all are well, and records take 2 to 5 s. The slow slot is whoever
holds a lock on a file: if it is stopped, another is slow from then on. A record is a task.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jmr

_HEALTHY = (2.0, 5.0)


def sleeper(folder: Path, slowness: float) -> Callable[[int, float], Any]:
    """A mapfn that sleeps, writes down that it was called, and is slow in one of the slots."""

    def mapfn(key: int, seconds: float) -> Any:
        with open(folder / "calls", "a", encoding="ascii") as calls:
            calls.write(f"{key}\n")
        time.sleep(seconds * (slowness if is_slow() else 1.0))
        yield key % 100, seconds

    def is_slow(held: list[int] = []) -> bool:  # noqa: B006 - a slot's own, for the whole job
        descriptor = held[0] if held else os.open(folder / "slow", os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        held[:] = [descriptor]
        return True

    return mapfn


def run(cluster: jmr.Cluster, lengths: list[float], slowness: float) -> tuple[float, int, int]:
    """Seconds, how many backups there were, and how many calls more than records."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mapfn = sleeper(folder, slowness)
        source = dict(enumerate(lengths))
        result = jmr.run(source, mapfn, lambda key, values: sum(values), engine=cluster, progress=False)
        calls = Counter((folder / "calls").read_text(encoding="ascii").split())
    assert len(calls) == len(lengths)
    assert abs(sum(result.values()) - sum(lengths)) < 1e-6
    n_backups = sum(attempt.backup for attempt in result.timeline)
    return result.stats.seconds, n_backups, calls.total() - len(lengths)


def uneven(least: float, most: float, total: float) -> list[float]:
    """Lengths of records that add up to about that."""
    dice = random.Random(1)
    return [dice.uniform(least, most) for _ in range(round(2 * total / (least + most)))]


def main() -> None:
    """Run the three and print what they took."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.stragglers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a job whose slots are all well, about")
    parser.add_argument("--longest", type=float, default=2.0, help="seconds of a record; the shortest has half of it")
    parser.add_argument("--slowness", type=float, default=5.0)
    options = parser.parse_args()
    work = options.seconds * options.slots
    lengths = uneven(options.longest / 2, options.longest, work)
    with jmr.Cluster(workers=options.slots) as cluster:
        healthy, *_ = run(cluster, lengths, 1.0)
        print(f"all slots well: {healthy:.1f} s", flush=True)
        slow, n_backups, n_more = run(cluster, lengths, options.slowness)
        print(
            f"one {options.slowness:g} times slower: {slow:.1f} s, {slow / healthy:.2f} times as long, "
            f"{n_backups} backups, {n_more} calls more than records",
            flush=True,
        )
        seconds, n_backups, n_more = run(cluster, uneven(*_HEALTHY, work), 1.0)
        print(f"all well, records of 2 to 5 s: {seconds:.1f} s, {n_backups} backups, {n_more} calls more than records")


if __name__ == "__main__":
    main()
