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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import jmr
from jmr.codec.values import Buffer
from jmr.coordinator.core import Coordinator
from jmr.coordinator.listener import Listener
from jmr.coordinator.mail import JobStopped
from jmr.launch.certificate import server_context
from jmr.launch.joining import ExitCode, client_context, shake_as_worker
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.files import SpillError
from jmr.wire.far import AttemptRefused, Beat, CannotHold, Carry, Leaving, SplitNotHere, WorkerJoined
from jmr.wire.frames import encode
from jmr.wire.handshake import HandshakeError, Identity, Verdict, worker_side
from jmr.wire.messages import (
    AttemptFailed,
    Drained,
    KillSlot,
    MapDone,
    Measured,
    Message,
    OpenJob,
    Printed,
    ReduceDone,
    SlotExited,
    SlotReady,
    StartMap,
    StartReduce,
    Watch,
    WorkerReady,
)
from jmr.wire.streams import CONTROL, PIECE_BYTES
from tests.peers import Peer, map_done

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
    with jmr.Cluster(workers=1) as cluster:
        cluster.listen("127.0.0.1:0")
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
    with contextlib.suppress(OSError):  # it is hung up on before all is sent
        connection.sendall(data)
    assert last_words(connection) == b""


def test_tls_1_2_is_refused(cluster: jmr.Cluster) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(cluster) as connection, pytest.raises(ssl.SSLError):
        encrypted(connection, context)


@pytest.mark.parametrize("stage", ["tcp", "hello", "tls", "half", "challenge", "proof", "frame"])
def test_reset_at_any_point_makes_no_noise(cluster: jmr.Cluster, stage: str) -> None:
    connection = connected(cluster)
    if stage == "hello":
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    elif stage != "tcp":
        connection = encrypted(connection)
        worker = shake_as_worker(TOKEN, connection.getpeercert(binary_form=True) or b"")
        first = worker.begin()
        connection.sendall({"tls": b"", "half": first[:20]}.get(stage, first))
        if stage in {"challenge", "proof", "frame"}:
            proof = worker.receive(exactly(connection, 76))
            connection.sendall({"challenge": b"", "proof": proof}.get(stage, proof + LONG_FRAME[:5]))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    await_no_guests(cluster)


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
    others = coordinator_of(cluster)._desk.others
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
        with jmr.Cluster(workers=1) as cluster:
            cluster.listen("127.0.0.1:0")
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


# Those who hold the token, and lie.

Lie = Callable[[Peer, int, Any, OpenJob], None]


def told_lie(
    cluster: jmr.Cluster,
    gate: Path,
    kind: type[StartMap | StartReduce],
    lie: Lie,
    *,
    n_slots: int = 1,
    n_offered: int = 1,
) -> None:
    """Have a peer that holds the token get an order, and lie; it is dropped, and the job's answer is right."""

    async def script() -> dict[Any, Any]:
        peer = await member(cluster, n_slots)
        job = asyncio.create_task(asyncio.to_thread(gated, cluster, gate, kind))
        try:
            if kind is StartReduce:
                await until(gate.with_suffix(".reduces").exists)
            for _ in range(n_offered):
                await peer.offer()
            _, opening = await peer.hear(OpenJob)
            stream, order = await peer.hear(kind)
            lie(peer, stream, order, opening)
            await peer.dropped()
        finally:
            gate.touch()
            await peer.close()
            answer = await job
        return answer

    assert asyncio.run(script()) == {key: [key * key] for key in range(40)}
    assert [host.name for host in cluster.hosts()] == ["local"]


async def member(cluster: jmr.Cluster, n_slots: int = 1) -> Peer:
    """A peer that is counted as a worker, so that a job that begins has a split for it."""
    peer = await Peer.join(cluster.address or "", TOKEN, n_slots=n_slots)
    await until(lambda: len(cluster.hosts()) == 2)
    return peer


