"""What it costs to look at a job: the painter's CPU time, and the kernel's with a view and without.

    python -m tests.benchmarks.painting [--runs 3] [--seconds 10]

Each run is the same job in one warm kernel, asked for as a notebook asks, once with the live view and once with
`progress=False`, in turns. The job's own CPU time is that of its mapfn, which computes for 2 ms of it a record. The
painter's thread is timed by itself; the kernel's difference has what its messages cost in other threads as well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from tests.test_kernel import Kernel, kernel_environment, printed

_SETUP = """
import json, os, time
import jmr
from jmr.views import painter

painted = []

def run(self, run=painter.Painter.run):
    run(self)
    painted.append(time.thread_time())

painter.Painter.run = run

def mapfn(key, value):
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return [(key % 100, value)]

def measured(n_records, progress):
    painted.clear()
    before = time.process_time()
    result = jmr.run(((n, n) for n in range(n_records)), mapfn, lambda key, values: sum(values), progress=progress)
    kernel = time.process_time() - before
    figures = {"painter": sum(painted), "kernel": kernel, "job": n_records * 0.002, "attempts": len(result.timeline)}
    print("figures", json.dumps(figures))

jmr.run({1: 1}, mapfn, progress=False)
"""


def main() -> None:
    """Print the shares of each run, and their medians."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.painting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU time for each of the slots")
    options = parser.parse_args()
    n_records = int(options.seconds * len(os.sched_getaffinity(0)) / 0.002)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= kernel_environment(Path(folder))
        os.environ.pop("JMR_PROGRESS", None)
        manager = KernelManager(kernel_name="python3")
        manager.start_kernel()
        kernel = Kernel(manager)
        try:
            kernel.run(_SETUP)
            runs = [(_run(kernel, n_records, "None"), _run(kernel, n_records, "False")) for _ in range(options.runs)]
        finally:
            kernel.close()
    painter = [seen["painter"] / seen["job"] for seen, _ in runs]
    whole = [(seen["kernel"] - unseen["kernel"]) / seen["job"] for seen, unseen in runs]
    print(f"painter's thread: {_shares(painter)} of the job's CPU time")
    print(f"kernel, with the view more than without: {_shares(whole)}")


def _run(kernel: Kernel, n_records: int, progress: str) -> dict[str, Any]:
    outputs = kernel.run(f"measured({n_records}, {progress})", in_notebook=True)
    figures: dict[str, Any] = json.loads(printed(outputs).partition("figures ")[2])
    seen = "with the view" if progress == "None" else "without"
    shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"{seen}: {shown}", flush=True)
    return figures


def _shares(values: list[float]) -> str:
    return f"{statistics.median(values):.2%} ({min(values):.2%} to {max(values):.2%})"


if __name__ == "__main__":
    main()
