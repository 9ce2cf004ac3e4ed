"""`jmr-worker HOST`: connects, joins, and when the coordinator is gone, waits for the next.

    connect ──TLS 1.3──> handshake ──> Membership.serve ──coordinator gone──> connect ...
       └── refused, not there yet: again, after a while that grows

What waiting cannot heal ends it, with a sentence and an exit code: a wrong token, another Python, a name that does not
resolve, slots that cannot start.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import re
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jmr.errors import ArgumentValueError, WorkerError
from jmr.launch.address import Address
from jmr.launch.agent import LEAVE_SECONDS, Membership, MembershipError, prepare_environment
from jmr.launch.stdio import connect_stdio
from jmr.wire.handshake import NONCE_BYTES, OVER_SSH, Handshake, HandshakeError, Identity, Verdict, worker_side

__all__ = ["ExitCode", "Joining", "client_context", "growing_pauses", "join_over_stdio", "shake_as_worker"]

#: For a connection and the handshake.
_JOIN_SECONDS = 10.0
_AGAIN = "trying again, now and then"
#: Whoever has to wait longer is told what for.
_TELLING_SECONDS = 0.5
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: Memberships in a row that end because of the worker: it is broken, and would come and go for ever.
_MOST_FAILURES = 4


class ExitCode:
    """How `jmr-worker` ends."""

    #: It was told to end, or with --once the coordinator has ended.
    DONE = 0
    #: The worker itself is broken.
    BROKEN = 1
    #: The command, or JMR_MEMORY or JMR_MEMORY_LIMIT, makes no sense, or the name does not resolve.
    USAGE = 2
    #: There is no token, or it is not the coordinator's.
    TOKEN = 3
    #: Whoever listens there is no coordinator that this worker can work for.
    REFUSED = 4
    #: With --once: nobody listens there, or answers.
    NOBODY = 5
    #: Ctrl-C, before it could work.
    INTERRUPTED = 130


class EndedError(Exception):
    """Waiting does not help."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class TokenChangedError(Exception):
    """Somebody has made a new token since this one was read."""


