"""What would lie in a file on one host is sent between two: it arrives whole, and what cannot be kept is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jmr.codec.values import Buffer
from jmr.shuffle import arriving
from jmr.shuffle.arriving import Arriving, read_in_pieces
from jmr.shuffle.files import Room, SpillError, fetch, store
from jmr.wire.far import CARRIED
from jmr.worker.abroad import Carried, carry, pieces_of, store_to_send

SMALL: list[list[Buffer]] = [[b"one", b"two"], []]
LARGE: list[list[Buffer]] = [[b"a" * 1_500_000, b"b" * 700_000], [], [b"c"]]


def room(path: Path, memory_bytes: int) -> Room:
    return Room(str(path / "disk"), str(path / "memory"), memory_bytes)


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_a_map_output_that_is_sent_is_the_one_that_is_stored(tmp_path: Path, memory_bytes: int) -> None:
    stored = store(LARGE, "map-0-1", room(tmp_path / "here", memory_bytes))
    told, to_send = store_to_send(LARGE, memory_bytes)
    assert (told.path, told.lengths, told.crcs) == (CARRIED, stored.lengths, stored.crcs)
    file = Arriving(room(tmp_path / "there", memory_bytes), "map-0-1", sum(told.lengths))
    for message in carry(7, to_send):
        assert (message.job, message.n_bytes) == (7, 2_200_001)
        (piece,) = message.blobs
        file.write(b"".join(piece))
    file.close()
    assert Path(file.path).read_bytes() == Path(str(stored.path)).read_bytes()
    assert Path(file.path).parent.name == ("memory" if memory_bytes else "disk")


def test_a_small_one_stays_inline() -> None:
    stored, to_send = store_to_send(SMALL, 6)
    assert (stored.path, stored.lengths, b"".join(stored.inline), to_send) == (None, [6, 0], b"onetwo", [])
    assert store_to_send(SMALL, 5)[0].path == CARRIED


def test_messages_have_a_megabyte_each_and_no_byte_is_copied_for_that() -> None:
    data = bytes(range(256)) * 10_000
    joined = list(pieces_of([data, b"end"]))
    assert [sum(map(len, parts)) for parts in joined] == [1 << 20, 1 << 20, 2_560_003 - (1 << 21)]
    assert b"".join(b"".join(parts) for parts in joined) == data + b"end"
    assert joined[0][0].obj is data  # type: ignore[union-attr]


def test_ranges_are_read_joined_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_000) + b"x" * 500_000)
    (tmp_path / "b").write_bytes(b"0123456789")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    pieces = list(read_in_pieces([(a, 999_999, 500_001, None), (b, 3, 0, None), (b, 3, 4, None), (a, 0, 1_000_000, 5)]))
    assert b"".join(pieces) == b"\0" + b"x" * 500_000 + b"3456" + bytes(1_000_000)
    assert list(map(len, pieces)) == [1 << 20, 1_500_005 - (1 << 20)]


@pytest.mark.parametrize("at", [("gone", 0, 1, None), ("b", 8, 3, None)])
def test_a_file_that_is_gone_or_short_is_told(tmp_path: Path, at: tuple[str, int, int, None]) -> None:
    (tmp_path / "b").write_bytes(b"0123456789")
    with pytest.raises(SpillError, match=f"{tmp_path / at[0]}"):
        list(read_in_pieces([(str(tmp_path / at[0]), *at[1:])]))


def test_what_a_slot_is_sent_lies_in_a_file_until_the_attempt_is_over(tmp_path: Path) -> None:
    carried = Carried(room(tmp_path, 6), "carried-3", 6)
    carried.add(b"abc")
    carried.add(b"def")
    where = carried.found((CARRIED, 2, 3, None))
    assert where == (str(tmp_path / "memory" / "carried-3"), 2, 3, None)
    assert carried.found(("/elsewhere", 0, 1, None)) == ("/elsewhere", 0, 1, None)
    kept = fetch(where)
    carried.close()
    assert (list((tmp_path / "memory").iterdir()), bytes(kept)) == ([], b"cde")


def test_a_full_disk_is_told_when_the_attempt_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(directory: str, n_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arriving, "check_room", full)
    carried = Carried(room(tmp_path, 0), "carried-3", 6)
    carried.add(b"abc")
    carried.add(b"def")
    with pytest.raises(SpillError, match=r"of 6 bytes cannot be written to .*No space left"):
        carried.found((CARRIED, 0, 6, None))
    carried.close()


def test_a_memory_that_is_full_sends_the_file_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_all(descriptor: int, pieces: list[Buffer]) -> None:
        """No more than 3 bytes fit into memory, and some of what does not fit is written all the same."""
        in_memory = os.readlink(f"/proc/self/fd/{descriptor}").endswith("memory/map-0-1")
        for piece in pieces:
            os.write(descriptor, piece[:1] if in_memory and piece == b"def" else piece)
            if in_memory and piece == b"def":
                raise OSError(28, "No space left on device")

    monkeypatch.setattr(arriving, "write_all", write_all)
    file = Arriving(room(tmp_path, 1 << 20), "map-0-1", 9)
    for piece in (b"abc", b"def", b"ghi"):
        file.write(piece)
    file.close()
    assert Path(file.path) == tmp_path / "disk" / "map-0-1"
    assert Path(file.path).read_bytes() == b"abcdefghi"
    assert list((tmp_path / "memory").iterdir()) == []


def test_a_file_that_can_lie_nowhere_is_told_and_lets_go_of_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, pieces: list[Buffer]) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "disk").write_text("no directory")
    monkeypatch.setattr(arriving, "write_all", full)
    n_open = len(os.listdir("/proc/self/fd"))
    file = Arriving(room(tmp_path, 1 << 20), "map-0-1", 9)
    for _ in range(2):
        with pytest.raises(SpillError, match="cannot be written to"):
            file.write(b"abc")
    file.discard()
    assert len(os.listdir("/proc/self/fd")) == n_open
    assert list((tmp_path / "memory").iterdir()) == []
