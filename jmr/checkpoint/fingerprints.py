"""The fingerprints that a checkpoint goes by: equal if what they are of would give the same, whenever and wherever.

    mapfn, combinefn, ... ──print_of_functions──> 32 hex digits
    a split's records ──────RecordsPrint.add────> 32 hex digits

Two of them are never equal by mistake. That one differs although nothing has changed costs time, and no more: it does
so for what pickles differently in each process. What no fingerprint can tell is written down in `code`.
"""

from __future__ import annotations

import sys
import types

from jmr.checkpoint.code import CLASS, is_code
from jmr.checkpoint.modules import Modules
from jmr.checkpoint.printing import DIGEST_BYTES, Parts, Printer, new_hash
from jmr.checkpoint.values import parts_of
from jmr.codec.functions import blame
from jmr.errors import NotPicklableError, describe

__all__ = ["Met", "RecordsPrint", "print_of_functions", "print_of_records"]

#: Raised by whoever changes what a print is made of.
_FORMAT = 1
#: Whose prints are remembered.
_MOST_FUNCTIONS = 1 << 10


def print_of_functions(*functions: object, met: Met | None = None) -> str:
    """The print of functions, with all that they use.

    Parameters
    ----------
    functions
        Their order counts. None stands for one that there is not; anything else that can be pickled is printed by its
        value.
    met
        Remembers what was met on the way.

    Returns
    -------
    32 hex digits; others for another minor version of Python.

    Raises
    ------
    NotPicklableError
        Says what has no print, and the path to it. It could not be sent to slots either.

    Examples
    --------
    >>> print_of_functions(lambda key, value: [(value, 1)]) == print_of_functions(lambda key, value: [(value, 1)])
    True
    >>> print_of_functions(lambda key, value: [(value, 1)]) == print_of_functions(lambda key, value: [(value, 2)])
    False
    """
    printer = Printer((Met() if met is None else met).parts_of)
    digest = new_hash()
    try:
        printer.write([_FORMAT, tuple(sys.version_info[:2]), *functions], digest)
    except Exception as error:  # of the objects' own code
        for function in functions:
            _refuse(getattr(function, "__name__", None) or describe(function), function, error)
        raise NotPicklableError(f"the functions cannot be kept in a checkpoint: {error}") from error
    return digest.hexdigest()[: 2 * DIGEST_BYTES]


class Met:
    """Classes and modules that a job's functions and records lead to; those of records are printed at first sight."""

    def __init__(self) -> None:
        #: As they are then; each is looked up once.
        self.modules = Modules()
        self._prints: dict[int, tuple[object, bytes]] = {}
        self._n_functions = 0
        self._by_value: dict[int, type] = {}

    @property
    def classes(self) -> list[type]:
        """Those classes that travel by value."""
        return list(self._by_value.values())

    def parts_of(self, obj: object) -> Parts:
        """Take any object apart."""
        parts = parts_of(obj, self.modules)
        if parts.kind == CLASS:
            assert isinstance(obj, type)
            self._by_value[id(obj)] = obj
        return parts

    def print_alone(self, obj: object) -> bytes | None:
        """The print of a class or function, whichever record it was met in; None for anything else."""
        if not is_code(obj):
            return None
        known = self._prints.get(id(obj))
        if known is None:
            if isinstance(obj, types.FunctionType):
                self._count_function()
            known = self._prints[id(obj)] = obj, Printer(self.parts_of).print_of(obj)
        return known[1]

    def _count_function(self) -> None:
        """Each record may have a function of its own, and all that it captures: hold a few."""
        self._n_functions += 1
        if self._n_functions > _MOST_FUNCTIONS:
            self._n_functions = 0
            rest = {at: known for at, known in self._prints.items() if not isinstance(known[0], types.FunctionType)}
            self._prints = rest


class RecordsPrint:
    """The print of some records, read in one batch or several.

    Parameters
    ----------
    met
        With other records, or functions.

    Examples
    --------
    >>> records = RecordsPrint()
    >>> records.add(["a.txt"], ["the cat"])
    >>> records.add(["b.txt"], ["the dog"])
    >>> records.hexdigest() == print_of_records(["a.txt", "b.txt"], ["the cat", "the dog"])
    True
    """

    def __init__(self, met: Met | None = None) -> None:
        met = Met() if met is None else met
        self._columns = new_hash(), new_hash()
        self._printer = Printer(met.parts_of, met.print_alone)
        self._n_records = 0

    def add(self, keys: list[object], values: list[object], kinds: tuple[set[type], set[type]] | None = None) -> None:
        """Add records; they are done with when this returns, and may change.

        Parameters
        ----------
        keys, values
            As many of one as of the other.
        kinds
            The types of each, at most, if somebody knows.

        Raises
        ------
        NotPicklableError
            Says which record has no print. It could not be sent to slots either.
        """
        try:
            for column, to, of in zip((keys, values), self._columns, kinds or (None, None), strict=True):
                self._printer.write(column, to, of)
        except Exception as error:  # of the objects' own code
            for key, value in zip(keys, values, strict=True):
                _refuse(f"the source's record key={describe(key)}", (key, value), error)
            raise NotPicklableError(f"records of the source cannot be kept in a checkpoint: {error}") from error
        self._printer.forget()
        self._n_records += len(keys)

    def hexdigest(self) -> str:
        """32 hex digits, for what was added until now."""
        digest = new_hash()
        digest.update(repr((_FORMAT, self._n_records)).encode())
        for column in self._columns:
            digest.update(column.digest())
        return digest.hexdigest()[: 2 * DIGEST_BYTES]


def print_of_records(keys: list[object], values: list[object], kinds: tuple[set[type], set[type]] | None = None) -> str:
    """The print of a split's records; see `RecordsPrint`."""
    records = RecordsPrint()
    records.add(keys, values, kinds)
    return records.hexdigest()


def _refuse(name: str, obj: object, error: Exception) -> None:
    """Raise an exception that names what cannot be pickled in an object, if anything."""
    culprit = blame(name, obj)
    if culprit is not None:
        advice = "Create it inside the function, or use what it is made of."
        told = f"{culprit.path} cannot be kept in a checkpoint: it is {culprit.told(advice)}"
        raise NotPicklableError(told) from error
