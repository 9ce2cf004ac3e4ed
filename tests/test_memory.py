"""What a host's kernel says of its memory, from files made up for that; what slots have of it; whom it has killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jmr
from jmr.shuffle.budget import memory_budget
from jmr.shuffle.memory import HostMemory, count_oom_kills, free_memory_bytes, memory_levels, tightest
from jmr.worker.memory import Gauge, OomKills, share_of, slot_bytes

MIB, GIB = 1 << 20, 1 << 30
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


# Slots.


def process(root: Path, pid: int, anon: int, *, shared: int = 0, children: str = "", pss: int | None = None) -> None:
    """In kB."""
    home = root / f"proc/{pid}"
    (home / f"task/{pid}").mkdir(parents=True)
    (home / f"task/{pid}/children").write_text(children)
    (home / "status").write_text(
        f"Name:\tpython\nVmRSS:\t 888888 kB\nRssAnon:\t {anon} kB\nRssFile:\t 7 kB\nRssShmem:\t{shared} kB\n"
    )
    if pss is not None:
        (home / "smaps_rollup").write_text(
            f"Rss: 1 kB\nPss: 9 kB\nPss_Anon: {pss} kB\nPss_File: 8 kB\nPss_Shmem: 1 kB\n"
        )


def test_a_slot_has_what_lies_in_no_file(tmp_path):
    process(tmp_path, 10, anon=1000, shared=24)
    assert slot_bytes(10, tmp_path) == MIB
    assert slot_bytes(11, tmp_path) == 0  # it has ended


def test_a_slots_children_count_and_pages_that_they_share_count_once(tmp_path):
    process(tmp_path, 10, anon=5000, children="11 13 ", pss=2999)
    process(tmp_path, 11, anon=5000, children="12 ", pss=2999)
    process(tmp_path, 12, anon=100)  # who may not look into it takes it as it is
    assert slot_bytes(10, tmp_path) == (3000 + 3000 + 100) * 1024


def test_a_real_process_and_its_child_are_measured():
    program = (
        "import os, sys; kept = bytearray(60_000_000); kept[::4096] = b'x' * len(kept[::4096])\n"
        "pid = os.fork()\n"
        "if pid: print('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        assert 60_000_000 < slot_bytes(parent.pid) < 100_000_000
        parent.communicate()
    assert slot_bytes(parent.pid) == 0


# Shares.


def test_slots_share_what_others_leave():
    full = HostMemory(used_bytes=9 * GIB, limit_bytes=10 * GIB)
    assert share_of(full, ours=8 * GIB, n_slots=2, budget_bytes=None) == 7 * GIB // 2
    assert share_of(full, ours=0, n_slots=2, budget_bytes=None) == 64 * MIB  # others have it all


def test_a_budget_bounds_what_slots_have_besides_their_interpreters():
    empty = HostMemory(used_bytes=0, limit_bytes=10 * GIB)
    assert share_of(empty, 0, 2, budget_bytes=512 * MIB) == (64 + 256) * MIB
    assert share_of(empty, 0, 2, budget_bytes=0) == 64 * MIB
    assert share_of(empty, 0, 2, budget_bytes=100 * GIB) == 4 * GIB


def filled(root: Path, **kilobytes: int) -> Path:
    host(root)
    for slot, kb in kilobytes.items():
        process(root, int(slot[1:]), anon=kb)
    return root


def test_the_host_and_all_slots_are_told(tmp_path, monkeypatch):
    monkeypatch.delenv("JMR_MEMORY", raising=False)
    gauge = Gauge(filled(tmp_path, p10=1024, p11=2048))
    measured = gauge.measure({2: 11, 1: 10})
    assert (measured.used_bytes, measured.limit_bytes) == (4 * GIB, 16 * GIB)
    assert measured.slots == [(1, MIB), (2, 2 * MIB)]
    assert gauge.seconds == 1.0
    assert gauge.to_signal(0.0) == []


def test_a_host_that_cannot_be_measured_is_not(tmp_path):
    process(tmp_path, 10, anon=10**6)
    assert Gauge(tmp_path).measure({1: 10}) is None


def test_a_slot_above_its_share_is_told_once_a_second_and_measured_more_often(tmp_path, monkeypatch):
    monkeypatch.setenv("JMR_MEMORY", "100M")
    gauge = Gauge(filled(tmp_path, p10=100 * 1024, p11=120 * 1024))  # of 64 + 50 MiB
    gauge.measure({1: 10, 2: 11})
    assert gauge.seconds == 0.25
    assert [gauge.to_signal(now) for now in (10.0, 10.25, 10.75, 11.0, 11.25)] == [[2], [], [], [2], []]
    gauge.measure({1: 10})
    assert gauge.to_signal(11.5) == []


def test_what_slots_have_together_can_be_limited(tmp_path, monkeypatch):
    monkeypatch.setenv("JMR_MEMORY_LIMIT", "1G")
    measured = Gauge(filled(tmp_path, p10=256 * 1024, p11=512 * 1024)).measure({1: 10, 2: 11})
    assert (measured.used_bytes, measured.limit_bytes) == (768 * MIB, GIB)


def test_a_limit_that_is_no_size_is_told_where_the_job_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("JMR_MEMORY_LIMIT", "lots")
    with pytest.raises(jmr.ArgumentValueError, match="JMR_MEMORY_LIMIT is 'lots', which is no size: write \"512M\""):
        memory_budget()
    assert Gauge(filled(tmp_path, p10=1024)).measure({1: 10}).limit_bytes == 16 * GIB


# Kills.


class Kernel:
    """Counts whom it kills."""

    def __init__(self) -> None:
        self.n_kills: int | None = 3

    def count(self) -> int | None:
        return self.n_kills


def test_a_kill_explains_one_death():
    kernel = Kernel()
    kills = OomKills(kernel.count)
    assert not kills.claim(0.0)
    kernel.n_kills = 4
    assert kills.claim(1.0)
    assert not kills.claim(1.0)


def test_a_kill_that_was_seen_before_its_victim_had_ended_explains_the_death():
    kernel = Kernel()
    kills = OomKills(kernel.count)
    kernel.n_kills = 5
    kills.look(1.0)
    assert kills.claim(9.0)
    assert kills.claim(9.0)
    assert not kills.claim(9.0)


def test_a_kill_of_long_ago_explains_nothing():
    kernel = Kernel()
    kills = OomKills(kernel.count)
    kernel.n_kills = 4
    kills.look(1.0)
    assert not kills.claim(60.0)


def test_a_kernel_that_does_not_count_is_never_blamed():
    kernel = Kernel()
    kernel.n_kills = None
    assert not OomKills(kernel.count).claim(0.0)
