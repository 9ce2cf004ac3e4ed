"""Files behind URLs, which fsspec reads: "s3://...", "https://...", "memory://...", "zip://*.csv::https://...".

    URL or pattern ──found──> UrlFile, ... ──in a split──> a worker ──open──> OpenUrl: read(start, end), identity

A file is read by whole ranges, each by one request. Where it lies is asked once, in the kernel; a worker looks whether
it is still the same file. What is told of a URL, be it in a key, a note or an error, is `shown`: no password and no
signature. fsspec is imported where a URL is, and not before.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from jmr.errors import ArgumentTypeError, SourceError, describe, printable
from jmr.sources.disk import Identity
from jmr.urls import shown

__all__ = [
    "OpenUrl",
    "UrlFile",
    "found",
    "listed_urls",
    "located",
    "plain_error",
    "version_of",
]

#: By which a file is known to be the same, if its size is; the first of them that a file system tells.
_VERSIONS = (
    *("generation", "ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "CRC"),
    *("LastModified", "last_modified", "Last-Modified", "updated", "modified", "mtime", "created", "date_time"),
)
#: Files whose sizes are asked at the same time.
_AT_ONCE = 16
_MOST_TOLD = 300
_WEB = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True, repr=False)
class UrlFile:
    """One file, as it was found; opens itself."""

    #: Its URL, as it may be shown.
    name: str
    #: The file system of fsspec's that it is in, with what it takes to get in; and its path there.
    system: Any = field(compare=False)
    path: str = field(compare=False)
    #: None where nobody has told.
    n_bytes: int | None
    #: What it is known by; None where that is only its size.
    version: tuple[str, str] | None
    #: Why it could not be found.
    error: OSError | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"UrlFile({self.name!r})"

    @property
    def is_of_this_process(self) -> bool:
        """Whether nobody else has it: fsspec's own memory."""
        return "memory://" in self.name

    def look(self, _: str = "") -> Identity:
        """What it was when it was found. Raises OSError if it was not."""
        if self.error is not None:
            raise self.error
        return self.n_bytes or 0, "" if self.version is None else self.version[1]

    def open(self, _: str = "") -> OpenUrl:
        """Asks nobody yet."""
        return OpenUrl(self)

    def has_ranges(self) -> bool:
        """Whether some of it can be read without the rest. Asks a web server, which may not know how to do that.

        Raises
        ------
        OSError
            It does not answer.
        """
        if not self.n_bytes:
            return False
        if self.n_bytes < 2 or not _is_web(self.system):
            return True
        return bool(_tried(self._is_read_from_the_second_byte))

    def _is_read_from_the_second_byte(self) -> bool:
        try:
            with self.system.open(self.path, "rb", size=self.n_bytes, cache_type="none") as file:
                file.seek(1)
                return len(file.read(1)) == 1
        except ValueError:  # which is how fsspec says that all came, and before it has read that
            return False


@dataclass(frozen=True, slots=True)
class OpenUrl:
    """An `OpenFile`; whatever its errors say may be shown."""

    file: UrlFile

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Read a range by one request. Raises OSError."""
        file = self.file
        if file.n_bytes is not None:
            end = file.n_bytes if end is None else min(end, file.n_bytes)
            if start >= end:
                return b""
        part = {} if not start and end == file.n_bytes else {"start": start, "end": end}
        data: bytes = _tried(file.system.cat_file, file.path, **part, **_as_it_is(file.system))
        if end is not None and len(data) != end - start:
            raise OSError(errno.EIO, f"{len(data):,} bytes came where {end - start:,} were to come")
        return data

    def identity(self) -> Identity:
        """What it is now. Raises OSError."""
        file = self.file
        file.system.invalidate_cache()
        info = _tried(file.system.info, file.path)
        told_as, was = file.version or ("", "")
        size = file.n_bytes if info.get("size") is None else info["size"]
        return size or 0, _as_text(info.get(told_as, was))

    def close(self) -> None:
        """Nothing is open."""


def _tried(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call fsspec; what goes wrong is told without secrets, and without what led to it."""
    try:
        return function(*args, **options)
    except Exception as error:
        told = plain_error(error)
    raise told


def _as_it_is(system: Any) -> dict[str, Any]:
    """Options by which a web server does not pack what it sends: a range would be one of other bytes."""
    return {"headers": {**system.kwargs.get("headers", {}), "Accept-Encoding": "identity"}} if _is_web(system) else {}


