"""jmr.preview: look before you run.

    arguments ──> Plan ──> rehearsal (the first records, all the way, here) ──> estimate ──> telling ──> Preview

Says what `jmr.run` would say of the same call, before anything has started: what previews well can be sent to slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jmr import interrupts
from jmr.errors import ArgumentTypeError, describe, hide_ours
from jmr.plan import Plan, checked_count
from jmr.session.estimate import Estimate, estimated, typical_sum
from jmr.session.rehearsal import Rehearsal, rehearse
from jmr.session.telling import tell
from jmr.views.flowcard import Told, html, text

__all__ = ["Preview", "preview"]

_MOST_RECORDS = 1_000

clock = time.perf_counter


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """The first records of a job, and what became of them; a picture in a notebook, text elsewhere.

    Attributes
    ----------
    records
        (key, value) of each, as a slot would get them.
    pairs
        For each record, the list of pairs that mapfn emitted.
    groups
        For each key, the list of its values; keys in order of first appearance.
    combined
        For each key, what combinefn made of its values; None without a combinefn.
    results
        For each key, what reducefn made of its values: what `jmr.run` would give for these records.
    n_records
        Of the whole source; None where only reading it can tell.
    record_bytes, pair_bytes, shuffled_bytes, function_bytes
        Pickled sizes of these records, of what mapfn made of them, of that after combinefn, if there is one, and of the
        functions with what they capture.
    seconds
        What the user's functions took for these records, the first call of each counted like the others.
    estimate
        The same for the whole source: n_records, n_pairs, shuffled_bytes, core_seconds, n_slots and slot_seconds. None
        where its length is not known, or where it has no records.
    warnings
        Sentences about what will go wrong, or slowly.
    """

    records: list[tuple[Any, Any]]
    pairs: list[list[tuple[Any, Any]]]
    groups: dict[Any, list[Any]]
    combined: dict[Any, Any] | None
    results: dict[Any, Any]
    n_records: int | None
    record_bytes: int
    pair_bytes: int
    shuffled_bytes: int
    function_bytes: int
    seconds: float
    estimate: Estimate | None
    warnings: list[str]
    #: As it was when it had just been made: the objects above may change.
    _told: Told

    def __repr__(self) -> str:
        return text(self._told)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": html(self._told), "text/plain": text(self._told)}


def preview(
    source: Any,
    mapfn: Callable[[Any, Any], Any],
    reducefn: Callable[[Any, list[Any]], Any] | None = None,
    *,
    combinefn: Callable[[Any, list[Any]], Any] | None = None,
    final: Callable[[Any, Any], Any] | None = None,
    workers: int | None = None,
    n: int = 5,
) -> Preview:
    """Run a job's first records here, at once, and show how they become results.

    Reads `n` records and no more, runs them in this process and this thread, on copies, and starts nothing. As the
    value of a cell it is a picture: which record emits which pairs, how pairs meet in groups, what becomes of each;
    below it what the whole job would be, and what will go wrong.

    Parameters
    ----------
    source, mapfn, reducefn, combinefn
        As for `jmr.run`. An iterator, such as a generator, is refused: the job would miss the records that were read.
    final
        Checked, and not called.
    workers
        For the estimate: as for `jmr.run`.
    n
        How many records to run, 1 to 1,000.

    Returns
    -------
    A Preview: records, pairs, groups, combined, results, n_records, estimate, warnings; see its help.

    Raises
    ------
    JmrError
        What `jmr.run` would raise for these records: a function raised, or returned what cannot be used; something
        cannot be sent to a slot; the source is none.

    Examples
    --------
    >>> import jmr
    >>> documents = {"a.txt": "the cat the dog", "b.txt": "the end"}
    >>> def mapfn(name, text):
    ...     for word in text.split():
    ...         yield word, 1
    >>> seen = jmr.preview(documents, mapfn, lambda word, counts: sum(counts))
    >>> seen.pairs[1]
    [('the', 1), ('end', 1)]
    >>> seen.groups["the"], seen.results["the"]
    ([1, 1, 1], 3)
    """
    __tracebackhide__ = True
    try:
        with interrupts.watched():
            n = checked_count("n", n, most=_MOST_RECORDS)
            plan = Plan.checked(source, mapfn, reducefn, combinefn=combinefn, final=final, workers=workers)
            _refuse_iterator(source, n)
            return _preview_of(plan, rehearse(plan, n, clock))
    except BaseException as error:
        hide_ours(error)
        raise


def _refuse_iterator(source: Any, n: int) -> None:
    if hasattr(type(source), "__next__"):
        raise ArgumentTypeError(
            f"source is {describe(source, 80)} ({type(source).__name__}), which can be read only once: the job would "
            "miss the records that a preview reads. Make the source a list, if it fits into memory. Or preview a part, "
            f"and give it back: head = list(itertools.islice(source, {n})); jmr.preview(head, ...); "
            "source = itertools.chain(head, source)"
        )


def _preview_of(plan: Plan, seen: Rehearsal) -> Preview:
    seconds = sum(map(typical_sum, (seen.map_seconds, seen.combine_seconds, seen.reduce_seconds)))
    estimate = _estimate(plan, seen, seconds)
    told = tell(plan, seen, estimate)
    return Preview(
        records=seen.records,
        pairs=seen.pairs,
        groups=dict(seen.groups),
        combined=seen.combined,
        results=seen.results,
        n_records=seen.n_records,
        record_bytes=seen.record_bytes,
        pair_bytes=seen.pair_bytes,
        shuffled_bytes=seen.shuffled_bytes,
        function_bytes=seen.function_bytes,
        seconds=seconds,
        estimate=estimate,
        warnings=told.warnings,
        _told=told,
    )


def _estimate(plan: Plan, seen: Rehearsal, seconds: float) -> Estimate | None:
    if not seen.n_records or not seen.records:
        return None
    return estimated(
        max(seen.n_records, len(seen.records)),
        len(seen.records),
        n_pairs=seen.n_pairs,
        shuffled_bytes=seen.shuffled_bytes,
        seconds=seconds,
        n_slots=_n_slots(plan),
    )


def _n_slots(plan: Plan) -> int:
    """How many slots the job would have; starts none."""
    from jmr.engines.cluster import default_cluster
    from jmr.launch.local import default_slots

    cluster = default_cluster()
    if cluster is not None:
        return cluster.slots_for(plan)
    return default_slots() if plan.workers is None else max(1, plan.workers)
