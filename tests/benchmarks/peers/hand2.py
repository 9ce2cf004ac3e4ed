"""Two processes by hand: see `tests.benchmarks.hand2`."""

from __future__ import annotations

from tests.benchmarks.hand2 import run

__all__ = ["run", "start", "stop"]


def start() -> None:
    """It forks anew each time."""


def stop() -> None:
    """Nothing is left."""
