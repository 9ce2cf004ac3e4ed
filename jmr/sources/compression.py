"""Compressed files: known by their first bytes, whatever they are called, and decompressed whole.

first bytes ──kind_of──> "gzip", "bz2", "xz", "zstd" or None
bytes, kind ──decompressed──> bytes
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from jmr.errors import SourceError

__all__ = ["MAGIC_BYTES", "decompressed", "kind_of"]

#: So many first bytes tell.
MAGIC_BYTES = 10
_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x50\x2a\x4d\x18": "zstd",  # a frame to skip, with which pzstd begins
}
#: What follows "BZh" and a digit: a block, or the end. Text may begin with less.
_BZ2_GO_ON = (b"1AY&SY", b"\x17rE8P\x90")


def kind_of(first: bytes) -> str | None:
    """How a file with these first bytes is compressed; None if it is not.

    Examples
    --------
    >>> import bz2, gzip
    >>> kind_of(gzip.compress(b"text")), kind_of(bz2.compress(b"")), kind_of(b"BZh9 is no magic")
    ('gzip', 'bz2', None)
    """
    for magic, kind in _MAGIC.items():
        if first.startswith(magic):
            return kind
    is_bz2 = first[:3] == b"BZh" and first[3:4].isdigit() and first[4:10] in _BZ2_GO_ON
    return "bz2" if is_bz2 else None


def decompressed(data: bytes, kind: str) -> bytes:
    """All that was compressed, member after member.

    Raises
    ------
    SourceError
        The data are damaged, or end too early; or nothing here can decompress them.
    """
    decompress = _DECOMPRESS[kind]()
    try:
        content: bytes = decompress(data)
    except Exception as error:  # each library has its own
        raise SourceError(f"its {kind} data are damaged, or end too early: {error}") from error
    return content


def _gzip() -> Any:
    return importlib.import_module("gzip").decompress


def _bz2() -> Any:
    make = importlib.import_module("bz2").BZ2Decompressor
    return lambda data: _by_streams(make, data)


def _xz() -> Any:
    make = importlib.import_module("lzma").LZMADecompressor
    return lambda data: _by_streams(make, data, padding=b"\0")


def _zstd() -> Any:
    names = ["compression.zstd"] if sys.version_info >= (3, 14) else []
    for name in [*names, "backports.zstd"]:
        try:
            return importlib.import_module(name).decompress
        except ImportError:
            continue
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        raise SourceError(
            "it is compressed with zstd, which this Python cannot read: pip install backports.zstd (Python 3.14 has "
            "it) on each host"
        ) from None
    return lambda data: _by_streams(lambda: zstandard.ZstdDecompressor().decompressobj(), data)


_DECOMPRESS = {"gzip": _gzip, "bz2": _bz2, "xz": _xz, "zstd": _zstd}


def _by_streams(make: Callable[[], Any], data: bytes, padding: bytes = b"") -> bytes:
    """One stream after the other: what follows the first must be one, too.

    `bz2.decompress` and `lzma.decompress` take a damaged one for the end, and zstandard an early end.
    """
    pieces = []
    while data:
        one = make()
        pieces.append(one.decompress(data))
        if not one.eof:
            raise EOFError("the last stream is not complete")
        data = one.unused_data.lstrip(padding) if padding else one.unused_data
    return b"".join(pieces)
