"""Clusters, and which one a job runs on.

    Cluster  a coordinator and its workers; the kernel's own one starts at the first job and stays warm

A worker is started before anything else is imported that it takes to run jobs: it imports its own part meanwhile.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Self

from jmr import interrupts
from jmr.errors import WorkerError
from jmr.launch.local import default_slots, start_local
from jmr.plan import MOST_WORKERS, Plan, checked_count
from jmr.shuffle.directory import Directories

if TYPE_CHECKING:
    from types import TracebackType

    from jmr.coordinator.core import Coordinator

__all__ = ["Cluster", "current_cluster", "default_cluster", "resize"]


class Cluster:
    """Processes on this host, called slots, kept warm between jobs.

    Parameters
    ----------
    workers
        How many slots. Default: one for each CPU that this process may use.

    Notes
    -----
    Inside `with`, it is the one that `jmr.run` uses, in this thread and in those that entered none of their own. Its
    processes end with `close`, with the `with` block, or with this process, however that ends.

    Examples
    --------
    >>> import jmr
    >>> with jmr.Cluster(workers=2):
    ...     jmr.run({"a": 2, "b": 3}, lambda key, value: [(key, value * value)], lambda key, values: sum(values))
    {'a': 4, 'b': 9}
    """

    def __init__(self, workers: int | None = None) -> None:
        n_slots = None if workers is None else checked_count("workers", workers, most=MOST_WORKERS)
        self._own_slots = n_slots
        self._pid = os.getpid()
        self._coordinator: Coordinator | None = None
        try:
            with interrupts.deferred():
                self._coordinator = _start(n_slots or default_slots())
        except BaseException:
            self.close()
            raise

    @classmethod
    def _of_the_kernel(cls, workers: int | None) -> Cluster:
        """One that is not anybody's choice: a job that does not say how many slots gets the usual number."""
        cluster = cls(max(workers or 1, default_slots()))
        cluster._own_slots = None
        return cluster

    def __enter__(self) -> Self:
        self._running()
        _entered.append((threading.get_ident(), self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        me = threading.get_ident()
        mine = [index for index, (_, cluster) in enumerate(_entered) if cluster is self]
        del _entered[max(mine, key=lambda index: (_entered[index][0] == me, index))]  # or it was entered elsewhere
        if all(cluster is not self for _, cluster in _entered):
            self.close()

    def __repr__(self) -> str:
        if self._coordinator is None:
            return "<jmr.Cluster closed>"
        n_busy = sum(state.startswith("job") for _, state in self.status())
        slots = "slot" if self.n_slots == 1 else "slots"
        return f"<jmr.Cluster of {self.n_slots} {slots} on this host, {n_busy} busy>"

    @property
    def n_slots(self) -> int:
        """How many slots it has, or will have once they have started."""
        return self._coordinator.n_slots if self._coordinator is not None else 0

    def status(self) -> list[tuple[str, str]]:
        """Each slot's name and what it does: "starting", "idle", "job 3: map-4", or "ending"."""
        return self._coordinator.status() if self._coordinator is not None else []

    def resize(self, workers: int) -> None:
        """Have this many slots; those that are too many finish what they are at."""
        n_slots = checked_count("workers", workers, most=MOST_WORKERS)
        self._own_slots = n_slots
        self._running().resize(n_slots)

    def close(self) -> None:
        """End every process it started. Harmless the second time."""
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            with interrupts.deferred():
                coordinator.close()

    @property
    def is_open(self) -> bool:
        """Whether it can run jobs: not closed, and not inherited by a fork, which has no threads."""
        return self._coordinator is not None and self._pid == os.getpid()

    def _running(self) -> Coordinator:
        if self._coordinator is None or not self.is_open:
            raise WorkerError("this jmr.Cluster is closed: make a new one, or leave it out to use the kernel's own")
        return self._coordinator

    def _limit(self, plan: Plan) -> int:
        """Most slots that a job may use."""
        return plan.workers or self._own_slots or default_slots()


def _start(n_slots: int) -> Coordinator:
    """Start a worker and a coordinator; only now is tornado imported."""
    if os.name == "nt":
        raise WorkerError('jmr\'s own workers need Linux or macOS: use WSL, or engine="inline"')
    directories = Directories()
    supervisor = None
    try:
        supervisor = start_local(directories.paths)
        from jmr.coordinator.core import Coordinator

        return Coordinator(n_slots, directories, supervisor)
    except BaseException:
        if supervisor is not None:
            supervisor.last_words()  # it ends, and is waited for
        directories.close()
        raise


#: Clusters inside their `with` blocks, each with the thread that entered it.
_entered: list[tuple[int, Cluster]] = []
_default: Cluster | None = None
_lock = threading.Lock()


def current_cluster(workers: int | None = None) -> Cluster:
    """The cluster of the innermost `with`, else the kernel's own, started if need be for this many slots."""
    global _default  # noqa: PLW0603 - the kernel has one cluster of its own
    entered = _innermost()
    if entered is not None:
        return entered
    with _lock, interrupts.deferred():
        if _default is None or not _default.is_open:
            _default = Cluster._of_the_kernel(workers)
        return _default


def default_cluster() -> Cluster | None:
    """The cluster that the next job would use; None if none has started."""
    return _innermost() or (_default if _default is not None and _default.is_open else None)


def _innermost() -> Cluster | None:
    """The cluster whose `with` block this thread is in, else any thread: a thread started inside has entered none."""
    me = threading.get_ident()
    clusters = [cluster for _, cluster in sorted(_entered, key=lambda item: item[0] == me) if cluster.is_open]
    return clusters[-1] if clusters else None


def resize(workers: int) -> Cluster:
    """Give the current cluster this many slots, and start it if need be."""
    cluster = current_cluster()
    cluster.resize(workers)
    return cluster


@atexit.register
def _close_default() -> None:
    if _default is not None:
        _default.close()
