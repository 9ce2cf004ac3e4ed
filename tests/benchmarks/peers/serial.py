"""The plain loop."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.workloads import Workload


def start() -> None:
    """Nothing to start."""


def run(workload: Workload, source: Any) -> dict[Any, Any]:
    groups: dict[Any, list[Any]] = {}
    for key, value in source.items() if hasattr(source, "items") else source:
        for emitted_key, emitted in workload.mapfn(key, value):
            groups.setdefault(emitted_key, []).append(emitted)
    return {key: workload.reducefn(key, values) for key, values in groups.items()}


def stop() -> None:
    """Nothing to stop."""
