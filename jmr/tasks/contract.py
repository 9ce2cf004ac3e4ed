"""What the user's functions may return, and what is kept of a call that failed.

    call fails ──> Failure (phase, key, value, exception; picklable) ──> job ends with it, or it is set aside

A `ContractError` is a failure that user code did not raise itself: it returned something that cannot be used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any

from jmr.codec import process, values
from jmr.codec.failures import Raised, raised_from
from jmr.errors import NotPicklableError, describe
from jmr.tasks.partition import IdentityKeyError

__all__ = [
    "KEPT_FAILURES",
    "REFUSALS",
    "ContractError",
    "Failure",
    "Failures",
    "PassThroughError",
    "TaskError",
    "checked_fold",
    "checked_pair",
    "checked_pairs",
    "diagnose",
    "dumped",
    "failure_of",
    "is_of_user_code",
    "outside",
    "place_of",
]

#: How many bad records and groups of a job are kept whole.
KEPT_FAILURES = 1_000


class ContractError(TypeError):
    """A user function returned something that cannot be used; the text says what, and what to return instead."""


#: What jmr refuses user code with; see `Failure.refused`.
REFUSALS = (ContractError, IdentityKeyError, NotPicklableError)


class PassThroughError(BaseException):
    """Carries an exception through the loops that call user code, which must not blame their function for it."""

    def __init__(self, original: BaseException) -> None:
        super().__init__(original)
        self.original = original


class TaskError(Exception):
    """Ends an attempt; carries what the kernel must be told.

    Parameters
    ----------
    failure
        Travels.
    record
        The key, and the value or values, for whoever is in this process.
    """

    def __init__(self, failure: Failure, record: tuple[Any, Any] | None = None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.record = record


@dataclass(frozen=True, slots=True)
class Failure:
    """One call of a user function that failed."""

    #: "map", "combine", "reduce". Or "read": a worker could not read some of its split. "load", "merge": the input of a
    #: map or reduce task cannot be unpickled. "pickle": an output could not be pickled, the first time only. "group":
    #: a key does not hash or compare.
    phase: str
    key_text: str
    #: Of what was set aside: the blob of (key, value), or of (key, what the value looks like) if the value cannot be
    #: pickled; None if the key cannot. Of what ends a job, None where `index` says where the record lies.
    record: bytes | None
    raised: Raised
    #: Whether jmr refused what user code did, rather than user code raising.
    refused: bool
    #: Whether `record` is all of it.
    is_whole: bool = False
    #: Of the record in its split, or of the group in its partition; None if it is in neither, or that is not known. Of
    #: what could not be read: how many records come before it.
    index: int | None = None

    @property
    def place(self) -> float:
        """Where it stands among the others of its task."""
        return place_of(self.index) - (0.5 if self.phase == "read" else 0.0)


def place_of(index: int | None) -> float:
    """Behind all records of a split are the groups that combinefn was given there: they have no index in it."""
    return math.inf if index is None or index < 0 else index


@dataclass(slots=True)
class Failures:
    """What becomes of bad records and groups: set aside, the first thousand whole and the rest counted; or the end."""

    #: Whether they are set aside.
    skips: bool
    first: list[Failure] = field(default_factory=list)
    n_failures: int = 0

    def add(
        self, phase: str, key: Any, value: Any, error: BaseException, index: int | None = None, *, is_whole: bool = True
    ) -> None:
        """Set one more aside, or end the attempt.

        A record is pickled only if it is kept: a group may be large, and an attempt that fails has to say so at once.

        Parameters
        ----------
        phase, index
            As in `Failure`.
        key, value
            The record, or the group.
        error
            What user code raised, or why what it gave cannot be used.
        is_whole
            Whether `value` is the value, and not what is said of it.

        Raises
        ------
        TaskError
            Nothing is set aside in this job.
        """
        if not self.skips:
            raise TaskError(failure_of(phase, key, error, index=index), (key, value)) from error
        self.n_failures += 1
        if len(self.first) < KEPT_FAILURES:
            record = dumped((key, value))
            is_whole = is_whole and record is not None
            record = record or dumped((key, describe(value)))
            self.first.append(failure_of(phase, key, error, record, index=index, is_whole=is_whole))


def failure_of(
    phase: str,
    key: Any,
    error: BaseException,
    record: bytes | None = None,
    *,
    index: int | None = None,
    is_whole: bool = False,
) -> Failure:
    """What is kept of a call that failed."""
    return Failure(
        phase=phase,
        key_text=describe(key),
        record=record,
        raised=raised_from(error),
        refused=isinstance(error, REFUSALS),
        is_whole=is_whole,
        index=index,
    )


def is_of_user_code(error: BaseException) -> bool:
    """Whether an exception that came out of user code is that code's doing.

    In a slot, or any task's thread, everything is. In a process of the user's, a KeyboardInterrupt is the user's.
    """
    return process.runs_task() or not isinstance(error, (KeyboardInterrupt, GeneratorExit, PassThroughError))


def outside(phase: str, error: Exception) -> TaskError:
    """What failed around the calls of the user's functions; see `Failure.phase`."""
    return TaskError(Failure(phase, "", None, raised_from(error), refused=False))


