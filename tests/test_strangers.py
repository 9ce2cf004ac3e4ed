"""Whoever should not be let in is not, and a worker that lies is dropped: nothing is unpickled, nothing is said."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pickle
import random
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import jmr
from jmr.coordinator.core import Coordinator
from jmr.coordinator.listener import Listener
from jmr.launch.certificate import server_context
from jmr.launch.joining import ExitCode, client_context, shake_as_worker
from jmr.wire.far import WorkerJoined
from jmr.wire.frames import encode
from jmr.wire.handshake import HandshakeError, Identity, Verdict, worker_side
from jmr.wire.streams import CONTROL
from tests.peers import Peer

TOKEN = bytes(range(32))
#: For the coordinator to hang up; it is waited for no longer than that takes.
SECONDS = 10.0
MOST_GROWTH_BYTES = 50 << 20
TIB = 1 << 40


@pytest.fixture
def cluster(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[jmr.Cluster]:
    """One slot here, and a port for others. Whatever comes: it works, is silent, and keeps nothing."""
    monkeypatch.setenv("JMR_TOKEN", TOKEN.hex())
    n_open = open_files()
    with jmr.Cluster(workers=1, listen="127.0.0.1:0") as cluster:
        assert squares(cluster) == SQUARES
        n_open_then, n_bytes = open_files(), resident_bytes()
        yield cluster
        assert squares(cluster) == SQUARES
        await_guests_gone(n_open_then)
        assert resident_bytes() - n_bytes < MOST_GROWTH_BYTES
    gc.collect()  # what nobody has looked at is told of now
    assert open_files() <= n_open
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


SQUARES = {key: [key * key] for key in range(20)}


def squares(cluster: jmr.Cluster) -> dict[Any, Any]:
    return jmr.run({key: key for key in range(20)}, lambda key, value: [(key, value * value)], engine=cluster)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def await_guests_gone(n_open: int) -> None:
    """The loop closes what we have closed, soon."""
    deadline = time.monotonic() + SECONDS
    while open_files() > n_open and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert open_files() <= n_open


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Those who cannot prove anything.


def connected(cluster: jmr.Cluster, source: str | None = None) -> socket.socket:
    assert cluster.address is not None
    host, port = cluster.address.split(":")
    return socket.create_connection((host, int(port)), SECONDS, source and (source, 0))


def encrypted(connection: socket.socket, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    return (context or client_context()).wrap_socket(connection, suppress_ragged_eofs=True)


def last_words(connection: socket.socket) -> bytes:
    """What comes until the other end hangs up; a timeout is an error."""
    said = b""
    with connection:
        try:
            while data := connection.recv(1 << 16):
                said += data
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return said
    return said


def bomb(path: Path) -> bytes:
    class Bomb:
        def __reduce__(self) -> Any:
            return open, (str(path), "w")

    return pickle.dumps(Bomb())


HTTP = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LONG_FRAME = struct.pack("<BIIQ", 17, 1, 2, TIB) + b"[]"
LONG_PIECE = struct.pack("!II", 0, 0xFFFF_FFFF)


JUNK = random.Random(1).randbytes(1 << 16)


@pytest.mark.parametrize("data", [JUNK, bytes(4096), HTTP, LONG_FRAME, b"\x16\x03\x01\xff\xff"])
def test_junk_is_hung_up_on(cluster: jmr.Cluster, data: bytes) -> None:
    connection = connected(cluster)
    with contextlib.suppress(ConnectionError):
        connection.sendall(data + b"\0" * (1 << 16))  # so that nobody waits for the rest of a record
    last_words(connection)


@pytest.mark.parametrize("data", [JUNK, bytes(4096), HTTP, LONG_FRAME, LONG_PIECE])
def test_junk_inside_tls_is_hung_up_on_without_a_word(cluster: jmr.Cluster, data: bytes) -> None:
    connection = encrypted(connected(cluster))
    connection.sendall(data)
    assert last_words(connection) == b""


def test_tls_1_2_is_refused(cluster: jmr.Cluster) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(cluster) as connection, pytest.raises(ssl.SSLError):
        encrypted(connection, context)


def test_pickle_bomb_is_not_touched(cluster: jmr.Cluster, tmp_path: Path) -> None:
    data = bomb(tmp_path / "boom")
    pickle.loads(data).close()
    (tmp_path / "boom").unlink()  # it does work
    last_words_of_plain = connected(cluster)
    last_words_of_plain.sendall(data + b"\0" * 4096)
    last_words(last_words_of_plain)
    for before in b"", struct.pack("!II", 0, len(data)), struct.pack("<BII", 0, 1, len(data)), hello()[1]:
        connection = encrypted(connected(cluster))
        connection.sendall(before + data + bytes(64))
        last_words(connection)
    assert not (tmp_path / "boom").exists()


def hello(certificate: bytes = b"") -> tuple[Identity, bytes]:
    me = Identity(TOKEN, certificate, secrets.token_bytes(32), sys.version_info[:2])
    return me, next(worker_side(me))[0]


def test_replayed_proof_is_refused(cluster: jmr.Cluster) -> None:
    connection = encrypted(connected(cluster))
    worker = shake_as_worker(TOKEN, connection.getpeercert(binary_form=True) or b"")
    first = worker.begin()
    connection.sendall(first)
    proof = worker.receive(exactly(connection, 76))
    connection.sendall(proof)
    assert connection.recv(1) == bytes([Verdict.WELCOME])
    connection.close()
    again = encrypted(connected(cluster))
    again.sendall(first)
    assert exactly(again, 76) != b""
    again.sendall(proof)
    assert last_words(again) == bytes([Verdict.OTHER_TOKEN])


def test_reflected_proof_is_refused(cluster: jmr.Cluster) -> None:
    for part in slice(44, 76), slice(0, 76), slice(12, 44):
        connection = encrypted(connected(cluster))
        connection.sendall(hello()[1])
        challenge = exactly(connection, 76)
        connection.sendall(challenge[part])
        assert last_words(connection) == bytes([Verdict.OTHER_TOKEN])


def test_who_goes_on_after_a_refused_proof_is_not_heard(cluster: jmr.Cluster) -> None:
    connection = encrypted(connected(cluster))
    introduction = WorkerJoined("stranger", 1, 1, "3.13.0", 1, 1, "/", None)
    frame = b"".join(map(bytes, encode(introduction)))
    pieces = struct.pack("!II", CONTROL, len(frame)) + frame
    with contextlib.suppress(OSError):
        for part in hello()[1], bytes(32), bytes(32) + pieces, pieces, bytes(32) + pieces:
            connection.sendall(part)
    last_words(connection)
    assert [host.name for host in cluster.hosts()] == ["local"]


def exactly(connection: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        data += connection.recv(n - len(data))
    return data


class Middle:
    """A man in the middle: ends TLS with a certificate of his own, and passes on what is said, both ways."""

    def __init__(self, cluster: jmr.Cluster) -> None:
        self._cluster = cluster
        self._context, self.certificate = server_context()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(SECONDS)
        self._listening.close()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        worker = self._context.wrap_socket(connection, server_side=True)
        coordinator = encrypted(connected(self._cluster))
        self._threads.append(threading.Thread(target=self._pass_on, args=(coordinator, worker)))
        self._threads[1].start()
        self._pass_on(worker, coordinator)

    def _pass_on(self, source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for connection in source, target:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def test_worker_finds_out_a_man_in_the_middle(cluster: jmr.Cluster) -> None:
    async def join(address: str) -> None:
        await Peer.connect(address, TOKEN)

    with Middle(cluster) as middle, pytest.raises(HandshakeError, match="OTHER_TOKEN"):
        asyncio.run(join(middle.address))


def test_coordinator_finds_out_a_man_in_the_middle(cluster: jmr.Cluster) -> None:
    with Middle(cluster) as middle:
        host, port = middle.address.split(":")
        worker = encrypted(socket.create_connection((host, int(port)), SECONDS))
        me, first = hello(middle.certificate)
        worker.sendall(first)
        worker.sendall(me.proof(b"worker", me.nonce, exactly(worker, 76)[12:44]))  # though it could know better
        assert last_words(worker) == bytes([Verdict.OTHER_TOKEN])


@pytest.mark.slow
def test_jmr_worker_says_that_somebody_may_stand_in_between(cluster: jmr.Cluster) -> None:
    code = "import sys; from jmr.cli.worker import worker_main; sys.exit(worker_main(sys.argv[1:]))"
    with Middle(cluster) as middle:
        command = [sys.executable, "-c", code, middle.address, "--once"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.TOKEN
    assert "somebody stands between" in done.stderr


@pytest.mark.slow
def test_silent_and_slow_peers_are_dropped_at_the_deadline(cluster: jmr.Cluster) -> None:
    began = time.monotonic()
    silent = [connected(cluster), encrypted(connected(cluster))]
    slow = [connected(cluster), encrypted(connected(cluster))]
    first = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", hello()[1]]
    for n in range(20):
        for connection, data in zip(slow, first, strict=True):
            with contextlib.suppress(OSError):
                connection.sendall(data[n % len(data) :][:1])
        if hung_up(slow[0], within=1.0) and hung_up(slow[1], within=0.1):
            break
    assert all(last_words(connection) == b"" for connection in silent + slow)
    assert 2.5 < time.monotonic() - began < 6


@pytest.mark.slow
def test_who_proves_itself_and_says_no_more_is_dropped_at_the_deadline(cluster: jmr.Cluster) -> None:
    async def stay_silent() -> float:
        peer = await Peer.connect(cluster.address or "", TOKEN)
        began = time.monotonic()
        await peer.dropped()
        return time.monotonic() - began

    assert asyncio.run(stay_silent()) < 6
    assert len(cluster.hosts()) == 1


def hung_up(connection: socket.socket, within: float) -> bool:
    """Whether the other end has, or does soon."""
    connection.settimeout(within)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(SECONDS)


@pytest.mark.slow
def test_of_600_at_once_few_are_guests_and_a_good_worker_joins(cluster: jmr.Cluster) -> None:
    crowd = [connected(cluster, f"127.0.0.{10 + n // 100}") for n in range(600)]
    listener = listener_of(cluster)
    n_guests = [len(listener._guests)]
    asyncio.run(work(cluster))
    n_guests += [len(listener._guests), max(listener._from.values(), default=0)]
    assert 0 < n_guests[0] <= 64
    assert n_guests[1] <= 64
    assert n_guests[2] <= 16
    for connection in crowd:
        connection.close()


async def work(cluster: jmr.Cluster) -> None:
    """Join, and be seen; tried again like a worker does, where too many of one address are there."""
    async with asyncio.timeout(SECONDS):
        peer = await Peer.join(cluster.address or "", TOKEN)
        await peer.offer()
        assert len(cluster.hosts()) == 2
        await peer.close()


@pytest.mark.slow
def test_the_65th_waits_until_others_are_dropped(cluster: jmr.Cluster) -> None:
    began = time.monotonic()
    guests = [connected(cluster, f"127.0.0.{10 + n // 16}") for n in range(64)]
    last = connected(cluster, "127.0.0.20")
    encrypted(last).close()  # its hello is answered when there is room
    assert time.monotonic() - began > 2.5
    assert all(last_words(guest) == b"" for guest in guests)


def test_the_17th_of_an_address_is_closed_and_others_are_let_in(cluster: jmr.Cluster) -> None:
    guests = [connected(cluster, "127.0.0.10") for _ in range(16)]
    assert last_words(connected(cluster, "127.0.0.10")) == b""
    asyncio.run(work(cluster))
    for guest in guests:
        guest.close()
    await_no_guests(cluster)
    encrypted(connected(cluster, "127.0.0.10")).close()


def coordinator_of(cluster: jmr.Cluster) -> Coordinator:
    assert cluster._coordinator is not None
    return cluster._coordinator


def listener_of(cluster: jmr.Cluster) -> Listener:
    others = coordinator_of(cluster)._others
    assert others is not None
    listener = others._listener
    assert listener is not None
    return listener


def await_no_guests(cluster: jmr.Cluster) -> None:
    listener = listener_of(cluster)
    deadline = time.monotonic() + SECONDS
    while listener._guests and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert not listener._guests
    assert not listener._from


def test_cluster_closes_while_guests_are_at_the_door(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("JMR_TOKEN", TOKEN.hex())
    n_open = open_files()

    async def knock_and_see_it_close() -> None:
        with jmr.Cluster(workers=1, listen="127.0.0.1:0") as cluster:
            guests = [connected(cluster), encrypted(connected(cluster)), connected(cluster)]
            proven = await Peer.connect(cluster.address or "", TOKEN)
            joined = await Peer.join(cluster.address or "", TOKEN)
            await joined.offer()
        await proven.dropped()
        await joined.dropped()
        for guest in guests:
            assert last_words(guest) == b""

    asyncio.run(knock_and_see_it_close())
    gc.collect()
    assert open_files() <= n_open
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
