"""One seed, from its script to its checks.

    start all ──> run the job ──> deeds, each undone after a while ──> the job's end ──> check
                                                       another job, undisturbed ──> check
    all rest ──> the kernel ends ──> the workers end ──> nobody and nothing is left

What was done is kept as a story, and told where a check fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.cast import Cast, Member, send
from tests.chaos.deeds import Deeds
from tests.chaos.script import End, Script, script_of

__all__ = ["ChaosError", "play"]

#: A job that has not ended by then hangs; on a busy machine all takes a while.
_PATIENCE_SECONDS = 60.0


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
            except Exception as error:
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
        self._deeds = Deeds(cast, self._note)

    def told(self) -> list[str]:
        """What has happened."""
        s = self._script
        head = f"seed {s.seed}: {s.kind}, {s.n_local} slots here, {s.slots} there, {s.end.value}"
        return [head + (", short of memory" if s.is_short_of_memory else ""), *self._story]

    def last_words(self, error: BaseException) -> list[str]:
        """What can be said of a failure."""
        kernel = self._cast.kernel
        self._deeds.go_on()
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
        """Run a job to its end; only the first is disturbed, and has another one beside it."""
        is_first = work_seconds == self._script.work_seconds
        running = {"main"} | ({"beside"} if is_first and self._script.beside else set())
        for job in sorted(running):
            self._begin_job(job, work_seconds / len(running))
        began = time.monotonic()
        for deed in self._script.deeds if is_first else ():
            if end is not End.KILL or deed.at < self._script.ends_at:
                self._deeds.plan(began + deed.at, partial(self._deeds.do, deed))
        if end is End.KILL:
            self._deeds.plan(began + self._script.ends_at, self._kill_kernel)
        elif end is End.CANCEL:
            self._deeds.plan(began + self._script.ends_at, self._cancel)
        while running:
            said = self._listen(began + self._script.work_seconds + _PATIENCE_SECONDS)
            if said is None:
                assert end is End.KILL, "the kernel has ended"
                self._deeds.undo_all()
                self._await_nobody(self._cast.kernel)
                self._start_kernel()
                return
            self._check_end(said, may_be_cancelled=end is End.CANCEL and said["job"] == "main")
            running.remove(said["job"])
        self._deeds.undo_all()

    def _begin_job(self, name: str, work_seconds: float) -> None:
        script = self._script
        kind = script.beside if name == "beside" else script.kind
        n_slots = script.n_local + sum(script.slots)
        self._expect("runs", "run", name, kind, script.seed, work_seconds * n_slots)
        self._note(f"job {name!r} runs, {kind}, {work_seconds:.1f} s")

    def _check_end(self, said: dict[str, Any], *, may_be_cancelled: bool) -> None:
        self._note(f"job {said['job']!r} has ended: {said['ended']}, after {said['attempts']} attempts")
        assert not said["faults"], "; ".join(said["faults"])
        assert said["ended"] == "answer" or (may_be_cancelled and said["ended"] == "cancelled"), said

    def _listen(self, deadline: float) -> dict[str, Any] | None:
        """What the kernel says of a job's end, or None if it is killed; does meanwhile what is to be done."""
        try:
            while (now := time.monotonic()) < deadline:
                until = min(self._deeds.next_at(), deadline)
                if until > now and (said := self._cast.hear(until - now)) is not None:
                    return said
                if self._deeds.next_at() <= time.monotonic():
                    self._deeds.do_next()
        except EOFError:
            return None
        raise AssertionError(f"a job hangs; the kernel says {self._status()}")

    def _status(self) -> object:
        self._deeds.undo_all()
        self._cast.tell("rest", -1)
        return self._cast.hear(_PATIENCE_SECONDS)

    def _kill_kernel(self) -> None:
        self._note("kill the kernel")
        self._cast.look()
        self._deeds.kill_first(self._cast.kernel)

    def _cancel(self) -> None:
        self._note("cancel the job")
        self._cast.tell("cancel", "main")

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
        for worker in self._cast.present()[1:]:
            send(worker.pid, signal.SIGTERM)
        for worker in self._cast.present()[1:]:
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
        """Only who was killed with its supervisor may leave a directory, and the next kernel removes that."""
        left = [path for path in self._cast.folders if path.exists()]
        if not left:
            return
        self._note(f"left for the next kernel: {left}")
        assert self._deeds.may_leave, f"directories were left behind: {left}"
        for path in left:
            os.utime(path, (0, 0))  # so that it is not taken for one that is being made
        self._start_kernel()
        self._cast.tell("end")
        self._cast.kernel.command.process.wait(_PATIENCE_SECONDS)
        left = [path for path in left if path.exists()]
        assert not left, f"the next kernel did not remove {left}"
