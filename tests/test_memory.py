"""What a host's kernel says of its memory, and whom it has killed for want of it, from files made up for that."""

from __future__ import annotations

import os
from pathlib import Path

from jmr.shuffle.memory import HostMemory, count_oom_kills, free_memory_bytes, memory_levels, tightest

GIB = 1 << 30
MACHINE = "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:   12582912 kB\n"


def host(root: Path, cgroup: str = "") -> Path:
    """A host with 16 GiB, 4 of them used."""
    for name, text in {"meminfo": MACHINE, "self/cgroup": cgroup, "vmstat": "nr_free 1\noom_kill 7\n"}.items():
        path = root / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(root: Path, path: str, used: int, limit: int | str, stat: str = "", *, kills: int | None = None) -> None:
    """A control group of version 2."""
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text(stat)
    if kills is not None:
        (folder / "memory.events").write_text(f"low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n")


def old_group(root: Path, path: str, used: int, limit: int, stat: str = "", *, kills: int | None = None) -> None:
    """A control group of version 1."""
    folder = root / "sys/fs/cgroup/memory" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text(stat)
    if kills is not None:
        (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")


def test_without_control_groups_the_machine_is_all_there_is(tmp_path):
    root = host(tmp_path)
    assert memory_levels(root) == [HostMemory(4 * GIB, 16 * GIB)]
    assert free_memory_bytes(root) == 12 * GIB


def test_a_host_that_says_nothing_is_not_known_to_be_full(tmp_path):
    assert memory_levels(tmp_path) == []
    assert tightest([]) is None
    assert free_memory_bytes(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert count_oom_kills(tmp_path) is None


def test_of_nested_control_groups_the_fullest_counts_without_its_cached_files(tmp_path):
    root = host(tmp_path, "0::/user/me\n")
    group(root, "user/me", 3 * GIB, "max")
    cached = f"anon 5\nactive_file {GIB}\ninactive_file {GIB // 2}\nslab_reclaimable {GIB // 2}\nfile {9 * GIB}\n"
    group(root, "user", 5 * GIB, 4 * GIB, cached)
    group(root, "", 6 * GIB, 64 * GIB)  # more than there is
    assert memory_levels(root) == [HostMemory(4 * GIB, 16 * GIB), HostMemory(3 * GIB, 4 * GIB)]
    assert tightest(memory_levels(root)) == (3 * GIB, 4 * GIB)
    assert free_memory_bytes(root) == GIB


def test_in_a_container_the_groups_own_path_is_not_to_be_seen(tmp_path):
    root = host(tmp_path, "0::/../../docker/abc\n")
    group(root, "", GIB, 2 * GIB)
    assert memory_levels(root)[1:] == [HostMemory(GIB, 2 * GIB)]


def test_control_groups_of_version_1_are_read_too(tmp_path):
    root = host(tmp_path, "9:name=systemd:/\n5:cpu,memory:/job/7\n0::/\n")
    old_group(root, "job/7", 3 * GIB, 2**63 - 4096)
    cached = f"inactive_file 1\ntotal_active_file {GIB // 4}\ntotal_inactive_file {GIB // 4}\n"
    old_group(root, "job", 3 * GIB, 4 * GIB, cached)
    assert memory_levels(root)[1:] == [HostMemory(5 * GIB // 2, 4 * GIB)]


def test_kills_are_counted_for_our_own_group_where_that_is_done(tmp_path):
    assert count_oom_kills(host(tmp_path / "none")) == 7
    root = host(tmp_path / "new", "0::/me\n")
    group(root, "me", 1, 1, kills=2)
    group(root, "", 1, 1, kills=5)
    assert count_oom_kills(root) == 2
    root = host(tmp_path / "old", "4:memory:/me\n")
    old_group(root, "me", 1, 1, kills=3)
    assert count_oom_kills(root) == 3
    root = host(tmp_path / "root", "0::/\n")  # where nothing counts for the whole machine's group
    group(root, "", 1, 1)
    assert count_oom_kills(root) == 7


def test_this_host_is_read_as_it_is():
    machine, *groups = memory_levels()
    assert 0 < machine.used_bytes < machine.limit_bytes
    assert all(0 <= level.used_bytes <= level.limit_bytes < machine.limit_bytes for level in groups)
    assert 0 < free_memory_bytes() <= machine.limit_bytes
    assert count_oom_kills() is not None
