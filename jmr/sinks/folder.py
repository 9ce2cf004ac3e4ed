"""A directory on this host that a job writes into.

    put ──> .jmr-3f2a.tmp, ... ──publish──> .jmr-manifest.tmp ──> part-00000.jsonl, ... ──> _manifest.json

What is there before the manifest is no output: the same job, run again, removes it, and only that. The names that
parts get are in the manifest before the first of them gets one, so what a killed kernel leaves is known by name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
import weakref
from collections.abc import Iterator

from jmr.errors import ArgumentValueError, WorkerError
from jmr.sinks.base import Part
from jmr.sinks.manifest import MANIFEST, Manifest

__all__ = ["Folder"]

_NEW_MANIFEST = ".jmr-manifest.tmp"
_TEMPORARY = re.compile(r"\.jmr-([0-9a-f]{32}|manifest)\.tmp")


class Folder:
    """The directory, whether it is there or not.

    Parameters
    ----------
    name
        Its path, as the user wrote it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        #: The working directory may be another one by the time that the job ends.
        self._path = os.path.abspath(name)
        self._is_new = self._is_published = False
        self._lock = -1

    def check(self) -> None:
        """Refuse it where it holds anything. Raises ArgumentValueError."""
        with self._told_as_argument():
            self._check_access()
            left = self._left()
            others = sorted(name for name in self._names() if name not in left)
        if MANIFEST in others:
            raise ArgumentValueError(f"out={self._name!r} {self._held()}")
        if others:
            raise ArgumentValueError(f"out={self._name!r} holds {others[0]!r}: name a new directory, or an empty one")

    def open(self) -> None:
        """Make it, keep others from it, and remove what was left of a job that did not end."""
        with self._told_as_argument():
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._path)
                self._is_new = True
            self._lock = self._locked()
            _held.add(self)
            self.check()
            for name in self._left():
                os.unlink(os.path.join(self._path, name))

    def put(self, part: Part, suffix: str) -> str:
        """Write a part; returns a name for it until it is published. Raises WorkerError."""
        name = f".jmr-{uuid.uuid4().hex}.tmp"
        with self._told():
            self._write(name, part.content)
        return name

    def has(self, part: Part) -> bool:
        """A part brings its content along."""
        return True

    def read(self, name: str) -> bytes:
        """A part's content."""
        with self._told():
            return self._content(name)

    def drop(self, name: str) -> None:
        """Remove a part that is not to be published."""
        with self._told():
            os.unlink(os.path.join(self._path, name))

    def final_names(self, names: list[str], suffix: str) -> list[str]:
        """How parts will be called."""
        return [f"part-{number:05}{suffix}" for number in range(len(names))]

    def publish(self, names: list[str], manifest: Manifest) -> None:
        """Give the parts their names, then the manifest its own: now it is an output."""
        with self._told():
            self._write(_NEW_MANIFEST, manifest.written())
            for name, listed in zip(names, manifest.parts, strict=True):
                os.replace(os.path.join(self._path, name), os.path.join(self._path, listed.name))
            os.replace(os.path.join(self._path, _NEW_MANIFEST), os.path.join(self._path, MANIFEST))
        self._is_published = True

    def close(self, *, keeps: bool) -> None:
        """Remove what was not published; let others use it. Harmless if repeated."""
        if self._lock < 0:
            return
        if not self._is_published:
            with contextlib.suppress(OSError):
                for name in self._left():
                    os.unlink(os.path.join(self._path, name))
                if self._is_new:
                    os.rmdir(self._path)
        self.release()

    def release(self) -> None:
        """Let others use it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_access(self) -> None:
        """Raise an OSError where it cannot be written, or made."""
        path = self._path if os.path.lexists(self._path) else os.path.dirname(self._path)
        os.listdir(path)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []

    def _left(self) -> set[str]:
        """What a job that did not end has left here: temporary files, and what it was about to publish."""
        names = set(self._names())
        left = {name for name in names if _TEMPORARY.fullmatch(name)}
        if _NEW_MANIFEST in left and MANIFEST not in names:
            with contextlib.suppress(OSError, ValueError):  # it was not written to its end, so nothing was published
                left |= {part.name for part in Manifest.read(self._content(_NEW_MANIFEST)).parts} & names
        return left

    def _held(self) -> str:
        """What an earlier job has written there, and what to do."""
        try:
            manifest = Manifest.read(self._content(MANIFEST))
        except (OSError, ValueError):
            return f"holds {MANIFEST!r}: name a new directory, or remove that one"
        keys = "1 key" if manifest.n_keys == 1 else f"{manifest.n_keys:,} keys"
        return (
            f"holds the output of job {manifest.job!r}, {keys}: read it with jmr.outputs({self._name!r}), or remove it "
            "to run the job again, or name a new directory"
        )

    def _content(self, name: str) -> bytes:
        with open(os.path.join(self._path, name), "rb") as file:
            return file.read()

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self._path, name)
        try:
            with open(path, "wb") as file:
                file.write(content)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _locked(self) -> int:
        """The directory's descriptor: locked, where directories can be."""
        try:
            import fcntl  # not on Windows, where directories cannot be opened, either
        except ImportError:
            return os.open(os.devnull, os.O_RDONLY)
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ArgumentValueError(f"out={self._name!r} is being written by another job: name another one") from None
        except OSError:  # some file systems have no locks
            pass
        return descriptor

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkerError(f"out={self._name!r} cannot be written: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _told_as_argument(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if os.path.isfile(self._path):
                raise ArgumentValueError(
                    f"out={self._name!r} is a file: name a directory, which may be a new one"
                ) from None
            parent = os.path.dirname(self._path)
            if isinstance(error, FileNotFoundError) and not os.path.exists(parent):
                raise ArgumentValueError(
                    f"out={self._name!r} cannot be made: there is no directory {parent!r}; make it first"
                ) from None
            raise ArgumentValueError(f"out={self._name!r} cannot be used: {error.strerror or error}") from error


#: Folders of this process. A child that it forks has their locks too, and would keep them when this process is gone.
_held: weakref.WeakSet[Folder] = weakref.WeakSet()


def _release_held() -> None:
    for folder in list(_held):
        folder.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_held)
