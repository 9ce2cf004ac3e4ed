"""A source whose records need not pass through the calling thread: splits say where they lie, and workers read them.

    Source.splits ──> Split ──dump_split──> blob ──> a worker ──load_records──Split.read──> keys, values
                        └──carried──> the same with its bytes inside, for a worker that does not see them (NotHereError)

What cannot be read, such as one file of many, is told by its key: in a job that skips it is set aside, and the rest of
the split is read; in any other it ends the job. The blob of a split stands where the blob of records would: only who
asks for the records of one needs to know which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeGuard

from jmr.codec.values import Buffer, dump, load_columns
from jmr.errors import JmrError, SourceError, describe

__all__ = [
    "Columns",
    "InColumns",
    "Loaded",
    "NotHereError",
    "SetAside",
    "Source",
    "Split",
    "dump_split",
    "final_error",
    "is_source",
    "load_records",
    "load_split",
    "read_pairs",
    "read_split",
    "refuse",
    "splits_of",
    "told_unreadable",
]

#: A list of keys, and one of as many values.
Columns = tuple[list[Any], list[Any]]


class Loaded(Protocol):
    """The records of a split, in a worker's memory."""

    def __len__(self) -> int:
        """How many there are."""

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """All of them, from the first one, each time it is called."""


@dataclass(frozen=True, slots=True)
class InColumns:
    """A list of keys, and one of as many values."""

    keys: list[Any]
    values: list[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """See `Loaded`."""
        return zip(self.keys, self.values, strict=True)


class NotHereError(Exception):
    """A worker does not see what it is to read, or sees something else by that name.

    Parameters
    ----------
    path
        What it is to read.
    why
        What it sees instead; continues "it cannot be read: ".
    """

    def __init__(self, path: str, why: str = "it is not the same on this worker") -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return self.why


class SetAside(Protocol):
    """Takes what cannot be read. Raises, unless the job skips such things."""

    def __call__(self, key: Any, error: Exception, n_before: int = 0, /) -> None:
        """Take one thing.

        Parameters
        ----------
        key
            What could not be read: a path.
        error
            Why.
        n_before
            How many records of the split come before it.
        """


class Split(Protocol):
    """Some records of a source, for one map task. Small, can be pickled; a class of your own may derive from this one.

    Attributes
    ----------
    n_bytes
        About how much is read; None if that is not known.
    hosts
        Where it is read best, if that is known.
    """

    n_bytes: int | None = None
    hosts: tuple[str, ...] = ()

    def read(self, set_aside: SetAside, /) -> Columns | Loaded:
        """Read the records: their keys, and their values. Called on the worker, and perhaps again: it gives the same.

        Two lists. Or an object with the methods of `Loaded`, if it can make records one by one from something smaller:
        `len()`, and `pairs()`, which gives an iterator over all of them each time.

        Parameters
        ----------
        set_aside
            To be called with the key and the exception where a part cannot be read. It raises, unless the job has
            on_error="skip"; then the rest can be read.
        """

    def carried(self) -> Split:
        """The same with all that it reads inside, for a worker that does not see it; called in the kernel."""
        return self

    def fingerprint(self) -> str:
        """For checkpoints: equal only if the same would be read. Empty, as here, is equal to nothing."""
        return ""


class Source(Protocol):
    """Records that workers read by themselves. A class of your own may derive from this one.

    It may have an attribute `n_bytes`: about how much its splits read in all. And a method `sized_splits(wanted)`: it
    is called instead of `splits()`, with a function that tells, before each split, about how many bytes it should read,
    so that slots get equal parts of the work; or None, where splits have to be the same in each run.

    Examples
    --------
    >>> import jmr
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Numbers(jmr.Split):
    ...     first: int
    ...     last: int
    ...     def read(self, set_aside):
    ...         numbers = list(range(self.first, self.last + 1))
    ...         return numbers, [number * number for number in numbers]
    ...     def fingerprint(self):  # for checkpoint=, which keeps nothing of splits without one
    ...         return repr(self)
    >>> class Squares(jmr.Source):
    ...     def splits(self):
    ...         for first in range(1, 100, 10):
    ...             yield Numbers(first, first + 9)
    >>> def mapfn(number, square):
    ...     yield square % 10, number
    >>> jmr.run(Squares(), mapfn, lambda digit, numbers: len(numbers), engine="inline")
    {1: 20, 4: 20, 9: 20, 6: 20, 5: 10, 0: 10}
    """

    def splits(self) -> Iterator[Split]:
        """Yield the splits, in the order of their records; read lazily, in the calling thread."""


def is_source(source: Any) -> TypeGuard[Source]:
    """Whether its splits are read on the workers."""
    return callable(getattr(type(source), "splits", None)) and callable(getattr(source, "splits", None))


def splits_of(source: Source, wanted: Callable[[], int | None]) -> Iterator[Split]:
    """Its splits, each of which is one; `wanted` tells what `sized_splits` asks for."""
    sized = getattr(source, "sized_splits", None)
    for split in source.splits() if sized is None else sized(wanted):
        if not callable(getattr(split, "read", None)):
            raise SourceError(f"{type(source).__name__}.splits() yielded {describe(split)}, which has no read()")
        yield split


def dump_split(split: Split) -> list[Buffer]:
    """Turn a split into the pieces of a blob; see `load_records`.

    Raises
    ------
    Exception
        As `dump` does.
    """
    return dump((split, []))


def load_split(blob: Buffer) -> Split | InColumns:
    """The records of a blob; or, where that is one of `dump_split`, what will read them."""
    keys, values = load_columns(blob, 2)
    return InColumns(keys, values) if type(keys) is list else keys  # type: ignore[return-value]


def load_records(blob: Buffer, set_aside: SetAside | None = None) -> Loaded:
    """A split's records, from a blob of either kind.

    Parameters
    ----------
    blob
        What `dump_split` gave, joined; or what `dump_columns` gave for keys and values.
    set_aside
        As for `Split.read`. Default: raise SourceError.

    Raises
    ------
    Exception
        What unpickling or reading raised.
    """
    loaded = load_split(blob)
    return loaded if isinstance(loaded, InColumns) else read_split(loaded, set_aside or refuse)


def read_split(split: Split, set_aside: SetAside) -> Loaded:
    """Have it read, and check what it gives."""
    found = split.read(set_aside)
    if not isinstance(found, tuple):
        return found
    keys, values = found
    if len(keys) != len(values):
        raise SourceError(f"{type(split).__name__}.read() gave {len(keys)} keys and {len(values)} values")
    return InColumns(keys, values)


def read_pairs(splits: Iterator[Split], set_aside: SetAside | None = None) -> Iterator[tuple[Any, Any]]:
    """The records of all splits, in this process; one split at a time is in memory."""
    n_before = 0
    for split in splits:
        found = _read_here(split, refuse if set_aside is None else _after(n_before, set_aside))
        yield from found.pairs()
        n_before += len(found)


def _read_here(split: Split, set_aside: SetAside) -> Loaded:
    try:
        return read_split(split, set_aside)
    except JmrError:
        raise
    except NotHereError as error:
        set_aside(error.path, error)
        return InColumns([], [])
    except Exception as error:  # reading runs the source's own code
        raise SourceError(told_unreadable("", error)) from error


def _after(n_earlier: int, set_aside: SetAside) -> SetAside:
    def counted(key: Any, error: Exception, n_before: int = 0, /) -> None:
        set_aside(key, error, n_earlier + n_before)

    return counted


def refuse(key: Any, error: Exception, _: int = 0, /) -> NoReturn:
    """Raise SourceError: in this job, nothing is set aside."""
    error = final_error(error)
    raise SourceError(told_unreadable(describe(key), error)) from error


def final_error(error: Exception) -> Exception:
    """What is told where nobody can be asked for what is not here: an error of the file system, if it was one."""
    cause = error.__cause__
    return cause if isinstance(error, NotHereError) and isinstance(cause, Exception) else error


def told_unreadable(key_text: str, error: BaseException) -> str:
    """What could not be read, and why.

    Examples
    --------
    >>> told_unreadable("'a.txt'", PermissionError(13, "Permission denied", "a.txt"))
    "'a.txt' cannot be read: Permission denied"
    """
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif isinstance(error, (JmrError, NotHereError)):
        reason = str(error)
    else:
        reason = describe(error)
    return f"{key_text or 'a split of the source'} cannot be read: {reason}"
