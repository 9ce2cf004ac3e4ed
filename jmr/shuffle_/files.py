"""Where map outputs lie between map and reduce: inline bytes, or ranges of files.

    slot         store(output) ──small──> bytes in the answer ──────────────┐
                               ──large──> a file in the job's directory     │
    coordinator  MapOutputs.add(...) ── every map done ──> inputs(partition)│
    slot         fetch(range) <──────────────── path, offset, length, crc <─┘

One file holds all partitions of one map output, one after another. A job's directory lies in the coordinator's own,
which is private to the user; it should not be on a tmpfs, since it is there for what does not fit into memory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from jmr.codec.values import Buffer
from jmr.errors import WorkerError
from jmr.wire.messages import MapDone, Range

__all__ = [
    "INLINE_BYTES",
    "MapOutputs",
    "SpillDirectory",
    "SpillError",
    "Stored",
    "fetch",
    "store",
    "write_all",
]

#: A map output of at most this travels inside the slot's answer.
INLINE_BYTES = 1 << 16
#: Inline outputs that one job may keep in the coordinator; what comes later goes to files.
_INLINE_BUDGET_BYTES = 1 << 28
_PREFIX = "jmr-"
_YOUNG_SECONDS = 60.0
#: Most pieces that one writev takes.
_IOV_MAX = 1024


class SpillError(Exception):
    """A map output cannot be written or read back."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A map output that was put somewhere."""

    path: str | None
    lengths: list[int]
    crcs: list[int]
    inline: bytes


def store(partitions: Sequence[Sequence[Buffer]], directory: str, name: str, inline_bytes: int) -> Stored:
    """Put a map output where the reduce tasks will find it.

    Parameters
    ----------
    partitions
        For each partition, the pieces of its blob.
    directory, name
        The file to write if the output is larger than `inline_bytes`.
    inline_bytes
        Most bytes to keep inline.

    Raises
    ------
    SpillError
        The file cannot be written: the disk is full, say.
    """
    lengths = [sum(map(len, pieces)) for pieces in partitions]
    crcs = [_crc(pieces) for pieces in partitions]
    pieces = [piece for partition in partitions for piece in partition]
    if sum(lengths) <= inline_bytes:
        return Stored(None, lengths, crcs, b"".join(pieces))
    path = os.path.join(directory, name)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _write(path, pieces)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise SpillError(
            f"a map output of {sum(lengths):,} bytes cannot be written to {directory}: {error}; free some space there, "
            "or set JMR_TMP to a directory that has more"
        ) from error
    return Stored(path, lengths, crcs, b"")


def fetch(where: Range) -> bytearray:
    """Read one partition of a map output from its file.

    Raises
    ------
    SpillError
        The file is gone, short or damaged.
    """
    path, offset, length, crc = where
    assert path is not None
    blob = bytearray(length)
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            view = memoryview(blob)
            while view and (n := file.readinto(view)):
                view = view[n:]
    except OSError as error:
        raise SpillError(f"the map output {path} cannot be read: {error}") from error
    if view or zlib.crc32(blob) != crc:
        raise SpillError(f"the map output {path} is damaged at bytes {offset} to {offset + length}")
    return blob


@dataclass(frozen=True, slots=True)
class _Output:
    path: str | None
    lengths: Sequence[int]
    offsets: Sequence[int]
    crcs: Sequence[int]
    inline: memoryview


@dataclass(slots=True)
class MapOutputs:
    """The committed map outputs of one job, by split."""

    n_partitions: int
    _outputs: dict[int, _Output] = field(default_factory=dict)
    _unstable: bool = False
    _inline_bytes: int = 0
    total_bytes: int = 0

    def inline_bytes(self) -> int:
        """How large the next output may be to stay inline."""
        return INLINE_BYTES if self._inline_bytes < _INLINE_BUDGET_BYTES else 0

    def add(self, split: int, done: MapDone) -> None:
        """Take a map task's output."""
        offsets = list(accumulate(done.lengths, initial=0))
        self._outputs[split] = _Output(done.path, done.lengths, offsets, done.crcs, memoryview(done.blobs[1]))
        self._inline_bytes += len(done.blobs[1])
        self._unstable |= done.unstable
        self.total_bytes += sum(done.lengths)

    def plan_reduce(self) -> list[list[int]]:
        """Say which partitions each reduce task takes, once all outputs are there: one each, none for the empty ones.

        If some key has no stable place, its equals may lie anywhere: one task takes them all.
        """
        self._outputs = dict(sorted(self._outputs.items()))
        filled = [
            partition
            for partition in range(self.n_partitions)
            if any(output.lengths[partition] for output in self._outputs.values())
        ]
        return [filled] if self._unstable else [[partition] for partition in filled]

    def inputs(self, partitions: Sequence[int]) -> tuple[list[tuple[int, Range]], list[Buffer]]:
        """The (split, range) inputs of a reduce task in split order, and the bytes of those that are inline."""
        ranges: list[tuple[int, Range]] = []
        blobs: list[Buffer] = []
        for split, output in self._outputs.items():
            for partition in partitions:
                length, offset = output.lengths[partition], output.offsets[partition]
                if not length:
                    continue
                ranges.append((split, (output.path, offset, length, output.crcs[partition])))
                if output.path is None:
                    blobs.append(output.inline[offset : offset + length])
        return ranges, blobs


class SpillDirectory:
    """The private directory of one coordinator, in JMR_TMP or /var/tmp.

    Its lock says that it is in use, also to kernels in other containers that share the parent; it goes with the
    process, so what a killed kernel left is found by the next one and removed.
    """

    def __init__(self) -> None:
        parent = os.environ.get("JMR_TMP") or ("/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir())
        try:
            self.path = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=os.path.abspath(parent))
        except OSError as error:
            raise WorkerError(
                f"no directory for map outputs can be made in {parent}: {error}; set JMR_TMP to one that can be written"
            ) from error
        import fcntl  # not on Windows, where the inline engine must work all the same

        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove the directory and all in it; harmless the second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove_leftovers(self) -> None:
        """Remove what this user's killed kernels left beside this directory."""
        parent = os.path.dirname(self.path)
        prefix = f"{_PREFIX}{os.getuid()}-"
        try:
            names = os.listdir(parent)
        except OSError:  # it may be written, and not read
            return
        for name in names:
            path = os.path.join(parent, name)
            if name.startswith(prefix) and path != self.path and not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: str) -> bool:
    """Whether a process uses the directory; a very young one may not be locked yet."""
    import fcntl

    try:
        if time.time() - os.stat(path).st_mtime < _YOUNG_SECONDS:
            return True
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _crc(pieces: Sequence[Buffer]) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def _write(path: str, pieces: list[Buffer]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, pieces)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, pieces: Iterable[Buffer]) -> None:
    """Write pieces to a file or a blocking socket, uncopied, many in one system call."""
    views = deque(memoryview(piece) for piece in pieces if len(piece))
    while views:
        written = os.writev(descriptor, list(islice(views, _IOV_MAX)))
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]
