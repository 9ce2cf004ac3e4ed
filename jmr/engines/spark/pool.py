"""The driver's side of a job on Spark: when what is sent, in threads that wait for Spark.

    splits ──a chunk at a time──> Rdds, or Frames ──> receipts, and rows for each partition, which stay
    all chunks ──shuffle──> Rdds, or Frames ──> receipts and small results ──> large ones, a window at a time

A Spark job costs about 0.1 s, and each of its tasks 0.05 s of a core, whatever it does. So a chunk has a split for each
slot at least, and more of them the longer the job goes on; two are under way, so that no slot waits for the other one.
Jobs run under a tag that cancels them and nothing else of the session's.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from jmr.codec.values import Buffer
from jmr.engines.calls import JobCall, Receipt
from jmr.engines.spark.failures import error_of
from jmr.engines.spark.session import OwnSession, active, checked, count_slots, is_remote, need_spark, quiet
from jmr.errors import WorkerError

if TYPE_CHECKING:
    from jmr.engines.spark.frames import Frames
    from jmr.engines.spark.rdds import Rdds
    from jmr.engines.spark.rows import Row

__all__ = ["SparkPool"]

_CHUNKS_UNDER_WAY = 2
#: After so many chunks, those that follow have as many splits for each slot more: their union must not become long.
_CHUNKS_A_SIZE = 8
#: Splits of a slow source wait so long for others.
_PATIENCE_SECONDS = 0.2
#: For so much that is reduced, a task of Spark's more.
_BYTES_A_PART = 1 << 22
#: What comes along with all receipts of the reduce tasks, and what is fetched at once of larger results.
_WHOLE_BYTES, _WINDOW_BYTES = 1 << 24, 1 << 26
#: A job that is cancelled is told so again, if it was only about to begin.
_INSIST_SECONDS, _END_SECONDS = 0.2, 60.0

_Answer = tuple[int, Receipt, bytes]


class SparkPool:
    """One job on a session.

    Parameters
    ----------
    session
        The user's; None: the active one, else one of our own for this job.
    """

    name = "Spark"
    least_seconds, round_seconds = 0.1, 3.0

    def __init__(self, session: Any = None) -> None:
        need_spark()
        self._session: Any = None if session is None else checked(session)
        self._own: OwnSession | None = None
        self._n_slots = 0
        self._threads: ThreadPoolExecutor | None = None
        #: What maps leave, and what becomes of it.
        self._rows: Frames | Rdds | None = None
        self._futures: set[Future[None]] = set()
        self._n_under_way = 0
        self._has_stopped = threading.Event()
        self._arrived: queue.SimpleQueue[list[_Answer] | BaseException] = queue.SimpleQueue()
        #: Splits that wait for others, and since when.
        self._waiting: list[tuple[int, Buffer]] = []
        self._since = 0.0
        #: Whether the last chunk was larger than it should be.
        self._is_large = False
        #: Whether no split yet has been worth a task.
        self._is_tiny = True
        self._n_chunks = 0
        #: Of what map tasks have left.
        self._n_bytes = 0
        #: Partitions, by reduce task; how many splits have left something there; and results still to be fetched.
        self._tasks: dict[int, Sequence[int]] = {}
        self._n_splits: dict[int, int] = {}
        self._has_reduced = False
        self._windows: Iterator[list[_Answer]] | None = None

    @property
    def n_slots(self) -> int:
        """Starts the session, if it takes one of our own."""
        if not self._n_slots:
            quiet()
            if self._session is None and (found := active()) is not None:
                self._session = checked(found)
            if self._session is None:
                self._own = OwnSession()
                self._session = self._own.start()
            with _told():
                self._n_slots = max(1, count_slots(self._session))
        return self._n_slots

    @property
    def window(self) -> int:
        """Two chunks, and one that waits; but no more than one of tiny splits, since the next ones will be larger."""
        return self._chunk_size * (1 if self._is_tiny else _CHUNKS_UNDER_WAY + 1)

    @property
    def _chunk_size(self) -> int:
        return self.n_slots * (1 + self._n_chunks // _CHUNKS_A_SIZE)

    def open(self, job: JobCall) -> None:
        """Get threads ready."""
        self._job, self._tag = job, f"jmr-{job.id}"
        if is_remote(self._session):
            from jmr.engines.spark.frames import Frames

            self._rows = Frames(self._session, job)
        else:
            from jmr.engines.spark.rdds import Rdds

            self._rows = Rdds(self._session, job)
        self._threads = ThreadPoolExecutor(_CHUNKS_UNDER_WAY, "jmr-spark")

    def start_map(self, index: int, split: Buffer) -> None:
        """Have it wait for others."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((index, split))

    def start_reduce(self, index: int, partitions: Sequence[int], splits: Sequence[int]) -> None:
        """Have it wait for others; all of them are one job."""
        self._tasks[index], self._n_splits[index] = partitions, len(splits)

    def finished(self, seconds: float) -> Sequence[_Answer]:
        """Send what waits, if it is enough, or nothing more will come; wait for what was sent."""
        self._send(is_asked=seconds > 0)
        try:
            answer = self._arrived.get(timeout=seconds) if seconds > 0 else self._arrived.get_nowait()
        except queue.Empty:
            return ()
        self._n_under_way -= 1
        if isinstance(answer, BaseException):
            with contextlib.suppress(Exception):  # who asks a connection that is lost learns nothing
                answer = self._known(answer)
            raise error_of(answer) from answer
        self._send(is_asked=False)
        return answer

    def _known(self, error: BaseException) -> BaseException:
        """What lies behind it, if it is no more than that somebody has stopped the session."""
        try:
            checked(self._session)
        except WorkerError as stopped:
            return stopped
        return error

    def _send(self, *, is_asked: bool) -> None:
        if self._waiting and self._n_under_way < _CHUNKS_UNDER_WAY:
            chunk, is_large = self._next_chunk()
            if self._n_under_way and (is_large or self._is_large):
                return
            has_waited = time.monotonic() - self._since > _PATIENCE_SECONDS
            is_enough = len(chunk) >= self._chunk_size or len(chunk) < len(self._waiting)
            if is_asked or has_waited or is_enough:
                del self._waiting[: len(chunk)]
                self._is_large = is_large
                self._submit(partial(self._map, chunk))
        elif self._tasks and not self._has_reduced:
            self._has_reduced = True
            self._submit(self._reduce)
        elif self._windows is not None and not self._n_under_way:
            self._submit(self._fetch)

    def _next_chunk(self) -> tuple[list[tuple[int, Buffer]], bool]:
        """Of the splits that wait, as many as Java can take at once; or one that is larger, by itself."""
        assert self._rows is not None
        sums = accumulate(len(split) for _, split in self._waiting)
        n_fitting = sum(1 for _ in takewhile(self._rows.most_chunk_bytes.__ge__, sums))
        return self._waiting[: max(1, n_fitting)], not n_fitting

    def _submit(self, work: Callable[[], list[_Answer]]) -> None:
        assert self._threads is not None
        self._n_under_way += 1
        self._futures = {future for future in self._futures if not future.done()}
        self._futures.add(self._threads.submit(self._answer, work))

    def _answer(self, work: Callable[[], list[_Answer]]) -> None:
        """In a thread, whose jobs have the tag of this one."""
        if self._has_stopped.is_set():
            return
        try:
            assert self._rows is not None
            self._rows.tag(self._tag)
            self._arrived.put(work())
        except BaseException as error:
            self._arrived.put(error)

    def _map(self, splits: list[tuple[int, Buffer]]) -> list[_Answer]:
        assert self._rows is not None
        answers = _answers(self._rows.map(splits), [index for index, _ in splits])
        self._n_chunks += 1
        self._n_bytes += sum(sum(receipt.lengths) for _, receipt, _ in answers)
        self._is_tiny &= max(receipt.seconds for _, receipt, _ in answers) < self.least_seconds
        return answers

    def _reduce(self) -> list[_Answer]:
        """Run all reduce tasks: several in one of Spark's, where there is little to do."""
        from jmr.engines.spark.rows import Reduces

        assert self._rows is not None
        n_parts = min(len(self._tasks), max(self._n_slots, self._n_bytes // _BYTES_A_PART))
        task_of = {partition: index for index, partitions in self._tasks.items() for partition in partitions}
        told = self._rows.reduce(Reduces(task_of, self._n_splits), n_parts, _WHOLE_BYTES // len(self._tasks))
        answers = _answers(told, list(self._tasks))
        large = {index: receipt for index, receipt, blob in answers if not blob and not receipt.failed}
        if large:
            self._windows = self._fetched(large, n_parts)
        return [answer for answer in answers if answer[0] not in large]

    def _fetch(self) -> list[_Answer]:
        assert self._windows is not None
        answers = next(self._windows, None)
        if answers is None:
            self._windows = None
        return answers or []

    def _fetched(self, large: dict[int, Receipt], n_parts: int) -> Iterator[list[_Answer]]:
        """Results that were too large to come along, some pieces at a time."""
        from jmr.engines.spark.rows import n_pieces

        assert self._rows is not None
        at_once = n_pieces(_WINDOW_BYTES)
        for index, receipt in large.items():
            pieces: list[bytes] = []
            n_all = n_pieces(receipt.lengths[0])
            for start in range(0, n_all, at_once):
                last = min(start + at_once, n_all) - 1
                rows = self._rows.fetch((index, start), (index, last), self._tasks[index][0] % n_parts)
                pieces += [bytes(row.blob) for row in sorted(rows)]
                yield [] if last + 1 < n_all else [(index, receipt, b"".join(pieces))]

    def cancel(self) -> None:
        """Have Spark end what runs: it ends its Python processes, if they do not end within seconds."""
        self._has_stopped.set()
        if self._rows is not None and self._threads is not None:
            with contextlib.suppress(Exception):  # the session may be what has failed
                self._rows.cancel(self._tag)

    def close(self) -> None:
        """Wait for the threads, and let go of what the job has there; stop the session, if it is our own."""
        self._has_stopped.set()
        own, self._own = self._own, None
        try:
            self._end_threads()
            self._forget()
        finally:
            if own is not None:
                own.close()

    def _end_threads(self) -> None:
        if self._threads is None:
            return
        deadline = time.monotonic() + _END_SECONDS
        while wait(self._futures, _INSIST_SECONDS).not_done and time.monotonic() < deadline:
            self.cancel()
        self._threads.shutdown(wait=time.monotonic() < deadline)
        self._threads = None

    def _forget(self) -> None:
        rows, self._rows, self._windows = self._rows, None, None
        if rows is not None:
            with contextlib.suppress(Exception):  # the session may be what has failed
                rows.forget()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Spark's exceptions become ours."""
    try:
        yield
    except Exception as error:
        raise error_of(error) from error


def _answers(told: list[Row], indices: Sequence[int]) -> list[_Answer]:
    """Receipts with the results that came along."""
    from jmr.engines.spark.rows import RECEIPT, receipt_of

    receipts = {row.task: receipt_of(row) for row in told if row.partition == RECEIPT}
    wholes = {row.task: bytes(row.blob) for row in told if row.partition != RECEIPT}
    if missing := [index for index in indices if index not in receipts]:
        raise WorkerError(f"Spark has lost what became of {len(missing)} tasks, of task {missing[0]} first")
    return [(index, receipts[index], wholes.get(index, b"")) for index in sorted(receipts)]