def gated(cluster: jmr.Cluster, gate: Path, kind: type[StartMap | StartReduce]) -> dict[Any, Any]:
    """A job whose attempts on this host last until the gate is open."""
    maps = kind is StartMap

    def wait() -> None:
        gate.with_suffix(".reduces").touch()
        while not gate.exists():
            time.sleep(0.005)

    def square(key: int, value: int) -> list[tuple[int, int]]:
        if maps:
            wait()
        return [(key, value * value)]

    def collect(key: int, values: list[int]) -> list[int]:
        if not maps:
            wait()
        return values

    return jmr.run({key: key for key in range(40)}, square, collect, engine=cluster)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def done(opening: OpenJob, output: bytes = b"", **others: Any) -> MapDone:
    """An answer that could be right."""
    return map_done([len(output)] + [0] * (opening.n_partitions - 1), output, **others)


def says(*messages: Message, n_times: int = 1) -> Lie:
    """In the slot's name, whatever it was asked."""

    def lie(peer: Peer, stream: int, order: Any, opening: OpenJob) -> None:
        for message in messages * n_times:
            peer.say(message, stream)

    return lie


def supervisor_says(*messages: Message) -> Lie:
    def lie(peer: Peer, stream: int, order: Any, opening: OpenJob) -> None:
        for message in messages:
            peer.say(message)

    return lie


def answers(make: Callable[[OpenJob], Message]) -> Lie:
    return lambda peer, stream, order, opening: peer.say(make(opening), stream)


def carries(n_bytes: int, *pieces: bytes) -> Lie:
    """Announces so many bytes, and sends these; then an answer that fits the announcement."""

    def lie(peer: Peer, stream: int, order: Any, opening: OpenJob) -> None:
        for piece in pieces:
            peer.say(Carry(order.job, n_bytes, False, blobs=[piece]), stream)
        lengths = [n_bytes] + [0] * (opening.n_partitions - 1)
        peer.say(map_done(lengths, path=""), stream)

    return lie


def raw(data: bytes, *, piece: bool = True, own: bool = False) -> Lie:
    """Bytes in place of a message, of a piece, or on the worker's own stream."""

    def lie(peer: Peer, stream: int, order: Any, opening: OpenJob) -> None:
        if piece:
            peer.say_bytes(data, CONTROL if own else stream)
        else:
            peer.say_raw(data)

    return lie


def says_it_is_ready_again(peer: Peer, stream: int, order: StartMap, opening: OpenJob) -> None:
    peer.say(SlotReady(stream), stream)


def ends_its_own_stream(peer: Peer, stream: int, order: StartMap, opening: OpenJob) -> None:
    peer.link.end(CONTROL)


def introduces_itself_again(peer: Peer, stream: int, order: StartMap, opening: OpenJob) -> None:
    peer.introduce()


