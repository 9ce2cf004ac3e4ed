"""A job with a checkpoint: what earlier runs of it left is taken from there, and what its tasks leave goes there.

    source ──cut, where it was cut before──> a split's fingerprint ──kept?──> coordinator.add_done_split
                                                                   └─else──> coordinator.add_split
    the fingerprints of all ──kept?──> coordinator.end_input(reduced) ──PartitionKept──> a partition
    coordinator ──mail──> Scribe ──> checkpoint

This is the calling thread's side. A split counts as the same if its records do (or, where workers read them, what it
says of itself), the functions of its map task, with all
that they use, and n_partitions; a reduce task's result, if all splits and the functions of its own do.
"""

from __future__ import annotations

import queue
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jmr import interrupts
from jmr.checkpoint.fingerprints import Met, RecordsPrint, print_of_functions
from jmr.checkpoint.journal import KeptClass, KeptMap, KeptResult
from jmr.checkpoint.ledger import key_of
from jmr.checkpoint.opened import Checkpoint
from jmr.codec.classes import class_named, identity_of, know_as
from jmr.codec.values import Buffer, load_columns
from jmr.coordinator.mail import Mail, PartitionKept
from jmr.engines.scribe import Notes, Scribe
from jmr.engines.splitting import cut
from jmr.errors import ArgumentValueError, NotPicklableError
from jmr.plan import Plan
from jmr.progress.report import Report
from jmr.progress.words import plural
from jmr.result import Partition
from jmr.sources import Records, Split
from jmr.wire.messages import MapDone

if TYPE_CHECKING:
    from jmr.sinks.sink import Sink

__all__ = ["Keeper", "Prints", "prints_of"]


@dataclass(frozen=True, slots=True)
class Prints:
    """What a checkpoint must know of a job's functions."""

    #: The fingerprints of those that map tasks call, and of those that reduce tasks call.
    mapping: str
    reducing: str
    #: What they use.
    met: Met


def prints_of(plan: Plan) -> Prints:
    """Fingerprint the functions of a job.

    Raises
    ------
    NotPicklableError
        What they use has none.
    """
    folds = plan.combinefn if plan.reducefn is None else None
    met = Met()
    mapping = print_of_functions(plan.mapfn, plan.combinefn, met=met)
    reducing = print_of_functions(plan.reducefn, folds, met=met)
    return Prints(mapping, reducing if plan.out is None else key_of(reducing, plan.out.fingerprint), met)


