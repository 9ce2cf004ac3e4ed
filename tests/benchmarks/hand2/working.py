"""Records that take long: whoever is idle takes the next."""

from __future__ import annotations

import marshal
import os

from tests.benchmarks.hand2.two import Link, in_two
from tests.benchmarks.workloads import Workload


def run_working(workload: Workload, records: list) -> dict:
    """A pipe is full of tickets, one for each record; a read of two bytes takes one."""
    counter, full = os.pipe()
    os.write(full, b"".join(i.to_bytes(2, "big") for i in range(len(records))))
    os.close(full)

    def half(me: int, link: Link) -> dict | None:
        pairs = []
        while ticket := os.read(counter, 2):
            number = int.from_bytes(ticket, "big")
            pairs.append((number, list(workload.mapfn(*records[number]))))
        if me == 1:
            return link.send(marshal.dumps(pairs))
        groups: dict = {}
        for _, emitted in sorted(pairs + marshal.loads(link.receive())):
            for k, v in emitted:
                groups.setdefault(k, []).append(v)
        return {k: workload.reducefn(k, values) for k, values in groups.items()}

    try:
        return in_two(half)
    finally:
        os.close(counter)