JUNK_FIELDS = struct.pack("<BII", 5, 0, 4) + b"nope"
LIES_TO_MAP: dict[str, Lie] = {
    "answers twice": says(AttemptRefused("some_module"), n_times=2),
    "answers a reduce order": says(ReduceDone(0, 0, blobs=[b"", b""])),
    "has no lengths": answers(lambda opening: map_done([])),
    "has too few partitions": answers(lambda opening: map_done([0] * (opening.n_partitions - 1))),
    "has wrong lengths": answers(lambda opening: map_done([5] * opening.n_partitions, b"12345")),
    "has negative lengths": answers(lambda opening: map_done([-1, 1] + [0] * (opening.n_partitions - 2))),
    "counts negative records": answers(lambda opening: done(opening, n_records=-1)),
    "combines one pair into two": answers(lambda opening: done(opening, n_combined_pairs=2)),
    "has negative memory": answers(lambda opening: done(opening, peak_bytes=-1)),
    "counts negative failures": answers(lambda opening: done(opening, n_failures=-1)),
    "took negative time": answers(lambda opening: done(opening, seconds=-1.0)),
    "took no number of seconds": answers(lambda opening: done(opening, seconds=float("nan"))),
    "took for ever": answers(lambda opening: done(opening, seconds=float("inf"))),
    "took forever in whole seconds": answers(lambda opening: done(opening, seconds=10**400)),
    "counts words": answers(lambda opening: done(opening, n_records="many")),
    "counts true": answers(lambda opening: done(opening, n_records=True)),
    "has lengths that are none": answers(lambda opening: map_done(["0"] * opening.n_partitions)),  # type: ignore[list-item]
    "has no output": answers(lambda opening: done(opening, blobs=[b""])),
    "wrote a file here": answers(lambda opening: done(opening, b"1", path="/etc/passwd")),
    "carried nothing": answers(lambda opening: done(opening, b"1", path="")),
    "carries more than it said": carries(10, b"x" * 11),
    "carries more in the end": carries(10, b"x" * 6, b"x" * 6),
    "carries less than it said": carries(10, b"x" * 6),
    "carries less than nothing": carries(-5, b""),
    "carries nothing, often": carries(10, *[b""] * 1000),
    "carries without bytes": says(Carry(1, 10, False)),
    "failed without a failure": says(AttemptFailed()),
    "has no room, twice": says(CannotHold("the disk is full"), n_times=2),
    "does not see its split, twice": says(SplitNotHere(), n_times=2),
    "does not see its split, and answers": says(SplitNotHere(), AttemptRefused("some_module")),
    "lacks a module without a name": says(AttemptRefused("")),
    "lacks a module with a long name": says(AttemptRefused("m" * 10_000)),
    "says what only others say": says(KillSlot(1)),
    "says what the worker says": says(Beat(0.0, 0)),
    "sends an unknown kind": raw(struct.pack("<BII", 200, 0, 2) + b"[]"),
    "sends no JSON": raw(JUNK_FIELDS),
    "sends other fields": raw(struct.pack("<BII", 7, 0, 3) + b"[1]"),
    "sends an endless head": raw(struct.pack("<BII", 7, 0xFFFF_FFFF, 0xFFFF_FFFF)),
    "sends endless fields": raw(struct.pack("<BII", 7, 0, 0xFFFF_FFFF)),
    "sends an endless piece": raw(struct.pack("!II", 1, 0xFFFF_FFFF), piece=False),
    "sends a piece too long": raw(struct.pack("!II", 1, PIECE_BYTES + 1), piece=False),
    "supervisor: sends endless fields": raw(struct.pack("<BII", 14, 0, 0xFFFF_FFFF), own=True),
    "supervisor: drained unasked": supervisor_says(Drained(7)),
    "supervisor: an answer": supervisor_says(AttemptRefused("some_module")),
    "supervisor: does not see a split": supervisor_says(SplitNotHere()),
    "supervisor: has no room": supervisor_says(CannotHold("the disk is full")),
    "supervisor: WorkerReady": supervisor_says(WorkerReady(1)),
    "supervisor: prints no text": supervisor_says(Printed(1, "peer/1", 1)),
    "supervisor: prints two texts": supervisor_says(Printed(1, "peer/1", 1, blobs=[b"a", b"b"])),
    "supervisor: prints elsewhere": supervisor_says(Printed(1, "peer/1", 4, blobs=[b"a"])),
    "supervisor: hides less than nothing": supervisor_says(Printed(1, "peer/1", 1, -1, blobs=[b"a"])),
    "supervisor: prints for others": supervisor_says(Printed(1, "local/1", 1, blobs=[b"a"])),
    "supervisor: prints a name": supervisor_says(Printed(1, "peer/1\x1b[2J", 1, blobs=[b"a"])),
    "supervisor: no load": supervisor_says(Beat(float("nan"), 0)),
    "supervisor: all the load": supervisor_says(Beat(10**400, 0)),
    "supervisor: all the memory": supervisor_says(Beat(0.0, 10**400)),
    "supervisor: a load in words": supervisor_says(Beat("high", 0)),  # type: ignore[arg-type]
    "supervisor: a stack of numbers": supervisor_says(SlotExited(1, 0, None, 0, [1])),  # type: ignore[list-item]
    "supervisor: has less than no memory": supervisor_says(Measured(-1, 10, [])),
    "supervisor: has no memory to fill": supervisor_says(Measured(1, 0, [])),
    "supervisor: slots of less than nothing": supervisor_says(Measured(1, 10, [(1, -1)])),
    "supervisor: slots of no size": supervisor_says(Measured(1, 10, [(1,)])),  # type: ignore[list-item]
    "supervisor: slots by name": supervisor_says(Measured(1, 10, [("peer/1", 1)])),  # type: ignore[list-item]
    "supervisor: says what it is told": supervisor_says(Watch(is_on=True)),
    "supervisor: no last words": supervisor_says(SlotExited(1, 0, None, 0)),
    "supervisor: too many last words": supervisor_says(SlotExited(1, 0, None, 0, blobs=[b"", b"", b""])),
    "supervisor: endless last words": supervisor_says(SlotExited(1, 0, None, 0, blobs=[b"x" * 2_001, b""])),
    "supervisor: a group too large": supervisor_says(SlotExited(1, 0, None, 0, blobs=[b"", b"x" * 65_537])),
    "supervisor: ends its stream": ends_its_own_stream,
    "supervisor: a second introduction": introduces_itself_again,
    "is ready again": says_it_is_ready_again,
}


