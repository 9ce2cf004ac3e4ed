"""How many records a split takes, and the split itself.

    one record a slot ──measured──> about 0.2 s of work each ──near the end──> smaller, so that slots end together

A task of 0.2 s makes 100 us of overhead invisible, and still moves the bar. Where grouping and pickling the output is a
large part of a task, tasks grow to 2 s, and the last ones do not become as small: what they flush grows less than what
they read.

Slots get equal parts, in rounds: Hummel, Schonberg and Flynn, "Factoring: a method for scheduling parallel loops",
Communications of the ACM 35 (1992).
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from jmr.codec.functions import blame
from jmr.codec.values import PLAIN_TYPES, Buffer, byte_length, dump, dump_columns
from jmr.errors import NotPicklableError, describe
from jmr.sources import Block, Records

if TYPE_CHECKING:
    from jmr.sources.frames import Rows
    from jmr.sources.slices import Slice

__all__ = ["Look", "SplitSizer", "cut", "usual_partitions"]

_SECONDS, _DEAR_SECONDS = 0.2, 2.0
#: How much longer a task is than the least that is worth one.
_TASK_PER_LEAST = 20
#: A task this long tells how dear the flush is.
_TELLING_SECONDS = 0.02
#: Above this share of a task's time, the flush is dear.
_DEAR_FLUSH = 0.05
#: Less work than this is not worth a message; or not worth a flush, where that is dear.
_LEAST_SECONDS, _LEAST_DEAR_SECONDS = 0.002, 0.05
#: Of what is left, the part that a round hands out: so that what is wrong with the estimate can be made up for.
_SHARE, _DEAR_SHARE = 0.5, 0.8
#: Where tasks are dear, the first of a slot takes so small a part of its records: whatever these take, it is no larger
#: part of the job.
_FIRST_PART = 1 << 8
#: The first records may be cheap, and the rest not. (What a task may take of what is left bounds the harm.)
_GROWTH = 256
_MOST_BYTES = 1 << 25
#: The same for large records, which gain nothing by being together.
_LARGE_RECORD, _MOST_LARGE_BYTES = 1 << 16, 1 << 22
#: Longest time to gather one split from a slow source while slots may be waiting.
_READ_SECONDS = 0.05
#: Records pickled at once: fewest to begin with, most where their sizes are not known before, and most of all.
#: Pickling holds the interpreter, and the coordinator waits: 4,096 records take less than half a millisecond.
_LEAST_BATCH, _MOST_UNKNOWN, _MOST_BATCH = 16, 256, 1 << 12
#: From so many bytes on a batch is cut, or the next one is smaller.
_BATCH_BYTES = 1 << 20
_PARTITIONS_PER_SLOT, _LEAST_PARTITIONS = 4, 8
_SIZED = frozenset({str, bytes})
_UNSIZED = PLAIN_TYPES - _SIZED
_IMMUTABLE = PLAIN_TYPES | {complex}


class SplitSizer:
    """Decides the next split's size from what finished splits took. Pure.

    Parameters
    ----------
    n_slots
        Slots that work at the same time.
    n_records
        Length of the source, if known.
    most_output_bytes
        What a map task may leave, as far as that can be foreseen.
    least_seconds
        Less work than this is not worth a task, where an engine makes tasks dear.
    round_seconds
        Less work than this for each slot is one round, where an engine makes rounds dear.

    Examples
    --------
    >>> sizer = SplitSizer(n_slots=2, n_records=None)
    >>> sizer.next_size()
    1
    >>> sizer.finished(n_records=1, seconds=0.0001, flush_seconds=0.0)
    >>> sizer.next_size()
    256
    """

    def __init__(
        self,
        n_slots: int,
        n_records: int | None,
        most_output_bytes: int = 1 << 30,
        *,
        least_seconds: float = 0.0,
        round_seconds: float = 0.0,
    ) -> None:
        self._least_seconds, self._round_seconds = least_seconds, round_seconds
        self._most_output_bytes = most_output_bytes
        self._output_bytes_per_record = 0.0
        self._n_slots = n_slots
        self._n_left = n_records
        #: What was left when the round began, and to how many slots it has still to hand out their parts.
        self._n_left_in_round, self._n_in_round = n_records or 0, n_slots
        self._largest = 0
        self._is_dear = False
        self._seconds_per_record: float | None = None
        self._bytes_per_record = 0.0

    def adapt(self, n_slots: int, most_output_bytes: int) -> None:
        """Workers come and go: see the parameters of the class."""
        self._n_slots = n_slots
        self._most_output_bytes = most_output_bytes

    @property
    def is_blind(self) -> bool:
        """Whether nothing is known yet of what a record takes."""
        return self._seconds_per_record is None

    def next_size(self) -> int:
        """How many records to read for the next split; at least 1."""
        if self._seconds_per_record is None:
            n_known = self._n_left or 0
            return max(1, n_known // (_FIRST_PART * self._n_slots)) if self._least_seconds else 1
        target = _DEAR_SECONDS if self._is_dear else max(_SECONDS, _TASK_PER_LEAST * self._least_seconds)
        if self._is_last_round():
            target = max(target, self._round_seconds)
        size = min(target / self._seconds_per_record, self._largest * _GROWTH)
        if self._bytes_per_record:
            most_bytes = _MOST_BYTES if self._bytes_per_record < _LARGE_RECORD else _MOST_LARGE_BYTES
            size = min(size, most_bytes / self._bytes_per_record)
        if self._output_bytes_per_record:
            size = min(size, self._most_output_bytes / self._output_bytes_per_record)
        if self._n_left is not None:
            least = max(self._least_seconds, _LEAST_DEAR_SECONDS if self._is_dear else _LEAST_SECONDS)
            size = min(size, max(self._part_of_round(), least / self._seconds_per_record))
        return max(1, int(size))

    def sent(self, n_records: int, n_bytes: int) -> None:
        """A split was cut."""
        if self._n_left is not None:
            is_about_a_part = 2 * n_records > self._part_of_round()
            self._n_left = max(0, self._n_left - n_records)
            self._n_in_round -= 1
            if not self._n_in_round or not is_about_a_part:
                self._n_left_in_round, self._n_in_round = self._n_left, self._n_slots
        self._bytes_per_record = n_bytes / n_records

    def _is_last_round(self) -> bool:
        seconds = (self._seconds_per_record or 0.0) * self._n_left_in_round
        return self._n_left is not None and seconds <= self._round_seconds * self._n_slots

    def _part_of_round(self) -> int:
        share = 1.0 if self._is_last_round() else _DEAR_SHARE if self._is_dear else _SHARE
        return math.ceil(share * self._n_left_in_round / self._n_slots)

    def finished(self, n_records: int, seconds: float, flush_seconds: float, output_bytes: int = 0) -> None:
        """A map task has committed."""
        if not n_records:
            return
        self._output_bytes_per_record = output_bytes / n_records
        cost = max(seconds, 1e-7) / n_records
        known = self._seconds_per_record
        # A larger split says more than a small one, whose fixed cost is spread over few records.
        self._seconds_per_record = cost if known is None or n_records > self._largest else (known + cost) / 2
        self._largest = max(self._largest, n_records)
        if seconds > _TELLING_SECONDS and flush_seconds > _DEAR_FLUSH * seconds:
            self._is_dear = True


def usual_partitions(n_slots: int) -> int:
    """In how many parts keys are reduced, if nobody says."""
    return max(_LEAST_PARTITIONS, _PARTITIONS_PER_SLOT * n_slots)


#: Is shown keys and values that are about to be pickled, and their types if these are known.
Look = Callable[[list[Any], list[Any], tuple[set[type], set[type]] | None], None]


def cut(
    source: Records, n_records: int, clock: Callable[[], float] = time.monotonic, look: Look | None = None
) -> tuple[list[Buffer], int]:
    """Read and pickle the next split.

    Parameters
    ----------
    source
        Read from where it stands.
    n_records
        Most records to take. Fewer are taken at the end, or where reading them takes too long to let slots wait.
    clock
        Tells seconds.
    look
        Is shown all records, in order, some at a time.

    Returns
    -------
    Pieces of one or more pairs of blobs, a list of keys and one of values; and the number of records, 0 at the end of
    the source. The pieces may lie in the records' own memory, so they must be copied before the next call, unless the
    source has blocks.
    """
    if source.rows is not None:
        return _cut_rows(source.rows, n_records, look)
    return _cut_blocks(source, n_records, look) if source.blocks else _cut_pairs(source, n_records, clock, look)


def _cut_rows(rows: Rows, n_records: int, look: Look | None) -> tuple[list[Buffer], int]:
    """Pickle rows of a frame: as many of those that were asked for as are not too large together."""
    pieces: list[Buffer] = []
    n_read = n_bytes = 0
    while n_read < n_records and n_bytes < _MOST_BYTES and (part := rows.peek(n_records - n_read)) is not None:
        dumped = _dump_rows(part)
        while byte_length(dumped) > _MOST_BYTES and part.n_rows > 1:
            part = rows.peek(max(1, part.n_rows * _MOST_BYTES // (2 * byte_length(dumped))))
            assert part is not None
            dumped = _dump_rows(part)
        if look is not None:
            keys, *columns = part.listed()
            look([part.n_rows, *(part.names or ())], [keys, *columns], None)
        rows.skip(part.n_rows)
        pieces += dumped
        n_read += part.n_rows
        n_bytes += byte_length(dumped)
    return pieces, n_read


def _dump_rows(part: Slice) -> list[Buffer]:
    try:
        return dump(part)
    except Exception:  # pickling runs the objects' own code; a record by itself tells which it was
        return _dump(*part.records())


def _cut_blocks(source: Records, n_records: int, look: Look | None) -> tuple[list[Buffer], int]:
    """Pickle some records at a time: those that follow may be larger than those before led to expect."""
    pieces: list[Buffer] = []
    n_read = n_bytes = 0
    at_once = _LEAST_BATCH
    while n_read < n_records and n_bytes < _MOST_BYTES:
        block = source.peek(min(at_once, n_records - n_read))
        if block is None:
            break
        n_fitting = _n_fitting(block)
        source.skip(n_fitting)
        if n_fitting < len(block.keys):
            block = block[:n_fitting]
        if look is not None:
            look(block.keys, block.values, block.kinds)
        dumped = _dump(block.keys, block.values, block.kinds)
        pieces += dumped
        n_read += n_fitting
        batch_bytes = byte_length(dumped)
        n_bytes += batch_bytes
        at_once = min(_MOST_BATCH, 4 * at_once) if batch_bytes < _BATCH_BYTES else max(1, at_once // 2)
    return pieces, n_read


def _n_fitting(block: Block) -> int:
    """How many of these records, one at least, may be pickled at once."""
    n_records = len(block.keys)
    if n_records <= _LEAST_BATCH:
        return n_records
    if not all(of <= PLAIN_TYPES for of in block.kinds):
        return min(n_records, _MOST_UNKNOWN)
    sizes = [
        list(map(len if of <= _SIZED else _text_bytes, column))
        for column, of in zip((block.keys, block.values), block.kinds, strict=True)
        if of & _SIZED
    ]
    if sum(map(sum, sizes)) <= _BATCH_BYTES:
        return n_records
    return max(1, bisect_right(list(accumulate(map(sum, zip(*sizes, strict=True)))), _BATCH_BYTES))


def _cut_pairs(
    source: Records, n_records: int, clock: Callable[[], float], look: Look | None
) -> tuple[list[Buffer], int]:
    """Pickle a record that could change before the next one is read: an iterator may refill one buffer."""
    pieces: list[Buffer] = []
    keys: list[Any] = []
    values: list[Any] = []
    n_read = n_bytes = 0
    deadline = clock() + _READ_SECONDS
    for key, value in source.pairs:
        keys.append(key)
        values.append(value)
        n_read += 1
        if type(key) in _UNSIZED and type(value) in _UNSIZED:
            pass
        elif _is_immutable(key) and _is_immutable(value):
            n_bytes += _text_bytes(key) + _text_bytes(value)
        else:
            dumped = _seen(keys, values, look)
            n_dumped = byte_length(dumped)
            n_bytes += n_dumped
            keys, values = [], []
            if n_dumped >= _BATCH_BYTES:  # sent before the next one is read
                pieces += dumped
                break
            pieces.append(b"".join(dumped))
        if n_read >= n_records or n_bytes > _MOST_BYTES or clock() > deadline:
            break
    if keys:
        pieces += _seen(keys, values, look)
    return pieces, n_read


def _seen(keys: list[Any], values: list[Any], look: Look | None) -> list[Buffer]:
    if look is not None:
        look(keys, values, None)
    return _dump(keys, values)


def _text_bytes(value: object) -> int:
    """About how much an immutable value weighs; what is no text weighs little."""
    if type(value) in _SIZED:
        return len(value)  # type: ignore[arg-type]
    return sum(map(_text_bytes, value)) if type(value) is tuple else 0


def _is_immutable(value: object) -> bool:
    return type(value) in _IMMUTABLE or (type(value) is tuple and all(type(item) in _IMMUTABLE for item in value))


def _dump(keys: list[Any], values: list[Any], kinds: Sequence[set[type]] | None = None) -> list[Buffer]:
    try:
        return dump_columns(keys, values, kinds=kinds)
    except Exception as error:  # pickling runs the objects' own code
        for key, value in zip(keys, values, strict=True):
            for role, obj in (("key", key), ("value", value)):
                if culprit := blame(role, obj):
                    advice = "Put what it is made of into the source, and create it in mapfn."
                    raise NotPicklableError(
                        f"the source's record key={describe(key)} cannot be sent to the workers: "
                        f"{culprit.path} is {culprit.told(advice)}"
                    ) from error
        raise NotPicklableError(f"records of the source cannot be sent to the workers: {error}") from error
