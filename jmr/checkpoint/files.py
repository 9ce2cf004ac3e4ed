"""Files of a checkpoint, written once; and whether they are still what was written.

pieces, or another file ──write_blob, copy_output──> a new file, with checksums ──read_blob, is_whole──> ... or damaged
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from jmr.checkpoint.journal import Blob
from jmr.codec.values import Buffer, byte_length
from jmr.shuffle.files import check_room, crc_of, new_file, write_all

__all__ = ["copy_output", "is_whole", "read_blob", "write_blob"]

_PIECE_BYTES = 1 << 20


def write_blob(folder: str, path: str, pieces: Sequence[Buffer]) -> Blob:
    """Put a blob into a new file; `path` is its name below the folder. Raises OSError, and leaves no file then."""
    with _made(folder, path, byte_length(pieces)) as descriptor:
        write_all(descriptor, pieces)
    return Blob(path, byte_length(pieces), crc_of(pieces))


def copy_output(folder: str, path: str, source: str, lengths: Sequence[int]) -> list[int]:
    """Put another file's bytes into a new one; returns the checksum of each partition. Raises OSError."""
    crcs = []
    with open(source, "rb", buffering=0) as file, _made(folder, path, sum(lengths)) as descriptor:
        for length in lengths:
            crc, n_left = 0, length
            while n_left:
                piece = file.read(min(n_left, _PIECE_BYTES))
                if not piece:
                    raise OSError(f"{source} is shorter than it was")
                write_all(descriptor, [piece])
                crc = zlib.crc32(piece, crc)
                n_left -= len(piece)
            crcs.append(crc)
    return crcs


@contextlib.contextmanager
def _made(folder: str, path: str, n_bytes: int) -> Iterator[int]:
    whole = os.path.join(folder, path)
    os.makedirs(os.path.dirname(whole), mode=0o700, exist_ok=True)
    check_room(folder, n_bytes)
    descriptor = new_file(whole)
    try:
        yield descriptor
    except OSError:
        os.unlink(whole)
        raise
    finally:
        os.close(descriptor)


def read_blob(folder: str, blob: Blob) -> bytearray | None:
    """What was written, writable; None if it is not there, or damaged."""
    try:
        with open(os.path.join(folder, blob.path), "rb") as file:
            if os.fstat(file.fileno()).st_size != blob.n_bytes:
                return None
            content = bytearray(blob.n_bytes)
            n_bytes = file.readinto(content)
    except OSError:
        return None
    return content if (n_bytes, zlib.crc32(content)) == (blob.n_bytes, blob.crc) else None


def is_whole(path: str, lengths: Sequence[int], crcs: Sequence[int]) -> bool:
    """Whether a map output's file is there, as long as it was, and not damaged anywhere; it is read to its end."""
    if len(lengths) != len(crcs):
        return False
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != sum(lengths):
                return False
            return all(_crc_of_next(file, length) == crc for length, crc in zip(lengths, crcs, strict=True))
    except OSError:
        return False


def _crc_of_next(file: BinaryIO, n_left: int) -> int:
    crc = 0
    while n_left and (piece := file.read(min(n_left, _PIECE_BYTES))):
        crc = zlib.crc32(piece, crc)
        n_left -= len(piece)
    return crc
