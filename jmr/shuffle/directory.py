"""The private directories that files of map outputs lie in, and what killed kernels left there.

On disk for what exceeds the memory budget, so on no tmpfs if that can be had; and one in memory, for what does not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from jmr.errors import WorkerError

__all__ = ["Directories", "PrivateDirectory"]

_PREFIX = "jmr-"
_YOUNG_SECONDS = 60.0
_MEMORY = "/dev/shm"


def _disk_parent() -> str:
    """JMR_TMP if that is set; else the first of the usual places that can be written and is no tmpfs."""
    said = os.environ.get("JMR_TMP")
    if said:
        return os.path.abspath(said)
    usual = [path for path in ("/var/tmp", tempfile.gettempdir()) if os.access(path, os.W_OK)]
    return next((path for path in usual if not _is_in_memory(path)), usual[0])


def _memory_parent() -> str | None:
    """Where files lie in memory; None where there is no such place."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) and _is_in_memory(_MEMORY) else None


def _is_in_memory(path: str) -> bool:
    """Whether it lies on a tmpfs, by the longest mount point above it."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:  # macOS has no tmpfs
        return False
    above = [(len(point), kind) for point, kind in mounts if f"{path}/".startswith(f"{point.rstrip('/')}/")]
    return max(above, default=(0, ""))[1] in ("tmpfs", "ramfs")


class PrivateDirectory:
    """A directory of one coordinator, in `parent`.

    Its lock says that it is in use, also to kernels in other containers that share the parent; it goes with the
    process, so what a killed kernel left is found by the next one and removed.
    """

    def __init__(self, parent: str) -> None:
        try:
            self.path = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-", dir=parent)
        except OSError as error:
            raise WorkerError(
                f"no directory for map outputs can be made in {parent}: {error}; set JMR_TMP to one that can be written"
            ) from error
        import fcntl  # not on Windows, where the inline engine must work all the same

        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Remove the directory and all in it; harmless the second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove_leftovers(self) -> None:
        """Remove what this user's killed kernels left beside this directory."""
        parent = os.path.dirname(self.path)
        prefix = f"{_PREFIX}{os.getuid()}-"
        try:
            names = os.listdir(parent)
        except OSError:  # it may be written, and not read
            return
        for name in names:
            path = os.path.join(parent, name)
            if name.startswith(prefix) and path != self.path and not _is_locked(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: str) -> bool:
    """Whether a process uses the directory; a very young one may not be locked yet."""
    import fcntl

    try:
        if time.time() - os.stat(path).st_mtime < _YOUNG_SECONDS:
            return True
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class Directories:
    """Those of one coordinator, on disk and in memory."""

    def __init__(self) -> None:
        self.disk = PrivateDirectory(_disk_parent())
        parent = _memory_parent()
        try:
            self.memory = None if parent is None else PrivateDirectory(parent)
        except BaseException:
            self.disk.close()
            raise
        self._all = [self.disk] if self.memory is None else [self.disk, self.memory]
        self.paths = [directory.path for directory in self._all]

    def close(self) -> None:
        """Remove them."""
        for directory in self._all:
            directory.close()

    def remove_leftovers(self) -> None:
        """Remove what this user's killed kernels left beside them."""
        for directory in self._all:
            directory.remove_leftovers()
