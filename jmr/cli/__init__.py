"""The command line.

command     jmr: what can be asked of it
task        jmr run: a task file, from its path to an exit code
answer      a result as lines, or as JSON
checkpoint  jmr checkpoint: what one holds; remove it
worker      jmr-worker: this host's CPUs for a coordinator on another
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

__all__ = ["main", "worker_main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run jmr; what it needs is loaded only then."""

    def run() -> int:
        from jmr.cli.command import main

        return main(arguments)

    return _interruptible(run)


def worker_main(arguments: Sequence[str] | None = None) -> int:
    """Run jmr-worker; what it needs is loaded only then."""

    def run() -> int:
        from jmr.cli.worker import worker_main

        return worker_main(arguments)

    return _interruptible(run)


def _interruptible(run: Callable[[], int]) -> int:
    """Its exit code; a Ctrl-C that comes before it is ready for one, while it is still loaded, ends it in a line."""
    try:
        return run()
    except KeyboardInterrupt:
        print("jmr: interrupted", file=sys.stderr)
        return 130
