"""What tasks give back, as the calling thread takes it: results decoded, bad records put in the order of the source.

a reduce task's blob ──decoded──> Partition
blobs of Failures ──SetAside.add──> ──tell──> report.errors
"""

from __future__ import annotations

from operator import itemgetter

from jmr.codec.values import Buffer, load, load_columns
from jmr.engines.base import bad_record
from jmr.errors import NotPicklableError
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.result import BadRecord, Partition
from jmr.tasks.contract import KEPT_FAILURES, place_of

__all__ = ["SetAside", "decoded"]


def decoded(blob: Buffer) -> Partition:
    """A partition of the result.

    Raises
    ------
    NotPicklableError
        Something in it cannot be unpickled here.
    """
    try:
        return Partition(*load_columns(blob, 3))
    except Exception as error:  # unpickling runs the objects' own code
        raise NotPicklableError(
            f"a result came back and cannot be unpickled here: {type(error).__name__}: {error}. "
            "Return plain values, or a class that can be pickled and unpickled."
        ) from error


class SetAside:
    """What the tasks of a job set aside."""

    def __init__(self) -> None:
        #: A task's own place in source order, (0 for map or 1 for reduce, index); and in it, the record's.
        self._found: list[tuple[tuple[int, int], float, BadRecord]] = []
        self._n_total = 0

    def add(self, order: tuple[int, int], blob: Buffer, plan: Plan) -> None:
        """Add the Failures of a task."""
        failures = load(blob)
        self._n_total += failures.n_failures
        self._found += [(order, failure.place, bad_record(failure, plan)) for failure in failures.first]
        self._trim(2 * KEPT_FAILURES)

    def add_one(self, order: tuple[int, int], index: int | None, bad: BadRecord) -> None:
        """Add a record or group that was found out in another way."""
        self._n_total += 1
        self._found.append((order, place_of(index), bad))
        self._trim(2 * KEPT_FAILURES)

    def tell(self, report: Report) -> None:
        """Say it all, in source order, and keep the first of them."""
        self._trim(0)
        report.errors += [bad for *_, bad in self._found]
        report.n_skipped = report.errors.n_total = self._n_total

    def _trim(self, most: int) -> None:
        """Put them into source order, and let go of all but the first, if there are more than that."""
        if len(self._found) > most:
            self._found.sort(key=itemgetter(0, 1))
            del self._found[KEPT_FAILURES:]
