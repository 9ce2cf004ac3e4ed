"""Splits that workers read by themselves: how many are under way, and how large the next one should be.

    Source.splits ──next──> a split's blob ──> coordinator ──> a slot, which reads it
         ^ about so many bytes                                   │
         └────────── SplitSizer, whose records are bytes <──done─┘

With a checkpoint, splits have the size that the source gives them: they must be the same when the job is run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jmr.codec.values import Buffer, byte_length
from jmr.engines.splitting import SplitSizer
from jmr.errors import NotPicklableError, describe
from jmr.sources import Records, Split, dump_split
from jmr.wire.messages import MapDone

if TYPE_CHECKING:
    from jmr.engines.keeping import Keeper

__all__ = ["Handing", "dumped_split"]

#: Splits under way for each slot: one that runs, and two that wait, as they cost little.
_SPLITS_PER_SLOT = 3


def dumped_split(split: Split) -> list[Buffer]:
    """The pieces of its blob.

    Raises
    ------
    NotPicklableError
        It cannot travel.
    """
    try:
        return dump_split(split)
    except Exception as error:  # pickling runs the objects' own code
        raise NotPicklableError(
            f"a split of the source, {describe(split)}, cannot be sent to the workers: {error}. Have it hold what is "
            "needed to open what it reads, and open that in its read()."
        ) from error


class Handing:
    """Of one job.

    Parameters
    ----------
    source
        Has splits.
    n_slots
        To begin with.
    keeper
        Where the job has a checkpoint.
    least_seconds, round_seconds
        As for `SplitSizer`.
    """

    def __init__(
        self,
        source: Records,
        n_slots: int,
        keeper: Keeper | None = None,
        *,
        least_seconds: float = 0.0,
        round_seconds: float = 0.0,
    ) -> None:
        self._source = source
        self._keeper = keeper
        self._sizer = SplitSizer(n_slots, source.n_bytes, least_seconds=least_seconds, round_seconds=round_seconds)
        self._n_slots = self._window = n_slots
        self._most_blob_bytes = 0
        #: By the number of its task: how much a split reads, and the length of its blob.
        self._under_way: dict[int, tuple[int, int]] = {}
        self._n_blob_bytes = 0
        self._n_begun = 0

    def adapt(self, n_slots: int, most_output_bytes: int, most_blob_bytes: int, window: int | None = None) -> None:
        """Workers come and go.

        Parameters
        ----------
        n_slots, most_output_bytes
            As for `SplitSizer`.
        most_blob_bytes
            Of all splits under way, which may hold what they give.
        window
            Most splits to have under way. Default: three a slot.
        """
        self._n_slots = n_slots
        self._window = max(n_slots, _SPLITS_PER_SLOT * n_slots if window is None else window)
        self._most_blob_bytes = most_blob_bytes
        self._sizer.adapt(n_slots, most_output_bytes)

    @property
    def n_under_way(self) -> int:
        """Splits that were handed out and are not mapped yet."""
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether to wait before the next one is handed out."""
        most = self._n_slots if self._sizer.is_blind else self._window
        return self.n_under_way >= most or self._n_blob_bytes >= self._most_blob_bytes

    def next(self) -> tuple[list[Buffer], MapDone | None] | None:
        """The pieces of the next split's blob, and what its task has left in an earlier run; None at the end."""
        assert self._source.splits is not None
        self._source.wanted_bytes = None if self._keeper else self._sizer.next_size()
        split = next(self._source.splits, None)
        if split is None:
            return None
        pieces = dumped_split(split)
        left = None if self._keeper is None else self._keeper.known(split)
        blob_bytes = byte_length(pieces)
        n_bytes = max(1, blob_bytes if split.n_bytes is None else split.n_bytes)
        self._sizer.sent(n_bytes, n_bytes)
        if left is None:
            self._under_way[self._n_begun] = n_bytes, blob_bytes
            self._n_blob_bytes += blob_bytes
        else:
            self._sizer.finished(n_bytes, left.seconds, left.flush_seconds, sum(left.lengths))
        self._n_begun += 1
        return pieces, left

    def done(self, index: int, seconds: float, flush_seconds: float, output_bytes: int) -> None:
        """A map task has committed; these are its number, and what `SplitSizer.finished` is told."""
        n_bytes, blob_bytes = self._under_way.pop(index)
        self._n_blob_bytes -= blob_bytes
        self._sizer.finished(n_bytes, seconds, flush_seconds, output_bytes)
