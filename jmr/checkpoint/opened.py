"""A checkpoint while a job uses it: its lock is held, and its journal grows.

    Checkpoint ──> what earlier runs left ──begin──> a run ──> kept_map, kept_results: what is there, and whole
                                                         ├──> cut, keep_map, keep_result: what is new
                                                         └──finish──> a short journal, and no file that it does not name

A file is read to its end before it counts as kept, and its checksums are compared.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from jmr.checkpoint.files import copy_output, is_whole, read_blob, write_blob
from jmr.checkpoint.folder import Folder
from jmr.checkpoint.journal import (
    FORMAT,
    Blob,
    Cut,
    Ended,
    Entry,
    Header,
    Journal,
    KeptClass,
    KeptMap,
    KeptResult,
    Run,
    write_journal,
)
from jmr.checkpoint.ledger import Ledger
from jmr.codec.values import Buffer
from jmr.errors import WorkerError

__all__ = ["Checkpoint"]


class Checkpoint:
    """What jobs have left that ran in a directory, and what this one leaves.

    One thread reads the source, takes what is there, and cuts; another one may keep meanwhile.

    Parameters
    ----------
    path
        Of the directory.
    damaged
        Told in words what of it cannot be used.

    Raises
    ------
    ArgumentValueError
        The directory cannot be used; see `Folder`.
    """

    def __init__(self, path: str, damaged: Callable[[str], None]) -> None:
        self._damaged = damaged
        self._folder = Folder(path)
        self._journal: Journal | None = None
        self._header = Header(FORMAT, "{}.{}".format(*sys.version_info))
        self._run = Run(0, "", 0.0, 0, "")
        self._cuts: list[Cut] = []
        #: Identities of classes: those by which this process knows its own, ...
        self.known: frozenset[str] = frozenset()
        #: ... and those that may be in what it keeps.
        self.classes: tuple[str, ...] = ()
        #: What this run rests on: found, or left by itself.
        self._used: list[KeptMap | KeptResult] = []
        try:
            self._entries, self._is_sound = self._read()
            self.ledger = Ledger(self._entries)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The directory, as the user wrote it."""
        return self._folder.name

    @property
    def directory(self) -> str:
        """Where this run's map outputs belong; it need not be there yet."""
        return os.path.join(self._folder.path, self._run.directory)

    def _read(self) -> tuple[list[Entry], bool]:
        """The journal, as far as it can be used; and whether one can go on writing behind it."""
        entries, n_bad = self._folder.read()
        headers = [entry for entry in entries if isinstance(entry, Header)]
        if headers == [self._header]:
            if n_bad:
                self._damaged(f"the checkpoint's journal was damaged in {n_bad} line{'s' if n_bad > 1 else ''}")
            return entries, not n_bad
        if entries or n_bad:
            self._damaged(f"the checkpoint {self._told_other(headers)}: everything is done again")
        return [self._header], False

    def _told_other(self, headers: list[Header]) -> str:
        if not headers:
            return "has lost the first line of its journal"
        if headers[0].format != FORMAT:
            return f"has format {headers[0].format}, not {FORMAT}"
        return f"is of Python {headers[0].python}"

    def begin(self, name: str, n_partitions: int, mapping: str) -> None:
        """Begin a run; see `Run`. Raises OSError."""
        before = 0 if self.ledger.run is None else self.ledger.run.number
        self._run = Run(max(before, self._folder.last_run()) + 1, name, time.time(), n_partitions, mapping)
        if not self._is_sound:
            write_journal(self._folder.journal, self._entries)
        self._journal = Journal(self._folder.journal)
        self._append(self._run)
        self.ledger.take(self._run)

    def _append(self, entry: Entry) -> None:
        assert self._journal is not None
        self._journal.append(entry)

    # What is there.

    def kept_map(self, key: str, *, skips: bool) -> tuple[KeptMap, Buffer] | None:
        """What a map task has left, with the whole path of its output; and what it set aside, if a job `skips` such."""
        kept = self.ledger.maps.get(key)
        if kept is None or (kept.failures is not None and not skips) or not self._can_load(kept):
            return None
        path, failures = os.path.join(self._folder.path, kept.path), self._failures(kept)
        if failures is None or not is_whole(path, kept.done["lengths"], kept.done["crcs"]):
            self._damaged("some of the checkpoint was missing or damaged, and is done again")
            return None
        self._used.append(kept)
        return replace(kept, path=path), failures

    def kept_results(self, key: str, *, skips: bool) -> Iterator[tuple[KeptResult, Buffer, Buffer]]:
        """What reduce tasks have given, each with its blob, and what it set aside; see `uses`."""
        for kept in self.ledger.results.get(key, {}).values():
            if (kept.failures is not None and not skips) or not self._can_load(kept):
                continue
            blob, failures = read_blob(self._folder.path, kept.blob), self._failures(kept)
            if blob is None or failures is None:
                self._damaged("some of the checkpoint was missing or damaged, and is done again")
            else:
                yield kept, blob, failures

    def blob_of(self, kept: KeptResult) -> Buffer:
        """The blob of one of them once more. Raises WorkerError if it is gone meanwhile."""
        blob = read_blob(self._folder.path, kept.blob)
        if blob is None:
            raise WorkerError(f"{kept.blob.path} in {self.name} was there when the job began, and is not any more")
        return blob

    def _can_load(self, kept: KeptMap | KeptResult) -> bool:
        """Whether instances in it would be of this process's classes: else equal keys would be of two."""
        for identity in kept.classes:
            if identity not in self.known:
                cls = self.ledger.classes.get(identity)
                which = "a class" if cls is None else f"the class {cls.qualname}"
                self._damaged(f"some of the checkpoint has {which} in it, as it was then, and is done again")
                return False
        return True

    def uses(self, kept: KeptResult) -> None:
        """The job's result rests on it."""
        self._used.append(kept)

    def _failures(self, kept: KeptMap | KeptResult) -> Buffer | None:
        return b"" if kept.failures is None else read_blob(self._folder.path, kept.failures)

    # What is new. All of these raise OSError: there is no room, say.

    def cut(self, end: int) -> None:
        """Note where a split ends."""
        self._cuts.append(Cut(end))
        self._append(self._cuts[-1])

    def keep_class(self, kept: KeptClass) -> None:
        """Note a class."""
        self._append(kept)
        self.ledger.take(kept)

    def keep_map(
        self, key: str, index: int, done: dict[str, object], output: str | Sequence[Buffer], failures: Buffer
    ) -> None:
        """Keep what a map task has left.

        Parameters
        ----------
        key
            Of all that it depends on.
        index
            Of the task, in this run.
        done
            The fields of its answer.
        output
            The path of its file; or the bytes, where it lies in none.
        failures
            What it set aside.
        """
        path, lengths = f"{self._run.directory}/map-{index}", done["lengths"]
        assert isinstance(lengths, Sequence)
        if not isinstance(output, str):
            write_blob(self._folder.path, path, output)
            done = done | {"crcs": _crcs(output, lengths)}
        elif os.path.dirname(output) == self.directory:
            path = os.path.relpath(output, self._folder.path)
        else:
            done = done | {"crcs": copy_output(self._folder.path, path, output, lengths)}
        self._keep(KeptMap(key, path, done, self._set_aside(f"map-{index}", failures), self.classes))

    def keep_result(self, key: str, index: int, partitions: Sequence[int], blob: Buffer, failures: Buffer) -> None:
        """Keep what a reduce task has given: see `keep_map`."""
        kept = write_blob(self._folder.path, f"{self._run.directory}/reduce-{index}", [blob])
        set_aside = self._set_aside(f"reduce-{index}", failures)
        self._keep(KeptResult(key, tuple(partitions), kept, set_aside, self.classes))

    def _set_aside(self, task: str, failures: Buffer) -> Blob | None:
        path = f"{self._run.directory}/failures-{task}"
        return write_blob(self._folder.path, path, [failures]) if len(failures) else None

    def _keep(self, kept: KeptMap | KeptResult) -> None:
        self._append(kept)
        self._used.append(kept)

    # The end.

    def finish(self) -> None:
        """The job has its result: forget what that does not rest on. Raises OSError."""
        named = {identity for kept in self._used for identity in kept.classes}
        classes = [cls for identity, cls in self.ledger.classes.items() if identity in named]
        rest: list[Entry] = [*classes, *self._cuts, *self._used, Ended()]
        write_journal(self._folder.journal, [self._header, self._run, *rest])
        self._folder.keep_only(path for kept in self._used for path in _paths(kept))

    def close(self) -> None:
        """Let others use it; harmless the second time."""
        if self._journal is not None:
            self._journal.close()
        self._folder.close()


def _paths(kept: KeptMap | KeptResult) -> list[str]:
    failures = [] if kept.failures is None else [kept.failures.path]
    return [kept.path if isinstance(kept, KeptMap) else kept.blob.path, *failures]


def _crcs(pieces: Sequence[Buffer], lengths: Sequence[int]) -> list[int]:
    whole = memoryview(b"".join(pieces))
    crcs, offset = [], 0
    for length in lengths:
        crcs.append(zlib.crc32(whole[offset : offset + length]))
        offset += length
    return crcs
