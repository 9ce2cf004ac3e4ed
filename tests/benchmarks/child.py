"""One run of one workload on one system, in a process of its own.

    python -m tests.benchmarks.child SYSTEM WORKLOAD [SCALE]

Starts the system, warms it up, builds the source, then times one call from the source to the dict, between a line that
says "ready" and one of JSON, both marked. A cold start is timed by whoever started this process, to the line "answer".
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main(system: str, name: str, scale: float = 1.0) -> None:
    """Run it and print what was found."""
    from tests.benchmarks.workloads import WORKLOADS

    workload = WORKLOADS[name]
    peer = import_module(f"tests.benchmarks.peers.{system}")
    if name == "small_cold":
        peer.start()
        answer = peer.run(workload, workload.build(scale))
        print(f"{MARK}answer", flush=True)
        report(0.0, answer)
    else:
        peer.start()
        for _ in range(3):
            peer.run(WORKLOADS["small_warm"], {1: 2, 2: 3})
        run_warm(peer, workload, scale)
    peer.stop()


def run_warm(peer: Any, workload: Any, scale: float) -> None:
    """Time the median of `workload.n_calls` calls."""
    import gc
    import time

    source = workload.build(scale)
    gc.collect()
    before = peak_bytes()
    print(f"{MARK}ready", flush=True)
    times = []
    for _ in range(workload.n_calls):
        began = time.perf_counter()
        answer = peer.run(workload, source)
        times.append(time.perf_counter() - began)
    report(sorted(times)[len(times) // 2], answer, grown_bytes=peak_bytes() - before)


def peak_bytes() -> int:
    """The most that this process alone has had in memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def report(seconds: float, answer: dict[Any, Any], **more: int) -> None:
    """Print the time, and a digest by which answers are compared: of the items, sorted, with every digit."""
    import hashlib
    import json

    items = sorted(answer.items(), key=lambda item: repr(item[0]))
    text = repr([(key, value.tolist() if hasattr(value, "tolist") else value) for key, value in items])
    found = {"seconds": seconds, "n_keys": len(items), "digest": hashlib.sha256(text.encode()).hexdigest(), **more}
    print(MARK + json.dumps(found), flush=True)


#: As in `measure`, which a cold start need not import.
MARK = "benchmark: "

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
