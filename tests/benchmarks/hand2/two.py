"""Two processes: a fork, and a link over which each can send while the other does.

A small blob goes over a socket. A large one is written to a file in memory, which both inherited, and mapped at the far
end: no side ever waits for the other to read, and nothing is copied twice.
"""

from __future__ import annotations

import gc
import mmap
import os
import socket
from collections.abc import Callable

#: The most that fits into the socket's buffer for certain.
_INLINE_BYTES = 32_000

_children: list[int] = []


class Link:
    """One end."""

    def __init__(self, end: socket.socket, mine: int, theirs: int) -> None:
        self._end = end
        self._mine, self._theirs = mine, theirs
        self._read_to = 0

    def send(self, blob: bytes) -> None:
        """Leave a blob for the other process."""
        size = len(blob).to_bytes(8, "big")
        if len(blob) <= _INLINE_BYTES:
            self._end.sendall(size + blob)
        else:
            rest = memoryview(blob)
            while rest:
                rest = rest[os.write(self._mine, rest) :]
            self._end.sendall(size)

    def receive(self) -> memoryview:
        """The other process's next blob; waits for it."""
        size = int.from_bytes(self._exactly(8), "big")
        if size <= _INLINE_BYTES:
            return memoryview(self._exactly(size))
        at, self._read_to = self._read_to, self._read_to + size
        page = at // mmap.PAGESIZE * mmap.PAGESIZE
        return memoryview(mmap.mmap(self._theirs, at + size - page, prot=mmap.PROT_READ, offset=page))[at - page :]

    def _exactly(self, n: int) -> bytes:
        found = b""
        while len(found) < n:
            if not (more := self._end.recv(n - len(found))):
                raise RuntimeError("the child has died; what it raised stands above")
            found += more
        return found


def in_two(half: Callable[[int, Link], dict | None]) -> dict:
    """What `half(0, link)` returns here, while `half(1, link)` runs in a fork."""
    _reap()
    gc.freeze()
    gc.disable()
    try:
        ends = socket.socketpair()
        files = [os.memfd_create("hand2"), os.memfd_create("hand2")]
        if pid := os.fork():
            _children.append(pid)
            ends[1].close()
            answer = half(0, Link(ends[0], files[0], files[1]))
            ends[0].close()
            for fd in files:
                os.close(fd)
            return answer
        ends[0].close()
        _end_with(lambda: half(1, Link(ends[1], files[1], files[0])))
    finally:
        gc.enable()
        gc.unfreeze()
    raise AssertionError("the child has ended")


def _end_with(work: Callable[[], object]) -> None:
    """Do the work and end the process, without what Python does at an exit."""
    try:
        work()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _reap() -> None:
    """Children of earlier calls; nobody waits for one that frees its memory."""
    while _children:
        os.waitpid(_children.pop(), 0)
