"""Rounds of runs, systems taking turns, and what they say.

Each run is a process of its own. Ratios are taken within a round, whose runs were neighbours in time, so that a machine
that changes its pace hurts less; then their median, and its 95 % interval by order statistics.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

__all__ = ["MARK", "SYSTEMS", "Figures", "interval", "machine", "missing", "run_once"]

#: Of each system: the packages that it takes, whose versions are told.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "jmr": (),
    "serial": (),
    "hand2": (),
    "pool": (),
    "futures": (),
    "joblib": ("joblib",),
    "dask": ("dask", "distributed"),
    "ray": ("ray",),
    "pyspark": ("pyspark",),
    "ipyparallel": ("ipyparallel",),
}
_TIMEOUT_SECONDS = 900
#: Before what a run itself prints, so that it is not taken for what a system prints.
MARK = "benchmark: "


def missing(system: str) -> str | None:
    """What must be installed for a system; None if nothing."""
    for package in SYSTEMS[system]:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"pip install {package}"
    if system == "pyspark" and shutil.which("java") is None:
        return "a Java 17 or 21"
    return None


def run_once(system: str, workload: str, scale: float, *, memory: bool = False) -> dict[str, Any]:
    """One run's seconds, digest and, if asked for, peak bytes; or its `error`."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    environment |= {"JMR_MEMORY": "512M"} if workload == "bigshuffle" else {}
    command = [sys.executable, "-m", "tests.benchmarks.child", system, workload, str(scale)]
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as said,  # a pipe that nobody reads would stop a system that has much to say
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=environment) as child,
    ):
        assert child.stdout is not None
        first = _heard(child.stdout)
        waited = time.perf_counter() - began
        sampler = None
        if memory and first:
            from tests.benchmarks.memory import Sampler

            sampler = Sampler(child.pid)
            sampler.start()
        line = _heard(child.stdout)
        peak = sampler.stop() if sampler else None
        try:
            child.wait(timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        said.seek(0)
        errors = said.read()
    if not line:
        return {"error": (errors.strip().splitlines() or ["it says nothing"])[-1][:200]}
    found: dict[str, Any] = json.loads(line)
    if first == "answer":
        found["seconds"] = waited
    if peak is not None:
        found["peak_bytes"] = peak
    return found


def _heard(stdout: IO[str]) -> str:
    """The next line that is the child's own, and no system's; empty when it has ended."""
    for line in stdout:
        if line.startswith(MARK):
            return line.removeprefix(MARK).strip()
    return ""


@dataclass
class Figures:
    """All runs: by workload, then system, one a round."""

    runs: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def add(self, workload: str, system: str, run: dict[str, Any]) -> None:
        """Keep one more run."""
        self.runs.setdefault(workload, {}).setdefault(system, []).append(run)

    def seconds(self, workload: str, system: str) -> list[float]:
        """Of each run that gave an answer."""
        agreed = self._agreed(workload)
        return [run["seconds"] for run in self.runs[workload].get(system, []) if run.get("digest") == agreed]

    def ratios(self, workload: str, system: str, reference: str = "hand2") -> list[float]:
        """To the reference, round by round."""
        pairs = zip(self.runs[workload].get(system, []), self.runs[workload].get(reference, []), strict=False)
        agreed = self._agreed(workload)
        return [run["seconds"] / of["seconds"] for run, of in pairs if run.get("digest") == of.get("digest") == agreed]

    def trouble(self, workload: str) -> list[str]:
        """What went wrong: errors, and answers that are not everybody's."""
        found = []
        agreed = self._agreed(workload)
        for system, runs in self.runs[workload].items():
            found += sorted({f"{system}: {run['error']}" for run in runs if "error" in run})
            if any(run.get("digest", agreed) != agreed for run in runs):
                found.append(f"{system}: ITS ANSWER IS ANOTHER ONE")
        return found

    def _agreed(self, workload: str) -> str | None:
        """The digest of the right answer: the plain loop's, or else what most say."""
        runs = self.runs[workload]
        judges = [runs["serial"]] if "serial" in runs else runs.values()
        digests = [run["digest"] for of in judges for run in of if "digest" in run]
        return statistics.mode(digests) if digests else None


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by order statistics; of fewer than 6 values, which have none, the range.

    References
    ----------
    Hollander, Wolfe and Chicken, "Nonparametric Statistical Methods", 3rd edition, 2014, section 3.6.

    Examples
    --------
    >>> interval(range(1, 10))
    (2, 8)
    """
    ordered = sorted(values)
    n = len(ordered)
    k = 0
    while 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n <= 0.05:
        k += 1
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


def machine(systems: Sequence[str]) -> dict[str, str]:
    """Where this was measured, and with which versions."""
    with open("/proc/cpuinfo", encoding="utf-8") as cpus:
        model = next((line.split(":")[1].strip() for line in cpus if line.startswith("model name")), platform.machine())
    found = {"processor": f"{len(os.sched_getaffinity(0))} cores of {model}", "Python": platform.python_version()}
    for system in systems:
        found |= {package: importlib.metadata.version(package) for package in SYSTEMS[system][-1:]}
    return found
