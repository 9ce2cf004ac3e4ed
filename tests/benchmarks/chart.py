"""The picture of the README: each workload's time on each system, as a multiple of the program by hand."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Figures
from tests.benchmarks.workloads import WORKLOADS

__all__ = ["draw"]

_COLOURS = {
    "jmr": "#d1242f",
    "serial": "#8c959f",
    "pool": "#0969da",
    "futures": "#54aeff",
    "joblib": "#1a7f37",
    "dask": "#bf8700",
    "ray": "#8250df",
    "pyspark": "#bc4c00",
    "ipyparallel": "#57606a",
}


def draw(figures: Figures, where: dict[str, str], path: Path) -> None:
    """Write a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    workloads = [name for name in WORKLOADS if name in figures.runs and name != "bigshuffle"]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(workloads) + 1.8), layout="constrained")
    for row, workload in enumerate(reversed(workloads)):
        axes.axhline(row, color="#d0d7de", linewidth=0.6, zorder=0)
        for system, colour in _COLOURS.items():
            ratios = figures.ratios(workload, system)
            if ratios:
                is_ours = system == "jmr"
                style: dict[str, Any] = {"s": 90 if is_ours else 34, "marker": "D" if is_ours else "o"}
                axes.scatter(statistics.median(ratios), row, color=colour, zorder=3 if is_ours else 2, **style)
    for system, colour in _COLOURS.items():
        if any(figures.ratios(workload, system) for workload in workloads):
            axes.scatter([], [], color=colour, marker="D" if system == "jmr" else "o", label=system)
    axes.axvline(1, color="#1f2328", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50, 100], ["0.5", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_yticks(range(len(workloads)), [WORKLOADS[name].title for name in reversed(workloads)])
    axes.set_xlabel("time as a multiple of the best program for two processes written by hand (lower is better)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    figure.text(0.01, -0.02, ", ".join(f"{k} {v}" for k, v in where.items()), fontsize=7, color="#57606a")
    figure.savefig(path, dpi=130, bbox_inches="tight")
