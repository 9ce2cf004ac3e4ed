"""A connection that never blocks the loop: messages in, messages out.

What can be sent at once is; the rest waits for the socket. Reading never waits for writing: two ends that both insist
on sending first would hang.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable

from jmr.wire.frames import Receiver, encode
from jmr.wire.messages import Message

__all__ = ["Channel", "Guard"]

_IOV_MAX = 512
#: Reads in one go, before other connections get their turn.
_READS = 32


#: Makes a callback of a function; a mistake in it must not go unnoticed.
Guard = Callable[[Callable[..., None]], Callable[..., None]]


class Channel:
    """One end of a connection, on a loop; all methods belong to the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        on_message: Callable[[Message], None],
        on_close: Callable[[], None],
        guard: Guard,
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._connection = connection
        self._on_message = on_message
        self._on_close = guard(on_close)
        self._receiver = Receiver()
        #: Bytes to send, and the descriptor that goes with them, if one does.
        self._waiting: deque[tuple[memoryview, int | None]] = deque()
        self._is_writing = False
        self.is_open = True
        self._on_readable, self._on_writable = guard(self._read), guard(self._write)
        loop.add_reader(connection, self._on_readable)

    def send(self, message: Message) -> None:
        """Send a message, or as much of it as goes, and the rest when it can."""
        self._waiting.extend((memoryview(piece), None) for piece in encode(message))
        self._write()

    def send_with_descriptor(self, message: Message, descriptor: int) -> None:
        """Send a small message and a file descriptor with it, which is closed here then."""
        if self.is_open:
            self._waiting.append((memoryview(b"".join(encode(message))), descriptor))
            self._write()
        else:
            os.close(descriptor)

    def close(self) -> None:
        """Close this end; `on_close` is called once, soon."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()
            for _, descriptor in self._waiting:
                if descriptor is not None:
                    os.close(descriptor)
            self._waiting.clear()
            self._loop.call_soon(self._on_close)

    def _read(self) -> None:
        try:
            for _ in range(_READS):
                if not self.is_open:
                    return
                n = self._connection.recv_into(self._receiver.buffer())
                if n == 0:
                    self.close()
                    return
                for message in self._receiver.received(n):
                    self._on_message(message)
        except BlockingIOError:
            return
        except OSError:
            self.close()
        except Exception:  # no memory for a blob, say: what follows on this connection would be read as something else
            self.close()
            raise

    def _write(self) -> None:
        try:
            while self._waiting and self.is_open:
                self._send_some()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if self.is_open:
            self._watch(is_writing=bool(self._waiting))

    def _send_some(self) -> None:
        """One system call: a descriptor with its bytes, or all bytes up to the next descriptor."""
        first, descriptor = self._waiting[0]
        if descriptor is not None:
            sent = socket.send_fds(self._connection, [first], [descriptor])
            os.close(descriptor)
            self._waiting[0] = first, None  # it went with the first byte
        else:
            plain = itertools.takewhile(lambda item: item[1] is None, self._waiting)
            sent = self._connection.sendmsg([view for view, _ in itertools.islice(plain, _IOV_MAX)])
        self._forget(sent)

    def _forget(self, n: int) -> None:
        """Drop the first `n` bytes, which were sent."""
        while n:
            first, descriptor = self._waiting[0]
            if n < len(first):
                self._waiting[0] = first[n:], descriptor
                return
            n -= len(first)
            self._waiting.popleft()

    def _watch(self, *, is_writing: bool) -> None:
        if is_writing is not self._is_writing:
            self._is_writing = is_writing
            if is_writing:
                self._loop.add_writer(self._connection, self._on_writable)
            else:
                self._loop.remove_writer(self._connection)
