"""How a cluster gets slots on other hosts: they come by themselves, or ssh fetches them.

listen_at(coordinator, "10.0.0.5") ──> a socket, a certificate, the token ──> workers join
joined(coordinator, start_by_ssh("host1:4"), caller) ──> it has joined, or why not, in ssh's own words
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

from jmr.coordinator.core import Coordinator
from jmr.coordinator.remote import Caller
from jmr.errors import ArgumentTypeError, ArgumentValueError, TokenError, WorkerError, describe
from jmr.launch.address import Address, bound, parsed_address
from jmr.launch.certificate import server_context
from jmr.launch.ssh import END_SECONDS, OWN_CODE, SshTarget, SshWorker, parsed_target
from jmr.launch.token import VARIABLE, new_token, token
from jmr.wire.handshake import HandshakeError, Verdict

__all__ = ["Failure", "checked_address", "checked_targets", "joined", "listen_at"]


def checked_address(text: object) -> Address:
    """Where to listen. Raises ArgumentTypeError or ArgumentValueError if it is no address."""
    if not isinstance(text, str):
        raise ArgumentTypeError(f'listen must be an address, such as "10.0.0.5", not {describe(text)}')
    try:
        return parsed_address(text)
    except ValueError as error:
        raise ArgumentValueError(f"listen: {error}") from None


def listen_at(coordinator: Coordinator, where: Address, before: Address | None, *, renew: bool = False) -> Address:
    """Have the coordinator listen, instead of where it did before; returns where, with the port that it got.

    If it cannot, it listens where it did before.

    Raises
    ------
    WorkerError, TokenError
        As of `Cluster.listen`.
    """
    if renew and os.environ.get(VARIABLE):
        raise TokenError(f"the token is what {VARIABLE} says: set that anew, here and for the workers, or take it out")
    if not renew:
        token()  # before anything is changed
    others = coordinator.others()
    context, certificate = server_context()
    in_the_way = None
    try:
        listening = bound(where)
    except WorkerError:
        if before is None or before.port != where.port:
            raise
        others.stop_listening()  # it may be we who are in the way
        in_the_way = before
        try:
            listening = bound(where)
        except WorkerError:
            others.listen(bound(before), context, certificate, token())
            raise
    try:
        if renew:
            new_token()
        key = token()
    except BaseException:
        listening.close()
        if in_the_way is not None:
            others.listen(bound(in_the_way), context, certificate, token())
        raise
    others.listen(listening, context, certificate, key)
    return Address(where.host, listening.getsockname()[1])


def checked_targets(hosts: object) -> list[SshTarget]:
    """Hosts for ssh. Raises ArgumentTypeError or ArgumentValueError."""
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Sequence):
        raise ArgumentTypeError(f'ssh must be a list of hosts, such as ["host1", "ann@host2:4"], not {describe(hosts)}')
    return [parsed_target(text) for text in hosts]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker that ssh was to start has not joined."""

    #: In ssh's own words, if it has any.
    reason: str
    #: Whether something has run on that host and said no; else it is the way there, and that may heal.
    is_refusal: bool


def joined(coordinator: Coordinator, started: SshWorker, caller: Caller) -> Failure | None:
    """Wait until a worker that ssh starts has joined, or has failed; its ssh has ended then."""
    try:
        coordinator.others().join_over(started.connection, started.target.destination, caller).result()
    except HandshakeError as error:
        started.last_words()
        return Failure(_refusal(error), is_refusal=True)
    except (OSError, WorkerError, CancelledError) as error:
        started.connection.close()  # perhaps nobody has taken it
        words = started.last_words(END_SECONDS if isinstance(error, OSError) else 0)
        reason = f"ssh says: {words}" if words else str(error) or "it says nothing"
        return Failure(reason, is_refusal=0 <= started.process.returncode < OWN_CODE)
    return None


def _refusal(error: HandshakeError) -> str:
    if error.verdict is Verdict.OTHER_PYTHON and error.python is not None:
        theirs = "{}.{}".format(*error.python)
        return f"Python {theirs} runs there, another than here, and functions cannot travel between them (see python=)"
    if error.verdict is Verdict.OTHER_VERSION:
        return "another release of jmr is installed there: install the same one"
    return "what answers there is no jmr-worker"
