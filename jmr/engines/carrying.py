"""What a worker is to read and does not see is read here, in the calling thread, and sent to it.

    SplitWanted ──> Carrier ──the split, with that inside──> Coordinator.carry

The split is one of the job's own, as the source has given it: a worker names nothing that is read.
"""

from __future__ import annotations

from jmr.coordinator.core import Coordinator
from jmr.coordinator.mail import SplitWanted
from jmr.shuffle.files import fetch
from jmr.shuffle.lending import Lender
from jmr.sources.carrying import carried
from jmr.wire.messages import Range

__all__ = ["Carrier"]


class Carrier:
    """Of one job.

    Parameters
    ----------
    coordinator, job
        Where the splits go.
    lender
        Has room for large ones.
    """

    def __init__(self, coordinator: Coordinator, job: int, lender: Lender) -> None:
        self._coordinator = coordinator
        self._job = job
        self._lender = lender
        #: Where those of tasks lie that are not mapped yet.
        self._lent: dict[int, Range] = {}

    def carry(self, wanted: SplitWanted) -> None:
        """Read what a split reads, and send it."""
        pieces = carried(b"".join(wanted.split) if isinstance(wanted.split, list) else fetch(wanted.split))
        at = self._lender.lend(pieces)
        if at is not None:
            self._lent[wanted.index] = at
        self._coordinator.carry(self._job, wanted.index, at or [b"".join(pieces)])

    def done(self, index: int) -> None:
        """A task is mapped, and nobody reads its split any more."""
        at = self._lent.pop(index, None)
        if at is not None:
            self._lender.take_back(at, kept=False)
