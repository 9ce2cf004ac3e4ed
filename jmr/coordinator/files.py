"""Files, read and written in threads: the loop itself never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from jmr.shuffle.arriving import Arriving, read_in_pieces
from jmr.wire.messages import Range

__all__ = ["Files"]

_N_THREADS = 4
T = TypeVar("T")


class Files:
    """The threads; they start when they are first needed."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="jmr-files")

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call it in a thread. Who gives up is let go when it is over: what it works on has to stay until then."""
        work = self._threads.submit(function, *args)
        future = asyncio.wrap_future(work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not work.cancel():  # it has begun
                await asyncio.wait([future])
            raise

    async def pieces(self, ranges: Sequence[Range]) -> AsyncIterator[bytes]:
        """What `read_in_pieces` yields."""
        reading = read_in_pieces(ranges)
        while (piece := await self.run(next, reading, None)) is not None:
            yield piece

    async def discard(self, file: Arriving, *, is_last: bool) -> None:
        """Remove it, and its directory, if it is the last there; at once, if the threads have ended."""
        discard = partial(file.discard, is_last=is_last)
        try:
            await asyncio.shield(self.run(discard))
        except RuntimeError:
            discard()

    def close(self) -> None:
        """Let go of the threads, which end when they have done what they are at."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait for their end."""
        self._threads.shutdown(wait=True)
