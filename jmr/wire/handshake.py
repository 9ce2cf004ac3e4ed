"""Two ends prove to each other that they hold the same token, before either says or reads anything else.

    worker ──Hello: magic, version, Python, nonce──────────────> coordinator
    worker <──Challenge: magic, version, Python, nonce, proof──  coordinator
    worker ──proof─────────────────────────────────────────────> coordinator
    worker <──Verdict──────────────────────────────────────────  coordinator

    proof = HMAC-SHA256(token, magic | role | SHA-256 of the coordinator's certificate, as that end sees it | nonces)

The coordinator proves itself first, so a worker tells a stranger nothing. A man in the middle shows a certificate of
his own, and so no proof that he passes on holds. The role keeps an end from being shown its own proof, and the nonces
keep yesterday's proof from being shown again. HMAC: Krawczyk, Bellare and Canetti, RFC 2104; for what binds a proof to
its connection: Williams, "On the Use of Channel Bindings to Secure Channels", RFC 5056.

Everything has a fixed length, below 100 bytes, and is read with struct. Nothing here does I/O: who calls sees to the
deadline and makes the nonces.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

from jmr.codec.values import Buffer

__all__ = [
    "NONCE_BYTES",
    "OVER_SSH",
    "Handshake",
    "HandshakeError",
    "Identity",
    "Verdict",
    "coordinator_side",
    "worker_side",
]

NONCE_BYTES = 32
#: Stands for the token where ssh has proved to both ends who the other is.
OVER_SSH = hashlib.sha256(b"jmr over ssh").digest()
_MAGIC = b"jmr\r\n\x1a\0\xff"  # the line ends tell what rewrites them, as in PNG's
#: Changes whenever two releases could not talk to each other.
_VERSION = 1
_HELLO = struct.Struct(f"!8sHBB{NONCE_BYTES}s")
_CHALLENGE = struct.Struct(f"!8sHBB{NONCE_BYTES}s32s")
_PROOF_BYTES = 32

#: Yields what is to be sent, how many bytes are wanted next and what they must begin with; is sent these.
_Steps: TypeAlias = Generator[tuple[bytes, int, bytes], bytes, None]


class Verdict(enum.IntEnum):
    """How a handshake ends; also the byte that the coordinator sends last."""

    #: Both hold the token.
    WELCOME = 0
    #: The other end holds another token, or stands in the middle.
    OTHER_TOKEN = 1
    #: It runs another minor version of Python: functions that cloudpickle ships would crash there.
    OTHER_PYTHON = 2
    #: It runs a release of jmr that speaks otherwise.
    OTHER_VERSION = 3
    #: It is no end of ours at all.
    STRANGER = 4


class HandshakeError(Exception):
    """The other end is not let in.

    Parameters
    ----------
    verdict
        Why.
    python
        Of the other end, (major, minor), if it has said so. Only where the verdict is OTHER_PYTHON does it come from
        somebody who holds the token.
    reply
        Bytes to send before the connection is closed.
    """

    def __init__(self, verdict: Verdict, python: tuple[int, int] | None = None, reply: bytes = b"") -> None:
        super().__init__(verdict, python, reply)
        self.verdict = verdict
        self.python = python
        self.reply = reply

    def __str__(self) -> str:
        python = "" if self.python is None else f", Python {self.python[0]}.{self.python[1]}"
        return f"handshake: {self.verdict.name}{python}"


@dataclass(frozen=True, slots=True)
class Identity:
    """What one end brings to a handshake."""

    token: bytes
    #: The coordinator's certificate as this end sees it, in DER.
    certificate: bytes
    #: Fresh and random, `NONCE_BYTES` long.
    nonce: bytes
    #: (major, minor).
    python: tuple[int, int]

    def __repr__(self) -> str:  # a token must not end up in a log
        return f"Identity(python={self.python})"

    def proof(self, role: bytes, workers_nonce: bytes, coordinators_nonce: bytes) -> bytes:
        """What only somebody who holds the token can say, in this role, over this connection, this time."""
        seen = hashlib.sha256(self.certificate).digest()
        return hmac.digest(self.token, _MAGIC + role + seen + workers_nonce + coordinators_nonce, "sha256")


class Handshake:
    """One end of it: bytes in, bytes out.

    Parameters
    ----------
    steps
        Of this end.
    n_skipped
        So many bytes may come before the other end begins: what a login shell has to say.

    Examples
    --------
    >>> me = Identity(token=b"t" * 32, certificate=b"c", nonce=b"n" * 32, python=(3, 13))
    >>> worker, coordinator = Handshake(worker_side(me)), Handshake(coordinator_side(me))
    >>> challenge = coordinator.receive(worker.begin())
    >>> verdict = coordinator.receive(worker.receive(challenge))
    >>> worker.receive(verdict)
    b''
    >>> worker.is_done, coordinator.is_done
    (True, True)
    """

    def __init__(self, steps: _Steps, n_skipped: int = 0) -> None:
        self._steps = steps
        self._n_skipped = n_skipped
        self._first, self._n_wanted, self._beginning = next(steps)
        self._received = bytearray()
        self._refusal: HandshakeError | None = None
        #: Whether the other end holds the token.
        self.is_done = False

    def begin(self) -> bytes:
        """What to send before anything was received."""
        return self._first

    def receive(self, data: Buffer) -> bytes:
        """Take some bytes; returns what to send.

        Raises
        ------
        HandshakeError
            The other end is not let in; again for whatever it sends after that.
        """
        if self._refusal is not None:  # steps that have raised would look like steps that are done
            raise self._refusal
        try:
            return self._go_on(data)
        except HandshakeError as refusal:
            self._refusal = refusal
            raise

    def _go_on(self, data: Buffer) -> bytes:
        self._received += data
        if self._n_skipped:
            self._skip()
            if self._n_skipped:  # it has not begun
                return b""
        reply = b""
        while not self.is_done:
            if not self._beginning.startswith(self._received[: len(self._beginning)]):  # at once: no wait for more
                raise HandshakeError(Verdict.STRANGER)
            if len(self._received) < self._n_wanted:
                break
            taken = bytes(self._received[: self._n_wanted])
            del self._received[: self._n_wanted]
            try:
                more, self._n_wanted, self._beginning = self._steps.send(taken)
                reply += more
            except StopIteration:
                self.is_done = True
        return reply

    def _skip(self) -> None:
        """Drop what comes before the beginning."""
        at = self._received.find(self._beginning)
        n_other = at if at >= 0 else len(self._received) - len(self._beginning) + 1
        if n_other > self._n_skipped:
            raise HandshakeError(Verdict.STRANGER)
        if n_other > 0:
            del self._received[:n_other]
        self._n_skipped = self._n_skipped - max(0, n_other) if at < 0 else 0

    def rest(self) -> bytes:
        """What came after the handshake, and belongs to whoever goes on."""
        return bytes(self._received)


def worker_side(me: Identity) -> _Steps:
    """The worker's steps: it speaks first, and proves itself last."""
    challenge = yield _HELLO.pack(_MAGIC, _VERSION, *me.python, me.nonce), _CHALLENGE.size, _MAGIC
    _, version, *python, nonce, proof = _CHALLENGE.unpack(challenge)
    _check_version(version, python)
    if not hmac.compare_digest(proof, me.proof(b"coordinator", me.nonce, nonce)):
        raise HandshakeError(Verdict.OTHER_TOKEN)
    verdict = yield me.proof(b"worker", me.nonce, nonce), 1, b""
    _check_python(me, python)
    if verdict[0] != Verdict.WELCOME:
        raise HandshakeError(Verdict.OTHER_TOKEN)


def coordinator_side(me: Identity) -> _Steps:
    """The coordinator's steps."""
    hello = yield b"", _HELLO.size, _MAGIC
    _, version, *python, nonce = _HELLO.unpack(hello)
    challenge = _CHALLENGE.pack(_MAGIC, _VERSION, *me.python, me.nonce, me.proof(b"coordinator", nonce, me.nonce))
    _check_version(version, python, challenge)
    proof = yield challenge, _PROOF_BYTES, b""
    if not hmac.compare_digest(proof, me.proof(b"worker", nonce, me.nonce)):
        raise HandshakeError(Verdict.OTHER_TOKEN, reply=bytes([Verdict.OTHER_TOKEN]))
    _check_python(me, python, bytes([Verdict.OTHER_PYTHON]))
    yield bytes([Verdict.WELCOME]), 0, b""


def _check_version(version: int, python: list[int], reply: bytes = b"") -> None:
    if version != _VERSION:
        raise HandshakeError(Verdict.OTHER_VERSION, (python[0], python[1]), reply)


def _check_python(me: Identity, python: list[int], reply: bytes = b"") -> None:
    if tuple(python) != me.python:
        raise HandshakeError(Verdict.OTHER_PYTHON, (python[0], python[1]), reply)
