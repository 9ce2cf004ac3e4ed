"""What is done to processes and links, and undone after a while.

Deed ──do──> a signal, a cut, ... ──plan──> its undoing ──due──> the processes go on, the link heals, ...

Whom it meets is found when it is done; where nobody is there, nothing is. All that is done is noted.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import time
from collections.abc import Callable

from tests.chaos.cast import Cast, Member, send
from tests.chaos.script import Deed, What

__all__ = ["Deeds"]

#: For a worker to end that was told to.
_END_SECONDS = 30.0
#: For a supervisor to be replaced that was killed.
_STARTING_SECONDS = 5.0


class Deeds:
    """Those of one seed.

    Parameters
    ----------
    cast
        The processes.
    note
        Is told what happens.
    """

    def __init__(self, cast: Cast, note: Callable[[str], None]) -> None:
        self._cast = cast
        self._note = note
        #: What is still to be done: when, in which order, and what.
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._orders = itertools.count()
        #: Of processes that are stopped: what makes them go on.
        self._stopped: list[int] = []
        #: Workers that were killed, or told to end.
        self._ended: list[Member] = []
        self._supervisor_killed_at = float("-inf")
        #: Whether somebody was killed with whoever would have removed the directories.
        self.may_leave = False

    def next_at(self) -> float:
        """When something is to be done."""
        return self._agenda[0][0] if self._agenda else float("inf")

    def do_next(self) -> None:
        """Do what is to be done then."""
        heapq.heappop(self._agenda)[2]()

    def plan(self, when: float, what: Callable[[], None]) -> None:
        """Have something done then."""
        heapq.heappush(self._agenda, (when, next(self._orders), what))

    def undo_all(self) -> None:
        """Nothing more happens; those that were stopped go on, links heal, and every worker is there."""
        self._agenda.clear()
        self.go_on()
        for relay in self._cast.relays:
            relay.heal()
        for index, worker in enumerate(self._cast.workers):
            if worker is not None and (worker in self._ended or not worker.is_there):
                worker.command.process.wait(_END_SECONDS)
                self._cast.start_worker(index)
        self._note("nothing is disturbed any more")
        self._cast.look()

    def go_on(self) -> None:
        """Let all that are stopped go on."""
        for process in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
            os.close(process)
        self._stopped.clear()

    def do(self, deed: Deed) -> None:
        """Do it, to one of those to whom it can be done, if any."""
        self._cast.look()
        match deed.what:
            case What.KILL_SLOT:
                self._kill(deed, self._slots())
            case What.STOP_SLOT:
                self._stop_one(deed, self._slots())
            case What.KILL_SUPERVISOR:
                self._supervisor_killed_at = time.monotonic()
                self._kill(deed, self._supervisors())
            case What.STOP_SUPERVISOR:
                self._stop_one(deed, self._supervisors())
            case What.KILL_WORKER | What.KILL_HOST | What.END_WORKER:
                self._end_worker(deed)
            case What.STOP_HOST:
                worker = self._worker(deed)
                if worker is not None:
                    self._stop(deed, worker.name, list(worker.command.family()))
            case What.STOP_KERNEL:
                self._stop(deed, "kernel", [self._cast.kernel.pid])
            case What.CUT | What.CUT_THERE | What.CUT_BACK | What.RESET:
                self._cut(deed)

    def _slots(self) -> list[tuple[str, int]]:
        return [(f"a slot of {member.name}", pid) for member in self._cast.present() for pid in member.slots()]

    def _supervisors(self) -> list[tuple[str, int]]:
        return [(f"{member.name}'s supervisor", pid) for member in self._cast.present() for pid in member.supervisors()]

    def _worker(self, deed: Deed) -> Member | None:
        return self._cast.workers[int(deed.whom * len(self._cast.workers))]

    def _kill(self, deed: Deed, whom: list[tuple[str, int]]) -> None:
        if whom:
            name, pid = whom[int(deed.whom * len(whom))]
            self._note(f"kill {name}: {pid}")
            send(pid, signal.SIGKILL)

    def _stop_one(self, deed: Deed, whom: list[tuple[str, int]]) -> None:
        if whom:
            name, pid = whom[int(deed.whom * len(whom))]
            self._stop(deed, name, [pid])

    def _stop(self, deed: Deed, name: str, pids: list[int]) -> None:
        self._note(f"stop {name} for {deed.seconds:.1f} s: {pids}")
        processes = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                processes.append(os.pidfd_open(pid))
                signal.pidfd_send_signal(processes[-1], signal.SIGSTOP)
        self._stopped += processes
        self.plan(time.monotonic() + deed.seconds, lambda: self._continue(name, processes))

    def _continue(self, name: str, processes: list[int]) -> None:
        self._note(f"{name} goes on")
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
            self._stopped.remove(process)
            os.close(process)

    def _end_worker(self, deed: Deed) -> None:
        worker = self._worker(deed)
        if worker is None or not worker.is_there:
            return
        self._note(f"{deed.what.value}: {worker.name}, for {deed.seconds:.1f} s")
        self._ended.append(worker)
        if deed.what is What.KILL_HOST:
            self.may_leave = True
            for pid in worker.command.family():
                send(pid, signal.SIGKILL)
        elif deed.what is What.KILL_WORKER:
            self.kill_first(worker)
        else:
            send(worker.pid, signal.SIGTERM)
        self.plan(time.monotonic() + deed.seconds, lambda: self._start_again(worker))

    def kill_first(self, member: Member) -> None:
        """Kill somebody's first process; its supervisor ends then and removes the directories, if there is one."""
        is_alone = not member.supervisors() or time.monotonic() - self._supervisor_killed_at < _STARTING_SECONDS
        self.may_leave |= is_alone
        send(member.pid, signal.SIGKILL)

    def _start_again(self, worker: Member) -> None:
        if worker not in self._cast.workers:  # it was, after it had been told to end and was killed then
            return
        if worker.is_there:  # it finishes what it is at
            self.plan(time.monotonic() + 0.2, lambda: self._start_again(worker))
            return
        self._note(f"{worker.name} is started again")
        self._cast.start_worker(self._cast.workers.index(worker))

    def _cut(self, deed: Deed) -> None:
        index = int(deed.whom * len(self._cast.relays))
        relay = self._cast.relays[index]
        self._note(f"{deed.what.value}: worker {index}, for {deed.seconds:.1f} s")
        match deed.what:
            case What.CUT:
                relay.cut()
            case What.CUT_THERE:
                relay.cut(back=False)
            case What.CUT_BACK:
                relay.cut(there=False)
            case _:
                relay.reset()
                return
        self.plan(time.monotonic() + deed.seconds, lambda: self._heal(index))

    def _heal(self, index: int) -> None:
        self._note(f"the link of worker {index} heals")
        self._cast.relays[index].heal()
