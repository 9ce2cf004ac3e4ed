"""Arrays: what travels is copied once, into memory that both processes have mapped."""

from __future__ import annotations

import pickle

from tests.benchmarks.hand2.listing import grouped, merge
from tests.benchmarks.hand2.two import Link, in_two
from tests.benchmarks.workloads import Workload


def run_carrying(workload: Workload, records: list) -> dict:
    """Pickle, with the arrays as they lie."""
    middle = len(records) // 2
    halves = records[:middle], records[middle:]

    def half(me: int, link: Link) -> dict | None:
        groups = grouped(workload.mapfn, halves[me])
        theirs = {k: groups.pop(k) for k in [k for k in groups if hash(k) & 1 != me]}
        link.send(pickle.dumps(theirs, 5))
        merge(groups, pickle.loads(link.receive()).items(), ours_first=me == 0)
        answer = {k: workload.reducefn(k, values) for k, values in groups.items()}
        if me == 1:
            return link.send(pickle.dumps(answer, 5))
        return answer | pickle.loads(link.receive())

    return in_two(half)
