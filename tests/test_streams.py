"""Streams: many of them over one connection, cut anywhere, in turns; and peers whose lengths and fields are lies."""

from __future__ import annotations

import json
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmr.wire.far import Beat, Carry
from jmr.wire.frames import _NUMBER_OF, FrameError, Receiver, encode
from jmr.wire.messages import MapDone, Message, Printed, SlotExited, StartReduce
from jmr.wire.streams import CONTROL, PIECE_BYTES, Incoming, Outgoing

HEAD = struct.Struct("!II")


def all_pieces(outgoing: Outgoing) -> list[bytes]:
    pieces = []
    while parts := outgoing.next_piece():
        pieces.append(b"".join(parts))
    return pieces


def streams_of(pieces: list[bytes]) -> list[int]:
    return [HEAD.unpack_from(piece)[0] for piece in pieces]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=300)), max_size=20),
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_each_stream_arrives_whole_and_in_order_however_it_is_cut(
    sent: list[tuple[int, bytes]], sizes: list[int]
) -> None:
    outgoing, incoming = Outgoing(), Incoming()
    expected: dict[int, bytes] = {}
    for stream, data in sent:
        outgoing.add(stream, [data])
        expected[stream] = expected.get(stream, b"") + data
    data, at = b"".join(all_pieces(outgoing)), 0
    received: dict[int, bytes] = {}
    while at < len(data):
        size = sizes[at % len(sizes)]
        for stream, part in incoming.feed(data[at : at + size]):
            assert part is not None
            received[stream] = received.get(stream, b"") + part
        at += size
    assert received == {stream: data for stream, data in expected.items() if data}
    assert outgoing.n_bytes == 0


def test_streams_take_turns_and_the_workers_own_goes_first() -> None:
    outgoing = Outgoing()
    outgoing.add(7, [bytes(2 * PIECE_BYTES + 1)])
    outgoing.add(8, [bytes(PIECE_BYTES + 1)])
    first = b"".join(outgoing.next_piece())
    outgoing.add(CONTROL, [b"I am here"])
    assert streams_of([first, *all_pieces(outgoing)]) == [7, CONTROL, 8, 7, 8, 7]


def test_the_end_of_a_stream_comes_after_what_was_said() -> None:
    outgoing, incoming = Outgoing(), Incoming()
    outgoing.add(7, [b"answer"])
    outgoing.end(7)
    outgoing.end(8)
    heard = [(stream, part and bytes(part)) for stream, part in incoming.feed(b"".join(all_pieces(outgoing)))]
    assert sorted(heard, key=lambda item: item[0]) == [(7, b"answer"), (7, None), (8, None)]


def test_what_is_dropped_is_not_sent() -> None:
    outgoing = Outgoing()
    outgoing.add(7, [bytes(2 * PIECE_BYTES)])
    outgoing.add(8, [b"stays"])
    outgoing.drop(7)
    outgoing.drop(9)
    assert (streams_of(all_pieces(outgoing)), outgoing.n_bytes) == ([8], 0)


def test_a_piece_that_is_too_long_is_refused_at_its_head() -> None:
    with pytest.raises(FrameError, match="a piece of 1,048,577 bytes"):
        list(Incoming().feed(HEAD.pack(7, PIECE_BYTES + 1)))


# Peers that are not believed


def frame(kind: type[Message], fields: list[object], *lengths: int) -> bytes:
    text = json.dumps(fields).encode()
    head = struct.pack("<BII", _NUMBER_OF[kind], len(lengths), len(text))
    return head + struct.pack(f"<{len(lengths)}Q", *lengths) + text


def refused(data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        Receiver(trusts=False).feed(data)
    return str(caught.value)


def test_a_blob_gets_its_memory_as_its_bytes_come() -> None:
    receiver = Receiver(trusts=False)
    tracemalloc.start()
    try:
        assert receiver.feed(frame(Carry, [1, 1 << 40, False], 1 << 40) + bytes(1000)) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


def test_a_large_blob_that_grew_is_whole() -> None:
    blob = bytes(range(256)) * ((3 << 26) // 256) + b"end"
    data = frame(Carry, [1, len(blob), False], len(blob)) + blob
    receiver, messages = Receiver(trusts=False), []
    for at in range(0, len(data), 50_000_000):
        messages += receiver.feed(data[at : at + 50_000_000])
    assert messages == [Carry(1, len(blob), False, [bytearray(blob)])]


def test_heads_fields_and_types_are_checked() -> None:
    assert "4,294,967,304 bytes before its blobs" in refused(struct.pack("<BII", 0, 0, (1 << 32) - 1))
    assert "bytes before its blobs" in refused(struct.pack("<BII", 0, 1 << 30, 0))
    assert "no JSON" in refused(struct.pack("<BII", 0, 0, 3) + b"[1,")
    assert "no JSON" in refused(struct.pack("<BII", 0, 0, 200_000) + b"[" * 200_000)
    assert "a Beat with other fields than ours" in refused(frame(Beat, [1.0]))
    assert "a Beat with other fields than ours" in refused(struct.pack("<BII", _NUMBER_OF[Beat], 0, 2) + b"17")
    for fields in ([[1], "h2/1", 1], [1, 2, 1], [True, "h2/1", 1], [1, "h2/1", 1.0]):
        assert "a Printed whose fields make no sense" in refused(frame(Printed, [*fields, 0]))


@pytest.mark.parametrize(
    "message",
    [
        Beat(0.5, 7),
        SlotExited(1, -9, None, 7, ["f (a.py:1)"]),
        MapDone(1, 2, 2, False, 0.1, 0.0, 0, 9, False, None, [1, 2], [], blobs=[b"x", b"yy"]),
        StartReduce(1, 2, 3, False, [], [(0, (None, 0, 1, None)), (1, ("", 0, 5, 77))], 1, blobs=[b"z"]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_right_is_let_through(message: Message) -> None:
    data = b"".join(bytes(piece) for piece in encode(message))
    (received,) = Receiver(trusts=False).feed(data)
    assert type(received) is type(message)
    assert b"".join(bytes(piece) for piece in encode(received)) == data
