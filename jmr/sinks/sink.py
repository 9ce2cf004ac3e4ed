"""What an output is to be: as the job's functions travel, so does this.

    out= ──sink_for──> Sink: the format, and the place
    keys, values ──Sink.encoded──> Encoded ──Sink.part──> Part

A directory lies on the kernel's host, so a part takes its file's content along. At a URL the worker writes the part
itself, under a name that no other attempt has, and the part takes only that along.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jmr.errors import ArgumentTypeError, ArgumentValueError, describe
from jmr.sinks.base import Encoded, Format, Part
from jmr.urls import is_url, place_named, shown

__all__ = ["Sink", "format_of", "sink_for"]


@dataclass(frozen=True, slots=True)
class Sink:
    """Where a job's results are written, and how."""

    #: A directory's path or a URL, much as the user wrote it: it may hold credentials.
    place: str = field(repr=False)
    format: Format

    @property
    def is_url(self) -> bool:
        """Whether the workers write."""
        return is_url(self.place)

    @property
    def title(self) -> str:
        """The place, for everybody to read."""
        return shown(self.place)

    @property
    def fingerprint(self) -> str:
        """Equal only if a reduce task that has run for one need not run for the other."""
        return f"{self.format.suffix} 1 {self.place if self.is_url else ''}"

    def encoded(self, keys: list[Any], values: list[Any]) -> Encoded:
        """These results as a file's content, without those that the format cannot hold."""
        return self.format.encoded(keys, values)

    def part(self, encoded: Encoded, n_keys: int, first_key: Any) -> Part:
        """What comes back of it. At a URL it is written now; raises WorkerError where it cannot be."""
        content, name = encoded.content, ""
        n_bytes = len(content)
        if self.is_url:
            from jmr.sinks.bucket import write_attempt

            content, name = b"", write_attempt(self.place, content, self.format.suffix)
        return Part(n_keys, n_bytes, content, name, encoded.schema, describe(first_key))


def sink_for(out: Any) -> Sink:
    """The sink that `out=` asks for; where the files lie is not looked at yet.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        It is no path, or a package is missing.

    Examples
    --------
    >>> sink_for("counts").format.suffix, sink_for("s3://bucket/counts.parquet/").is_url
    ('.jsonl', True)
    """
    path = type(out).__fspath__(out) if hasattr(type(out), "__fspath__") else out
    if not isinstance(path, str):
        raise ArgumentTypeError(f"out must be a directory's path, or a URL, not {describe(out)} ({type(out).__name__})")
    if not path or "\0" in path:
        raise ArgumentValueError(f"out must be a directory's path, or a URL, not {describe(out)}")
    place = place_named(path)
    made = format_of(".parquet" if place.endswith(".parquet") else ".jsonl")
    made.check()
    return Sink(place, made)


def format_of(suffix: str) -> Format:
    """The format of files with such names. Raises ValueError if there is none."""
    if suffix == ".jsonl":
        from jmr.sinks.lines import Lines

        return Lines()
    if suffix == ".parquet":
        from jmr.sinks.parquet import Parquet

        return Parquet()
    raise ValueError(f"there is no format {suffix!r}")
