"""Where a slot is, for its supervisor, which looks when the slot is gone.

slot: tell(record), tell_group(...) ──memory that both share──> supervisor: index, group
"""

from __future__ import annotations

import mmap
from typing import Any

from jmr.codec.values import dump_at_most
from jmr.tasks.map import NOWHERE
from jmr.wire.messages import GROUP_BYTES

__all__ = ["Spot"]

#: The index, and the length of the group's blob.
_HEAD_BYTES = 16


class Spot:
    """The record or group that a slot is at; made before its fork, written by the slot, read by its supervisor."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD_BYTES + GROUP_BYTES)
        self._head = memoryview(self._memory)[:_HEAD_BYTES].cast("q")
        self.tell(NOWHERE)

    def tell(self, index: int) -> None:
        """Say at which record or group of the task's input it is; or NOWHERE."""
        self._head[0] = index

    def tell_group(self, index: int, key: Any, values: list[Any]) -> None:
        """Say at which group it is that stands in no input: with its values if they are few, or else its key alone."""
        if index != NOWHERE:
            blob = dump_at_most((key, values), GROUP_BYTES) or dump_at_most((key,), GROUP_BYTES) or b""
            blob = blob if len(blob) <= GROUP_BYTES else b""
            self._memory[_HEAD_BYTES : _HEAD_BYTES + len(blob)] = blob
            self._head[1] = len(blob)
        self._head[0] = index

    @property
    def index(self) -> int | None:
        """What it told last; None if it is nowhere."""
        return None if self._head[0] == NOWHERE else self._head[0]

    @property
    def group(self) -> bytes:
        """A blob of (key, values) or of (key,), if it is at such a group; else empty."""
        is_there = self._head[0] < NOWHERE and 0 <= self._head[1] <= GROUP_BYTES  # user code may have written to it
        return self._memory[_HEAD_BYTES : _HEAD_BYTES + self._head[1]] if is_there else b""

    def close(self) -> None:
        """Let go of the memory."""
        self._head.release()
        self._memory.close()