@pytest.mark.parametrize("lie", LIES_TO_MAP.values(), ids=LIES_TO_MAP)
def test_worker_that_lies_about_a_map_attempt_is_dropped(cluster: jmr.Cluster, tmp_path: Path, lie: Lie) -> None:
    told_lie(cluster, tmp_path / "gate", StartMap, lie)


LIES_TO_REDUCE: dict[str, Lie] = {
    "answers a map order": answers(done),
    "counts negative failures": says(ReduceDone(-1, 0, blobs=[b"", b""])),
    "has no result": says(ReduceDone(0, 0, blobs=[b""])),
    "carries an output": says(Carry(1, 10, False, blobs=[b"x" * 10])),
    "does not see its split": says(SplitNotHere()),
}


@pytest.mark.parametrize("lie", LIES_TO_REDUCE.values(), ids=LIES_TO_REDUCE)
def test_worker_that_lies_about_a_reduce_attempt_is_dropped(cluster: jmr.Cluster, tmp_path: Path, lie: Lie) -> None:
    told_lie(cluster, tmp_path / "gate", StartReduce, lie)


def test_worker_that_answers_on_the_stream_of_a_slot_with_no_order_is_dropped(
    cluster: jmr.Cluster, tmp_path: Path
) -> None:
    def lie(peer: Peer, stream: int, order: StartMap, opening: OpenJob) -> None:
        peer.say(SlotReady(stream + 1), stream + 1)  # numbers are given in turn
        peer.say(done(opening), stream + 1)

    told_lie(cluster, tmp_path / "gate", StartMap, lie, n_slots=2, n_offered=1)