class Joining:
    """The life of a worker.

    Parameters
    ----------
    address
        Of the coordinator.
    token
        That it and we hold.
    token_now
        Looks for the token again, since somebody may have made a new one; None if there is none to be had.
    n_slots
        How many slots to offer.
    once
        End when the coordinator has gone, or if there is none.
    say
        Tells the user a line; the second argument is how loud: 0 always, 1 with -v.
    """

    def __init__(
        self,
        address: Address,
        token: bytes,
        token_now: Callable[[], bytes | None],
        n_slots: int,
        *,
        once: bool,
        say: Callable[[str, int], None],
    ) -> None:
        self._address = address
        self._token = token
        self._token_now = token_now
        self._n_slots = n_slots
        self._once = once
        self._say = say
        self._membership: Membership | None = None
        self._closing: asyncio.Future[None] | None = None
        self._n_joined = 0
        self._is_tidy = False
        self._pauses = growing_pauses()
        self._n_failures = 0
        self._last_said = ""

    def run(self) -> int:
        """Work until told to end; returns the exit code."""
        prepare_environment(self._n_slots)
        try:
            return asyncio.run(self._run())
        except (ArgumentValueError, WorkerError) as error:
            self._say(str(error), 0)
            return _exit_code(error)

    async def _run(self) -> int:
        ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        _on_signals(lambda: self._end(ending))
        working = asyncio.ensure_future(self._work())
        both: list[asyncio.Future[Any]] = [working, ending]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        try:
            if not working.done():
                await self._leave(working)
                return ExitCode.DONE
            return working.result()
        finally:
            await self._close_membership()

    def _end(self, ending: asyncio.Future[None]) -> None:
        if ending.done():  # the second time: at once
            if self._membership is not None:
                self._membership.abort()
            return
        ending.set_result(None)

    async def _leave(self, working: asyncio.Task[int]) -> None:
        self._say("leaving: slots finish what they are at", 1)
        if self._membership is not None:
            text = f"finishing what runs, for up to {LEAVE_SECONDS:.0f} s; Ctrl-C ends it at once"
            telling = asyncio.get_running_loop().call_later(_TELLING_SECONDS, self._say, text, 0)
            await self._membership.leave()
            telling.cancel()
        working.cancel()
        await asyncio.wait([working])

    async def _work(self) -> int:
        while True:
            try:
                await self._join()
            except EndedError as ended:
                self._say(str(ended), 0)
                return ended.code
            except TokenChangedError:
                self._say("there is a new token here", 1)
                continue
            except MembershipError as error:
                self._say(str(error), 0)
                self._n_failures += 1
                if self._n_failures >= _MOST_FAILURES:
                    self._say(f"it has come to that {_MOST_FAILURES} times in a row: this worker is broken", 0)
                    return ExitCode.BROKEN
            except (OSError, TimeoutError) as error:
                trouble = self._trouble(error)
                if self._once:
                    self._say(trouble, 0)
                    return ExitCode.NOBODY
                self._say_once(f"{trouble}; {_AGAIN}")
            else:
                if self._once:
                    self._say(f"the coordinator at {self._address} is gone", 0)
                    return ExitCode.DONE
                self._say(f"the coordinator at {self._address} is gone; waiting for the next", 0)
                self._last_said = f"{self._trouble(ConnectionRefusedError(errno.ECONNREFUSED, ''))}; {_AGAIN}"
            await asyncio.sleep(next(self._pauses))

    async def _join(self) -> None:
        """Join and serve, until the coordinator is gone."""
        if self._membership is not None and self._membership.is_broken:  # its supervisor has ended meanwhile
            await self._close_membership()
        if self._membership is None:
            self._membership = Membership(self._n_slots)
        membership = self._membership
        if not self._is_tidy:
            self._is_tidy = True
            membership.remove_leftovers()
        await self._connect(membership)
        self._n_joined += 1
        self._last_said = ""
        slots = "1 slot" if self._n_slots == 1 else f"{self._n_slots} slots"
        self._say(f"joined {self._address} with {slots}", 0)
        try:
            await membership.serve()
            self._n_failures = 0
            if membership.has_answered:
                self._pauses = growing_pauses()
        finally:
            if membership.has_lasted:
                self._n_failures = 0
                self._pauses = growing_pauses()
            await self._close_membership()

    async def _connect(self, membership: Membership) -> None:
        link = membership.make_link(lambda certificate: shake_as_worker(self._token, certificate))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await loop.create_connection(
                    lambda: link, self._address.host, self._address.port, ssl=client_context(), server_hostname=""
                )
                await link.proven
        except HandshakeError as error:
            if error.verdict is Verdict.OTHER_TOKEN and self._has_new_token():
                raise TokenChangedError from error
            raise EndedError(*self._refused(error)) from error
        except socket.gaierror as error:
            if self._n_joined:  # it did resolve, and will again
                raise
            raise EndedError(
                ExitCode.USAGE, f"{self._address.host!r} does not resolve to an address: {error.strerror}"
            ) from error
        except ssl.SSLEOFError:  # it has too many guests
            raise
        except ssl.SSLError as error:
            raise EndedError(
                ExitCode.REFUSED, f"what listens at {self._address} is no jmr coordinator: it speaks no TLS 1.3"
            ) from error
        finally:
            if not link.is_proven:
                link.abort()

    def _has_new_token(self) -> bool:
        """Whether there is another token than the one that was just tried."""
        before, now = self._token, self._token_now()
        self._token = before if now is None else now
        return self._token != before

    def _refused(self, error: HandshakeError) -> tuple[int, str]:
        match error.verdict:
            case Verdict.OTHER_TOKEN:
                return ExitCode.TOKEN, (
                    f"the coordinator at {self._address} holds another token, or somebody stands between it and this "
                    "host with a certificate of their own. Copy the token file from its host once more: it lies where "
                    "the coordinator has said when it began to listen"
                )
            case Verdict.OTHER_PYTHON:
                theirs = "another version" if error.python is None else "{}.{}".format(*error.python)
                ours = "{}.{}".format(*sys.version_info)
                return ExitCode.REFUSED, (
                    f"the coordinator at {self._address} runs Python {theirs}, and this worker {ours}: functions "
                    f"cannot travel between them. Start jmr-worker with Python {theirs}"
                )
            case Verdict.OTHER_VERSION:
                return ExitCode.REFUSED, (
                    f"the coordinator at {self._address} runs another release of jmr: install the same one here"
                )
            case _:
                return ExitCode.REFUSED, f"what listens at {self._address} is no jmr coordinator"

    def _trouble(self, error: Exception) -> str:
        """What keeps us from joining, and may pass."""
        numbers = _numbers(error)
        if isinstance(error, TimeoutError) or numbers == {errno.ETIMEDOUT}:
            return f"{self._address} does not answer"
        if numbers == {errno.ECONNREFUSED}:
            return f"nobody listens at {self._address}"
        if isinstance(error, (ConnectionError, ssl.SSLError)):  # it has too many guests, or only passes on
            return f"what listens at {self._address} closes the connection"
        return f"{self._address} cannot be reached: {', '.join(map(os.strerror, sorted(numbers))) or error}"

    async def _close_membership(self) -> None:
        membership, self._membership = self._membership, None
        if membership is not None:
            self._closing = asyncio.ensure_future(membership.close())
        if self._closing is not None:  # to its end, even if what waits for it is cancelled
            await asyncio.shield(self._closing)

    def _say_once(self, text: str) -> None:
        """Say what would be said again and again only when it changes."""
        if text != self._last_said:
            self._say(text, 0)
        self._last_said = text


