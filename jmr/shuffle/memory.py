"""How much memory this host has, and how much of it is used, as its kernel counts.

    /proc/meminfo ──────────────────────────────────┐
    control groups, from ours up to the root ───────┴──> levels ──tightest──> how full the host is
                                                             └──────least───> what is free

Cached files do not count: the kernel drops them before it refuses anybody memory. What lies in a tmpfs does. A few
small files are read, each time anew; a system that has none of them (macOS) is one of which nothing is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["HostMemory", "count_oom_kills", "free_memory_bytes", "memory_levels", "tightest"]

_ROOT = Path("/")


class HostMemory(NamedTuple):
    """Of the machine, or of a control group with a limit."""

    used_bytes: int
    limit_bytes: int

    @property
    def part_used(self) -> float:
        """From 0 to about 1."""
        return self.used_bytes / self.limit_bytes


class _Group(NamedTuple):
    """Where one version of control groups tells what."""

    home: str
    #: In /proc/self/cgroup.
    line: str
    limit: str
    used: str
    #: In memory.stat: what is dropped when memory is short, descendants included.
    cached: tuple[str, ...]
    #: The file that counts the processes that were killed for want of memory.
    kills: str


_VERSIONS = (
    _Group(
        "sys/fs/cgroup",
        r"^0::(/.*)$",
        "memory.max",
        "memory.current",
        ("active_file", "inactive_file", "slab_reclaimable"),
        "memory.events",
    ),
    _Group(
        "sys/fs/cgroup/memory",
        r"^\d+:(?:\w+,)*memory(?:,\w+)*:(/.*)$",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
        "memory.oom_control",
    ),
)


def memory_levels(root: Path = _ROOT) -> list[HostMemory]:
    """All that bounds this process's memory: the machine first, then control groups with limits, ours first.

    Parameters
    ----------
    root
        Where /proc and /sys are.
    """
    machine = _machine(root)
    if machine is None:
        return []
    groups = [
        level for version in _VERSIONS for folder in _folders(version, root) if (level := _level(version, folder))
    ]
    return [machine, *(level for level in groups if level.limit_bytes < machine.limit_bytes)]


def tightest(levels: list[HostMemory]) -> HostMemory | None:
    """The one that is fullest; None where nothing is known."""
    return max(levels, key=lambda level: level.part_used, default=None)


def free_memory_bytes(root: Path = _ROOT) -> int:
    """What this process can still have: of the machine, and of its control groups if they allow less."""
    levels = memory_levels(root)
    if not levels:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min(level.limit_bytes - level.used_bytes for level in levels))


def count_oom_kills(root: Path = _ROOT) -> int | None:
    """How many processes of our control group the kernel has killed for want of memory; None if it does not say.

    It counts before it kills. Where it does not count for the group, it is all of the machine.
    """
    for version in _VERSIONS:
        for folder in _folders(version, root):
            n = _number(r"^oom_kill (\d+)$", folder / version.kills)
            if n is not None:
                return n
            break  # the others are not ours alone
    return _number(r"^oom_kill (\d+)$", root / "proc/vmstat")


def _machine(root: Path) -> HostMemory | None:
    told = _read(root / "proc/meminfo")
    total = re.search(r"^MemTotal:\s+(\d+) kB", told, re.MULTILINE)
    available = re.search(r"^MemAvailable:\s+(\d+) kB", told, re.MULTILINE)
    if total is None or available is None:
        return None
    total_bytes = int(total[1]) * 1024
    return HostMemory(total_bytes - int(available[1]) * 1024, total_bytes)


def _folders(version: _Group, root: Path) -> Iterator[Path]:
    """Of our control group and those around it, as far as they can be seen, which in a container is not far."""
    found = re.search(version.line, _read(root / "proc/self/cgroup"), re.MULTILINE)
    if found is None:
        return
    home = root / version.home
    parts = [part for part in found[1].split("/") if part not in ("", "..")]
    for n in range(len(parts), -1, -1):
        folder = home.joinpath(*parts[:n])
        if folder.is_dir():
            yield folder


def _level(version: _Group, folder: Path) -> HostMemory | None:
    limit = _number(r"^(\d+)$", folder / version.limit)
    used = _number(r"^(\d+)$", folder / version.used)
    if not limit or used is None:  # there is none, or it says "max"
        return None
    cached = dict(line.split()[:2] for line in _read(folder / "memory.stat").splitlines() if " " in line)
    return HostMemory(max(0, used - sum(int(cached.get(name, 0)) for name in version.cached)), limit)


def _number(pattern: str, path: Path) -> int | None:
    found = re.search(pattern, _read(path), re.MULTILINE)
    return None if found is None else int(found[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
