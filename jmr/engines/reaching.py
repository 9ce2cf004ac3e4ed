"""How a cluster gets slots on other hosts: they come by themselves, or ssh fetches them.

listen_at(coordinator, "10.0.0.5") ──> a socket, a certificate, the token ──> workers join
reach(coordinator, ["host1:4"]) ──> ssh, some at once ──> each has joined, or is named with ssh's own words
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from jmr.coordinator.core import Coordinator
from jmr.errors import ArgumentTypeError, ArgumentValueError, TokenError, WorkerError, describe
from jmr.launch.address import Address, bound, parsed_address
from jmr.launch.certificate import server_context
from jmr.launch.ssh import END_SECONDS, MOST_AT_ONCE, SshTarget, SshWorker, parsed_target, start_by_ssh
from jmr.launch.token import VARIABLE, new_token, token
from jmr.wire.handshake import HandshakeError, Verdict

__all__ = ["checked_address", "checked_targets", "listen_at", "reach"]


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


def reach(
    coordinator: Coordinator, targets: Sequence[SshTarget], python: str | None
) -> tuple[list[SshWorker], list[str]]:
    """Have ssh start workers, and wait until each has joined or failed; returns those that joined, and what failed.

    An interrupt meanwhile closes the coordinator, by which what was started ends.
    """
    with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="jmr-ssh") as threads:
        reaching = [threads.submit(_reach, coordinator, target, python) for target in targets]
        try:
            reached = [one.result() for one in reaching]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            coordinator.close()
            for one in reaching:
                one.add_done_callback(_end)
            raise
    return (
        [worker for worker in reached if isinstance(worker, SshWorker)],
        [text for text in reached if isinstance(text, str)],
    )


def _reach(coordinator: Coordinator, target: SshTarget, python: str | None) -> SshWorker | str:
    started = start_by_ssh(target, python)
    try:
        coordinator.others().join_over(started.connection, target.destination).result()
    except HandshakeError as error:
        started.last_words()
        return f"no worker on {target.destination}: {_refusal(error)}"
    except (OSError, TimeoutError, WorkerError, CancelledError) as error:
        words = started.last_words(END_SECONDS if isinstance(error, OSError) else 0)
        return (
            f"no worker on {target.destination}: {f'ssh says: {words}' if words else str(error) or 'it says nothing'}"
        )
    return started


def _end(reached: Future[SshWorker | str]) -> None:
    """Wait for the end of an ssh that nobody wants any more."""
    if not reached.cancelled() and isinstance(worker := reached.exception() or reached.result(), SshWorker):
        worker.last_words()


def _refusal(error: HandshakeError) -> str:
    if error.verdict is Verdict.OTHER_PYTHON and error.python is not None:
        theirs = "{}.{}".format(*error.python)
        return f"Python {theirs} runs there, another than here, and functions cannot travel between them (see python=)"
    if error.verdict is Verdict.OTHER_VERSION:
        return "another release of jmr is installed there: install the same one"
    return "what answers there is no jmr-worker"
