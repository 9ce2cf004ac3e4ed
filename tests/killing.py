"""Kernels with a checkpointed job, killed with -9 at random moments, and started again.

    python -m tests.killing [--moments 20] [--seed N]

Each time: a kernel runs a job on a new checkpoint and is killed; another one runs the same cell again. It may do again
what was running when the first was killed, and nothing else; its answer must be that of the inline engine. The cell
stands elsewhere then, and hashes of strings are salted in another way.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE

from tests.checkpoints import Calls

__all__ = ["N_RECORDS", "N_SLOTS", "Kernel", "killed_at", "seconds_of_a_run"]

CHECKOUT = Path(__file__).parent.parent
N_RECORDS, N_SLOTS = 24, 2
#: Longest that a kernel may take.
_PATIENCE = 120.0

CELL = """
import dataclasses, enum

@dataclasses.dataclass(frozen=True)
class Point:
    x: int

class Colour(enum.Enum):
    RED = 0
    BLUE = 1

def mapfn(key, value):
    note(CALLS, key)
    before_map(key)
    large, words = value
    yield Point(key % 3), len(words)
    yield Colour(key % 2), (key, words)
    yield key, sum(range(2_000_000))

def reducefn(key, values):
    note(REDUCED, key)
    before_reduce(key)
    return Point(sum(values)) if isinstance(key, Point) else values
"""

PROGRAM = """
import os, sys
import jmr
from tests.checkpoints import alone, entries, note
KEPT, CALLS, REDUCED, FILES, NUMBER, CELL, BEFORE, SABOTAGE = sys.argv[1:]
KERNEL = os.path.join(FILES, "kernel")
if NUMBER == "1":
    with open(KERNEL, "w") as file: file.write(str(os.getpid()))
elif os.path.exists(KERNEL):
    os.unlink(KERNEL)
exec(compile(SABOTAGE, "sabotage", "exec"))
exec(compile(BEFORE, "before", "exec"))
exec(compile("\\n" * int(NUMBER) + CELL, "cell " + NUMBER, "exec"))

def source():
    for key in range({N_RECORDS}):
        yield key, (bytearray(1 << 20), {{f"word {{key}}", "the", "end"}})

def run(**options):
    result = jmr.run(source(), mapfn, reducefn, n_partitions=4, progress=False, **options)
    return [(key, value, type(key), type(value)) for key, value in result.items()]

print("begins", flush=True)
answer = run(checkpoint=KEPT, workers={N_SLOTS})
print("has an answer", flush=True)
CALLS = REDUCED = os.devnull
assert answer == run(engine="inline"), "the answer is not the inline engine's"
print("equal", flush=True)
"""

#: What `mapfn` and `reducefn` do first, unless a test has them do something else. KERNEL is a file with the process id
#: of the first kernel; later ones remove it.
BEFORE = """
def before_map(key): pass
def before_reduce(key): pass
"""


class Kernel:
    """A process that runs the cell, in a directory with all that is left of it; `sabotage` is code for itself alone."""

    def __init__(self, directory: Path, number: int, before: str = BEFORE, sabotage: str = "") -> None:
        self.kept = directory / "kept"
        self.calls, self.reduced = Calls(directory / "calls"), Calls(directory / "reduced")
        program = PROGRAM.format(N_RECORDS=N_RECORDS, N_SLOTS=N_SLOTS)
        files = [self.kept, self.calls.path, self.reduced.path, directory]
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, files), str(number), CELL, before, sabotage],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONHASHSEED": str(number)},
            stdin=subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )

    def says(self, line: str) -> None:
        """Wait for the next line that it says, which must be this one."""
        assert self._process.stdout is not None
        if self._process.stdout.readline() != f"{line}\n":
            raise AssertionError(self._process.communicate()[1])

    def kill_after(self, seconds: float) -> None:
        """Kill it with -9, unless it ends before."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.communicate()

    def said(self) -> tuple[int, str]:
        """Wait for its end; its exit code, and what it has said."""
        out, error = self._process.communicate(timeout=_PATIENCE)
        return self._process.returncode, out + error


def killed_at(seconds: float, directory: Path) -> tuple[Counter[str], Counter[str]]:
    """Kill a kernel so many seconds after its job began, and run the cell again.

    Returns
    -------
    How often each record was mapped, by the first kernel and by the second. What a slot of the first began in its last
    moment may be counted with the second: a slot lives a little longer than its kernel.
    """
    first = Kernel(directory, 1)
    first.says("begins")
    first.kill_after(seconds)
    before = first.calls.take()
    second = Kernel(directory, 2)
    code, said = second.said()
    assert code == 0, said
    assert said.endswith("equal\n"), said
    return before, second.calls.take()


def seconds_of_a_run(directory: Path) -> float:
    """How long the job takes."""
    kernel = Kernel(directory, 0)
    kernel.says("begins")
    began = time.monotonic()
    kernel.says("has an answer")
    seconds = time.monotonic() - began
    code, said = kernel.said()
    assert code == 0, said
    return seconds


def main() -> int:
    """Kill, and tell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.killing", description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=20, help="how often to kill a kernel")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        longest = seconds_of_a_run(Path(directory))
    n_wrong = 0
    for _ in range(options.moments):
        seconds = moments.uniform(0.0, longest)
        with tempfile.TemporaryDirectory() as directory:
            before, after = killed_at(seconds, Path(directory))
        again = (before + after).total() - N_RECORDS
        n_wrong += again > N_SLOTS
        print(f"killed after {seconds:5.2f} s: {len(before)} records had been mapped or begun, {again} of them again")
    print(f"{n_wrong} of {options.moments} did too much again" if n_wrong else "never more than what was running")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
