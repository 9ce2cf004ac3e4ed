"""Without a combiner: each process groups its half, and they exchange the groups that the other reduces."""

from __future__ import annotations

import marshal
from collections import defaultdict

from tests.benchmarks.hand2.packing import pack, unpack
from tests.benchmarks.hand2.two import Link, in_two
from tests.benchmarks.workloads import Workload


def run_listing(workload: Workload, records: list, typecode: str | None = None) -> dict:
    """Values that fit an array of this typecode, if one is given: where lists are long, that is faster than marshal."""
    middle = len(records) // 2
    halves = records[:middle], records[middle:]

    def half(me: int, link: Link) -> dict | None:
        groups = grouped(workload.mapfn, halves[me])
        theirs = {k: groups.pop(k) for k in [k for k in groups if hash(k) & 1 != me]}
        link.send(pack(theirs, typecode) if typecode else marshal.dumps(theirs))
        del theirs
        received = link.receive()
        merge(groups, unpack(received, typecode) if typecode else marshal.loads(received).items(), ours_first=me == 0)
        reducefn = workload.reducefn
        answer = {k: reducefn(k, values) for k, values in groups.items()}
        if me == 1:
            return link.send(marshal.dumps(answer))
        answer.update(marshal.loads(link.receive()))
        return answer

    return in_two(half)


def grouped(mapfn, records: list) -> dict[object, list]:
    """A list of values for each key."""
    groups: dict[object, list] = defaultdict(list)
    for key, value in records:
        for k, v in mapfn(key, value):
            groups[k].append(v)
    return groups


def merge(groups: dict[object, list], received, *, ours_first: bool) -> None:
    """Put the other half's values behind ours, or before them."""
    for k, values in received:
        if ours_first:
            groups[k] += values
        else:
            if k in groups:
                values += groups[k]
            groups[k] = values
