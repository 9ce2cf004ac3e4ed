"""Map outputs in files and inline: what was stored is fetched, damage is noticed, nothing is left."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from jmr.shuffle.directory import PrivateDirectory
from jmr.shuffle.files import Room, SpillError, fetch, let_go, store
from jmr.shuffle.lending import Lender
from jmr.shuffle.outputs import MapOutputs, ReduceInput
from jmr.wire.messages import MapDone

PARTITIONS = [[b"one", b"two"], [], [memoryview(b"x" * 5000)] * 1500]


def room(path: Path, memory_bytes: int) -> Room:
    return Room(str(path / "disk"), str(path / "memory"), memory_bytes)


def done(path: str | None, lengths: list[int], crcs: list[int], inline: bytes, *, unstable: bool = False) -> MapDone:
    return MapDone(1, 1, unstable, 0.0, 0.0, 0, False, path, lengths, crcs, [b"", inline])


def test_a_small_output_stays_inline(tmp_path: Path) -> None:
    stored = store(PARTITIONS[:2], "map-0-1", room(tmp_path, 6))
    assert (stored.path, stored.lengths, b"".join(stored.inline)) == (None, [6, 0], b"onetwo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_a_large_output_is_fetched_from_its_file(tmp_path: Path, memory_bytes: int) -> None:
    stored = store(PARTITIONS, "map-0-1", room(tmp_path, memory_bytes))
    assert stored.path == str(tmp_path / ("memory" if memory_bytes else "disk") / "map-0-1")
    outputs = MapOutputs(3)
    assert outputs.add(0, done(stored.path, stored.lengths, stored.crcs, b"")) == (7_500_006 if memory_bytes else 0)
    assert outputs.add(1, done(None, [0, 3, 3], [], b"abcdef")) == 6
    assert outputs.plan_reduce(1 << 30) == [ReduceInput([0]), ReduceInput([1]), ReduceInput([2])]
    ranges, blobs = outputs.inputs([2])
    assert [split for split, _ in ranges] == [0, 1]
    assert fetch(ranges[0][1]) == b"x" * 7_500_000
    assert [bytes(blob) for blob in blobs] == [b"def"]
    assert os.stat(str(stored.path)).st_mode & 0o077 == 0


def test_an_unstable_key_makes_one_task_of_all_partitions() -> None:
    outputs = MapOutputs(3)
    outputs.add(1, done(None, [1, 0, 1], [], b"ab", unstable=True))
    outputs.add(0, done(None, [1, 0, 0], [], b"c"))
    assert outputs.plan_reduce(1) == [ReduceInput([0, 2])]
    ranges, blobs = outputs.inputs([0, 2])
    assert ([split for split, _ in ranges], [bytes(blob) for blob in blobs]) == ([0, 1, 1], [b"c", b"a", b"b"])


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    stored = store(PARTITIONS, "map-0-1", room(tmp_path, 0))
    path = tmp_path / "disk" / "map-0-1"
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SpillError, match="is damaged at bytes 0 to 6"):
        fetch((stored.path, 0, 6, stored.crcs[0]))
    path.unlink()
    with pytest.raises(SpillError, match="cannot be read"):
        fetch((stored.path, 0, 6, stored.crcs[0]))


def test_a_full_disk_is_told_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(SpillError, match=r"cannot be written to .*No space left.*JMR_TMP"):
        store(PARTITIONS, "map-0-1", room(tmp_path, 0))
    assert list((tmp_path / "disk").iterdir()) == []


def test_leftovers_of_killed_kernels_are_removed_and_others_are_not(
    tmp_path: Path,
) -> None:
    for name in ("dead", "alive", "young"):
        folder = tmp_path / f"jmr-{os.getuid()}-{name}"
        folder.mkdir()
        if name != "young":
            os.utime(folder, (0, 0))
    (tmp_path / "other").mkdir()
    alive = os.open(tmp_path / f"jmr-{os.getuid()}-alive", os.O_RDONLY)
    try:
        fcntl.flock(alive, fcntl.LOCK_EX)
        directory = PrivateDirectory(str(tmp_path))
        directory.remove_leftovers()
        assert {path.name.rpartition("-")[2] for path in tmp_path.iterdir() if path != Path(directory.path)} == {
            "alive",
            "young",
            "other",
        }
        directory.close()
        directory.close()
        assert not Path(directory.path).exists()
    finally:
        os.close(alive)


def test_a_buffer_is_lent_again_unless_it_was_kept(tmp_path: Path) -> None:
    lender = Lender(room(tmp_path, 0))
    assert lender.lend([b"x" * 1000]) is None
    first = lender.lend([b"a" * 300_000, memoryview(b"b" * 300_000)])
    assert first is not None
    held = fetch(first)
    kept = memoryview(held)[:3]
    assert (bytes(kept), held[-1]) == (b"aaa", ord("b"))
    assert not let_go(held)
    lender.take_back(first, kept=True)
    second = lender.lend([b"c" * 600_000])
    assert second is not None
    assert bytes(kept) == b"aaa", "whoever holds on to it has it for good"
    assert let_go(fetch(second))
    lender.take_back(second, kept=False)
    assert lender.lend([b"d" * 400_000]) == (second[0], 0, 400_000, None)
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["split-buffer-2"]
    lender.close()


def test_where_there_is_no_memory_nothing_is_lent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lender(Room(str(tmp_path), None, 0)).lend([b"x" * 1_000_000]) is None

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    lender = Lender(room(tmp_path, 0))
    assert lender.lend([b"x" * 1_000_000]) is None
    lender.close()
