"""The thread that keeps what a job's tasks leave, as soon as the coordinator tells of it.

    coordinator ──mail──> inbox ──> Scribe: output, result ──> checkpoint
                                       └──the same mail──> the calling thread

A thread of its own, because the calling thread may wait for its source, in user code: what a task has left while it
waits is to outlive the kernel, too. A result is kept before it is handed on. Where the checkpoint's disk is full, the
job goes on without.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace

from jmr.checkpoint.opened import Checkpoint
from jmr.coordinator.mail import JobStopped, Mail, PartitionReady, PoisonSetAside, SplitDone
from jmr.progress.words import plural
from jmr.wire.messages import MapDone, whole

__all__ = ["Notes", "Scribe"]

#: This very mail tells the scribe to end, and is not handed on.
_END = JobStopped()


class Notes:
    """Notes of a report, some of which change while the job runs; for several threads, beside others that add some."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._lock = threading.Lock()
        #: By what they are about.
        self._said: dict[str, str] = {}

    def put(self, about: str, text: str) -> None:
        """Say this, in the place of what was said about it before."""
        with self._lock:
            if about in self._said:
                self._notes[self._notes.index(self._said[about])] = text
            else:
                self._notes.append(text)
            self._said[about] = text


class Scribe:
    """Of one job; it runs from `start` to `close`.

    Parameters
    ----------
    checkpoint
        To keep it in.
    outbox
        Where the mail goes on to.
    notes
        Told what could not be kept.
    changed
        Names a file of the functions' modules that is not what it was when they were fingerprinted, if there is one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        outbox: queue.SimpleQueue[Mail],
        notes: Notes,
        changed: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._checkpoint = checkpoint
        self._outbox = outbox
        self._notes = notes
        self._changed = changed
        self._is_changed = False
        #: Where the coordinator's mail goes.
        self.inbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        #: Of all splits so far, by index: the key of what their map tasks depend on. The calling thread adds to it.
        self.keys: list[str] = []
        #: The same of the reduce tasks; the calling thread sets it before there are any.
        self.result_key = ""
        #: Tasks from which a record or group was left out because it ends its process: perhaps not the next time.
        self._poisoned: set[tuple[int, int]] = set()
        #: Outputs and results.
        self.n_kept = self._n_unkept = 0
        self._thread = threading.Thread(target=self._run, name="jmr-checkpoint", daemon=True)

    def start(self) -> None:
        """Begin to read mail."""
        self._thread.start()

    def close(self) -> None:
        """Keep what has come, and end; harmless the second time."""
        if self._thread.is_alive():
            self.inbox.put(_END)
            self._thread.join()

    def _run(self) -> None:
        while (mail := self.inbox.get()) is not _END:
            try:
                self._keep(mail)
            except OSError as error:
                self._n_unkept += 1
                what = plural(self._n_unkept, "output")
                self._notes.put(
                    "unkept", f"{what} could not be kept in {self._checkpoint.name}: {error.strerror or error}"
                )
            except Exception:  # a mistake of ours must not keep the mail from the job
                self._notes.put("failed", f"the checkpoint failed; please report this:\n{traceback.format_exc()}")
            self._outbox.put(mail)

    def _keep(self, mail: Mail) -> None:
        match mail:
            case SplitDone(index=index, left=MapDone() as left):
                if (0, index) not in self._poisoned and self._is_as_printed():
                    self._keep_output(index, left)
                    self.n_kept += 1
            case PartitionReady():
                is_whole = (1, mail.index) not in self._poisoned and all(phase for phase, _ in self._poisoned)
                if is_whole and self._is_as_printed():
                    self._checkpoint.keep_result(self.result_key, mail.index, mail.partitions, mail.blob, mail.failures)
                    self.n_kept += 1
            case PoisonSetAside(order):
                self._poisoned.add(order)
            case _:
                return

    def _is_as_printed(self) -> bool:
        """Whether slots cannot have imported any other code than was fingerprinted."""
        if not self._is_changed and (path := self._changed()) is not None:
            self._is_changed = True  # for good: a slot may have what it was in between
            self._notes.put("changed", f"{path} was changed while the job ran: what it gave since is not kept")
        return not self._is_changed

    def _keep_output(self, index: int, left: MapDone) -> None:
        failures, inline = map(whole, left.blobs)
        done = asdict(replace(left, path=None, blobs=()))
        for name in ("path", "blobs"):
            del done[name]
        self._checkpoint.keep_map(self.keys[index], index, done, left.path or [inline], failures)
