"""Measure small jobs, the painter and the stop button; run it on a quiet machine.

python -m tests.benchmarks.figures [-n RUNS] [--json FILE]

warm       one triangular job (100 records, two slots) on warm slots, and the plain loop that gives the same dict
cold       a fresh process: `import jmr` to the answer of that job
painter    CPU time of the thread that paints bars in a kernel, as a share of a 5 s job's CPU time: for the first bar of
           the kernel, which imports ipywidgets, and for the second
interrupt  from SIGINT to KeyboardInterrupt out of jmr.run, its slots in an endless mapfn
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

JOB = """
import sys, time
source = dict(zip(range(100), range(100)))
def mapfn(k, v):
    for i in range(v + 1):
        yield k, i
def reducefn(k, values):
    return sum(values)
def loop():
    groups = {}
    for key, value in source.items():
        for k, v in mapfn(key, value):
            groups.setdefault(k, []).append(v)
    return {k: reducefn(k, values) for k, values in groups.items()}
def clock(function, n):
    times = []
    for _ in range(n):
        began = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - began)
        assert list(answer.items()) == expected
    return sorted(times)[n // 2]
expected = list(loop().items())
"""
WARM = (
    JOB
    + """
import jmr
def run():
    return jmr.run(source, mapfn, reducefn, workers=2, progress=False)
clock(run, 20)
print(clock(run, 200), clock(loop, 200))
"""
)
COLD = (
    JOB
    + """
began = time.perf_counter()
import jmr
answer = jmr.run(source, mapfn, reducefn, workers=2, progress=False)
print(time.perf_counter() - began)
assert list(answer.items()) == expected
"""
)
PAINTER = """
import time, jmr
from jmr.views.painter import Painter
spent = []
def run(self, original=Painter.run):
    began = time.thread_time()
    try:
        original(self)
    finally:
        spent.append(time.thread_time() - began)
Painter.run = run
def mapfn(key, value):
    until = time.perf_counter() + 0.02
    while time.perf_counter() < until:
        pass
    yield key % 7, value
for _ in range(2):
    stats = jmr.run({i: i for i in range(500)}, mapfn, workers=2, progress=True).stats
    spent[-1] /= stats.seconds * stats.n_slots
print(*spent)
"""
INTERRUPT = """
import os, signal, threading, time, jmr
def forever(key, value):
    print("ready", flush=True)
    while True:
        pass
class Told:
    encoding = "utf-8"
    def write(self, text):
        global began
        began = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)
    def flush(self): pass
import sys
stdout, sys.stdout = sys.stdout, Told()
try:
    jmr.run({1: 1}, forever, workers=2, progress=False)
except KeyboardInterrupt:
    print(time.perf_counter() - began, file=stdout)
"""


def fresh(program: str) -> list[float]:
    """The numbers that a program prints, run in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def in_a_kernel(program: str) -> list[float]:
    """The numbers that a cell prints, run in a kernel of its own that believes to have a notebook's front end."""
    from jupyter_client.manager import KernelManager

    manager = KernelManager()
    manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]  # type: ignore[union-attr]
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    said: list[str] = []

    def listen(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            said.append(message["content"]["text"])

    try:
        client.wait_for_ready(60)
        setup = "import os; os.environ['JMR_PROGRESS'] = 'widgets'"
        client.execute_interactive(setup, timeout=60)
        reply = client.execute_interactive(program, timeout=120, output_hook=listen)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return [float(word) for word in "".join(said).split()]


def figures(n: int) -> dict[str, list[float]]:
    """Every figure, run by run; the kinds of run take turns."""
    found: dict[str, list[float]] = {
        name: []
        for name in (
            "warm ms",
            "loop ms",
            "warm / loop",
            "cold ms",
            "painter, first",
            "painter, second",
            "interrupt ms",
        )
    }
    for _ in range(n):
        warm, loop = fresh(WARM)
        (cold,) = fresh(COLD)
        first, second = in_a_kernel(PAINTER)
        (interrupt,) = fresh(INTERRUPT)
        row = (warm * 1e3, loop * 1e3, warm / loop, cold * 1e3, first, second, interrupt * 1e3)
        for name, figure in zip(found, row, strict=True):
            found[name].append(figure)
    return found


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.figures", description=__doc__)
    parser.add_argument("-n", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--json", type=Path, help="write every run's figures here")
    options = parser.parse_args()
    found = figures(options.n)
    print(f"Python {platform.python_version()}, {platform.machine()}, {options.n} runs: median (min to max)")
    for name, values in found.items():
        print(f"{name:22} {statistics.median(values):8.4g} ({min(values):.4g} to {max(values):.4g})")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
