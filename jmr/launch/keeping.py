"""Functions of jobs on their way to this host, each into a file that all slots here map.

    Keep ... ──take──> a thread: written, in order ──> Kept, or CannotKeep
    ForgetJob ──forget──> removed

The loop itself never waits for a disk, since it also says that we are there.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from jmr.codec.values import Buffer
from jmr.links.link import Link
from jmr.shuffle.arriving import Arriving
from jmr.shuffle.directory import Directories
from jmr.shuffle.files import Room, room_of
from jmr.wire.far import CannotKeep, Keep, Kept
from jmr.wire.messages import whole

__all__ = ["Keeping"]


class Keeping:
    """Those of one membership.

    Parameters
    ----------
    link
        To the coordinator.
    directories
        Where the files lie.
    """

    def __init__(self, link: Link, directories: Directories) -> None:
        self._link = link
        self._directories = directories
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jmr-keeping")
        self._arriving: dict[int, Arriving] = {}
        #: Jobs that are over, or whose functions cannot be kept.
        self._given_up: set[int] = set()

    def take(self, piece: Keep) -> None:
        """Have the next bytes of a job's functions written, soon."""
        if piece.job in self._given_up:
            return
        if piece.job not in self._arriving:
            room = self._room(piece.job)
            self._arriving[piece.job] = Arriving(
                room if piece.in_memory else Room(room.directory, None, 0), "functions", piece.n_bytes
            )
        file, blob = self._arriving[piece.job], whole(piece.blobs[0])
        self._link.note_unwritten(sys.getsizeof(blob))
        writing = asyncio.get_running_loop().run_in_executor(self._thread, _write, file, blob, piece.n_bytes)
        writing.add_done_callback(partial(self._note_written, piece, file, sys.getsizeof(blob)))

    def forget(self, job: int) -> None:
        """The job is over: remove its files, behind what is still written."""
        self._given_up.add(job)
        file = self._arriving.pop(job, None)
        if file is None:
            self._remove(job)
            return
        closing = asyncio.get_running_loop().run_in_executor(self._thread, file.close)
        closing.add_done_callback(lambda _: self._remove(job))

    def close(self) -> None:
        """Wait for the thread, and let go of the files; not on the loop."""
        self._thread.shutdown(cancel_futures=True)
        for file in self._arriving.values():
            file.close()

    def _note_written(self, piece: Keep, file: Arriving, n_bytes: int, writing: asyncio.Future[bool]) -> None:
        self._link.note_unwritten(-n_bytes)
        if writing.cancelled():
            return
        try:
            is_whole = writing.result()
        except Exception as error:  # whatever it is, the coordinator waits to be told
            self._give_up(piece, error)
            return
        if is_whole and piece.job not in self._given_up:
            self._link.send(Kept(piece.job, file.path))

    def _give_up(self, piece: Keep, error: Exception) -> None:
        if piece.job not in self._given_up:
            self._given_up.add(piece.job)
            reason = f"a file of {piece.n_bytes:,} bytes cannot be written to {self._room(piece.job).directory}"
            self._link.send(CannotKeep(piece.job, f"{reason}: {error.__cause__ or error}"))

    def _room(self, job: int) -> Room:
        disk, memory = self._directories.disk, self._directories.memory
        return room_of(job, disk.path, None if memory is None else memory.path, sys.maxsize)

    def _remove(self, job: int) -> None:
        room = self._room(job)
        for directory in (room.directory, room.memory_directory):
            if directory is not None:
                asyncio.get_running_loop().run_in_executor(None, _remove, directory)


def _write(file: Arriving, blob: Buffer, n_bytes: int) -> bool:
    """Write the next bytes; whether they were the last."""
    file.write(blob)
    if file.n_written < n_bytes:
        return False
    file.close()
    return True


def _remove(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)
