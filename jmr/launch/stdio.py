"""A link over two descriptors, one to read and one to write, as ssh gives them to a command."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from jmr.links.link import Link

__all__ = ["connect_stdio"]


async def connect_stdio(link: Link, reading: int, writing: int) -> None:
    """Begin a link over these descriptors, which are closed with it."""
    loop = asyncio.get_running_loop()
    writer, _ = await loop.connect_write_pipe(lambda: _Writer(link), os.fdopen(writing, "wb", 0))
    await loop.connect_read_pipe(lambda: _Reader(link, writer), os.fdopen(reading, "rb", 0))
    if writer.is_closing():  # nobody reads any more, which was found out before the link could be told
        link.abort()


class _Writer(asyncio.BaseProtocol):
    """Tells the link when it may write."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def pause_writing(self) -> None:
        self._link.pause_writing()

    def resume_writing(self) -> None:
        self._link.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.abort()


class _Reader(asyncio.Protocol):
    """Gives the link what comes."""

    def __init__(self, link: Link, writer: asyncio.WriteTransport) -> None:
        self._link = link
        self._writer = writer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        self._link.connection_made(_Duplex(transport, self._writer))

    def data_received(self, data: bytes) -> None:
        self._link.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        _abort(self._writer)
        self._link.connection_lost(exc)


class _Duplex(asyncio.Transport):
    """Two one-way transports as one."""

    def __init__(self, reader: asyncio.ReadTransport, writer: asyncio.WriteTransport) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer

    def write(self, data: Any) -> None:
        self._writer.write(data)

    def is_closing(self) -> bool:
        return self._writer.is_closing() or self._reader.is_closing()

    def pause_reading(self) -> None:
        self._reader.pause_reading()

    def resume_reading(self) -> None:
        self._reader.resume_reading()

    def close(self) -> None:
        self._writer.close()  # what waits is still written
        self._reader.close()

    def abort(self) -> None:
        _abort(self._writer)
        self._reader.close()


def _abort(writer: asyncio.WriteTransport) -> None:
    """End it at once; unlike a socket's, a pipe's transport must not be told so when it is at its end already."""
    if not writer.is_closing() or writer.get_write_buffer_size():
        writer.abort()
