"""Hosts that ssh gets to: has a worker started on each, and again where one was lost.

    Callers.reach ──> Caller.call on each, some at once ──> it has joined, or is named with the reason
    Others ──lost──> Caller.call_again ──> a thread: after 5 s, 10 s, ... 60 s: call ──> it has joined again
                                                                                └──> it refuses: Others.give_up

Nobody is called again who never joined. It shows nothing: what becomes of lost hosts, the coordinator tells its jobs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jmr.coordinator.core import Coordinator
from jmr.engines.reaching import Failure, joined
from jmr.errors import WorkerError
from jmr.launch.ssh import END_SECONDS, MOST_AT_ONCE, SshTarget, SshWorker, start_by_ssh

__all__ = ["Callers", "Pauses"]

_SHORTEST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
#: In a row, before a host is given up: one that has just started may not have all of its folders yet.
_MOST_REFUSALS = 3


class Pauses:
    """How long to wait before a host is called again.

    A host that was there for as long as the longest pause is like new; one that comes and goes is called less and less.

    Examples
    --------
    >>> pauses = Pauses()
    >>> [pauses.next(now=100.0) for _ in range(6)]
    [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    >>> pauses.came(now=200.0)
    >>> pauses.next(now=210.0), pauses.next(now=280.0)
    (60.0, 60.0)
    >>> pauses.came(now=400.0)
    >>> pauses.next(now=460.0), pauses.next(now=465.0)
    (5.0, 10.0)
    """

    def __init__(self) -> None:
        self._seconds = _SHORTEST_PAUSE
        self._came_at: float | None = None

    def came(self, now: float) -> None:
        """It has joined."""
        self._came_at = now

    def next(self, now: float) -> float:
        """Seconds until the next call; now it was lost, or has failed to come."""
        if self._came_at is not None and now - self._came_at >= _LONGEST_PAUSE:
            self._seconds = _SHORTEST_PAUSE
        self._came_at = None
        seconds = self._seconds
        self._seconds = min(2 * seconds, _LONGEST_PAUSE)
        return seconds


class Callers:
    """Those of one cluster, one for each host.

    Parameters
    ----------
    coordinator
        What workers join.
    targets
        The hosts.
    python
        The interpreter there; see `start_by_ssh`.
    """

    def __init__(self, coordinator: Coordinator, targets: Sequence[SshTarget], python: str | None) -> None:
        self._coordinator = coordinator
        self._pid = os.getpid()
        self._stopped = threading.Event()
        turns = threading.Semaphore(MOST_AT_ONCE)
        self._callers = [Caller(coordinator, target, python, turns, self._stopped) for target in targets]

    def reach(self) -> list[str]:
        """Call all, and wait until each has joined or failed; returns what failed.

        An interrupt meanwhile closes the coordinator, by which what was started ends.
        """
        with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="jmr-ssh") as threads:
            calls = [(caller, threads.submit(caller.call)) for caller in self._callers]
            try:
                outcomes = [(caller, call.result()) for caller, call in calls]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.stop()
                self._coordinator.close()
                raise
        return [f"no worker on {caller.destination}: {failed.reason}" for caller, failed in outcomes if failed]

    def stop(self) -> None:
        """Call nobody any more, and end the calls that are being made."""
        if os.getpid() != self._pid:  # a forked child has none of the threads, and perhaps what they have locked
            return
        self._stopped.set()
        for caller in self._callers:
            caller.stop()

    def end(self) -> None:
        """Wait for the end of every ssh, when the coordinator is closed: not for long, as lost hosts do not answer."""
        if os.getpid() != self._pid:
            return
        deadline = time.monotonic() + END_SECONDS  # of all of them
        for caller in self._callers:
            caller.end(deadline)


class Caller:
    """Has a worker started on one host, and again whenever it is lost.

    Parameters
    ----------
    coordinator, target, python
        As of `Callers`, for one host.
    turns
        Whoever calls again has one.
    stopped
        Set when nobody is to be called any more.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        target: SshTarget,
        python: str | None,
        turns: threading.Semaphore,
        stopped: threading.Event,
    ) -> None:
        self.destination = target.destination
        self._coordinator = coordinator
        self._target = target
        self._python = python
        self._turns = turns
        self._stopped = stopped
        self._pauses = Pauses()
        #: For what follows, which several threads look at.
        self._lock = threading.Lock()
        #: That which was started last, until it has ended.
        self._worker: SshWorker | None = None
        self._is_calling = False
        #: Whether it has to be called; whether the thread sees to it, and which that is or was.
        self._is_lost = self._is_recalling = False
        self._thread: threading.Thread | None = None

    def call(self) -> Failure | None:
        """Have a worker started, and wait until it has joined; else returns why it has not."""
        with self._lock:
            if self._stopped.is_set():
                return Failure("the cluster was closed", is_refusal=False)
            worker = self._worker = start_by_ssh(self._target, self._python)
            self._is_calling, self._is_lost = True, False
        failure = joined(self._coordinator, worker, self)
        with self._lock:
            self._is_calling = False
            if self._is_lost:  # in the very moment in which it had joined
                self._see_to_it()
            if failure is None:
                self._pauses.came(time.monotonic())
            else:
                self._worker, self._is_lost = None, True
        return failure

    def call_again(self) -> None:
        """It was lost: have a thread see to it."""
        with self._lock:
            self._is_lost = True
            if not self._is_calling:
                self._see_to_it()

    def stop(self) -> None:
        """End a call that is being made: ssh may hang in it."""
        with self._lock:
            if self._is_calling and self._worker is not None:
                self._worker.process.kill()

    def end(self, deadline: float) -> None:
        """Wait for the end of thread and ssh, once all is stopped and the coordinator closed."""
        if self._thread is not None:
            self._thread.join()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.last_words(max(0.0, deadline - time.monotonic()))

    def _see_to_it(self) -> None:
        if not self._is_recalling and not self._stopped.is_set():
            self._is_recalling = True
            self._thread = threading.Thread(target=self._recall, name="jmr-recall", daemon=True)
            self._thread.start()

    def _recall(self) -> None:
        """Call until it has joined, or refuses."""
        n_refusals = 0
        while self._is_wanted() and not self._stopped.wait(self._pauses.next(time.monotonic())):
            with self._turns:
                failure = self._careful_call()
            if failure is None:
                continue
            n_refusals = n_refusals + 1 if failure.is_refusal else 0
            if n_refusals == _MOST_REFUSALS:
                with contextlib.suppress(WorkerError):  # it was closed meanwhile
                    self._coordinator.others().give_up(self, failure.reason)
                return

    def _is_wanted(self) -> bool:
        """Whether it is to be called; if so, what was there before has been waited for."""
        with self._lock:
            if not self._is_lost:
                self._is_recalling = False
                return False
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.last_words()
        return True

    def _careful_call(self) -> Failure | None:
        try:
            return self.call()
        except (OSError, WorkerError) as error:  # this host has no more processes or descriptors, say
            return Failure(str(error), is_refusal=False)
