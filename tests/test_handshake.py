"""Both ends prove that they hold the token: two ends in memory, and everybody who should not be let in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jmr.wire.handshake import (
    NONCE_BYTES,
    Handshake,
    HandshakeError,
    Identity,
    Verdict,
    coordinator_side,
    worker_side,
)

COORDINATOR = Identity(b"t" * 32, b"certificate", b"c" * NONCE_BYTES, (3, 13))
WORKER = replace(COORDINATOR, nonce=b"w" * NONCE_BYTES)


def shaken(worker: Identity = WORKER, coordinator: Identity = COORDINATOR, most: int = 1 << 16) -> str:
    """What comes of it: for the coordinator, and for the worker; at most so many bytes arrive at once."""
    ends = {"coordinator": Handshake(coordinator_side(coordinator)), "worker": Handshake(worker_side(worker))}
    sent = {"coordinator": ends["worker"].begin(), "worker": b""}
    outcome = dict.fromkeys(ends, "waits")
    while any(sent.values()):
        for name, other in (("coordinator", "worker"), ("worker", "coordinator")):
            data, sent[name] = sent[name][:most], sent[name][most:]
            if not data or outcome[name] != "waits":
                continue
            try:
                sent[other] += ends[name].receive(data)
                outcome[name] = "done" if ends[name].is_done else "waits"
            except HandshakeError as error:
                sent[other] += error.reply
                outcome[name] = error.verdict.name
    return f"{outcome['coordinator']}, {outcome['worker']}"


@pytest.mark.parametrize("most", [1, 7, 1 << 16])
def test_who_holds_the_token_is_let_in(most: int) -> None:
    assert shaken(most=most) == "done, done"


def test_a_coordinator_without_the_token_learns_nothing() -> None:
    assert shaken(coordinator=replace(COORDINATOR, token=b"?" * 32)) == "waits, OTHER_TOKEN"


def test_a_worker_without_the_token_is_refused() -> None:
    coordinator = Handshake(coordinator_side(COORDINATOR))
    coordinator.receive(Handshake(worker_side(WORKER)).begin())
    guess = replace(WORKER, token=b"?" * 32).proof(b"worker", WORKER.nonce, COORDINATOR.nonce)
    with pytest.raises(HandshakeError, match="OTHER_TOKEN") as caught:
        coordinator.receive(guess)
    assert caught.value.reply == bytes([Verdict.OTHER_TOKEN])


def test_who_was_refused_stays_refused() -> None:
    coordinator = Handshake(coordinator_side(COORDINATOR))
    coordinator.receive(Handshake(worker_side(WORKER)).begin())
    for _ in range(3):
        with pytest.raises(HandshakeError, match="OTHER_TOKEN"):
            coordinator.receive(bytes(32))
        assert not coordinator.is_done


def test_a_man_in_the_middle_is_found_out_by_his_certificate() -> None:
    assert shaken(worker=replace(WORKER, certificate=b"his own")) == "waits, OTHER_TOKEN"


def test_a_coordinator_is_not_shown_its_own_proof() -> None:
    coordinator = Handshake(coordinator_side(COORDINATOR))
    challenge = coordinator.receive(Handshake(worker_side(WORKER)).begin())
    with pytest.raises(HandshakeError, match="OTHER_TOKEN"):
        coordinator.receive(challenge[-32:])


def test_a_workers_proof_holds_only_once() -> None:
    proofs = []
    for nonce in (b"1", b"2"):
        coordinator = Handshake(coordinator_side(replace(COORDINATOR, nonce=nonce * NONCE_BYTES)))
        worker = Handshake(worker_side(WORKER))
        proofs.append(worker.receive(coordinator.receive(worker.begin())))
        if len(proofs) == 1:
            assert coordinator.receive(proofs[0]) == bytes([Verdict.WELCOME])
            continue
        with pytest.raises(HandshakeError, match="OTHER_TOKEN"):
            coordinator.receive(proofs[0])


def test_a_coordinators_proof_holds_only_once() -> None:
    challenge = Handshake(coordinator_side(COORDINATOR)).receive(Handshake(worker_side(WORKER)).begin())
    later = Handshake(worker_side(replace(WORKER, nonce=b"n" * NONCE_BYTES)))
    with pytest.raises(HandshakeError, match="OTHER_TOKEN"):
        later.receive(challenge)


def test_another_python_is_refused_and_named_at_both_ends() -> None:
    assert shaken(worker=replace(WORKER, python=(3, 11))) == "OTHER_PYTHON, OTHER_PYTHON"
    coordinator = Handshake(coordinator_side(COORDINATOR))
    worker = Handshake(worker_side(replace(WORKER, python=(3, 11))))
    proof = worker.receive(coordinator.receive(worker.begin()))
    with pytest.raises(HandshakeError, match=r"OTHER_PYTHON, Python 3\.11"):
        coordinator.receive(proof)


def test_another_release_is_told_apart_before_any_proof() -> None:
    worker = Handshake(worker_side(WORKER))
    challenge = Handshake(coordinator_side(COORDINATOR)).receive(worker.begin())
    with pytest.raises(HandshakeError, match="OTHER_VERSION"):
        worker.receive(of_release_7(challenge))
    with pytest.raises(HandshakeError, match="OTHER_VERSION") as caught:
        Handshake(coordinator_side(COORDINATOR)).receive(of_release_7(worker.begin()))
    assert caught.value.reply == challenge  # by which the worker learns which release this is


def of_release_7(message: bytes) -> bytes:
    return message[:8] + b"\0\7" + message[10:]


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"\x80\x05cos\nsystem\n", b"\xff" * 8, b"j\0"]
)
def test_a_stranger_is_told_by_the_first_bytes(junk: bytes) -> None:
    for side in (coordinator_side(COORDINATOR), worker_side(WORKER)):
        with pytest.raises(HandshakeError, match="STRANGER"):
            Handshake(side).receive(junk)


def test_what_follows_the_handshake_is_kept() -> None:
    coordinator, worker = Handshake(coordinator_side(COORDINATOR)), Handshake(worker_side(WORKER))
    proof = worker.receive(coordinator.receive(worker.begin()))
    worker.receive(coordinator.receive(proof + b"first frame") + b"answer")
    assert (coordinator.rest(), worker.rest()) == (b"first frame", b"answer")


def test_a_token_is_not_shown() -> None:
    assert b"t" * 4 not in repr(WORKER).encode()
    assert "tttt" not in str(HandshakeError(Verdict.OTHER_TOKEN, (3, 13)))
