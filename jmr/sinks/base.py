"""What a reduce task makes of its results in a job that writes them.

keys, values ──Format.encoded──> Encoded: the content of a file, without those that do not fit
                                   └──> Part: the same, or where it lies, with its counts
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Encoded", "Format", "Part", "PartError"]


class PartError(Exception):
    """A part cannot be read: it is no such file, or not all of one."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows in a format."""

    content: bytes
    #: What is not among them, by its number: whether it is the key that does not fit, and why.
    unfit: dict[int, tuple[bool, str]] = field(default_factory=dict)
    #: Of what types the columns are, where the format has columns.
    schema: bytes = b""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an output."""

    n_keys: int
    n_bytes: int
    #: Empty where it was written by the worker, and has a name already.
    content: bytes = b""
    name: str = ""
    schema: bytes = b""
    #: What its first key is, in words.
    first_key: str = ""


class Format(Protocol):
    """How results lie in a file; nothing of it is kept between two calls."""

    #: Of the files' names; and what errors call it.
    suffix: str
    title: str

    def check(self) -> None:
        """Raise ArgumentValueError where a package is missing."""

    def encoded(self, keys: list[Any], values: list[Any]) -> Encoded:
        """The content of a file."""

    def decoded(self, content: bytes) -> tuple[list[Any], list[Any]]:
        """Its keys and values. Raises PartError."""

    def common(self, schemas: list[bytes]) -> bytes:
        """The schema that all have in common, or that all can be turned to. Raises ValueError if there is none."""

    def turned(self, content: bytes, schema: bytes) -> bytes:
        """The same rows with that schema. Raises ValueError if they do not fit it."""
