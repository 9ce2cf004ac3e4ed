"""The record that a function failed on, given to that function once more.

    Failure, Origin ──replay_of──> Replay ──run──> here: the user's exception, live, for a debugger
    JobPoisoned ────────────────────> └──────────> in a slot, where the function may end the process

A record is kept pickled, so that each run gets a copy of its own, as it was when the job had it; and up to a bound, so
that an error which somebody keeps does not keep gigabytes. Functions are the job's own objects. They are left out where
an error is pickled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jmr.codec.values import Buffer, byte_length, dump_at_most, load
from jmr.coordinator.mail import Origin
from jmr.engines.base import SUBJECTS, breakpoints_heard, error_from
from jmr.errors import JmrError, OfRecord, ReplayError, SlotDiedError, describe
from jmr.plan import Plan
from jmr.progress.words import size
from jmr.sources.base import NotHereError
from jmr.tasks.contract import REFUSALS, Failure, checked_fold, failure_of

__all__ = ["LOOK", "MOST_KEPT_BYTES", "Replay", "found", "function_of", "held", "replay_of", "told_missing"]

#: So begins what a death's error says of what to do next.
LOOK = "\nTo look into it:"
#: Most of a record that is kept, and of a task's input that is read for it: an error has to come soon.
MOST_KEPT_BYTES = 1 << 26
MOST_READ_BYTES = 1 << 28

Record = tuple[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """One record or group, and the function that failed on it."""

    #: "map", "combine", "reduce" or "final".
    phase: str
    #: None after it was pickled.
    function: Callable[[Any, Any], Any] | None
    blob: bytes | None = None
    #: Of what nothing was pickled: the very record.
    record: Record | None = None
    #: Why the record is not known; empty if it is.
    missing: str = ""
    #: Whether what the function gives has to be picklable.
    travels: bool = True
    #: Whether it ended its process.
    was_fatal: bool = False

    def __reduce__(self) -> Any:
        missing = self.missing or ("" if self.record is None else "it was not pickled with the rest")
        return Replay, (self.phase, None, self.blob, None, missing, self.travels, self.was_fatal)

    @property
    def role(self) -> str:
        """What users call the function."""
        return "final" if self.phase == "final" else f"{self.phase}fn"

    @property
    def key(self) -> Any:
        """The record's, as the function got it; a new copy each time, as is `value`."""
        return self._copy()[0]

    @property
    def value(self) -> Any:
        """The record's value, or the group's list of values."""
        return self._copy()[1]

    @property
    def is_pickled(self) -> bool:
        """Whether the record is kept as bytes, if at all."""
        return self.record is None

    def run(self) -> Any:
        """Call the function; returns what it gives, and says that it does, if it does not fail this time."""
        return self.run_on(self._copy())

    def run_again_on(self, key: Any, value: Any) -> Any:
        """The same for a record that somebody else keeps."""
        if self.missing:
            self._copy()
        return self.run_on(_copied((key, value)))

    def run_on(self, record: Record) -> Any:
        """The same with this very record."""
        if self.function is None:
            raise ReplayError(
                f"{self.role} did not travel with this error, which was pickled: replay it in the process that ran the "
                "job, or call your function with the error's key and value"
            )
        given = self._run_in_slot(record) if self.was_fatal else self._run_here(record)
        how = "did not end its process this time" if self.was_fatal else "did not fail this time"
        print(
            f"jmr: {self.role} {how}, for {SUBJECTS[self.phase]} key={describe(record[0])}; the value of this call is "
            f"{'the list of pairs that it emitted' if self.phase == 'map' else 'what it returned'}.",
            file=sys.stderr,
        )
        return given

    def _copy(self) -> Record:
        if self.missing:
            inline = "" if self.was_fatal else '; engine="inline" runs the whole job here, for a debugger'
            raise ReplayError(f"the {SUBJECTS[self.phase]} is not known here: {self.missing}{inline}")
        if self.blob is None:
            assert self.record is not None
            return _copied(self.record)
        return _loaded(self.blob)

    def _run_here(self, record: Record) -> Any:
        try:
            with breakpoints_heard():
                return self._called(*record)
        except REFUSALS as error:
            refused = error_from(failure_of(self.phase, record[0], error), "replayed here", replay=self)
        raise refused

    def _called(self, key: Any, value: Any) -> Any:
        """What the slot would take of what the function gives."""
        from jmr.tasks.map import pairs_of
        from jmr.tasks.reduce import check_result, collected

        assert self.function is not None
        match self.phase:
            case "map":
                return pairs_of(self.function, key, value, check=self.travels)
            case "combine":
                given = checked_fold(self.function(key, value))
            case "reduce":
                given = collected(self.function(key, value))
            case _:
                return self.function(key, value)
        if self.travels:
            check_result(self.phase, given)
        return given

    def _run_in_slot(self, record: Record) -> Any:
        """A job of this one record; what its function prints is shown as jobs show it, and so is how it ends."""
        from jmr.engines.alone import run_alone

        assert self.function is not None
        try:
            return run_alone(self.phase, self.function, record)
        except JmrError as error:
            if isinstance(error, SlotDiedError):
                told = str(error).partition(LOOK)[0]  # it has just been looked into
                error.args = (f"{told}{LOOK} have {self.role} print where it is, as its last lines are told.",)
            if isinstance(error, OfRecord):
                error.set_replay(self)
            raise


