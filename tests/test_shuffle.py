"""Map outputs in files and inline: what was stored is fetched, damage is noticed, nothing is left."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

import jmr
from jmr.shuffle.budget import Budget, memory_budget
from jmr.shuffle.directory import PrivateDirectory, _is_in_memory
from jmr.shuffle.files import Dealt, Room, SpillError, fetch, let_go, store
from jmr.shuffle.lending import Lender
from jmr.shuffle.outputs import MapOutputs, ReduceInput
from jmr.wire.messages import MapDone

PARTITIONS = [[b"one", b"two"], [], [memoryview(b"x" * 5000)] * 1500]


def room(path: Path, memory_bytes: int) -> Room:
    return Room(str(path / "disk"), str(path / "memory"), memory_bytes)


def done(path: str | None, lengths: list[int], crcs: list[int], inline: bytes, *, unstable: bool = False) -> MapDone:
    return MapDone(1, 1, 1, unstable, 0.0, 0.0, 0, 0, False, path, lengths, crcs, [b"", inline])


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
    assert outputs.plan_reduce(1 << 30) == [ReduceInput([2], 7_500_003), ReduceInput([0], 6), ReduceInput([1], 3)]
    ranges, blobs = outputs.inputs([2])
    assert [split for split, _ in ranges] == [0, 1]
    assert fetch(ranges[0][1]) == b"x" * 7_500_000
    assert [bytes(blob) for blob in blobs] == [b"def"]
    assert os.stat(str(stored.path)).st_mode & 0o077 == 0


def test_an_unstable_key_makes_one_task_of_all_partitions() -> None:
    outputs = MapOutputs(3)
    outputs.add(1, done(None, [1, 0, 1], [], b"ab", unstable=True))
    outputs.add(0, done(None, [1, 0, 0], [], b"c"))
    assert outputs.plan_reduce(1) == [ReduceInput([0, 2], 3)]
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


def test_a_share_is_promised_before_it_is_known_how_much_is_needed() -> None:
    budget = Budget(100)
    assert [budget.reserve(slot, n_slots=4) for slot in (1, 2, 3, 4)] == [25, 25, 25, 25]
    for slot in (1, 2):
        budget.release(slot)
        budget.use(20)
    assert budget.reserve(1, n_slots=4) == 5, "10 are left for two"
    budget.release(9)
    budget.free(40)
    assert budget.reserve(5, n_slots=4) == 45


def test_the_budget_is_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, n_bytes in [("512M", 1 << 29), ("1.5 GiB", 3 << 29), ("0", 0), (" 100kb ", 102_400), ("1T", 1 << 40)]:
        monkeypatch.setenv("JMR_MEMORY", said)
        assert memory_budget() == n_bytes
    monkeypatch.setenv("JMR_MEMORY", "lots")
    with pytest.raises(jmr.ArgumentValueError, match='JMR_MEMORY is \'lots\', which is no size: write "512M" or "4G"'):
        memory_budget()
    monkeypatch.delenv("JMR_MEMORY")
    assert memory_budget() > 1 << 20


def test_what_exceeds_memory_goes_to_a_place_that_is_not_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = f"/dev/vda / ext4 rw\ntmpfs {tmp_path}/in tmpfs rw\n/dev/vdb {tmp_path}/in/deep ext4 rw\n"
    monkeypatch.setattr(Path, "read_text", lambda self: mounts)
    assert [_is_in_memory(f"{tmp_path}{end}") for end in ("", "/in", "/in/side", "/in/deep/er", "/inside")] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_map_output_that_finds_no_room_in_memory_goes_to_disk(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file, so that no directory can be made here")
    stored = store(PARTITIONS, "map-0-1", room(tmp_path, 1 << 30))
    assert stored.path == str(tmp_path / "disk" / "map-0-1")
    assert len(stored.crcs) == 3


def test_a_disk_is_not_filled_to_the_brim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_full = os.statvfs_result((4096, 4096, 0, 0, 16_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: nearly_full)
    with pytest.raises(SpillError, match="No space left"):
        store(PARTITIONS, "map-0-1", room(tmp_path, 0))
    with pytest.raises(SpillError, match="No space left"), Dealt(str(tmp_path / "disk"), "reduce-0-1", 2) as dealt:
        dealt.add(0, 1, [b"x"])
    assert list((tmp_path / "disk").iterdir()) == []