def shake_as_worker(token: bytes, certificate: bytes) -> Handshake:
    """A new handshake, with a fresh nonce."""
    me = Identity(token, certificate, secrets.token_bytes(NONCE_BYTES), (sys.version_info[0], sys.version_info[1]))
    return Handshake(worker_side(me))


def join_over_stdio(n_slots: int) -> int:
    """Serve the coordinator at the other end of stdin and stdout, which ssh has brought here; returns the exit code."""
    prepare_environment(n_slots)
    descriptors = os.dup(0), os.dup(1)
    # Whatever prints from now on must not get into the conversation.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    try:
        return asyncio.run(_serve_stdio(n_slots, *descriptors))
    except (ArgumentValueError, WorkerError) as error:
        print(f"jmr-worker: {error}", file=sys.stderr)
        return _exit_code(error)


async def _serve_stdio(n_slots: int, reading: int, writing: int) -> int:
    membership = Membership(n_slots)
    membership.remove_leftovers()
    link = membership.make_link(lambda certificate: shake_as_worker(OVER_SSH, certificate))
    leaving: set[asyncio.Task[None]] = set()
    _on_signals(lambda: leaving.add(asyncio.ensure_future(membership.leave())))
    try:
        await connect_stdio(link, reading, writing)
        async with asyncio.timeout(_JOIN_SECONDS):
            await link.proven
        await membership.serve()
    except (HandshakeError, OSError, TimeoutError, MembershipError) as error:
        print(f"jmr-worker: {error}", file=sys.stderr)
        return ExitCode.REFUSED if isinstance(error, HandshakeError) else ExitCode.BROKEN
    finally:
        await membership.close()
    return ExitCode.DONE


def _exit_code(error: ArgumentValueError | WorkerError) -> int:
    """Of a worker that cannot be made."""
    return ExitCode.USAGE if isinstance(error, ArgumentValueError) else ExitCode.BROKEN


def client_context() -> ssl.SSLContext:
    """Whose certificate it is, the handshake finds out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _on_signals(function: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, function)


def growing_pauses() -> Iterator[float]:
    """Seconds between tries: soon at first, then seldom; workers that lost the same coordinator do not come at once."""
    seconds = _SHORTEST_PAUSE
    while True:
        yield seconds * random.uniform(0.5, 1.0)
        seconds = min(2 * seconds, _LONGEST_PAUSE)


def _numbers(error: Exception) -> set[int]:
    """The system's error numbers; where a name has several addresses, asyncio has them in its text only."""
    if isinstance(error, OSError) and error.errno is not None:
        return {error.errno}
    return set(map(int, re.findall(r"\[Errno (\d+)\]", str(error))))