def dumped(record: tuple[Any, Any]) -> bytes | None:
    """The blob of a record; None if it cannot be pickled."""
    try:
        return b"".join(values.dump(record))
    except Exception:  # the failure is told all the same, by its repr
        return None


def checked_pairs(pairs: Any) -> Iterable[Any]:
    """Refuse what a mapfn must not return, such as a str whose characters would pass for pairs."""
    if isinstance(pairs, (str, bytes, bytearray)):
        raise ContractError(
            f"mapfn returned {describe(pairs)} ({type(pairs).__name__}), whose characters are no pairs; "
            "yield (key, value) pairs, or return a list of them"
        )
    if isinstance(pairs, Mapping):
        raise ContractError(
            f"mapfn returned {describe(pairs)} ({type(pairs).__name__}), whose keys are no pairs; "
            "did you mean .items()?"
        )
    if not hasattr(pairs, "__iter__") and not hasattr(pairs, "__getitem__"):
        hint = " (mapfn is async)" if hasattr(pairs, "__await__") or hasattr(pairs, "__aiter__") else ""
        raise ContractError(
            f"mapfn returned {describe(pairs)} ({type(pairs).__name__}){hint}, which is no iterable of (key, value) "
            "pairs; yield pairs, return a list of them, or None for nothing"
        )
    return pairs  # type: ignore[no-any-return]


def checked_fold(folded: Any) -> Any:
    """Refuse a generator: reducefn may be one, combinefn folds many values into one."""
    if type(folded) is GeneratorType:
        raise ContractError("combinefn returned a generator, and has to return one value: write return, not yield")
    return folded


def checked_pair(pair: Any) -> Any:
    """Let lists and other sequences of two pass for a pair; refuse the rest."""
    if isinstance(pair, (str, bytes, bytearray, Mapping, AbstractSet)) or not _has_two(pair):
        raise ContractError(
            f"mapfn emitted {describe(pair)} ({type(pair).__name__}), which is no (key, value) pair; "
            "yield two things (yield key, value), or return a list of pairs (return [(key, value)])"
        )
    return pair


def _has_two(pair: Any) -> bool:
    try:
        return len(pair) == 2
    except TypeError:
        return False


def diagnose(error: BaseException, key: Any, pair: Any = ("a key", "a value")) -> BaseException:
    """Explain what is no pair, and a key that a dict cannot hold; any other error stays as it is.

    Parameters
    ----------
    error
        What the grouping loop caught.
    key
        The key emitted last.
    pair
        What was emitted last, if that is not known to be a pair.
    """
    if not _is_ours(error):
        return error
    try:
        checked_pair(pair)
    except ContractError as refused:
        return refused
    if isinstance(error, TypeError) and not _is_hashable(key):
        return ContractError(
            f"mapfn emitted the key {describe(key)} ({type(key).__name__}), which is not hashable; "
            "use a tuple, a str or a frozenset"
        )
    return error


def _is_ours(error: BaseException) -> bool:
    """Whether the error came up in the calling loop itself, not in a frame below it."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is None


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True
