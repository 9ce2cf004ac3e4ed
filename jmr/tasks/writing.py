"""What a reduce task gives in a job that writes its results: a part, in place of keys and values.

keys, orders, values ──Sink.encoded──> what does not fit is a failure of its group
                                   └──> Sink.part ──> one key (None), the order of the first, the Part
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from jmr.errors import ArgumentValueError, WorkerError, describe
from jmr.sinks.sink import Sink
from jmr.tasks.contract import ContractError, Failures, outside
from jmr.tasks.partition import Groups

__all__ = ["Columns", "Fitting", "Writing"]

#: Keys, orders, values.
Columns = tuple[list[Any], list[int], list[Any]]

_GAVE = {"reduce": "reducefn returned", "combine": "combinefn folded the values to", "": "mapfn emitted the values"}
#: What JSON can hold, of a value and of a key.
_ADVICE = ("Give it text, a number, a list or a dict with str keys", "Give it text, a number or a tuple of these")


@dataclass(frozen=True, slots=True)
class Writing:
    """How the results of one function are written."""

    sink: Sink
    #: That of failures: "reduce" or "combine"; and whether there is such a function.
    phase: str
    is_called: bool = True

    def part(self, reduced: Columns, groups: Groups, failures: Failures, n_before: int = 0) -> Columns:
        """Write results, or have them written.

        Parameters
        ----------
        reduced
            The results, in order of first appearance.
        groups
            What they were made of, and what was set aside before.
        failures
            Told of results that the format cannot hold.
        n_before
            A group's index counts from here.

        Raises
        ------
        TaskError
            A result does not fit, in a job that does not skip; or it cannot be written where it belongs.
        """
        keys, orders, values = reduced
        encoded = self.sink.encoded(keys, values)
        if encoded.unfit:
            numbers = {id(group): number for number, group in enumerate(groups.values(), n_before)}
            for index, (is_key, reason) in sorted(encoded.unfit.items()):
                group = groups[keys[index]]
                error = self._refusal(keys[index], values[index], is_key, reason)
                failures.add(self.phase, keys[index], group, error, numbers[id(group)])
            kept = [index for index in range(len(keys)) if index not in encoded.unfit]
            keys, orders = [keys[index] for index in kept], [orders[index] for index in kept]
        if not keys:
            return [], [], []
        try:
            return [None], [orders[0]], [self.sink.part(encoded, len(keys), keys[0])]
        except (ArgumentValueError, WorkerError) as error:  # what is there here may be missing on a worker
            raise outside("spill", error) from error

    def check(self, key: Any, value: Any) -> None:
        """Refuse a result that does not fit, as if it were the only one. Raises ContractError."""
        for is_key, reason in self.sink.encoded([key], [value]).unfit.values():
            raise self._refusal(key, value, is_key, reason)

    def _refusal(self, key: Any, value: Any, is_key: bool, reason: str) -> ContractError:
        gave = _GAVE[self.phase if self.is_called else ""]
        what, obj = ("the key is", key) if is_key else (gave, value)
        title = self.sink.format.title
        advice = f". {_ADVICE[is_key]}; or leave out out=" if title == "JSON" else ""
        return ContractError(
            f"{what} {describe(obj)} ({type(obj).__name__}), which {title} cannot hold: {reason}{advice}"
        )


@dataclass(frozen=True, slots=True)
class Fitting:
    """A reducefn, or a combinefn that takes its place, whose results must fit: for whoever calls it once more."""

    function: Callable[[Any, list[Any]], Any] | None
    writing: Writing

    def __call__(self, key: Any, values: list[Any]) -> Any:
        given = values if self.function is None else self.function(key, values)
        if isinstance(given, GeneratorType):
            given = list(given)
        self.writing.check(key, [given] if self.writing.phase == "combine" else given)
        return given
