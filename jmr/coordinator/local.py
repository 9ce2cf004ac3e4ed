"""The worker of this host: its supervisor is a child of ours, and its slots are reached by socket pairs.

    ForkSlot + one end of a pair ──> supervisor ──fork──> slot ──the other end──> coordinator

A lost supervisor takes its slots along, and is started again, unless that keeps failing. One that does not answer was
stopped by somebody, perhaps: it is let go on, as slots cannot print for long without it, and nobody else sees when one
is stopped. If it was told to end slots and does not do so even then, it counts as lost.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial

from jmr.coordinator.worker import Answer, Line, Owner, Slot, Worker
from jmr.errors import WorkerError
from jmr.launch.local import LocalSupervisor, close_in_forks, start_local
from jmr.links.channel import Channel
from jmr.wire.messages import Drain, Drained, ForkSlot, Message, WorkerReady

__all__ = ["LocalWorker"]

#: Supervisors, or slots that were not ready yet, that may be lost in a row with no attempt answered in between.
_MOST_FAILED_STARTS = 3
#: For a supervisor to say that it has done what it was told; it has nothing else to do, but the machine may.
_OBEY_SECONDS = 5.0
#: What it is asked then; jobs have positive numbers.
_OBEYED = -1


class LocalWorker(Worker):
    """The worker of this host.

    Parameters
    ----------
    owner, n_slots, numbers
        As of every `Worker`.
    directories
        Where slots put large map outputs.
    supervisor
        Has been started with these directories.
    """

    def __init__(
        self, owner: Owner, directories: list[str], supervisor: LocalSupervisor, n_slots: int, numbers: Iterator[int]
    ) -> None:
        super().__init__(owner, "local", n_slots, numbers)
        self._directories = directories
        self._supervisor: LocalSupervisor | None = supervisor
        self._n_failed_starts = 0
        self._closed = False
        #: Runs while the supervisor is to answer.
        self._obeying: asyncio.TimerHandle | None = None
        #: Whether it was told to end slots, and more of them since it was asked.
        self._is_told = self._is_told_more = False

    def attach(self) -> None:
        """Begin to hear and to fork, on the loop that runs."""
        self._is_ready = False
        assert self._supervisor is not None
        self._control: Channel | None = Channel(
            asyncio.get_running_loop(),
            self._supervisor.connection,
            self._hear_supervisor,
            partial(self._lose_supervisor, self._supervisor),
            self._owner.guard,
        )
        self._fork_missing()

    def try_again(self) -> None:
        """After it broke: there may be memory now, or a file descriptor, or a repaired installation."""
        self._n_failed_starts = 0
        if self._supervisor is None:
            self._restart()
        else:
            self._fork_missing()

    def kill(self, number: int) -> None:
        """End a slot's process, and what it has started; its supervisor, too, if that does not do it."""
        super().kill(number)
        self._is_told = True
        if self._obeying is None:
            self._ask_whether_it_obeys()
        else:
            self._is_told_more = True

    def watch(self, *, is_on: bool) -> None:
        """Have its memory measured, or not; and see that it answers, while it is."""
        super().watch(is_on=is_on)
        if is_on and self._obeying is None:
            self._ask_whether_it_obeys()

    def close(self) -> None:
        """Let go of every process; `join` waits for their end."""
        self._closed = True
        self._note_obeyed()
        super().close()

    def join(self) -> None:
        """Wait for the supervisor's end."""
        if self._supervisor is not None:
            self._supervisor.last_words()

    def _fork(self, position: int, control: Line) -> None:
        assert isinstance(control, Channel)
        number = next(self._slot_numbers)
        ours, theirs = socket.socketpair()
        close_in_forks(ours)
        hear, bury = partial(self._hear_slot, number), partial(self._bury, number)
        line = Channel(asyncio.get_running_loop(), ours, hear, bury, self._owner.guard)
        slot = self._slots[number] = Slot(number, position, self, line)
        control.send_with_descriptor(ForkSlot(number, slot.name), theirs.detach())

    def _answered(self, slot: Slot, answer: Answer) -> None:
        self._n_failed_starts = 0
        super()._answered(slot, answer)

    def _hear_supervisor(self, message: Message) -> None:
        match message:
            case WorkerReady():
                self._is_ready = True
            case Drained(token) if token == _OBEYED:
                self._note_obeyed()
                if self._is_told_more:
                    self._ask_whether_it_obeys()
                else:
                    self._is_told = False
            case _:
                super()._hear_supervisor(message)

    def _ask_whether_it_obeys(self) -> None:
        self._is_told_more = False
        if self._control is not None:
            self._control.send(Drain(_OBEYED))  # a slot's end may take a while, and this does not
            self._wait_for_it(self._let_go_on)

    def _wait_for_it(self, otherwise: Callable[[LocalSupervisor], None]) -> None:
        late = self._owner.guard(otherwise)
        self._obeying = asyncio.get_running_loop().call_later(_OBEY_SECONDS, late, self._supervisor)

    def _note_obeyed(self) -> None:
        if self._obeying is not None:
            self._obeying.cancel()
            self._obeying = None

    def _let_go_on(self, supervisor: LocalSupervisor) -> None:
        """It does not answer; if somebody has stopped it, it does so now."""
        if supervisor is self._supervisor:
            supervisor.send_signal(signal.SIGCONT)
            self._wait_for_it(self._give_up)

    def _give_up(self, supervisor: LocalSupervisor) -> None:
        """It does not answer even so, and is not needed as long as nothing is asked of it."""
        if supervisor is self._supervisor:
            self._obeying = None
            if self._is_told:
                supervisor.send_signal(signal.SIGKILL)

    def _lose_supervisor(self, supervisor: LocalSupervisor) -> None:
        """It is gone, and every slot with it; start another, unless they keep dying."""
        if self._closed:
            return
        self._note_obeyed()
        self._is_told = self._is_told_more = False
        words = supervisor.end()
        self._supervisor = None
        self._lose_all()
        how = "keeps ending" if self._is_ready else "does not start"
        if self._may_go_on(f"the worker on this host {how}: {words or 'it says nothing'}"):
            self._restart()

    def _restart(self) -> None:
        try:
            self._supervisor = start_local(self._directories)
        except WorkerError as error:
            self._owner.worker_broke(str(error))
        else:
            self.attach()

    def _may_go_on(self, reason: str) -> bool:
        """Count one more failed start: a worker that only ever fails must not be started for ever."""
        self._n_failed_starts += 1
        if self._n_failed_starts < _MOST_FAILED_STARTS:
            return True
        self._owner.worker_broke(reason)
        return False
