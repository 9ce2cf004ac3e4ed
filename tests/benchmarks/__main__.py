"""jmr, other systems, a plain loop and a program by hand, side by side.

python -m tests.benchmarks [--systems jmr,hand2,...] [--workloads wordcount,...] [-n ROUNDS] [--memory]
                           [--json FILE] [--chart FILE] [--scale 0.1] [--from FILE]

Every run is a process of its own, and the systems take turns. Answers must be equal. The table has the median of the
seconds with the least and the most, and the median of the ratios to `hand2` in the same round with its 95 % interval
(of fewer than 6 rounds the range). Wrong answers and errors are named, do not count, and make the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from tests.benchmarks.measure import SYSTEMS, Figures, interval, machine, missing, run_once
from tests.benchmarks.workloads import WORKLOADS

#: Only where asked for: it writes 4 GB to a disk.
_LARGE = {"bigshuffle"}


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--workloads", default=",".join(WORKLOADS.keys() - _LARGE))
    parser.add_argument("-n", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of each workload, to try things out")
    parser.add_argument("--memory", action="store_true", help="peak memory, in one more run of each")
    parser.add_argument("--json", type=Path, help="write every run here, after each round")
    parser.add_argument("--chart", type=Path, help="draw a PNG")
    parser.add_argument("--from", dest="before", type=Path, nargs="+", help="measure nothing, read what --json wrote")
    options = parser.parse_args()
    if options.before:
        figures, where = _read(options.before)
    else:
        figures, where = _measure(options)
    for name in WORKLOADS:
        if name in figures.runs:
            _print_table(figures, name)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if options.chart:
        from tests.benchmarks.chart import draw

        draw(figures, where, options.chart)
    if any(figures.trouble(name) for name in figures.runs):
        sys.exit(1)


def _read(paths: list[Path]) -> tuple[Figures, dict[str, str]]:
    """Put rounds that were written apart together."""
    figures, where = Figures(), {}
    for path in paths:
        found = json.loads(path.read_text())
        where = found["machine"] | where
        for workload, systems in found["runs"].items():
            for system, runs in systems.items():
                for run in runs:
                    figures.add(workload, system, run)
    return figures, where


def _measure(options: argparse.Namespace) -> tuple[Figures, dict[str, str]]:
    systems = _chosen(options.systems, SYSTEMS)
    workloads = [name for name in WORKLOADS if name in _chosen(options.workloads, WORKLOADS)]
    for system in list(systems):
        if needed := missing(system):
            print(f"left out: {system} (needs {needed})", file=sys.stderr)
            systems.remove(system)
    figures, where = Figures(), machine(systems)
    for workload in workloads:
        for round_number in range(options.n):
            shift = round_number % len(systems)
            for system in systems[shift:] + systems[:shift]:
                figures.add(workload, system, run_once(system, workload, options.scale))
            print(f"{workload}: round {round_number + 1} of {options.n}", file=sys.stderr)
        for system in systems if options.memory else []:
            run = run_once(system, workload, options.scale, memory=True)
            for earlier in figures.runs[workload][system][:1]:
                earlier["peak_bytes"] = run.get("peak_bytes")
        if options.json:
            options.json.write_text(json.dumps({"machine": where, "runs": figures.runs}, indent=1))
    return figures, where


def _chosen(names: str, known: dict[str, object]) -> list[str]:
    chosen = names.split(",")
    if unknown := set(chosen) - known.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return chosen


def _print_table(figures: Figures, workload: str) -> None:
    print(f"\n{workload}: {WORKLOADS[workload].title}")
    for system, runs in figures.runs[workload].items():
        seconds = figures.seconds(workload, system)
        if not seconds:
            continue
        line = f"  {system:12} {_time(statistics.median(seconds))} ({_time(min(seconds))} to {_time(max(seconds))})"
        if ratios := figures.ratios(workload, system):
            low, high = interval(ratios)
            line += f"  {statistics.median(ratios):7.2f}x ({low:.2f} to {high:.2f})"
            line += "" if len(ratios) > 5 else " range"
        line += "".join(f"  {key[:-6]} {run[key] / 1e6:,.0f} MB" for run in runs[:1] for key in run if "_bytes" in key)
        print(line)
    for trouble in figures.trouble(workload):
        print(f"  ! {trouble}")


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:8.1f} ms" if seconds < 1 else f"{seconds:8.2f} s "


if __name__ == "__main__":
    main()
