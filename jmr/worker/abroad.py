"""What a slot does besides where it works for a coordinator on another host.

    coordinator ──Carry, Carry, ...──> a file here ──ranges──> the attempt
    map output ──> inline, or Carry, Carry, ... ──> coordinator, which puts it into a file there
    modules as source ──> imports;  a module that the kernel has is missing ──> AttemptRefused
    a disk that is full ──> CannotHold
    a split that reads what is not seen here ──> SplitNotHere ──> the order again, with that inside

Files there are not to be seen here, so what would lie in one is sent.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

from jmr.codec.values import Buffer, byte_length, load
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.files import INLINE_BYTES, Room, SpillError, Stored, crc_of
from jmr.shuffle.runs import Runs
from jmr.tasks.contract import Failure
from jmr.wire.far import CARRIED, AttemptRefused, CannotHold, Carry, SplitNotHere, Taken
from jmr.wire.messages import Message, OpenJob, Range, StartMap, whole
from jmr.wire.streams import PIECE_BYTES
from jmr.worker.imports import NOTHING, Installed, Shipment, ShippedImports, missing_module

__all__ = ["Abroad", "Carried", "carry", "pieces_of", "store_to_send"]

#: Phases of failures in which what cannot be imported is named by a pickle: the kernel has it.
_NAMED_BY_PICKLES = frozenset({"functions", "load", "merge"})


class Abroad:
    """Of one slot; made before any code of the user's has run.

    Parameters
    ----------
    slot
        Its number.
    opening_of
        What the slot was told of a job.
    """

    def __init__(self, slot: int, opening_of: Callable[[int], OpenJob]) -> None:
        self._slot = slot
        self._opening_of = opening_of
        self._imports = ShippedImports()
        #: Of each open job that has run here: what came with it, and its modules.
        self._jobs: dict[int, tuple[Shipment, Installed]] = {}
        #: Of the job whose turn it is.
        self._shipment = NOTHING
        #: What has come for the next attempt.
        self._carried: Carried | None = None

    def enter_job(self, job: int) -> Installed:
        """Have the user's modules imported from the source that came with the job, and each of them once."""
        if job in self._jobs:
            self._imports.enter(self._jobs[job][1])
        else:
            shipment: Shipment = load(whole(self._opening_of(job).blobs[2])) or NOTHING
            self._jobs[job] = shipment, self._imports.install(shipment.modules)
        self._shipment, installed = self._jobs[job]
        return installed

    def leave_job(self) -> None:
        """Have no modules but this host's own."""
        self._imports.leave()

    def close_job(self, job: int) -> None:
        """Let go of its modules."""
        self._jobs.pop(job, None)

    def take(self, message: Message) -> Message:
        """Put what comes for the next attempt into a file; what cannot be written is told when the attempt begins."""
        assert isinstance(message, Carry)
        if self._carried is None:
            job = self._opening_of(message.job)
            room = Room(job.directory, job.memory_directory, message.n_bytes if message.in_memory else 0)
            self._carried = Carried(room, f"carried-{self._slot}", message.n_bytes)
        piece = whole(message.blobs[0])
        self._carried.add(piece)
        return Taken(len(piece))

    def found(self, where: Range) -> Range:
        """Where a range is on this host. Raises SpillError if it could not be written."""
        return where if self._carried is None else self._carried.found(where)

    def leave_attempt(self) -> None:
        """Let go of what came for it, but for what is mapped."""
        if self._carried is not None:
            self._carried.close()
            self._carried = None

    def store(self, order: StartMap, partitions: Sequence[list[Buffer]], send: Callable[[Message], None]) -> Stored:
        """Say where a map output will lie at the coordinator, and send what has to lie there."""
        stored, to_send = store_to_send(partitions, order.memory_bytes)
        for message in carry(order.job, to_send):
            send(message)
        return stored

    def store_runs(self, order: StartMap, runs: Runs, send: Callable[[Message], None]) -> Stored:
        """The same with one that was spilled."""
        lengths = runs.lengths
        crcs = [0] * len(lengths)
        for partition in range(len(lengths)):
            for blob in runs.blobs(partition):
                crcs[partition] = zlib.crc32(blob, crcs[partition])
                for message in carry(order.job, [blob], sum(lengths)):
                    send(message)
        return Stored(CARRIED, lengths, crcs if sum(lengths) > order.memory_bytes else [], [])

    def refusal(self, failures: Sequence[Failure]) -> AttemptRefused | None:
        """A module that is missing here need not be missing everywhere, unless the kernel has none, either."""
        for failure in failures:
            module = missing_module(failure.raised)
            if module and (failure.phase in _NAMED_BY_PICKLES or self._shipment.may_have(module)):
                return AttemptRefused(module)
        return None

    def not_here(self) -> SplitNotHere:
        """What the split reads is not seen here, and its kernel has it sent."""
        return SplitNotHere()

    def cannot_hold(self, error: BaseException) -> CannotHold:
        """A file of an attempt cannot be written or read: other hosts have disks of their own."""
        return CannotHold(str(error).partition(";")[0])


class Carried:
    """A file with what was sent for one attempt. Goes with `close`, but for what is mapped."""

    def __init__(self, room: Room, name: str, n_bytes: int) -> None:
        self._file = Arriving(room, name, n_bytes)
        self._error: SpillError | None = None

    def add(self, piece: Buffer) -> None:
        """Write what has come; what goes wrong is told by `found`."""
        if self._error is None:
            try:
                self._file.write(piece)
            except SpillError as error:
                self._error = error

    def found(self, where: Range) -> Range:
        """Where a range that was sent lies. Raises SpillError if it could not be written."""
        path, offset, length, crc = where
        if path != CARRIED:
            return where
        if self._error is not None:
            raise self._error
        return self._file.path, offset, length, crc

    def close(self) -> None:
        """Let go of it."""
        self._file.discard()


def store_to_send(partitions: Sequence[list[Buffer]], memory_bytes: int) -> tuple[Stored, list[Buffer]]:
    """Say where a map output will lie, and what has to be sent for that before.

    As `shuffle.files.store` does it on the coordinator's host: inline if it is small, else in a file there, with
    checksums if that may not be in memory.
    """
    lengths = [byte_length(pieces) for pieces in partitions]
    pieces = [piece for partition in partitions for piece in partition]
    n_bytes = sum(lengths)
    if n_bytes <= min(INLINE_BYTES, memory_bytes):
        return Stored(None, lengths, [], pieces), []
    crcs = [] if n_bytes <= memory_bytes else [crc_of(partition) for partition in partitions]
    return Stored(CARRIED, lengths, crcs, []), pieces


def carry(job: int, pieces: Sequence[Buffer], n_bytes: int | None = None) -> Iterator[Carry]:
    """Messages with these bytes, which may be some of `n_bytes`."""
    n_bytes = byte_length(pieces) if n_bytes is None else n_bytes
    for joined in pieces_of(pieces):
        yield Carry(job, n_bytes, False, blobs=[joined])


def pieces_of(pieces: Sequence[Buffer]) -> Iterator[list[Buffer]]:
    """Cut and join bytes, uncopied, so that each list has as many as a message should have."""
    parts: list[Buffer] = []
    room = PIECE_BYTES
    for piece in pieces:
        view = memoryview(piece)
        while view:
            parts.append(view[:room])
            view = view[room:]
            room -= len(parts[-1])
            if not room:
                yield parts
                parts, room = [], PIECE_BYTES
    if parts:
        yield parts
