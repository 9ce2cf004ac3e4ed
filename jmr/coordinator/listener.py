"""Lets workers from other hosts in: those that prove that they hold the token.

    backlog ──accept, a few at a time──> TLS 1.3, handshake, introduction: 3 seconds in all ──> RemoteWorker
                                              └── anything else: closed, without a word

Before a guest has proved itself and said what it is, it costs a socket and some buffers, and there are few of those: no
more than 64 in all and 16 from one address. Whoever comes beyond the first number waits in the kernel's backlog;
whoever comes beyond the second is closed at once, else one address could keep all others waiting.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial

from jmr.coordinator.remote import RemoteWorker
from jmr.launch.local import close_in_forks
from jmr.links.link import Link
from jmr.wire.handshake import NONCE_BYTES, Handshake, HandshakeError, Identity, coordinator_side

__all__ = ["Listener", "shake_as_coordinator"]

_SECONDS = 3.0
_MOST_GUESTS, _MOST_OF_ADDRESS = 64, 16
#: Then the rest of the loop has its turn, also when all are of one address and closed again.
_MOST_AT_ONCE = 16
#: After the system had no descriptor left, say.
_PAUSE_SECONDS = 0.5

#: Makes the worker that a guest may come to be, and its link, from its address.
MakeWorker = Callable[[str, Callable[[bytes], Handshake]], tuple[RemoteWorker, Link]]


def shake_as_coordinator(token: bytes, certificate: bytes, *, n_skipped: int = 0) -> Handshake:
    """A new handshake, with a fresh nonce."""
    me = Identity(token, certificate, secrets.token_bytes(NONCE_BYTES), sys.version_info[:2])
    return Handshake(coordinator_side(me), n_skipped)


class Listener:
    """A listening socket on the loop that runs.

    Parameters
    ----------
    listening
        Bound, and listening already.
    context
        TLS of the server's side.
    certificate
        What `context` shows, in DER.
    token
        What workers must hold.
    make_worker
        For each guest.
    guard
        Wraps what the loop calls.
    """

    def __init__(  # noqa: PLR0917 - all that it takes to let somebody in
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        certificate: bytes,
        token: bytes,
        make_worker: MakeWorker,
        guard: Callable[[Callable[..., None]], Callable[..., None]],
    ) -> None:
        self._listening = listening
        self._context = context
        self._certificate = certificate
        self._token = token
        self._make_worker = make_worker
        self._loop = asyncio.get_running_loop()
        self._guests: set[asyncio.Task[None]] = set()
        self._from: Counter[str] = Counter()
        self._accept = guard(self._accept_some)
        self._is_reading = False
        listening.setblocking(False)
        self._watch()

    def close(self) -> None:
        """Let nobody in any more; who is in stays."""
        self._unwatch()
        self._listening.close()
        for guest in self._guests:
            guest.cancel()

    def _watch(self) -> None:
        if not self._is_reading and self._listening.fileno() >= 0:
            self._is_reading = True
            self._loop.add_reader(self._listening, self._accept)

    def _unwatch(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._listening)

    def _accept_some(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            if len(self._guests) >= _MOST_GUESTS:
                self._unwatch()
                return
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptor is left, say: those that wait keep
                self._unwatch()
                self._loop.call_later(_PAUSE_SECONDS, self._watch)
                return
            host = str(address[0])
            if self._from[host] >= _MOST_OF_ADDRESS:
                connection.close()
                continue
            self._from[host] += 1
            guest = self._loop.create_task(self._receive(connection, host))
            self._guests.add(guest)
            guest.add_done_callback(partial(self._see_off, host))

    async def _receive(self, connection: socket.socket, host: str) -> None:
        """See whether a guest proves itself and says what it is, and in time."""
        worker, link = self._make_worker(host, lambda _: shake_as_coordinator(self._token, self._certificate))
        try:
            async with asyncio.timeout(_SECONDS):
                close_in_forks(connection)
                connection.setblocking(False)
                await self._loop.connect_accepted_socket(lambda: link, connection, ssl=self._context)
                await link.proven
                await worker.joined
        except (OSError, TimeoutError, HandshakeError):  # whoever it was, nobody needs to know
            link.abort()
            connection.close()
        except asyncio.CancelledError:
            link.abort()
            connection.close()
            raise

    def _see_off(self, host: str, guest: asyncio.Task[None]) -> None:
        """It is a worker now, or gone: the next may come."""
        self._guests.discard(guest)
        self._from[host] -= 1
        if not self._from[host]:
            del self._from[host]
        self._watch()
