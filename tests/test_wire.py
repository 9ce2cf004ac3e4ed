"""Frames: any message, cut anywhere, comes out the same; nothing else does."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmr.wire.far import Beat
from jmr.wire.frames import FrameError, Receiver, encode
from jmr.wire.messages import AttemptFailed, CloseJob, Message, Printed, SlotExited, StartMap

blobs = st.lists(st.one_of(st.binary(max_size=40), st.just(b"x" * 700_000)), max_size=3)
messages = st.one_of(
    st.builds(CloseJob, st.integers(0, 2**40)),
    st.builds(Printed, st.integers(0, 9), st.text(max_size=5), st.sampled_from([1, 2, 3]), st.integers(0, 9), blobs),
    st.builds(StartMap, st.just(1), st.just(2), st.just(3), st.booleans(), st.just([4]), st.just(5), st.none(), blobs),
    st.builds(SlotExited, st.just(1), st.integers(-64, 255), st.none(), st.just(7), st.just(["f (a.py:1)"])),
)


def fed(data: bytes, sizes: list[int]) -> list[Message]:
    receiver, out, at = Receiver(), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        out += receiver.feed(data[at : at + size])
        at += size
    return out


@given(st.lists(messages, max_size=4), st.lists(st.sampled_from([1, 2, 3, 10, 5_000, 300_000]), min_size=1, max_size=4))
def test_messages_survive_being_cut_anywhere(sent: list[Message], sizes: list[int]) -> None:
    data = b"".join(bytes(piece) for message in sent for piece in encode(message))
    if len(data) > 10_000:
        sizes = [max(size, 5_000) for size in sizes]
    assert fed(data, sizes) == [_received(message) for message in sent]


def _received(message: Message) -> Message:
    """As it arrives: blobs in bytearrays."""
    if hasattr(message, "blobs"):
        return dataclasses.replace(message, blobs=[bytearray(blob) for blob in message.blobs])
    return message


def test_junk_is_refused() -> None:
    with pytest.raises(FrameError, match="unknown kind 71"):
        Receiver().feed(b"GET / HTTP/1.1\r\n\r\n")


def test_a_long_head_makes_the_buffer_grow() -> None:
    message = StartMap(1, 2, 3, False, list(range(200_000)), 5, None)
    data = b"".join(bytes(piece) for piece in encode(message))
    assert fed(data, [100_000]) == [StartMap(1, 2, 3, False, list(range(200_000)), 5, None, [])]


def number_of(message: Message) -> int:
    return bytes(encode(message)[0])[0]


@pytest.mark.parametrize("number", ["1e400", "NaN", "1" + "0" * 400, "9223372036854775808", "true", '"1"'])
def test_what_another_host_counts_can_be_reckoned_with(number: str) -> None:
    fields = f"[{number},0]".encode()
    frame = struct.pack("<BII", number_of(Beat(0.0, 0)), 0, len(fields)) + fields
    with pytest.raises(FrameError, match="make no sense"):
        Receiver(trusts=False).feed(frame)


def test_long_blob_of_another_host_takes_memory_as_it_comes() -> None:
    receiver = Receiver(trusts=False)
    receiver.feed(struct.pack("<BIIQ", number_of(AttemptFailed()), 1, 2, 1 << 40) + b"[]")
    for n in range(8):
        receiver.feed(bytes(10_000))
        assert len(receiver._blobs[0]) <= max(1 << 16, 20_000 * (n + 1)), n


def test_head_of_another_host_is_short() -> None:
    with pytest.raises(FrameError, match="before its blobs"):
        Receiver(trusts=False).feed(struct.pack("<BII", number_of(Beat(0.0, 0)), 0, (1 << 24) + 1))
