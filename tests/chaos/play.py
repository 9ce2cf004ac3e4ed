"""One seed, from its script to its checks.

    start all ──> run the job ──> deeds, each undone after a while ──> the job's end ──> check
                                                       another job, undisturbed ──> check
    all rest ──> the kernel ends ──> the workers end ──> nobody and nothing is left

What was done is kept as a story, and told where a check fails.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.cast import Cast, Member, send
from tests.chaos.script import Deed, End, Script, What, script_of

__all__ = ["ChaosError", "play"]

#: A job that has not ended by then hangs; on a busy machine all takes a while.
_PATIENCE_SECONDS = 60.0
#: What a cancelled job, and one that is short, may take on a machine that does many other things.
_SOON_SECONDS = 10.0


class ChaosError(AssertionError):
    """A check has failed; with the story so far."""


def play(seed: int, seconds: float) -> list[str]:
    """Play a seed; returns its story.

    Raises
    ------
    ChaosError
        Something is not as it has to be.
    """
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with Cast(script := script_of(seed, seconds), folder) as cast:
            play = _Play(script, cast)
            try:
                play.all()
            except (AssertionError, OSError, EOFError) as error:
                raise ChaosError("\n".join([*play.told(), *play.last_words(error)])) from error
        return play.told()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Play:
    """One seed, as it is played."""

    def __init__(self, script: Script, cast: Cast) -> None:
        self._script = script
        self._cast = cast
        self._story: list[str] = []
        self._began = time.monotonic()
        #: What is still to be done: when, in which order, and what.
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._orders = itertools.count()
        #: Of processes that are stopped: what makes them go on.
        self._stopped: list[int] = []
        #: Workers that were killed, or told to end.
        self._ended: list[Member] = []
        self._wholly_killed = False

    def told(self) -> list[str]:
        """What has happened."""
        s = self._script
        head = f"seed {s.seed}: {s.kind}, {s.n_local} slots here, {s.slots} there, {s.end.value}"
        return [head + (", short of memory" if s.is_short_of_memory else ""), *self._story]

    def last_words(self, error: BaseException) -> list[str]:
        """What can be said of a failure."""
        kernel = self._cast.kernel
        self._go_on()
        if kernel.is_there:
            send(kernel.pid, signal.SIGUSR1)
            time.sleep(0.5)  # it tells nobody when it has written what its threads are at
        self._cast.notes.seek(0)
        said = self._cast.notes.read().decode(errors="replace")
        return [f"FAILED: {type(error).__name__}: {error}", "what they wrote on standard error:", said[-6000:]]

    def all(self) -> None:
        """Play it."""
        self._begin()
        end = self._script.end
        self._run(end, self._script.work_seconds)
        if end is not End.ANSWER:
            self._run(End.ANSWER, self._script.work_seconds / 3)
        self._rest()
        self._run(End.ANSWER, 0.5)
        self._rest()
        self._leave()

    def _note(self, text: str) -> None:
        self._story.append(f"{time.monotonic() - self._began:7.2f}  {text}")

    # The beginning.

    def _begin(self) -> None:
        for index in range(len(self._script.slots)):
            self._cast.start_worker(index)
        self._start_kernel()
        self._expect("rests", "rest", sum(self._script.slots))
        self._note("all are there")

    def _start_kernel(self) -> None:
        self._cast.start_kernel()
        said = self._cast.hear(_PATIENCE_SECONDS)
        assert said is not None, "the kernel does not start"
        self._cast.folders |= set(map(Path, said["folders"]))

    def _expect(self, word: str, *words: object) -> dict[str, Any]:
        """Tell the kernel something, and have it answer so."""
        self._cast.tell(*words)
        said = self._cast.hear(_PATIENCE_SECONDS)
        assert said is not None, f"the kernel does not answer {words}"
        assert said.get(word), f"the kernel answers {said} to {words}"
        return said

    # A job, and what happens meanwhile.

    def _run(self, end: End, work_seconds: float) -> None:
        """Run a job to its end; only the first is disturbed."""
        n_slots = self._script.n_local + sum(self._script.slots)
        self._expect("runs", "run", self._script.kind, self._script.seed, work_seconds * n_slots)
        began = time.monotonic()
        self._note(f"a job runs that takes {work_seconds:.1f} s")
        deeds = self._script.deeds if not self._agenda and work_seconds == self._script.work_seconds else ()
        for deed in deeds:
            if end is End.ANSWER or deed.at < self._script.ends_at:
                self._plan(began + deed.at, self._doing(deed))
        if end is End.KILL:
            self._plan(began + self._script.ends_at, self._kill_kernel)
        elif end is End.CANCEL:
            self._plan(began + self._script.ends_at, self._cancel)
        said = self._listen(began + self._script.work_seconds + _PATIENCE_SECONDS)
        if end is End.KILL and said is None:
            self._undo_all()
            self._await_nobody(self._cast.kernel)
            self._start_kernel()
            return
        assert said is not None, "the kernel has ended"
        self._note(f"the job ended: {said['ended']}, after {said.get('attempts', 0)} attempts")
        assert not said["faults"], "; ".join(said["faults"])
        assert said["ended"] in ("answer", "cancelled") if end is End.CANCEL else said["ended"] == "answer", said
        self._undo_all()

    def _listen(self, deadline: float) -> dict[str, Any] | None:
        """What the kernel says of the job's end, or None if it is killed; does meanwhile what is to be done."""
        try:
            while (now := time.monotonic()) < deadline:
                until = min(self._agenda[0][0] if self._agenda else deadline, deadline)
                if until > now and (said := self._cast.hear(until - now)) is not None:
                    return said
                if self._agenda and self._agenda[0][0] <= time.monotonic():
                    heapq.heappop(self._agenda)[2]()
        except EOFError:
            return None
        raise AssertionError(f"the job hangs; the kernel says {self._status()}")

    def _status(self) -> object:
        self._undo_all()
        self._cast.tell("rest", -1)
        return self._cast.hear(_PATIENCE_SECONDS)

    def _plan(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._orders), what))

    def _undo_all(self) -> None:
        """Nothing more happens; those that were stopped go on, links heal, and every worker is there."""
        self._agenda.clear()
        self._go_on()
        for relay in self._cast.relays:
            relay.heal()
        for index, worker in enumerate(self._cast.workers):
            if worker is not None and (worker in self._ended or not worker.is_there):
                worker.command.process.wait(_PATIENCE_SECONDS)
                self._cast.start_worker(index)
        self._note("nothing is disturbed any more")
        self._cast.look()

    def _go_on(self) -> None:
        for process in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
            os.close(process)
        self._stopped.clear()

    # Deeds.

    def _doing(self, deed: Deed) -> Callable[[], None]:
        return lambda: self._do(deed)

    def _do(self, deed: Deed) -> None:
        self._cast.look()
        match deed.what:
            case What.KILL_SLOT:
                self._kill(deed, self._slots())
            case What.STOP_SLOT:
                self._stop_one(deed, self._slots())
            case What.KILL_SUPERVISOR:
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

    def _members(self) -> list[Member]:
        return [self._cast.kernel, *(worker for worker in self._cast.workers if worker is not None)]

    def _slots(self) -> list[tuple[str, int]]:
        return [(f"a slot of {member.name}", pid) for member in self._members() for pid in member.slots()]

    def _supervisors(self) -> list[tuple[str, int]]:
        return [(f"{member.name}'s supervisor", pid) for member in self._members() for pid in member.supervisors()]

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
        self._plan(time.monotonic() + deed.seconds, lambda: self._continue(name, processes))

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
            self._wholly_killed = True
            for pid in worker.command.family():
                send(pid, signal.SIGKILL)
        else:
            send(worker.pid, signal.SIGTERM if deed.what is What.END_WORKER else signal.SIGKILL)
        self._plan(time.monotonic() + deed.seconds, lambda: self._start_again(worker))

    def _start_again(self, worker: Member) -> None:
        if worker.is_there:  # it finishes what it is at
            self._plan(time.monotonic() + 0.2, lambda: self._start_again(worker))
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
        self._plan(time.monotonic() + deed.seconds, lambda: self._heal(index))

    def _heal(self, index: int) -> None:
        self._note(f"the link of worker {index} heals")
        self._cast.relays[index].heal()

    def _kill_kernel(self) -> None:
        self._note("kill the kernel")
        self._cast.look()
        send(self._cast.kernel.pid, signal.SIGKILL)

    def _cancel(self) -> None:
        self._note("cancel the job")
        self._cast.tell("cancel")

    # The end.

    def _rest(self) -> None:
        said = self._expect("rests", "rest", sum(self._script.slots))
        assert not said["faults"], "; ".join(said["faults"])
        self._note("all rest")

    def _leave(self) -> None:
        """Everybody ends, and leaves nothing."""
        self._cast.look()
        self._cast.tell("end")
        assert self._cast.kernel.command.process.wait(_PATIENCE_SECONDS) == 0, "the kernel ended with an error"
        self._await_nobody(self._cast.kernel)
        for worker in self._members()[1:]:
            send(worker.pid, signal.SIGTERM)
        for worker in self._members()[1:]:
            assert worker.command.process.wait(_PATIENCE_SECONDS) == 0, f"{worker.name} ended with an error"
        for member in self._cast.members():
            self._await_nobody(member)
        self._check_folders()
        self._note("nobody and nothing is left")

    def _await_nobody(self, member: Member) -> None:
        member.command.process.wait(_PATIENCE_SECONDS)
        member.command.await_nobody()
        self._note(f"{member.name} and all it had started have ended")

    def _check_folders(self) -> None:
        """Only what was killed as a whole may leave a directory, and the next kernel removes that."""
        left = [path for path in self._cast.folders if path.exists()]
        if not left:
            return
        self._note(f"left for the next kernel: {left}")
        assert self._wholly_killed, f"directories were left behind: {left}"
        for path in left:
            os.utime(path, (0, 0))  # so that it is not taken for one that is being made
        self._start_kernel()
        self._cast.tell("end")
        self._cast.kernel.command.process.wait(_PATIENCE_SECONDS)
        left = [path for path in left if path.exists()]
        assert not left, f"the next kernel did not remove {left}"
