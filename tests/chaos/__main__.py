"""`python -m tests.chaos`: many seeds, one after another; says which have failed, and what was done then."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.chaos.play import ChaosError, play

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Play seeds; 1 if one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Jobs under random faults.")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many [100]")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them [0]")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="what each may take [30]")
    parser.add_argument("--seed", type=int, metavar="N", help="this one only, with its story")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # not without ending the processes
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    failed = [seed for seed in seeds if not _passes(seed, options.seconds, tells=options.seed is not None)]
    print(f"{len(seeds)} seeds, failed: {failed or 'none'}", flush=True)
    return int(bool(failed))


def _passes(seed: int, seconds: float, *, tells: bool) -> bool:
    began = time.monotonic()
    try:
        story = play(seed, seconds)
    except ChaosError as error:
        print(f"{error}\nseed {seed} FAILED after {time.monotonic() - began:.1f} s", flush=True)
        return False
    took = time.monotonic() - began
    tells |= took > seconds
    print("\n".join(story) if tells else story[0], f"{took:.1f} s", sep=": ", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
