"""Which program for which workload."""

from __future__ import annotations

from tests.benchmarks.hand2.adding import run_adding
from tests.benchmarks.hand2.carrying import run_carrying, run_sharing
from tests.benchmarks.hand2.listing import run_listing
from tests.benchmarks.hand2.working import run_working
from tests.benchmarks.workloads import Workload


def run_by_hand(workload: Workload, source) -> dict:
    """The fastest that we found."""
    records = list(source.items()) if isinstance(source, dict) else source
    match workload.name:
        case "small_warm" | "small_cold" | "tiny":
            return run_listing(workload, records, "i")
        case "cpu" | "skewed":
            return run_working(workload, records)
        case "wordcount" | "textfiles" | "hotkey":
            return run_listing(workload, records, "i")
        case "wordcount_combine":
            return run_adding(workload, records)
        case "index":
            return run_listing(workload, records)
        case "groupby":
            return run_listing(workload, records)
        case "arrays_in":
            return run_carrying(workload, records)
        case "arrays_shuffle":
            return run_sharing(workload, records)
        case name:
            raise ValueError(f"there is no program for {name}")