def held(phase: str, plan: Plan, record: Record | None) -> Replay | None:
    """For a function that failed in this process, with its record in hand; None for what is no function's failure."""
    if record is None or phase not in SUBJECTS:
        return None
    blob = dump_at_most(record, MOST_KEPT_BYTES)
    return Replay(phase, function_of(phase, plan), blob, record if blob is None else None, travels=False)


def replay_of(failure: Failure, plan: Plan, origin: Origin) -> Replay | None:
    """For a failure in a slot; None if it is of no record."""
    if failure.phase not in SUBJECTS:
        return None
    function = function_of(failure.phase, plan)
    if failure.is_whole:
        return Replay(failure.phase, function, failure.record)
    if failure.index is None:
        return Replay(failure.phase, function, missing="what it was given is too large, or cannot be pickled")
    n_bytes = _n_bytes(origin)
    if n_bytes > MOST_READ_BYTES:
        task = "split" if origin.split is not None else "partition"
        return Replay(
            failure.phase, function, missing=f"it lies in a {task} of {size(n_bytes)}, too much to read again"
        )
    try:
        record = found(origin, failure.index)
    except NotHereError as error:
        return Replay(failure.phase, function, missing=f"{error.path} cannot be read again: {error}")
    except Exception as error:  # unpickling runs the objects' own code
        return Replay(failure.phase, function, missing=f"it cannot be unpickled: {describe(error)}")
    blob = None if record is None or len(record) < 2 else dump_at_most(record, MOST_KEPT_BYTES)
    return Replay(failure.phase, function, blob, missing="" if blob is not None else told_missing())


def told_missing() -> str:
    """Why a record that was there is not kept."""
    return f"it takes more than {size(MOST_KEPT_BYTES)}, or cannot be pickled again"


def function_of(phase: str, plan: Plan) -> Callable[[Any, Any], Any] | None:
    """The function that a phase calls."""
    if phase == "final":
        return plan.final
    function: Callable[[Any, Any], Any] | None = plan.functions[f"{phase}fn"]
    if plan.out is None or phase == "map" or (phase == "combine" and plan.reducefn is not None):
        return function
    from jmr.tasks.writing import Fitting, Writing

    return Fitting(function, Writing(plan.out, phase, function is not None))


def found(origin: Origin, index: int) -> tuple[Any, ...] | None:
    """The record, or the group, of that index in a task's input; None if there are not so many.

    Of a group with many values, which may be why its slot has ended, the key alone.

    Raises
    ------
    Exception
        It cannot be read or unpickled.
    """
    from jmr.shuffle.files import fetch_all
    from jmr.tasks.finding import group_at
    from jmr.tasks.map import records_of

    if origin.split is None:
        inputs, inline = origin.inputs, origin.inline
        n_partitions, n_parts = origin.n_partitions, origin.n_parts
        return group_at(lambda: fetch_all(inputs, inline), n_partitions, n_parts, index, MOST_KEPT_BYTES)
    return records_of(_split_of(origin))[index] if origin.split else None


def _split_of(origin: Origin) -> Buffer:
    from jmr.shuffle.files import fetch

    assert origin.split is not None
    return bytearray().join(origin.split) if isinstance(origin.split, list) else fetch(origin.split)


def _n_bytes(origin: Origin) -> int:
    """What has to be read to find a record or group in it."""
    from jmr.sources.base import InColumns, load_split

    if origin.split is None:
        return sum(length for _, (_, _, length, _) in origin.inputs)
    n_bytes = byte_length(origin.split) if isinstance(origin.split, list) else origin.split[2]
    if not 0 < n_bytes < MOST_READ_BYTES:
        return n_bytes
    try:
        split = load_split(_split_of(origin))
    except Exception:  # unpickling runs the objects' own code; who needs the record will find out
        return n_bytes
    return n_bytes if isinstance(split, InColumns) else split.n_bytes or n_bytes


def _copied(record: Record) -> Record:
    """A copy to be changed at will; what cannot be pickled is the record itself."""
    blob = dump_at_most(record, sys.maxsize)
    return record if blob is None else _loaded(blob)


def _loaded(blob: bytes) -> Record:
    key, value = load(bytearray(blob))  # arrays in it are writable
    return key, value