def test_worker_that_does_not_tell_how_a_slot_ended_is_dropped(
    cluster: jmr.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmr.coordinator.worker._GRACE_SECONDS", 0.01)
    monkeypatch.setattr("jmr.coordinator.remote._LAST_WORDS_SECONDS", 0.01)
    told_lie(cluster, tmp_path / "gate", StartMap, lambda peer, stream, order, opening: peer.link.end(stream))


def test_answer_before_the_next_order_is_not_taken_for_its_answer(cluster: jmr.Cluster, tmp_path: Path) -> None:
    """The first is right: nothing came of the split; the second would be, if its order had been sent."""

    async def script() -> dict[Any, Any]:
        peer = await member(cluster)
        job = asyncio.create_task(asyncio.to_thread(gated, cluster, tmp_path / "gate", StartMap))
        try:
            await peer.offer()
            _, opening = await peer.hear(OpenJob)
            stream, _ = await peer.hear(StartMap)
            peer.say(done(opening), stream)
            peer.say(done(opening), stream)
            await peer.dropped()
        finally:
            (tmp_path / "gate").touch()
            await peer.close()
            answer = await job
        return answer

    answer = asyncio.run(script())
    assert len(answer) >= 40 - 1  # only what it was asked for is missing


def test_worker_may_say_that_slots_have_memory_which_it_does_not_have(cluster: jmr.Cluster, tmp_path: Path) -> None:
    """Those of others are none of its business, and a host that is full stops slots of its own alone."""

    async def script() -> None:
        peer = await member(cluster)
        job = asyncio.create_task(asyncio.to_thread(gated, cluster, tmp_path / "gate", StartMap))
        try:
            stream = await peer.offer()
            await peer.hear(Watch)
            peer.say(Measured(99, 100, [(number, 99) for number in range(1, stream + 2)]))
            assert (await peer.hear(KillSlot))[1] == KillSlot(stream)
            (tmp_path / "gate").touch()
            peer.link.end(stream)
            peer.say(SlotExited(stream, -9, None, 0, blobs=[b"", b""]))
            await peer.close()
        finally:
            (tmp_path / "gate").touch()
            assert await job == {key: [key * key] for key in range(40)}

    asyncio.run(script())


@pytest.mark.parametrize("n_bytes", [TIB, 1 << 26])
@pytest.mark.parametrize("own", [False, True])
def test_long_blob_that_does_not_come_costs_nothing(cluster: jmr.Cluster, n_bytes: int, own: bool) -> None:
    kind, fields = (14, b'[1,"peer/1",1,0]') if own else (7, b"[]")

    async def begin_blobs() -> None:
        peer = await Peer.join(cluster.address or "", TOKEN, n_slots=16)
        slots = [await peer.offer() for _ in range(16)]
        before = resident_bytes()
        for stream in [CONTROL] if own else slots:
            peer.say_bytes(struct.pack("<BIIQ", kind, 1, len(fields), n_bytes) + fields + b"the first bytes", stream)
        peer.say_bytes(b"more", CONTROL if own else slots[0])
        peer.say(SlotReady(slots[-1] + 1), slots[-1] + 1)  # of no slot: not heard
        while not heard_all(cluster, peer):
            await asyncio.sleep(0.005)
        assert resident_bytes() - before < MOST_GROWTH_BYTES
        await peer.close()

    asyncio.run(begin_blobs())


def heard_all(cluster: jmr.Cluster, peer: Peer) -> bool:
    """Whether the coordinator has taken all that was sent before this call began."""
    transport = peer.link._transport
    assert transport is not None
    worker = next(iter(coordinator_of(cluster)._desk._remote()))
    return not transport.get_write_buffer_size() and any(
        receiver._rest is not None for receiver in [worker._receiver, *(s.line._receiver for s in worker.slots)]
    )


@pytest.mark.parametrize(
    "introduction",
    [
        {"n_slots": 0},
        {"n_slots": -1},
        {"n_slots": 10**9},
        {"n_slots": "4"},
        {"n_slots": True},
        {"name": None},
        {"directory": ["/"]},
        {"memory_bytes": 10**400},
    ],
    ids=str,
)
def test_absurd_introduction_is_hung_up_on(cluster: jmr.Cluster, introduction: dict[str, Any]) -> None:
    async def introduce() -> None:
        peer = await Peer.join(cluster.address or "", TOKEN, **introduction)
        await peer.dropped()

    asyncio.run(introduce())
    assert len(cluster.hosts()) == 1


@pytest.mark.parametrize("message", [Beat(0.0, 0), Leaving(), Drained(1), SlotReady(1), Printed(1, "a", 1)], ids=str)
def test_who_does_not_introduce_itself_first_is_hung_up_on(cluster: jmr.Cluster, message: Message) -> None:
    async def speak() -> None:
        peer = await Peer.connect(cluster.address or "", TOKEN)
        peer.say(message)
        peer.introduce()
        await peer.dropped()

    asyncio.run(speak())
    assert len(cluster.hosts()) == 1


def test_what_a_worker_says_of_itself_is_shown_as_text(cluster: jmr.Cluster) -> None:
    async def join() -> tuple[str, str, str]:
        name = "<script>alert('h1')</script>\x1b[2J\n\u202e\ud800" + "x" * 100_000
        peer = await Peer.join(cluster.address or "", TOKEN, name=name, python="3.13.0\x1b[31m<b>" + "\ud800" * 9999)
        await peer.offer()
        shown = next(host for host in cluster.hosts() if host.name != "local")
        looks = cluster._repr_html_()
        await peer.close()
        return shown.name, shown.python, looks

    name, python, looks = asyncio.run(join())
    assert name.isprintable()
    assert python.isprintable()
    assert len(name) + len(python) < 200
    assert "<script>" not in looks
    assert "<b>" not in looks


def test_worker_that_leaves_twice_has_left(cluster: jmr.Cluster, tmp_path: Path) -> None:
    async def leave() -> None:
        peer = await Peer.join(cluster.address or "", TOKEN)
        await peer.offer()
        peer.say(Leaving())
        peer.say(Leaving())
        await peer.hear(KillSlot)
        assert squares(cluster) == SQUARES
        await peer.close()

    asyncio.run(leave())


def test_output_that_cannot_be_written_here_ends_its_job_and_nothing_else(
    cluster: jmr.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(room: object, name: str, n_bytes: int) -> None:
        raise SpillError(f"no space for {n_bytes} bytes")

    monkeypatch.setattr("jmr.coordinator.errands.Arriving", no_file)
    pieces = [bytes(PIECE_BYTES)] * 24  # more than may wait to be written

    async def script() -> None:
        peer = await member(cluster)
        job = asyncio.create_task(asyncio.to_thread(gated, cluster, tmp_path / "gate", StartMap))
        try:
            await peer.offer()
            _, opening = await peer.hear(OpenJob)
            stream, order = await peer.hear(StartMap)
            carries(len(pieces) * PIECE_BYTES, *pieces)(peer, stream, order, opening)
            with pytest.raises(jmr.WorkerError, match="no space for 25165824 bytes"):
                await asyncio.wait_for(job, SECONDS)
        finally:
            (tmp_path / "gate").touch()
        await peer.offer()  # it is heard, and its next slot gets work
        peer.say(Leaving())
        await peer.hear(KillSlot)
        await peer.close()

    asyncio.run(script())


def test_output_of_a_job_that_was_cancelled_is_forgotten(
    cluster: jmr.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is just being written: its file is closed when that is done, since its number may be another's then."""
    goes_on, closed = threading.Event(), []

    class Slow(Arriving):
        def write(self, piece: Buffer) -> None:
            goes_on.wait(SECONDS)
            super().write(piece)
            closed.append("written")

        def discard(self, *, is_last: bool = False) -> None:
            super().discard(is_last=is_last)
            closed.append("discarded")

    monkeypatch.setattr("jmr.coordinator.errands.Arriving", Slow)

    def cancelled() -> None:
        with pytest.raises(jmr.JobCancelled):  # in its thread: it would end a loop
            gated(cluster, tmp_path / "gate", StartMap)

    async def script() -> None:
        peer = await member(cluster)
        job = asyncio.create_task(asyncio.to_thread(cancelled))
        try:
            await peer.offer()
            stream, order = await peer.hear(StartMap)
            for _ in range(3):
                peer.say(Carry(order.job, 1 << 22, False, blobs=[bytes(PIECE_BYTES)]), stream)
            worker = next(iter(coordinator_of(cluster)._desk._remote()))
            await until(lambda: worker.link.n_unwritten > 3 * PIECE_BYTES)
            coordinator_of(cluster).cancel(order.job, JobStopped())
            await job
        finally:
            (tmp_path / "gate").touch()
            goes_on.set()
        await until(lambda: worker.link.n_unwritten == 0)
        await until(lambda: closed == ["written", "discarded"])
        room = coordinator_of(cluster).room(order.job)
        assert not os.path.exists(room.directory)
        assert not os.path.exists(room.memory_directory or room.directory)
        await peer.close()

    asyncio.run(script())
