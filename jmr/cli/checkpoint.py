"""jmr checkpoint: what the directory of one holds; and remove it.

DIR ──> contents ──> some lines on stdout ──> exit code
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence

from jmr.checkpoint.folder import contents, remove
from jmr.checkpoint.ledger import Ledger
from jmr.errors import ArgumentValueError
from jmr.progress.words import plural, size

__all__ = ["list_checkpoints", "remove_checkpoints"]

_DONE, _FAILED = 0, 1


def list_checkpoints(paths: Sequence[str]) -> int:
    """Say what each holds; returns the exit code."""

    def show(path: str) -> None:
        ledger, n_bytes, user = contents(path)
        print(path)
        for name, text in told(ledger, n_bytes, user):
            print(f"  {name:<9} {text}")

    return _for_each(paths, show)


def remove_checkpoints(paths: Sequence[str]) -> int:
    """Remove each; returns the exit code."""

    def clear(path: str) -> None:
        if not remove(path):
            print(f"jmr: {path} stays: something else is in it", file=sys.stderr)

    return _for_each(paths, clear)


def told(ledger: Ledger, n_bytes: int, user: str | None) -> Iterator[tuple[str, str]]:
    """Put into words what a checkpoint holds, by what it is about.

    Parameters
    ----------
    ledger
        What its journal says.
    n_bytes
        Of its files.
    user
        Who uses it now; None if nobody does.

    Examples
    --------
    >>> list(told(Ledger(), 0, None))
    [('job', 'none has begun')]
    """
    run = ledger.run
    if run is None:
        yield "job", "none has begun"
        return
    state = f"in use by {user}" if user else "finished" if ledger.has_ended else "not finished"
    yield (
        "job",
        f"{run.name}, run {run.number} of {time.strftime('%Y-%m-%d %H:%M', time.localtime(run.began))}: {state}",
    )
    yield "map", f"{plural(len(ledger.maps), 'output')} kept, in {plural(run.n_partitions, 'partition')}"
    yield "reduce", f"{plural(sum(map(len, ledger.results.values())), 'result')} kept"
    yield "size", size(n_bytes)


def _for_each(paths: Sequence[str], do: Callable[[str], None]) -> int:
    code = _DONE
    for path in paths:
        try:
            do(path)
        except (ArgumentValueError, OSError) as error:
            print(f"jmr: {error}", file=sys.stderr)
            code = _FAILED
    return code
