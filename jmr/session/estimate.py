"""From a few records to the whole source, in numbers that do not pretend to be exact.

    calls, seconds, bytes of a few records ──estimated()──> Estimate ──about()──> "about 3 min"

Pure. What a job costs beyond the user's functions is left out: where that counts, nobody waits for long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Estimate", "about", "about_bytes", "about_count", "estimated", "typical_sum"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole job would be, if its first records are like the others."""

    n_records: int
    n_pairs: int
    #: What map tasks leave for reduce tasks, at most: a key is sent once a task, and combinefn leaves one value of it.
    shuffled_bytes: int
    #: In the user's functions, one after another.
    core_seconds: float
    #: How many slots there would be, and what they would take together.
    n_slots: int
    slot_seconds: float


def estimated(
    n_records: int, n_seen: int, *, n_pairs: int, shuffled_bytes: int, seconds: float, n_slots: int
) -> Estimate:
    """Scale up what was seen of some records, one at least, to all of them.

    Examples
    --------
    >>> estimated(1_000, 5, n_pairs=10, shuffled_bytes=120, seconds=0.5, n_slots=4)
    Estimate(n_records=1000, n_pairs=2000, shuffled_bytes=24000, core_seconds=100.0, n_slots=4, slot_seconds=25.0)
    """
    factor = n_records / n_seen
    core_seconds = seconds * factor
    return Estimate(
        n_records=n_records,
        n_pairs=round(n_pairs * factor),
        shuffled_bytes=round(shuffled_bytes * factor),
        core_seconds=core_seconds,
        n_slots=n_slots,
        slot_seconds=core_seconds / max(1, min(n_slots, n_records)),
    )


def typical_sum(seconds: Sequence[float]) -> float:
    """What so many calls would have taken, had the first been like the others: it loads, compiles, or fills a cache.

    Examples
    --------
    >>> typical_sum([8.0, 1.0, 2.0]), typical_sum([8.0]), typical_sum([])
    (4.5, 8.0, 0.0)
    """
    if len(seconds) < 2:
        return math.fsum(seconds)
    return len(seconds) * sum(seconds[1:]) / (len(seconds) - 1)


def about(seconds: float) -> str:
    """A time that is known roughly.

    Examples
    --------
    >>> [about(s) for s in (0.03, 0.42, 7.3, 33, 58, 200, 2000, 9_000, 200_000, 1e6)]  # doctest: +NORMALIZE_WHITESPACE
    ['under 0.1 s', 'about 0.4 s', 'about 7 s', 'about 35 s', 'about 1 min', 'about 3 min', 'about 35 min',
     'about 2.5 h', 'about 2.5 days', 'about 12 days']
    """
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 0.95:
        return f"about {seconds:.1f} s"
    for unit, size, step, most in (("s", 1, 5, 57.5), ("min", 60, 5, 57.5), ("h", 3600, 1, 36), ("days", 86400, 1, 0)):
        n = seconds / size
        if n < most or unit == "days":
            return f"about {_rounded(n, step, halves=size >= 3600)} {unit}"
    raise AssertionError(seconds)


def _rounded(n: float, step: int, *, halves: bool) -> str:
    if n < 10:
        return f"{round(2 * n) / 2:g}" if halves else f"{max(1, round(n))}"
    return f"{step * round(n / step):,}"


def about_count(n: int) -> str:
    """A count that is known roughly: two digits, the rest is noise.

    Examples
    --------
    >>> about_count(7), about_count(37_412), about_count(4_512_345)
    ('7', '37,000', '4,500,000')
    """
    return f"{_two_digits(n):,.0f}"


def about_bytes(n: float) -> str:
    """A size, to two digits.

    Examples
    --------
    >>> about_bytes(0), about_bytes(512), about_bytes(23_456), about_bytes(1_250_000), about_bytes(6e12)
    ('0 bytes', '510 bytes', '23 kB', '1.2 MB', '6 TB')
    """
    n = _two_digits(n)
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:g} {unit}"
        n /= 1000
    return f"{n:g} TB"


def _two_digits(n: float) -> float:
    return round(n, 1 - math.floor(math.log10(n))) if n >= 1 else 0.0
