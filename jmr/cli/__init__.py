"""The command line.

command  jmr: what can be asked of it
task     jmr run: a task file, from its path to an exit code
answer   a result as lines, or as JSON
worker   jmr-worker: this host's CPUs for a coordinator on another
"""

from __future__ import annotations

from collections.abc import Sequence

from jmr.cli.command import main

__all__ = ["main", "worker_main"]


def worker_main(arguments: Sequence[str] | None = None) -> int:
    """Run jmr-worker; what it needs is loaded only then."""
    from jmr.cli.worker import worker_main as run_worker

    return run_worker(arguments)
