"""What a preview says: its summary, facts for whoever plans, warnings for whoever is about to run it.

Rehearsal, Estimate ──tell()──> Told ──> views.flowcard
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from jmr.codec.functions import LARGE_BYTES
from jmr.codec.values import PLAIN_TYPES
from jmr.errors import describe
from jmr.plan import Plan
from jmr.progress.words import plural
from jmr.session.estimate import Estimate, about, about_bytes, about_count
from jmr.session.rehearsal import Rehearsal
from jmr.tasks.partition import place
from jmr.views.flow import flow_of
from jmr.views.flowcard import Told
from jmr.views.summary import BARREN

__all__ = ["tell"]

#: Most keys to look at for how they are placed.
_SAMPLE = 1_000


def tell(plan: Plan, seen: Rehearsal, estimate: Estimate | None) -> Told:
    """Put it all in words.

    Parameters
    ----------
    plan
        Of the job. Its name may be "job", which says nothing; what its functions capture is named if it is much.
    seen
        What became of the first records.
    estimate
        For the whole source, if its length is known.
    """
    title = "Preview" if plan.name == "job" else f"Preview of {plan.name}"
    flow = flow_of(seen.records, seen.pairs, seen.groups, seen.combined, seen.results, reduces=seen.reduces)
    if not seen.records:
        return Told(title, "the source has no records", flow, [], [])
    n_keys = len(seen.groups)
    counts = (plural(seen.n_pairs, "pair"), plural(n_keys, "group"), plural(n_keys, "result"))
    summary = " → ".join([_first_of(len(seen.records), seen.n_records), *counts])
    return Told(title, summary, flow, list(_facts(seen, estimate)), list(_warnings(plan, seen)))


def _first_of(n: int, n_records: int | None) -> str:
    """Which records these are.

    Examples
    --------
    >>> _first_of(1, 1), _first_of(3, 3), _first_of(1, None), _first_of(5, 1_000)
    ('1 record', 'all 3 records', 'the first record', 'the first 5 of 1,000 records')
    """
    if n == n_records:
        return plural(n, "record") if n == 1 else f"all {plural(n, 'record')}"
    number = "" if n == 1 else f" {n:,}"
    of = " record" + ("" if n == 1 else "s") if n_records is None else f" of {plural(n_records, 'record')}"
    return f"the first{number}{of}"


def _facts(seen: Rehearsal, estimate: Estimate | None) -> Iterator[tuple[str, str]]:
    counts = [len(emitted) for emitted in seen.pairs]
    mean = f"{seen.n_pairs / len(counts):,.1f}".removesuffix(".0")
    yield "pairs per record", f"{mean} on average, {max(counts):,} at most"
    if seen.n_pairs:
        values = (value for group in seen.groups.values() for value in group)
        yield "types", f"keys {_types(seen.groups)}; values {_types(values)}"
    yield "pickled", _sizes(seen)
    if seen.n_records != len(counts):
        yield from _whole(estimate)


def _types(objects: Iterable[Any]) -> str:
    """The types there are, the most frequent first."""
    names = [name for name, _ in Counter(type(obj).__name__ for obj in objects).most_common()]
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])


def _sizes(seen: Rehearsal) -> str:
    sizes = [f"{about_bytes(seen.record_bytes / len(seen.records))} a record"]
    if seen.n_pairs:
        before, after = seen.pair_bytes / seen.n_pairs, seen.shuffled_bytes / seen.n_pairs
        folded = "" if seen.folded is None else f", {about_bytes(after)} after combinefn"
        sizes.append(f"{about_bytes(before)} a pair{folded}")
    return "; ".join([*sizes, f"{about_bytes(seen.function_bytes)} of functions"])


def _whole(whole: Estimate | None) -> Iterator[tuple[str, str]]:
    if whole is None:
        yield "whole source", "how many records it has, only reading it can tell"
        return
    counts = f"{plural(whole.n_records, 'record')} → about {about_count(whole.n_pairs)} pairs"
    yield "whole source", f"{counts}; up to {about_bytes(whole.shuffled_bytes)} to shuffle"
    if whole.core_seconds < 0.1:
        yield "time", f"{about(whole.core_seconds)}, even on one core"
    else:
        slots = "one slot" if whole.n_slots == 1 else plural(whole.n_slots, "slot")
        yield "time", f"{about(whole.core_seconds)} on one core, {about(whole.slot_seconds)} on {slots}"


def _warnings(plan: Plan, seen: Rehearsal) -> Iterator[str]:
    if seen.records and not any(seen.pairs):
        yield BARREN
    unplaced = {type(key).__name__ for key in list(seen.groups)[:_SAMPLE] if place(key) is None}
    if unplaced:
        yield (
            f"Keys of type {', '.join(sorted(unplaced))} cannot be divided among slots: one slot will reduce them all. "
            "Faster: a str, a number, or a tuple of such."
        )
    if seen.function_bytes >= LARGE_BYTES:
        from jmr.engines.weight import told_weight

        yield told_weight(plan.functions, seen.function_bytes)
    yield from _fickle(seen)


def _fickle(seen: Rehearsal) -> Iterator[str]:
    """Say it once, of a combinefn whose result depends on how often it is called, such as a count or a mean."""
    if seen.folded is None:
        return
    for key, once, twice, in_parts in zip(seen.groups, *seen.folded, strict=True):
        made = f"combinefn makes {describe(once, 40)} of the values of {describe(key, 40)}"
        if _differ(once, twice):
            yield (
                f"{made}, and then {describe(twice, 40)} of that alone. It is called on its own results, too, and must "
                "not change them: the answer would depend on how the work is cut."
            )
            return
        if _differ(once, in_parts):
            yield (
                f"{made} all at once, but {describe(in_parts, 40)} if it folds two parts of them first. It is called "
                "on any part, and on its own results: the answer would depend on how the work is cut."
            )
            return


def _differ(one: object, other: object) -> bool:
    """Whether they surely are not the same: sums of floats depend on their order, and objects may not compare."""
    if isinstance(one, float) and isinstance(other, float):
        return not (math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other)))
    return {type(one), type(other)} <= PLAIN_TYPES and repr(one) != repr(other)
