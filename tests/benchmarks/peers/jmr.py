"""jmr itself, on the kernel's own cluster."""

from __future__ import annotations

from typing import Any

import jmr
from tests.benchmarks.workloads import Workload


def start() -> None:
    """The first job starts it."""


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    functions = workload.mapfn, workload.reducefn
    return jmr.run(source, *functions, combinefn=workload.combinefn, workers=2, progress=False)


def stop() -> None:
    """It ends with this process."""
