"""How much of the map outputs may lie in memory, over all jobs of a cluster.

    attempt starts ──reserve──> its share of what is left ──attempt over──> release, use ──job over──> free

A share is promised before a slot knows how large its output will be, so the sum of what is used and promised never
exceeds the budget, whatever the slots find. What does not fit into its share goes to disk.
"""

from __future__ import annotations

import os
import re

from jmr.errors import ArgumentValueError
from jmr.shuffle.memory import free_memory_bytes

__all__ = ["Budget", "memory_budget", "said_bytes"]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: A task's input may be this part of its slot's share: unpickled, it takes several times as much.
_OF_SHARE = 4
_LEAST_BYTES = 1 << 20


class Budget:
    """Bytes, used and promised. Not for several threads.

    Examples
    --------
    >>> budget = Budget(100)
    >>> budget.reserve(1, n_slots=2), budget.reserve(2, n_slots=2)
    (50, 50)
    >>> budget.release(1)
    >>> budget.use(30)
    >>> budget.reserve(1, n_slots=2)
    20
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._left = total_bytes
        self._reserved: dict[int, int] = {}

    def reserve(self, slot: int, n_slots: int) -> int:
        """Promise the slot's attempt a share of what is left, if `n_slots` may want one."""
        share = max(0, self._left) // max(1, n_slots - len(self._reserved))
        self._reserved[slot] = share
        self._left -= share
        return share

    def release(self, slot: int) -> None:
        """Take back what was promised, if anything was."""
        self._left += self._reserved.pop(slot, 0)

    def use(self, n_bytes: int) -> None:
        """Count what lies in memory now."""
        self._left -= n_bytes

    def free(self, n_bytes: int) -> None:
        """Count what does not any more."""
        self._left += n_bytes

    def input_bytes(self, n_slots: int) -> int:
        """How large a task's input may be, so that `n_slots` can hold theirs at once as Python objects."""
        return max(_LEAST_BYTES, self.total_bytes // (_OF_SHARE * n_slots))


def memory_budget() -> int:
    """What JMR_MEMORY says; else a quarter of the memory that this process can still have.

    Raises
    ------
    ArgumentValueError
        JMR_MEMORY is no size, or JMR_MEMORY_LIMIT, which slots keep to, is none.
    """
    said_bytes("JMR_MEMORY_LIMIT")
    said = said_bytes("JMR_MEMORY")
    return free_memory_bytes() // 4 if said is None else said


def said_bytes(variable: str) -> int | None:
    """The size that an environment variable says ("512M", "4G", or bytes); None if it is not set.

    Raises
    ------
    ArgumentValueError
        It is no size.
    """
    said = os.environ.get(variable)
    if said is None:
        return None
    found = _SIZE.fullmatch(said.strip())
    if found is None:
        raise ArgumentValueError(f'{variable} is {said!r}, which is no size: write "512M" or "4G", or how many bytes')
    return int(float(found[1]) * _UNITS[found[2].upper()])
