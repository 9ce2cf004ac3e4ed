"""Which files a user means: patterns, paths and directories to a list of paths, in an order that is always the same.

"logs/*.txt", Path("a.txt"), ["b", "c/**/*.log"] ──listed──> [(path, size), ...]
"s3://bucket/*.txt" ──UrlFiles.listed──> the same, and what opens them
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jmr.errors import ArgumentTypeError, ArgumentValueError, SourceError, describe
from jmr.sources.frames import refuse_frame
from jmr.urls import is_url, local_path

if TYPE_CHECKING:
    from jmr.sources.urls import UrlFile

__all__ = ["listed", "names_in", "refuse_unreadable"]

#: What `os` says of a path that leads nowhere.
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}

#: A path as the user would write it, and about how large it is; None if it is not there.
Listed = tuple[str, int | None]


def listed(paths: Any, storage_options: Mapping[str, Any] | None = None) -> tuple[list[Listed], dict[str, UrlFile]]:
    """The files, pattern by pattern in the given order, each pattern's sorted by name; and those behind URLs by name.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        Something is no path; or there are options for URLs, and no URL.
    SourceError
        A pattern, or a single path, that leads to no file.
    """
    refuse_frame("jmr.files", paths)
    given = list(names_in(paths))
    is_one = len(given) == 1
    found: list[Listed] = []
    urls: dict[str, UrlFile] = {}
    n_urls = 0
    for name in given:
        path = _path(name)
        if path is not None:
            found += _found(os.path.expanduser(path), is_one=is_one)
            continue
        from jmr.sources.urls import listed_urls  # few jobs need it

        n_urls += 1
        found += listed_urls(name, storage_options, urls, is_one=is_one)
    if storage_options is not None and not n_urls:
        raise ArgumentValueError("storage_options are for URLs, and there is none")
    return found, urls


def _path(name: str) -> str | None:
    """A path of this host, as it is or as a "file://" URL; None for any other URL."""
    return local_path(name) or (None if is_url(name) else name)


def names_in(paths: Any) -> Iterator[str]:
    """The names of one path, or of several."""
    if isinstance(paths, (str, os.PathLike)):
        yield _name(paths)
    elif isinstance(paths, Iterable) and not isinstance(paths, (bytes, bytearray, dict)):
        for path in paths:
            yield _name(path)
    else:
        raise ArgumentTypeError(
            f"jmr.files takes a pattern, a path, or a list of these, not {describe(paths)} ({type(paths).__name__})"
        )


def _name(path: Any) -> str:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(name, str) or not name or "\0" in name:
        raise ArgumentTypeError(f"jmr.files takes paths, and {describe(path)} ({type(path).__name__}) is none")
    return name


def _found(name: str, *, is_one: bool) -> list[Listed]:
    try:
        mode, size = _look(name)
    except SourceError:
        if is_one or glob.has_magic(name):
            raise
        return [(name, None)]  # whose turn will come
    if stat.S_ISDIR(mode):
        inside = sorted(_inside(name))
        if not inside:
            raise SourceError(f"the directory {name!r} holds no files (those that begin with a dot are left out)")
        return inside
    if mode and not stat.S_ISREG(mode):
        raise SourceError(f"{name!r} is no file that could be read twice: read it here, and pass what it gives")
    if mode:
        return [(name, size)]
    if glob.has_magic(name):
        return _matched(name)
    if is_one:
        raise SourceError(f"there is no file {name!r} (in {os.getcwd()})")
    return [(name, None)]


def _matched(pattern: str) -> list[Listed]:
    names = sorted(set(glob.iglob(pattern, recursive=True)))  # two "**" find a file more than once
    looks = [(name, *_look(name)) for name in names]
    files: list[Listed] = [(name, size) for name, mode, size in looks if stat.S_ISREG(mode)]
    if not files:
        what = "only directories: add /* or /**" if names else f"nothing (in {os.getcwd()})"
        raise SourceError(f"the pattern {pattern!r} matches {what}")
    return files


def _inside(directory: str) -> Iterator[Listed]:
    """All files below it, but for those whose name begins with a dot, as with patterns.

    Links to directories are not followed: they may lead round in circles.
    """
    for folder, folders, names in os.walk(directory, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)
            mode, size = _look(path)
            if stat.S_ISREG(mode) and not name.startswith("."):
                yield path, size


def _look(path: str) -> tuple[int, int]:
    """Its kind and size; 0 if it is not there. Raises SourceError if nobody can tell."""
    try:
        found = os.stat(path)
    except ValueError:
        return 0, 0
    except OSError as error:
        refuse_unreadable(error)
        return 0, 0
    return found.st_mode, found.st_size


def refuse_unreadable(error: OSError) -> None:
    """Do not leave out in silence what may be there. Raises SourceError."""
    if error.errno not in _NOWHERE:
        raise SourceError(f"{error.filename!r} cannot be read: {error.strerror}") from error
