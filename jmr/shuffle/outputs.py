"""The committed map outputs of one job."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from jmr.codec.values import Buffer
from jmr.wire.messages import MapDone, Range, whole

__all__ = ["MapOutputs", "ReduceInput"]


@dataclass(frozen=True, slots=True)
class _Output:
    path: str | None
    lengths: Sequence[int]
    offsets: Sequence[int]
    #: Empty for what lies in memory.
    crcs: Sequence[int]
    inline: memoryview


@dataclass(frozen=True, slots=True)
class ReduceInput:
    """What one reduce task reads."""

    partitions: Sequence[int]
    n_bytes: int
    #: Into so many parts the keys are dealt out first, because they do not fit into the slot's memory all at once.
    n_parts: int = 1


@dataclass(slots=True)
class MapOutputs:
    """By split, in the coordinator."""

    n_partitions: int
    _outputs: dict[int, _Output] = field(default_factory=dict)
    _unstable: bool = False
    #: What lies in memory, inline or in files.
    memory_bytes: int = 0
    total_bytes: int = 0

    def add(self, split: int, done: MapDone) -> int:
        """Take a map task's output; returns how much of it lies in memory."""
        offsets = list(accumulate(done.lengths, initial=0))
        in_memory = 0 if done.crcs else offsets[-1]
        self._outputs[split] = _Output(done.path, done.lengths, offsets, done.crcs, memoryview(whole(done.blobs[1])))
        self._unstable |= done.unstable
        self.memory_bytes += in_memory
        self.total_bytes += offsets[-1]
        return in_memory

    def plan_reduce(self, input_bytes: int) -> list[ReduceInput]:
        """Say what each reduce task reads, once all outputs are there: a partition each, but no empty ones.

        The largest come first, so that none is left to the end (Graham, "Bounds on multiprocessing timing anomalies",
        SIAM Journal on Applied Mathematics 17, 1969). If some key has no stable place, its equals may lie anywhere:
        one task takes them all, at once.

        Parameters
        ----------
        input_bytes
            A partition that is larger is dealt out into parts.
        """
        self._outputs = dict(sorted(self._outputs.items()))
        sizes = list(map(sum, zip(*(output.lengths for output in self._outputs.values()), strict=True)))
        filled = [partition for partition, size in enumerate(sizes) if size]
        if self._unstable:
            return [ReduceInput(filled, sum(sizes))]
        filled.sort(key=sizes.__getitem__, reverse=True)
        return [ReduceInput([part], sizes[part], math.ceil(sizes[part] / input_bytes)) for part in filled]

    def inputs(self, partitions: Sequence[int]) -> tuple[list[tuple[int, Range]], list[Buffer]]:
        """The (split, range) inputs of a reduce task in split order, and the bytes of those that are inline."""
        ranges: list[tuple[int, Range]] = []
        blobs: list[Buffer] = []
        for split, output in self._outputs.items():
            for partition in partitions:
                length, offset = output.lengths[partition], output.offsets[partition]
                if not length:
                    continue
                crc = output.crcs[partition] if output.crcs else None
                ranges.append((split, (output.path, offset, length, crc)))
                if output.path is None:
                    blobs.append(output.inline[offset : offset + length])
        return ranges, blobs
