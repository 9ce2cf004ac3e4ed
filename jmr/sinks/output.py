"""The calling thread's side of a job that writes its results.

    check_place, before anything starts
    Output.open ──> add(Part) as each partition comes ──> settle ──> commit ──> {path: number of keys}
                                                     └─ close ──> nothing is left of it

One part is in memory at a time. Where there is no manifest there is no output: it is written last.
"""

from __future__ import annotations

import os
from dataclasses import replace
from operator import itemgetter
from typing import Protocol

from jmr.errors import ReduceError
from jmr.sinks.base import Part
from jmr.sinks.manifest import Listed, Manifest
from jmr.sinks.sink import Sink

__all__ = ["Output", "Place", "check_place", "place_of"]


class Place(Protocol):
    """A directory, or a URL."""

    def check(self) -> None:
        """Refuse it where it holds anything. Raises ArgumentValueError."""

    def open(self) -> None:
        """Make it ready. Raises ArgumentValueError."""

    def put(self, part: Part, suffix: str) -> str:
        """Have a part lie there; returns the name of its file until it is published. Raises WorkerError."""

    def has(self, part: Part) -> bool:
        """Whether a part that was kept in a checkpoint can be had still."""

    def read(self, name: str) -> bytes:
        """A file's content. Raises WorkerError."""

    def drop(self, name: str) -> None:
        """Have no use for a part any more."""

    def final_names(self, names: list[str], suffix: str) -> list[str]:
        """How these files will be called."""

    def publish(self, names: list[str], manifest: Manifest) -> None:
        """Call them so, and write the manifest. Raises WorkerError."""

    def close(self, *, keeps: bool) -> None:
        """Remove what was not published, if it need not stay for a checkpoint. Harmless if repeated."""


def place_of(sink: Sink) -> Place:
    """Where a sink's parts lie."""
    if sink.is_url:
        from jmr.sinks.bucket import Bucket

        return Bucket(sink.place)
    from jmr.sinks.folder import Folder

    return Folder(sink.place)


def check_place(sink: Sink) -> None:
    """Refuse a place that cannot be used, before anything starts. Raises ArgumentValueError."""
    place_of(sink).check()


class Output:
    """What one job writes.

    Parameters
    ----------
    sink
        What it asked for.
    keeps
        Whether a checkpoint keeps what its reduce tasks have given.
    """

    def __init__(self, sink: Sink, *, keeps: bool) -> None:
        self._sink = sink
        self._keeps = keeps
        self._place = place_of(sink)
        #: Where the first key of each appeared first, the part without its content, and its file's name until then.
        self._parts: list[tuple[int, Part, str]] = []
        #: What all parts so far can be turned to.
        self._schema = b""

    def open(self) -> None:
        """Make the place ready. Raises ArgumentValueError."""
        self._place.open()

    def add(self, order: int, part: Part) -> None:
        """Take a part. Raises WorkerError where it cannot be written, ReduceError where it is not like the others."""
        self._agree(part)
        name = self._place.put(part, self._sink.format.suffix)
        self._parts.append((order, replace(part, content=b""), name))

    def settle(self) -> None:
        """All parts are there: put them in order, and give all one schema. Raises WorkerError, ReduceError."""
        self._parts.sort(key=itemgetter(0))
        self._parts = [(order, *self._turned(part, name)) for order, part, name in self._parts]

    def commit(self, job: str) -> tuple[Manifest, list[tuple[str, int]]]:
        """Publish it all; returns what was, and the files' paths with their counts, by their first keys."""
        suffix = self._sink.format.suffix
        names = [name for _, _, name in self._parts]
        parts = zip(self._place.final_names(names, suffix), self._parts, strict=True)
        listed = tuple(Listed(name, part.n_keys, part.n_bytes) for name, (_, part, _) in parts)
        manifest = Manifest(job, suffix, listed)
        self._place.publish(names, manifest)
        return manifest, [(self._path(each.name), each.n_keys) for each in listed]

    def close(self) -> None:
        """Leave nothing of it where it was not published. Harmless if repeated."""
        self._place.close(keeps=self._keeps)

    def _agree(self, part: Part) -> None:
        before = self._schema
        try:
            self._schema = self._sink.format.common([before, part.schema]) if before else part.schema
        except ValueError as error:
            raise _unlike(part, error) from None

    def _turned(self, part: Part, name: str) -> tuple[Part, str]:
        """A part with the schema that all have: written once more where it was another one."""
        if part.schema == self._schema:
            return part, name
        try:
            content = self._sink.format.turned(self._place.read(name), self._schema)
        except ValueError as error:
            raise _unlike(part, error) from None
        turned = replace(part, content=content, n_bytes=len(content), name="")
        new_name = self._place.put(turned, self._sink.format.suffix)
        self._place.drop(name)
        return replace(turned, content=b""), new_name

    def _path(self, name: str) -> str:
        if self._sink.is_url:
            return f"{self._sink.title}/{name}"
        return os.path.join(self._sink.place, name)


def _unlike(part: Part, error: ValueError) -> ReduceError:
    return ReduceError(
        f"the results do not go into one Parquet column: in the file that begins with key={part.first_key}, {error}. "
        'Have all keys of one type, and reducefn return one type; or write JSON lines, to an out= without ".parquet".'
    )
