"""What a job has written, read again: its manifest, and each of its files.

place ──manifest_of──> Manifest ──> File ──read──> content ──Format.decoded──> keys, values
"""

from __future__ import annotations

import os

from jmr.errors import ArgumentValueError, describe
from jmr.sinks.manifest import MANIFEST, Manifest
from jmr.urls import is_url, shown

__all__ = ["manifest_of", "read_file", "seen_at", "whole_path"]


def whole_path(place: str) -> str:
    """The same place, whatever the working directory will be."""
    return place if is_url(place) else os.path.abspath(place)


def manifest_of(place: str) -> Manifest:
    """The manifest of an output.

    Raises
    ------
    ArgumentValueError
        There is none, or it cannot be read.
    """
    try:
        return Manifest.read(read_file(place, MANIFEST))
    except FileNotFoundError:
        raise ArgumentValueError(
            f"{shown(place)!r} holds no output of a job: there is no {MANIFEST}, which is written when one has ended"
        ) from None
    except NotADirectoryError:
        raise ArgumentValueError(f"{shown(place)!r} is a file: name the directory that a job's out= named") from None
    except ArgumentValueError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise ArgumentValueError(f"{MANIFEST} in {shown(place)!r} cannot be read: {_told(error)}") from error


def read_file(place: str, name: str, start: int = 0, end: int | None = None) -> bytes:
    """Some bytes of a file, or all. Raises OSError, or what the URL's file system raises."""
    if is_url(place):
        from jmr.sinks.bucket import filesystem

        files, path = filesystem(place)
        content = bytes(files.cat_file(f"{path}/{name}", start=start or None, end=end))
        is_whole = end is not None and len(content) > end - start  # from a web server that knows of no ranges
        return content[start:end] if is_whole else content
    with open(os.path.join(place, name), "rb") as file:
        file.seek(start)
        return file.read() if end is None else file.read(end - start)


def seen_at(place: str, name: str) -> tuple[int, int]:
    """Size of a file, and when it was changed, in nanoseconds; of one at a URL, whose name no other file has, nothing.

    -1 and 0 where this process sees no such file.
    """
    if is_url(place):
        return 0, 0
    try:
        seen = os.stat(os.path.join(place, name))
    except OSError:
        return -1, 0
    return seen.st_size, seen.st_mtime_ns


def _told(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else describe(error)
