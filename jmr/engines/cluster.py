"""Clusters, and which one a job runs on.

    Cluster  a coordinator and its workers; the kernel's own one starts at the first job and stays warm

A worker is started before anything else is imported that it takes to run jobs: it imports its own part meanwhile.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from jmr import interrupts
from jmr.errors import ArgumentValueError, WorkerError
from jmr.launch.local import default_slots, start_local
from jmr.plan import MOST_WORKERS, Plan, checked_count
from jmr.shuffle.directory import Directories

if TYPE_CHECKING:
    from types import TracebackType

    from jmr.coordinator.core import Coordinator
    from jmr.coordinator.status import WorkerStatus
    from jmr.engines.recalling import Callers
    from jmr.engines.slots import ClusterEngine
    from jmr.launch.address import Address
    from jmr.launch.ssh import SshTarget

__all__ = ["Cluster", "current_cluster", "default_cluster", "resize"]


class Cluster:
    """Processes on this host and on others, called slots, kept warm between jobs.

    Parameters
    ----------
    workers
        How many slots on this host. Default: one for each CPU that this process may use. 0: those of other hosts do all
        the work.
    listen
        Where workers of other hosts may join: an address of this host, such as "10.0.0.5" or "10.0.0.5:18273". `True`
        is "127.0.0.1", for workers on this very host. What to do on those hosts is shown. Default: nowhere.
    ssh
        Hosts to start workers on, by ssh: "host1", "ann@host2", or with a number of slots "host3:4". Your ssh
        configuration applies, and ssh must get in without asking for anything. A host where that fails is named in a
        warning, and the others are used. One that is lost later is called again, within seconds at first and then every
        minute, until it is back: a job that has no other slots waits for it. It is given up if jmr cannot run there any
        more, and left alone if its worker was told to end.
    python
        The interpreter on those hosts, which must have jmr installed. Default: the one at the same path as here, if
        there is one, else the `jmr-worker` on the PATH there.

    Raises
    ------
    WorkerError
        It cannot listen there; or there are to be no slots here, and ssh got to none of the hosts.
    TokenError
        The token, by which workers that join are known, is not private.

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

    def __init__(
        self,
        workers: int | None = None,
        *,
        listen: str | bool | None = None,
        ssh: Sequence[str] = (),
        python: str | None = None,
    ) -> None:
        n_slots = None if workers is None else checked_count("workers", workers, most=MOST_WORKERS, least=0)
        targets = _checked_targets(ssh) if ssh else []
        self._own_slots = n_slots
        self._pid = os.getpid()
        self._coordinator: Coordinator | None = None
        self._address: Address | None = None
        self._expects_remote = bool(targets)
        #: Of jobs that run, and perhaps of some that ran.
        self._engines: weakref.WeakSet[ClusterEngine] = weakref.WeakSet()
        self._engines_lock = threading.Lock()
        #: Those of hosts that ssh gets to, if there are to be any.
        self._callers: Callers | None = None
        try:
            with interrupts.deferred():
                self._coordinator = _start(default_slots() if n_slots is None else n_slots)
            if listen is not None and listen is not False:
                _show(self.listen("127.0.0.1" if listen is True else listen))
            if targets:
                self._reach(targets, python)
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
        hosts = self.hosts()
        n_busy = sum(slot.is_busy for host in hosts for slot in host.slots)
        listens = f", listening on {self._address}" if self._address else ""
        slots = "slot" if self.n_slots == 1 else "slots"
        if len(hosts) == 1:
            return f"<jmr.Cluster of {self.n_slots} {slots} on this host, {n_busy} busy{listens}>"
        from jmr.engines.view import status_text

        n_others = self._coordinator.n_remote_slots
        head = f"<jmr.Cluster of {self.n_slots} {slots} on this host and {n_others} on others, {n_busy} busy{listens}>"
        return f"{head}\n{status_text(hosts, None)}"

    def _repr_html_(self) -> str:
        from jmr.engines.view import status_html

        return status_html(self.hosts(), self.address)

    @property
    def n_slots(self) -> int:
        """How many slots it has on this host, or will have once they have started."""
        return self._coordinator.n_slots if self._coordinator is not None else 0

    @property
    def address(self) -> str | None:
        """Where workers of other hosts may join: "10.0.0.5:18273". None: nowhere."""
        return None if self._address is None else str(self._address)

    @property
    def has_remote(self) -> bool:
        """Whether slots of other hosts may work here."""
        return self._expects_remote

    def status(self) -> list[tuple[str, str]]:
        """Each slot's name and what it does: "starting", "idle", "words: map-4", or "ending"."""
        return [(slot.name, slot.doing) for host in self.hosts() for slot in host.slots]

    def hosts(self) -> list[WorkerStatus]:
        """The workers, this host's first: their slots, and how their hosts are; those that were lost come last."""
        return self._coordinator.status() if self._coordinator is not None else []

    def listen(self, address: str = "127.0.0.1", *, new_token: bool = False) -> str:
        """Let workers of other hosts join, at this address instead of any other.

        Parameters
        ----------
        address
            Of this host, as the others know it; with or without a port.
        new_token
            Make a new token first: workers that hold the old one are not let in any more.

        Returns
        -------
        What to do on the other hosts, in words.

        Raises
        ------
        ArgumentValueError, WorkerError, TokenError
            It is no address, or not this host's; the port is taken; nothing here can make a certificate; the token is
            not private.
        """
        from jmr.engines.reaching import checked_address, listen_at
        from jmr.engines.view import invitation

        where = checked_address(address)
        coordinator = self._running()
        with interrupts.deferred():
            self._expects_remote = True
            with self._engines_lock:
                engines = list(self._engines)
            for engine in engines:
                engine.expect_remote()
            self._address = listen_at(coordinator, where, self._address, renew=new_token)
        return invitation(self._address)

    def resize(self, workers: int) -> None:
        """Have this many slots on this host; those that are too many finish what they are at.

        A job that runs uses them, too, unless it was told how many to use.
        """
        n_slots = checked_count("workers", workers, most=MOST_WORKERS, least=0)
        self._own_slots = n_slots
        self._running().resize(n_slots)

    def close(self) -> None:
        """End every process it started. Harmless the second time."""
        coordinator, self._coordinator = self._coordinator, None
        callers, self._callers = self._callers, None
        self._address = None
        with interrupts.deferred():
            if callers is not None:
                callers.stop()
            if coordinator is not None:
                coordinator.close()
        if callers is not None:
            callers.end()

    @property
    def is_open(self) -> bool:
        """Whether it can run jobs: not closed, and not inherited by a fork, which has no threads."""
        return self._coordinator is not None and self._pid == os.getpid()

    def _running(self) -> Coordinator:
        if self._coordinator is None or not self.is_open:
            raise WorkerError("this jmr.Cluster is closed: make a new one, or leave it out to use the kernel's own")
        return self._coordinator

    def slots_for(self, plan: Plan) -> int:
        """How many slots a job would have that began now, of this host and of others."""
        return self._limit(plan) + self._running().n_remote_slots

    def _limit(self, plan: Plan) -> int:
        """Most slots of this host that a job may use."""
        wanted = [plan.workers, self._own_slots, default_slots()]
        most = next(n_slots for n_slots in wanted if n_slots is not None)
        if not most and not self._running().n_remote_slots and not self._running().may_come:
            raise ArgumentValueError(
                "workers=0 leaves the work to slots of other hosts, and none can join: %jmr listen, or "
                'jmr.Cluster(listen="10.0.0.5"), or jmr.Cluster(ssh=["host"])'
            )
        return min(most, max(self.n_slots, plan.workers or 0))

    def _runs(self, engine: ClusterEngine) -> None:
        """It has opened a job here."""
        with self._engines_lock:
            self._engines.add(engine)

    def _reach(self, targets: list[SshTarget], python: str | None) -> None:
        """Have ssh start workers; say which hosts it did not get to."""
        from jmr.engines.recalling import Callers

        self._callers = Callers(self._running(), targets, python)
        failures = self._callers.reach()
        for text in failures:
            warnings.warn(text, stacklevel=3)
        if len(failures) == len(targets) and not self.n_slots:
            raise WorkerError(f"there are no slots: {'; '.join(failures)}")


def _show(text: str) -> None:
    """On stderr; in a notebook, where that looks like an error, as a cell's output."""
    from jmr.progress.where import kernel_shell

    print(text, file=sys.stderr if kernel_shell() is None else None, flush=True)


def _checked_targets(hosts: object) -> list[SshTarget]:
    from jmr.engines.reaching import checked_targets

    return checked_targets(hosts)


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
