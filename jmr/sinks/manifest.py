"""The manifest of an output: which files a job has written. It is written last, so where it is, the output is whole.

    _manifest.json: {"jmr": 1, "job": "counts", "format": ".jsonl", "n_keys": 3, "parts": [{"name": ..., ...}, ...]}

Its name begins with an underscore, as that of `_SUCCESS` does: readers of whole directories pass it over.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["MANIFEST", "Listed", "Manifest"]

MANIFEST = "_manifest.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """One file."""

    name: str
    n_keys: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one job has written.

    Examples
    --------
    >>> manifest = Manifest("counts", ".jsonl", (Listed("part-00000.jsonl", 3, 90),))
    >>> Manifest.read(manifest.written()) == manifest, manifest.n_keys
    (True, 3)
    """

    job: str
    #: The files' suffix, which says what they are.
    suffix: str
    parts: tuple[Listed, ...]

    @property
    def n_keys(self) -> int:
        """Of all files."""
        return sum(part.n_keys for part in self.parts)

    def written(self) -> bytes:
        """As a file's content."""
        head = {"jmr": _VERSION, "job": self.job, "format": self.suffix, "n_keys": self.n_keys}
        return (json.dumps(head | {"parts": list(map(asdict, self.parts))}, indent=1) + "\n").encode()

    @classmethod
    def read(cls, content: bytes) -> Manifest:
        """From a file's content. Raises ValueError: it is none, or one of another version."""
        try:
            told = json.loads(content)
            if told["jmr"] != _VERSION:
                raise ValueError(f"it is of version {told['jmr']}, not {_VERSION}")
            parts = tuple(
                Listed(str(part["name"]), int(part["n_keys"]), int(part["n_bytes"])) for part in told["parts"]
            )
            return cls(str(told["job"]), str(told["format"]), parts)
        except (TypeError, KeyError) as error:
            raise ValueError(f"it is no manifest of jmr's: {error!r}") from error
