"""With a combiner that is a sum: add up in the loop, so that one number for each key travels."""

from __future__ import annotations

import marshal

from tests.benchmarks.hand2.two import Link, in_two
from tests.benchmarks.workloads import Workload


def run_adding(workload: Workload, records: list) -> dict:
    """The child sends all its sums; the parent reduces."""
    middle = len(records) // 2
    halves = records[:middle], records[middle:]

    def half(me: int, link: Link) -> dict | None:
        sums = added(workload.mapfn, halves[me])
        if me == 1:
            return link.send(marshal.dumps(sums))
        theirs = marshal.loads(link.receive())
        reducefn = workload.reducefn
        answer = {k: reducefn(k, [v, theirs.pop(k)] if k in theirs else [v]) for k, v in sums.items()}
        answer.update((k, reducefn(k, [v])) for k, v in theirs.items())
        return answer

    return in_two(half)


def added(mapfn, records: list) -> dict:
    """A sum for each key."""
    sums: dict = {}
    get = sums.get
    for key, value in records:
        for k, v in mapfn(key, value):
            sums[k] = get(k, 0) + v
    return sums