def listed_urls(
    url: str, storage_options: Mapping[str, Any] | None, known: dict[str, UrlFile], *, is_one: bool
) -> list[tuple[str, int | None]]:
    """Names and sizes of the files that a URL stands for, which are added to the known ones.

    Two of one name, which differ by what is not shown, or by who is asked, get two names. Where there are several URLs,
    one that leads to no file is told when it is to be read.

    Raises
    ------
    SourceError
        As of `found`.
    """
    listed: list[tuple[str, int | None]] = []
    for file in found(url, storage_options, is_one=is_one):
        names = itertools.chain([file.name], (f"{file.name}#{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in known or _is_same(known[name], file))
        known[name] = replace(file, name=name)
        listed.append((name, file.n_bytes))
    return listed


def _is_same(one: UrlFile, other: UrlFile) -> bool:
    return bool(one.system == other.system) and one.path == other.path


def found(url: str, storage_options: Mapping[str, Any] | None = None, *, is_one: bool = True) -> list[UrlFile]:
    """The files that a URL stands for, sorted by name: one; all that a pattern fits; all in a directory.

    Parameters
    ----------
    url
        As fsspec knows them.
    storage_options
        For fsspec's file system: who is asking, say.
    is_one
        Whether to raise where a URL that is no pattern leads to no file.

    Raises
    ------
    SourceError
        There are none, they cannot be looked up, or a package is missing.
    """
    system, path = located(url, storage_options)
    try:
        system.invalidate_cache()  # what it saw when the last job was run
        infos = _infos(system, path)
    except Exception as error:
        told = plain_error(error)
        if not is_one and not _is_pattern(system, path):
            return [UrlFile(shown(url), system, path, None, None, told)]
        raise SourceError(f"{shown(url)!r} cannot be read: {told.strerror}") from None
    if not infos:
        raise SourceError(f"{shown(url)!r} fits no file")
    is_exact = len(infos) == 1 and infos[0]["name"] == path
    files = [
        UrlFile(
            name=shown(url) if is_exact else _name(url, path, info["name"]),
            system=system,
            path=info["name"],
            n_bytes=info.get("size"),
            version=version_of(info),
        )
        for info in infos
    ]
    return sorted(files, key=lambda file: file.name)


def located(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The file system that fsspec has for a URL, and the path there. Raises SourceError if it has none."""
    if not isinstance(storage_options, Mapping | None):
        raise ArgumentTypeError(f"storage_options must be a dict, not {type(storage_options).__name__}")
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url, **(storage_options or {}))
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "fsspec":
            raise SourceError(f'{shown(url)!r} needs fsspec: pip install "jmr[fs]"') from None
        said = printable(str(error.msg).strip().rstrip("."), _MOST_TOLD)
        raise SourceError(f"{shown(url)!r} cannot be read: {said}. Install that here and on the workers") from None
    except Exception as error:
        raise SourceError(f"{shown(url)!r} cannot be read: {plain_error(error).strerror}") from None
    return system, path


def version_of(info: Mapping[str, Any]) -> tuple[str, str] | None:
    """What, in all that a file system tells of a file, would be another if the file were; None if there is nothing."""
    return next(((name, _as_text(info[name])) for name in _VERSIONS if info.get(name)), None)


def _as_text(told: Any) -> str:
    """The same, whether a listing tells it or somebody who was asked for one file: these differ in times and quotes."""
    return str(told.timestamp() if hasattr(told, "timestamp") else told).removeprefix("W/").strip('"')


def _infos(system: Any, path: str) -> list[dict[str, Any]]:
    """What is known of each file that a path or a pattern stands for, besides `name` at least `size`."""
    is_name = "[" in path and system.exists(path)
    if _is_pattern(system, path) and not is_name:
        matches = system.glob(path, detail=True)
        if matches or not system.exists(path):
            return _complete(system, _seen(path, [info for info in matches.values() if info["type"] == "file"]))
    info = system.info(path)
    if info["type"] != "directory":
        return [{**info, "name": path}]
    return _complete(system, _seen(path, system.find(path, detail=True).values()))


def _seen(path: str, infos: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those in which no name begins with a dot that the user has not written, as with patterns of files here."""
    return [info for info in infos if _n_dotted(info["name"]) <= _n_dotted(path)]


def _n_dotted(path: str) -> int:
    return sum(name.startswith(".") for name in path.split("/"))


def _is_pattern(system: Any, path: str) -> bool:
    return any(sign in path for sign in ("*[" if _is_web(system) else "*?["))


def _complete(system: Any, infos: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, with sizes that a listing has not told; many are asked at the same time."""
    infos = [info for info in infos if not info["name"].endswith("/")]
    paths = [info["name"] for info in infos if info.get("size") is None]
    if not paths:
        return infos
    with ThreadPoolExecutor(min(_AT_ONCE, len(paths)), "jmr-urls") as threads:
        told = dict(zip(paths, threads.map(system.info, paths), strict=True))
    return [{**told.get(info["name"], info), "name": info["name"]} for info in infos]


def _name(url: str, where: str, path: str) -> str:
    """How a user would write the URL of one of the files that a URL stands for; `where` is the path of that."""
    first, *rest = url.split("::")
    caches = []
    while "://" not in first and rest:  # "simplecache" and its like keep the names of what they keep
        caches.append(first)
        first, *rest = rest
    scheme, _, named = first.partition("://")
    name = path if "://" in path else f"{scheme}://{_host(named, where)}{path.lstrip('/')}"
    return shown("::".join([*caches, name, *rest]))


def _host(named: str, where: str) -> str:
    """What of a URL is no part of its path: in those of FTP, SFTP and others the host, and the slash after it."""
    named, where = named.rstrip("/"), where.rstrip("/")
    host = named[: len(named) - len(where)] if named.endswith(where) else ""
    return f"{host.rstrip('/')}/" if host else ""


def _is_web(system: Any) -> bool:
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return not _WEB.isdisjoint(protocols)


def plain_error(error: Exception) -> OSError:
    """The same without secrets, and without what led to it, which may have some."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:  # a web server's answer, whatever it was
        error = cause if isinstance(cause, Exception) else error
    status = getattr(error, "status", None)
    if isinstance(status, int) and hasattr(error, "message"):
        number = {404: errno.ENOENT, 401: errno.EACCES, 403: errno.EACCES}.get(status, errno.EIO)
        return OSError(number, printable(f"the server says {status} {shown(str(error.message))}".strip(), _MOST_TOLD))
    if isinstance(error, FileNotFoundError):
        return OSError(errno.ENOENT, "there is no such file")
    if isinstance(error, PermissionError):
        return OSError(errno.EACCES, printable(shown(error.strerror or str(error)) or "not allowed", _MOST_TOLD))
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
    text = f"{type(error).__name__}: {shown(str(error))}" if str(error) else describe(error)
    return OSError(number, printable(text, _MOST_TOLD))