class Keeper:
    """Of one job.

    Parameters
    ----------
    plan
        Of the job; it names the directory.
    prints
        What `prints_of` gave.
    report
        Told what was kept, and what could not be.
    outbox
        Where the job's mail goes on to.

    Raises
    ------
    ArgumentValueError
        The directory cannot be used.
    """

    def __init__(self, plan: Plan, prints: Prints, report: Report, outbox: queue.SimpleQueue[Mail]) -> None:
        assert plan.checkpoint is not None
        self._plan = plan
        self._report = report
        self._notes = Notes(report.notes)
        self._prints = prints
        self._checkpoint = Checkpoint(plan.checkpoint, lambda text: self._notes.put(text, text))
        self._scribe = Scribe(self._checkpoint, outbox, self._notes, prints.met.modules.changed)
        self._mapping = ""
        self._position = 0
        #: How many splits there were of the same records.
        self._n_same: Counter[str] = Counter()
        #: By id, with the class itself: fingerprints of classes, as they were when the job began, or at first sight.
        self._digests: dict[int, tuple[type, str | None]] = {}
        #: What reduce tasks had given, by their partitions, None where it is read when it is wanted; with what was set
        #: aside.
        self._results: dict[tuple[int, ...], tuple[KeptResult, Partition | None, Buffer]] = {}
        self._n_maps_kept = self._n_results_kept = 0
        self._has_ended = False

    # Before the job is opened.

    def begin(self, usual: int) -> int:
        """Begin the run; returns n_partitions: that of the call, else that of the last run, else the usual one."""
        checkpoint, plan = self._checkpoint, self._plan
        before = None if checkpoint.ledger.run is None else checkpoint.ledger.run.n_partitions
        n_partitions = plan.n_partitions or before or usual
        if before not in (None, n_partitions):
            self._notes.put("partitions", f"n_partitions was {before} in {checkpoint.name}: everything is done again")
        self._mapping = key_of(self._prints.mapping, str(n_partitions))
        if before == n_partitions and not checkpoint.ledger.has_mapped(self._mapping):
            functions = "mapfn, or what it uses," if plan.combinefn is None else "mapfn, combinefn, or what they use,"
            self._notes.put("mapping", f"{functions} is not as it was in {checkpoint.name}: everything is done again")
        try:
            checkpoint.begin(plan.name, n_partitions, self._mapping)
        except OSError as error:
            raise ArgumentValueError(f"checkpoint={plan.checkpoint!r} cannot be written: {error}") from error
        self._scribe.start()
        return n_partitions

    def known_as(self) -> list[tuple[type, str]]:
        """Classes of this process, with the identities by which they are known in what was kept; so it knows them."""
        for cls in self._prints.met.classes:  # as they are before the source is read, which may change them
            self._digest_of(cls)
        found = []
        for kept in self._checkpoint.ledger.classes.values():
            like = self._class_like(kept)
            if like is not None:
                know_as(like, kept.identity)
                found.append((like, kept.identity))
        self._checkpoint.known = frozenset(identity for _, identity in found)
        return found

    def _class_like(self, kept: KeptClass) -> type | None:
        """The class that is here what that one was; None if there is none, or more than one."""
        name = kept.module, kept.qualname
        alike = {
            id(cls): cls
            for cls in (*self._prints.met.classes, class_named(*name))
            if cls is not None and (cls.__module__, cls.__qualname__) == name and self._digest_of(cls) == kept.digest
        }
        return alike.popitem()[1] if len(alike) == 1 else None

    def _digest_of(self, cls: type) -> str | None:
        if id(cls) not in self._digests:
            try:
                digest = print_of_functions(cls)
            except NotPicklableError:  # then nothing that needs it will be kept
                digest = None
            self._digests[id(cls)] = cls, digest
        return self._digests[id(cls)][1]

    def confirm(self, prints: Prints) -> None:
        """The functions were pickled, and have these prints now: if not the same, who knows what slots will get.

        They may capture what another thread changes: that of the notebook, after `submit`.
        """
        if (prints.mapping, prints.reducing) != (self._prints.mapping, self._prints.reducing):
            self._mapping = key_of(self._mapping, uuid.uuid4().hex)  # nothing has this key, and nothing ever will
            self._notes.put("confirm", "what the functions use was changed while the job began: nothing of it is kept")

    @property
    def inbox(self) -> queue.SimpleQueue[Mail]:
        """Where the coordinator's mail is to go."""
        return self._scribe.inbox

    @property
    def directory(self) -> str:
        """Where slots of this host are to leave map outputs."""
        return self._checkpoint.directory

    # While the source is read.

    def cut(self, source: Records, usual: int) -> tuple[list[Buffer], int, MapDone | None]:
        """Read and pickle the next split: to where one ended in an earlier run, or else of the usual size.

        Returns
        -------
        What `splitting.cut` does; and what the split's map task has left in an earlier run.
        """
        end = self._checkpoint.ledger.next_cut(self._position)
        seen = RecordsPrint(self._prints.met)
        pieces, n_records = _cut(source, usual if end is None else end - self._position, seen, exactly=end is not None)
        if not n_records:
            return pieces, 0, None
        self._position += n_records
        return pieces, n_records, self._known(seen.hexdigest(), self._position)

    def known(self, split: Split) -> MapDone | None:
        """What the map task of a split that workers read has left in an earlier run: the next split."""
        if type(split).fingerprint is Split.fingerprint:
            splits = f"splits of {type(self._plan.source).__name__}"
            self._notes.put("unprinted", f"{splits} have no fingerprint(), so checkpoint= keeps nothing of them")
        told = split.fingerprint() or uuid.uuid4().hex
        return self._known(key_of("split", type(split).__qualname__, told))

    def _known(self, digest: str, end: int | None = None) -> MapDone | None:
        key = key_of(self._mapping, digest, str(self._n_same[digest]))  # mapfn may draw lots: not the same for two
        self._n_same[digest] += 1
        self._scribe.keys.append(key)
        try:
            self._note_classes()
            if end is not None:
                self._checkpoint.cut(end)
        except OSError as error:
            self._notes.put("unnoted", f"{self._checkpoint.name} cannot be written: {error.strerror or error}")
        found = self._checkpoint.kept_map(key, skips=self._plan.skips)
        return None if found is None else self._restored(*found)

    def _restored(self, kept: KeptMap, failures: Buffer) -> MapDone:
        self._n_maps_kept += 1
        self._tell_kept()
        return MapDone(**kept.done, path=kept.path, blobs=[failures, b""])

    def _note_classes(self) -> None:
        """Note by which identities those classes are known that may be in what will be kept."""
        checkpoint = self._checkpoint
        pickled = {identity: cls for cls in self._prints.met.classes if (identity := identity_of(cls)) is not None}
        checkpoint.classes = tuple(pickled)
        for identity, cls in pickled.items():
            if identity not in checkpoint.ledger.classes and (digest := self._digest_of(cls)) is not None:
                checkpoint.keep_class(KeptClass(cls.__module__, cls.__qualname__, digest, identity))

    # When all of it is read.

    def reduced(self) -> list[tuple[int, ...]]:
        """The partitions of reduce tasks whose results were kept."""
        key = self._scribe.result_key = key_of(self._prints.reducing, *self._scribe.keys)
        for kept, blob, failures in self._checkpoint.kept_results(key, skips=self._plan.skips):
            try:
                partition = Partition(*load_columns(blob, 3))
            except Exception:  # of the objects' own code; what they need may be of another version by now
                self._notes.put("unreadable", "some of the checkpoint cannot be unpickled here, and is done again")
                continue
            if self._plan.out is None:
                self._results[kept.partitions] = kept, partition, failures
            elif self._can_be_had(self._plan.out, partition):
                self._results[kept.partitions] = kept, None, failures  # not all files' contents at once
        return list(self._results)

    def _can_be_had(self, out: Sink, partition: Partition) -> bool:
        """Whether what workers have written is there still."""
        from jmr.sinks.output import place_of

        place = place_of(out)
        return all(place.has(part) for part in partition.values)

    def result(self, mail: PartitionKept) -> tuple[Partition, Buffer]:
        """Such a result, and the blob of what was set aside."""
        kept, partition, failures = self._results.pop(tuple(mail.partitions))
        if partition is None:
            partition = Partition(*load_columns(self._checkpoint.blob_of(kept), 3))
        self._checkpoint.uses(kept)
        self._n_results_kept += 1
        self._tell_kept()
        return partition, failures

    def _tell_kept(self) -> None:
        report = self._report
        text = f"{self._n_maps_kept:,} of {plural(report.n_map_tasks, 'map task')}"
        if report.n_reduce_tasks:
            text += f" and {self._n_results_kept:,} of {plural(report.n_reduce_tasks, 'reduce task')}"
        were = "was" if self._n_maps_kept + self._n_results_kept == 1 else "were"
        self._notes.put("kept", f"{text} {were} kept in {self._checkpoint.name}")

    # The end.

    def finish(self) -> None:
        """The job has its result."""
        self._has_ended = True
        if self._n_maps_kept:
            self._tell_kept()
        try:
            self._checkpoint.finish()
        except OSError as error:
            self._notes.put("unfinished", f"{self._checkpoint.name} cannot be tidied: {error.strerror or error}")

    def close(self) -> None:
        """Keep what has come, and let others use the directory. Harmless if repeated."""
        self._scribe.close()
        self._checkpoint.close()
        if not self._has_ended and self._n_maps_kept + self._scribe.n_kept:
            self._notes.put("go on", f"what was finished is kept in {self._checkpoint.name}: run it again to go on")


def _cut(source: Records, n_records: int, seen: RecordsPrint, *, exactly: bool) -> tuple[list[Buffer], int]:
    """Like `cut`; `exactly` so many records, unless the source ends before."""
    pieces, n_read = cut(source, n_records, look=seen.add)
    while exactly and 0 < n_read < n_records:
        interrupts.check()
        if source.blocks is None:  # they may lie in memory that the next record overwrites
            pieces = [b"".join(pieces)]
        more, n_more = cut(source, n_records - n_read, look=seen.add)
        if not n_more:
            break
        pieces += more
        n_read += n_more
    return pieces, n_read
