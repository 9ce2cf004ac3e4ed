"""How long workers take to join, and how late the coordinator's loop is meanwhile.

    python -m tests.benchmarks.joining [--clients 200] [--runs 5]

The clients are `tests.peers`, all in one process that is not the coordinator's: once each from an address of its own,
as workers on so many hosts would be, and once all from one address, of which no more than 16 may be guests at a time;
those that are closed try again as `jmr-worker` does. The lateness is that of a callback which is due every millisecond.
Then a real `jmr-worker`, from its first line of Python to its word that it has joined.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import threading
import time
from typing import Self

import jmr
from jmr.launch.joining import growing_pauses
from jmr.launch.token import VARIABLE, token
from jmr.wire.messages import ForkSlot
from tests.peers import Peer

_TICK_SECONDS = 0.001
_WORKER = """
import time
from typing import Self
began = time.time()
import sys
from jmr.cli.worker import worker_main
print(began, file=sys.stderr, flush=True)
sys.exit(worker_main(sys.argv[1:]))
"""


class Lateness:
    """Of the coordinator's loop, while it is looked at: the greatest, in seconds."""

    def __init__(self, cluster: jmr.Cluster) -> None:
        assert cluster._coordinator is not None
        self._loop = cluster._coordinator._loop
        self._is_over = threading.Event()
        self.greatest = 0.0

    def __enter__(self) -> Self:
        self._loop.add_callback(self._tick, time.perf_counter())
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()

    def _tick(self, due: float) -> None:
        now = time.perf_counter()
        self.greatest = max(self.greatest, now - due)
        if not self._is_over.is_set():
            self._loop.call_later(_TICK_SECONDS, self._tick, now + _TICK_SECONDS)


async def join_all(address: str, n_clients: int, *, spread: bool) -> None:
    """Join with all clients at once; say how long that took, and stay until stdin is closed."""
    began = time.perf_counter()
    sources = [f"127.0.{1 + n // 200}.{1 + n % 200}" if spread else None for n in range(n_clients)]
    tries = await asyncio.gather(*(_join(address, source) for source in sources))
    print(time.perf_counter() - began, sum(n for _, n in tries), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(peer.close() for peer, _ in tries))


async def _join(address: str, source: str | None) -> tuple[Peer, int]:
    for n_tries, pause in enumerate(growing_pauses(), 1):
        try:
            peer = await Peer.connect(address, token(), source=source)
        except OSError:  # too many guests of one address
            await asyncio.sleep(pause)
            continue
        peer.introduce()
        await peer.hear(ForkSlot)
        return peer, n_tries
    raise AssertionError


def measure_clients(cluster: jmr.Cluster, n_clients: int, *, spread: bool) -> None:
    """Print a line for so many clients."""
    command = [sys.executable, "-m", "tests.benchmarks.joining", "--clients", str(n_clients), "--join"]
    command += [str(cluster.address), *(["--spread"] if spread else [])]
    with (
        Lateness(cluster) as lateness,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients,
    ):
        assert clients.stdout is not None
        seconds, n_tries = clients.stdout.readline().split()
        greatest = lateness.greatest
        assert len(cluster.hosts()) == n_clients + 1
        clients.communicate("")
    where = "from as many addresses" if spread else "from one address"
    print(
        f"{n_clients} clients {where}: joined in {float(seconds):.2f} s with {n_tries} tries; "
        f"the loop was late by {1000 * greatest:.0f} ms at most, by {1000 * lateness.greatest:.0f} ms when they left"
    )


def measure_worker(cluster: jmr.Cluster, n_runs: int) -> None:
    """Print a line for a real worker."""
    figures = []
    for _ in range(n_runs):
        command = [sys.executable, "-c", _WORKER, str(cluster.address), "--slots", "1", "--once"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stderr is not None
            began = float(worker.stderr.readline())
            assert "joined" in worker.stderr.readline()
            figures.append(time.time() - began)
            worker.terminate()
            worker.communicate()
    print(f"jmr-worker, first line of Python to joined: median {statistics.median(figures):.3f} s of {n_runs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--join", help=argparse.SUPPRESS)
    parser.add_argument("--spread", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        asyncio.run(join_all(options.join, options.clients, spread=options.spread))
        return
    os.environ[VARIABLE] = secrets.token_hex(32)
    with jmr.Cluster(workers=1) as cluster:
        cluster.listen("127.0.0.1:0")
        jmr.run({1: 1}, lambda key, value: [], engine=cluster, progress=False)
        for spread in True, False:
            measure_clients(cluster, options.clients, spread=spread)
        measure_worker(cluster, options.runs)


if __name__ == "__main__":
    main()
