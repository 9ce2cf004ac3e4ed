"""The files of a table: which they are, of what format, and what columns they have.

    what ──paths──> files ──format, schema──> Found ──parts──> Part, one a file

Everything is found out in the calling thread, when `jmr.table` is called: what is wrong with it shows there.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jmr.errors import ArgumentTypeError, ArgumentValueError, SourceError, describe
from jmr.sources.frames import refuse_frame
from jmr.sources.listing import refuse_unreadable
from jmr.sources.tables.parts import Part, dumped_bytes
from jmr.urls import is_url, local_path, shown

__all__ = ["Found", "found_table"]

#: What Arrow calls a format, by what the names of its files end in.
_ENDINGS = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".csv.bz2": "csv",
    ".csv.zst": "csv",
    ".feather": "feather",
    ".arrow": "feather",
    ".ipc": "feather",
    ".orc": "orc",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
#: How files begin, whatever their names.
_MAGIC = {b"PAR1": "parquet", b"ARRO": "feather", b"ORC\x03": "orc"}
#: Files that are looked at for columns, if those before them cannot be read.
_MOST_TRIED = 8
_FORMATS = ("parquet", "csv", "feather", "arrow", "ipc", "orc", "json")


@dataclass(frozen=True)
class Found:
    """A table."""

    #: A `pyarrow.dataset.FileSystemDataset`.
    dataset: Any
    #: A `pyarrow.dataset.FileFormat`.
    format: Any
    schema: Any
    #: None for the files of this host.
    filesystem: Any

    @property
    def is_of_this_process(self) -> bool:
        """Whether nobody else has its files: they are in fsspec's own memory."""
        protocol = getattr(getattr(getattr(self.filesystem, "handler", None), "fs", None), "protocol", "")
        return "memory" in ((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def has_groups(self) -> bool:
        """Whether its files tell where their rows lie, so that they can be cut."""
        from pyarrow.dataset import IpcFileFormat, ParquetFileFormat

        return isinstance(self.format, (IpcFileFormat, ParquetFileFormat))

    def parts(self, wanted: Any) -> list[Part]:
        """Its files, in order, without those that an expression rules out by the names of their directories."""
        from pyarrow.dataset import get_partition_keys

        found = []
        for fragment in self.dataset.get_fragments(filter=wanted):
            told = fragment.partition_expression
            n_bytes, mtime_ns = self._looked_at(fragment.path)
            found.append(
                Part(fragment.path, n_bytes, mtime_ns, dumped_bytes(told) if get_partition_keys(told) else b"")
            )
        return found

    def _looked_at(self, path: str) -> tuple[int | None, int | None]:
        if self.filesystem is None:
            try:
                found = os.stat(path)
            except OSError as error:
                raise SourceError(f"{path!r} cannot be read: {error.strerror}") from error
            return found.st_size, found.st_mtime_ns
        told = self.filesystem.get_file_info(path)
        return told.size, told.mtime_ns


def found_table(
    what: Any, kind: Any, schema: Any, filesystem: Any, storage_options: Mapping[str, Any] | None = None
) -> Found:
    """Find the files of a table, and what is in them.

    Raises
    ------
    SourceError
        There is none, one that was named is missing, or no file can be read.
    """
    from pyarrow.dataset import Dataset, FileFormat, FileSystemDataset

    refuse_frame("jmr.table", what)
    if isinstance(what, Dataset):
        if not isinstance(what, FileSystemDataset):
            raise ArgumentTypeError(f"what is a {type(what).__name__}, which has no files: pass its table to jmr.run")
        return Found(what, what.format, what.schema if schema is None else schema, _elsewhere(what.filesystem))
    paths, filesystem = _located(what, filesystem, storage_options)
    store = _elsewhere(filesystem)
    with contextlib.nullcontext() if store is None else _told_of(what):
        paths = _paths(paths, store)
        dataset = _dataset(paths, _format_of(paths, kind, store), schema, store)
    kept = kind if isinstance(kind, FileFormat) else dataset.format  # Arrow gives it back without its encoding
    return Found(dataset, kept, dataset.schema, store)


@contextlib.contextmanager
def _told_of(what: Any) -> Iterator[None]:
    """What goes wrong in a store is told with what it was asked for; each has errors of its own."""
    try:
        yield
    except (ArgumentTypeError, ArgumentValueError, SourceError):
        raise
    except Exception as error:
        from jmr.sources.urls import plain_error

        hint = ". Pass what the file system needs in storage_options=" if "://" in str(what) else ""
        raise SourceError(f"{describe(what)} cannot be read: {plain_error(error).strerror}{hint}") from None


def _elsewhere(filesystem: Any) -> Any:
    """A file system of Arrow's; None if it is this host's."""
    from pyarrow.fs import FileSystem, FSSpecHandler, LocalFileSystem, PyFileSystem

    if filesystem is None or isinstance(filesystem, LocalFileSystem):
        return None
    return filesystem if isinstance(filesystem, FileSystem) else PyFileSystem(FSSpecHandler(filesystem))


# ---- paths


def _located(what: Any, filesystem: Any, storage_options: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """Paths, and where they are: a URL tells both."""
    if filesystem is None and isinstance(what, str) and "://" in what:
        from jmr.sources.urls import located  # few jobs need it

        path = local_path(what)
        if path is None:
            if shown(what) != what:  # Arrow's messages have paths in them, as keys do
                raise SourceError(f"{shown(what)!r} has a password or a signature: pass that in storage_options")
            return located(what, storage_options)[::-1]
        what = path
    if storage_options is not None:
        raise ArgumentValueError("storage_options are for a URL, and there is none")
    return what, filesystem


def _paths(what: Any, store: Any) -> list[str]:
    if isinstance(what, (str, os.PathLike)):
        found = _of_one(os.fspath(what), store)
    elif isinstance(what, Iterable) and not isinstance(what, (bytes, dict)):
        found = [path for one in what for path in _paths(one, store)]
    else:
        raise ArgumentTypeError(
            f"what must be a path, a pattern, a directory, a list of paths or a pyarrow dataset, not {describe(what)}"
        )
    if not found:
        raise SourceError(f"there are no files of a table in {describe(what)}")
    return found


def _of_one(path: str, store: Any) -> list[str]:
    if not isinstance(path, str):
        raise ArgumentTypeError(f"a path must be a str, not {describe(path)}")
    path = path if store is not None else _here(path)
    kind = _kind(path, store)
    if kind == "file":
        return [path]
    if kind == "directory":
        return _of_one_format(path, [name for name in _below(path, store) if not _is_hidden(name, path)])
    if glob.has_magic(path):
        return _matching(path, store)
    raise SourceError(f"there is no file {path!r}{f' (in {os.getcwd()})' if store is None else ''}")


def _here(path: str) -> str:
    """A path of this host, which may be one of several."""
    local = local_path(path)
    if local is None and is_url(path):
        raise ArgumentTypeError(
            'jmr.table takes one URL, not a list: name a pattern, such as "s3://bucket/flights/*.parquet", or pass '
            "the paths with filesystem="
        )
    return os.path.expanduser(path if local is None else local)


def _kind(path: str, store: Any) -> str:
    if store is None:
        return "file" if os.path.isfile(path) else "directory" if os.path.isdir(path) else ""
    info = store.get_file_info(path)
    return "file" if info.is_file else "directory" if info.type.name == "Directory" else ""


def _below(directory: str, store: Any) -> Iterable[str]:
    """All files of a directory, in the order of their paths."""
    if store is None:
        walked = os.walk(directory, followlinks=True, onerror=refuse_unreadable)
        return sorted(os.path.join(parent, name) for parent, _, names in walked for name in names)
    from pyarrow.fs import FileSelector

    return sorted(info.path for info in store.get_file_info(FileSelector(directory, recursive=True)) if info.is_file)


def _is_hidden(path: str, directory: str) -> bool:
    """Whether it is no data, by the usual rule: `_SUCCESS`, `.crc`."""
    return any(name.startswith(("_", ".")) for name in path[len(directory) :].replace(os.sep, "/").split("/"))


def _of_one_format(directory: str, paths: list[str]) -> list[str]:
    formats = {path: _ending(path) for path in paths}
    known = sorted({name for name in formats.values() if name})
    if len(known) > 1:
        raise SourceError(f'{directory!r} has files of {" and ".join(known)}: name some, such as "{directory}/*.csv"')
    return [path for path in paths if formats[path]] if known else paths


def _matching(pattern: str, store: Any) -> list[str]:
    if store is None:
        found = set(glob.iglob(pattern, recursive=True))  # two "**" find a file more than once
        return sorted(path for path in found if os.path.isfile(path))
    before = pattern[: next(i for i, letter in enumerate(pattern) if letter in "*?[")]
    matches = re.compile(_translated(pattern)).fullmatch
    return [path for path in _below(before.rpartition("/")[0], store) if matches(path)]


def _translated(pattern: str) -> str:
    """A pattern as a regular expression: `*` stays in a directory, `**/` does not; `[!x]` is any but x."""
    parts = re.split(r"(\*\*/|\*|\?|\[[^]]+\])", pattern)
    rules = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        rules.get(part) or (re.sub(r"^\[!", "[^", part) if part[:1] == "[" and i % 2 else re.escape(part))
        for i, part in enumerate(parts)
    )


# ---- format and columns


def _ending(path: str) -> str | None:
    name = os.path.basename(path).lower()
    return next((kind for ending, kind in _ENDINGS.items() if name.endswith(ending)), None)


def _format_of(paths: list[str], given: Any, store: Any) -> Any:
    """What to tell Arrow."""
    if isinstance(given, str):
        if given not in _FORMATS:
            raise ArgumentValueError(f"format must be one of {', '.join(_FORMATS)}, not {describe(given)}")
        return given
    if given is not None:
        return given
    kind = _ending(paths[0]) or _MAGIC.get(_beginning(paths[0], store))
    if kind is None:
        raise SourceError(f'{paths[0]!r} does not tell its format by its name: say it, such as format="csv"')
    return kind


def _beginning(path: str, store: Any) -> bytes:
    try:
        with open(path, "rb") if store is None else store.open_input_stream(path) as file:
            return bytes(file.read(4))
    except OSError as error:
        raise SourceError(f"{path!r} cannot be read: {error.strerror or error}") from error


def _dataset(paths: list[str], kind: Any, schema: Any, filesystem: Any) -> Any:
    """Has the columns of the first file that can be read: one that cannot may be skipped by the job."""
    from pyarrow.dataset import dataset

    def made(paths: list[str], schema: Any) -> Any:
        return dataset(paths, schema=schema, format=kind, filesystem=filesystem, partitioning="hive")

    try:
        return made(paths, schema)
    except (OSError, ValueError) as error:  # Arrow's own derive from these
        for i in range(1, min(len(paths), _MOST_TRIED)):
            try:
                found = made([paths[i], *paths[:i], *paths[i + 1 :]], None).schema
            except (OSError, ValueError):
                continue
            return made(paths, found)
        raise SourceError(str(error).removeprefix("Error creating dataset. ")) from error
