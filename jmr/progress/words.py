"""Numbers in words, short enough for a line and no finer than they are. Pure."""

from __future__ import annotations

__all__ = ["count", "duration", "plural", "rate", "size", "time_left", "whole"]


def plural(n: int, noun: str) -> str:
    """A number of things."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def count(n: float) -> str:
    """A count that fits.

    Examples
    --------
    >>> count(1204), count(53_211_000), count(2.5)
    ('1,204', '53.2M', '2.5')
    """
    if n < 10 and n != int(n):
        return f"{n:.1f}"
    return f"{n:,.0f}" if n < 10_000 else _scaled(n)


def rate(per_second: float, unit: str) -> str:
    """Speed in words.

    Examples
    --------
    >>> rate(228_200, "records"), rate(0.5, "tasks")
    ('228.2k records/s', '30 tasks/min')
    """
    if per_second < 1:
        return f"{count(round(per_second * 60))} {unit}/min"
    return f"{count(per_second)} {unit}/s"


def _scaled(n: float) -> str:
    for suffix in ("k", "M", "G"):
        n /= 1000
        if n < 999.95:
            return f"{n:.1f}{suffix}"
    return f"{n / 1000:.1f}T"


def duration(seconds: float) -> str:
    """Time that something took, to three digits.

    Examples
    --------
    >>> duration(0.00312), duration(2.3149), duration(12.34), duration(200), duration(7500)
    ('3.1 ms', '2.31 s', '12.3 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return whole(seconds)


def whole(seconds: float) -> str:
    """Time to the second, as a clock that ticks shows it.

    Examples
    --------
    >>> whole(0.4), whole(59.7), whole(200), whole(3600)
    ('0 s', '1 min 0 s', '3 min 20 s', '1 h 0 min')
    """
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min"


def time_left(seconds: float | None) -> str:
    """A guess in words, no finer than it is; the last half second is not counted down.

    Examples
    --------
    >>> time_left(12.3), time_left(200), time_left(7500), time_left(0.4), time_left(None)
    ('about 12 s', 'about 3 min', 'about 2 h 5 min', '', '')
    """
    if seconds is None or seconds < 0.5:
        return ""
    if seconds < 99.5 or seconds >= 3570:
        return f"about {seconds:.0f} s" if seconds < 99.5 else f"about {whole(seconds)}"
    return f"about {seconds / 60:.0f} min"


def size(n_bytes: float) -> str:
    """Bytes in words, three digits of them.

    Examples
    --------
    >>> size(812), size(1204), size(53_211_000), size(123_456_789_000)
    ('812 B', '1.20 kB', '53.2 MB', '123 GB')
    """
    if n_bytes < 999.5:
        return f"{n_bytes:.0f} B"
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.5:
            return f"{n_bytes:.{_decimals(n_bytes)}f} {unit}"
    return f"{n_bytes / 1000:.{_decimals(n_bytes / 1000)}f} TB"


def _decimals(n: float) -> int:
    return 2 if n < 9.995 else 1 if n < 99.95 else 0
