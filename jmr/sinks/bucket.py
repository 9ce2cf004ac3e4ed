"""A URL that a job writes to, by fsspec.

    worker: write_attempt ──> part-3f2a....jsonl ─┐
    worker: write_attempt ──> part-91c0....jsonl ─┴─publish──> _manifest.json; what it does not name is removed

Nothing can be renamed cheaply there, so each attempt's name is its own, and the manifest says which have won.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

from jmr.errors import ArgumentValueError, WorkerError, describe
from jmr.sinks.base import Part
from jmr.sinks.manifest import MANIFEST, Manifest
from jmr.urls import shown

__all__ = ["Bucket", "filesystem", "write_attempt"]

_PART = re.compile(r"part-[0-9a-f]{32}\.\w+")


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises
    ------
    ArgumentValueError
        What it needs is missing, or there is none of that name.
    """
    try:
        import fsspec
    except ImportError:
        raise ArgumentValueError('a URL needs fsspec: pip install "jmr[fs]"') from None
    try:
        found, path = fsspec.core.url_to_fs(url)
    except Exception as error:  # it may connect, and each file system has errors of its own
        raise ArgumentValueError(f"{shown(url)} cannot be used: {_reason(url, error)}") from None
    return found, str(path).rstrip("/")


def write_attempt(url: str, content: bytes, suffix: str) -> str:
    """Write a part, in a worker, under a name that no other attempt has; returns the name. Raises WorkerError."""
    name = f"part-{uuid.uuid4().hex}{suffix}"
    with _told(url):
        _write(*filesystem(url), name, content)
    return name


def _write(files: Any, path: str, name: str, content: bytes) -> None:
    try:
        files.pipe_file(f"{path}/{name}", content)
    except FileNotFoundError:  # buckets have no directories, others need one
        files.makedirs(path, exist_ok=True)
        files.pipe_file(f"{path}/{name}", content)


class Bucket:
    """The calling thread's side of it.

    Parameters
    ----------
    url
        As the user wrote it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._files, self._path = filesystem(url)
        self._is_open = self._is_published = False

    def check(self) -> None:
        """Refuse it where it holds anything. Raises ArgumentValueError."""
        try:
            names = self._found()
        except Exception as error:  # each file system has errors of its own
            raise ArgumentValueError(f"out={shown(self._url)!r} cannot be used: {_reason(self._url, error)}") from None
        if MANIFEST in names:
            raise ArgumentValueError(
                f"out={shown(self._url)!r} holds the output of a job: read it with jmr.outputs({shown(self._url)!r}), "
                "or remove it to run the job again, or name a new place"
            )
        if others := sorted(name for name in names if not _PART.fullmatch(name)):
            raise ArgumentValueError(f"out={shown(self._url)!r} holds {others[0]!r}: name a new place, or an empty one")

    def open(self) -> None:
        """Nothing need be made there. What a job that did not end has left goes when this one has ended."""
        self.check()
        self._is_open = True

    def put(self, part: Part, suffix: str) -> str:
        """Take a part that a worker has written; or write one here. Returns its name. Raises WorkerError."""
        if not part.name:
            return write_attempt(self._url, part.content, suffix)
        if not self.has(part):
            raise WorkerError(
                f"out={shown(self._url)!r}: a worker has written {part.name} there, and it is not there for this "
                "process. Do all hosts, and all processes, mean the same place by it?"
            )
        return part.name

    def has(self, part: Part) -> bool:
        """Whether a part is there, as a worker says that it has written it."""
        with _told(self._url):
            self._files.invalidate_cache()  # a listing from before the worker has written does not have it
            try:
                return bool(self._files.size(f"{self._path}/{part.name}") == part.n_bytes)
            except FileNotFoundError:
                return False

    def read(self, name: str) -> bytes:
        """A part's content."""
        with _told(self._url):
            self._files.invalidate_cache()
            return bytes(self._files.cat_file(f"{self._path}/{name}"))

    def drop(self, name: str) -> None:
        """What the manifest does not name is removed at the end."""

    def final_names(self, names: list[str], suffix: str) -> list[str]:
        """How parts will be called: as they are."""
        return names

    def publish(self, names: list[str], manifest: Manifest) -> None:
        """Write the manifest: now it is an output. Then tidy up."""
        with _told(self._url):
            there = self._found()
            if MANIFEST in there:
                raise WorkerError(f"out={shown(self._url)!r}: another job has written its output there meanwhile")
            if lost := sorted(set(names) - there):
                raise WorkerError(f"out={shown(self._url)!r}: {lost[0]} is gone. Does another job write there, too?")
            _write(self._files, self._path, MANIFEST, manifest.written())
        self._is_published = True
        self._remove()

    def close(self, *, keeps: bool) -> None:
        """Remove what was not published, unless a checkpoint `keeps` what tells of it."""
        if self._is_open and not self._is_published and not keeps:
            self._remove()
        self._is_open = False

    def _remove(self) -> None:
        """Remove all parts but those that a manifest names, be it another job's."""
        with contextlib.suppress(Exception):  # it is only in the way, and readers go by the manifest
            names = self._found()
            kept = {part.name for part in Manifest.read(self.read(MANIFEST)).parts} if MANIFEST in names else set()
            for name in names:
                if _PART.fullmatch(name) and name not in kept:
                    self._files.rm_file(f"{self._path}/{name}")

    def _found(self) -> set[str]:
        self._files.invalidate_cache()
        try:
            listed = self._files.ls(self._path, detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rstrip("/").rpartition("/")[2] for path in listed} - {self._path.rpartition("/")[2]}


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentValueError, WorkerError):
        raise
    except Exception as error:  # each file system has errors of its own
        raise WorkerError(f"out={shown(url)!r} cannot be written: {_reason(url, error)}") from None


def _reason(url: str, error: Exception) -> str:
    """What an error says, without the credentials that it may say."""
    said = (
        describe(str(error) or error).strip("'\"") if isinstance(error, (ImportError, ValueError)) else describe(error)
    )
    for secret in re.findall(r"(?<=://)[^/?]*@|\?.*", url):
        for part in (secret, secret.partition(":")[2].removesuffix("@"), *re.split("[:@?&=]", secret)):
            said = said.replace(part, "...") if len(part) > 2 else said
    return said
