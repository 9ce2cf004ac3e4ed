"""Frames: any message, cut anywhere, comes out the same; nothing else does."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmr.wire.frames import FrameError, Receiver, encode
from jmr.wire.messages import CloseJob, Message, Printed, SlotExited, StartMap

blobs = st.lists(st.one_of(st.binary(max_size=40), st.just(b"x" * 700_000)), max_size=3)
messages = st.one_of(
    st.builds(CloseJob, st.integers(0, 2**40)),
    st.builds(Printed, st.integers(0, 9), st.text(max_size=5), st.sampled_from([1, 2]), blobs),
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
