"""Jobs whose answers depend on nothing but the seed; in slots, and only there, they take their time.

kind, seed, seconds ──> Task: source, functions, options

Each kind is about something that could get lost, come twice or come in another order: small pairs, large values that
travel through files, a key that nearly all have, records and groups that raise, a source that nobody knows the end of.
Slots of one kind leave children behind.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jmr.codec import process

__all__ = ["Task", "task_of"]

_N_RECORDS, _N_GROUPS = 240, 24
#: Of a job's time: what its groups take, and how much of every wait is work.
_REDUCING, _BUSY = 0.25, 0.05
_VALUE_BYTES = 400_000

Record = tuple[Any, Any]


@dataclass(frozen=True)
class Task:
    """What a job is made of."""

    #: Makes the source anew.
    source: Callable[[], Any]
    mapfn: Callable[[Any, Any], Any]
    reducefn: Callable[[Any, list[Any]], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def task_of(kind: str, seed: int, seconds: float) -> Task:
    """A job that keeps slots busy for so many seconds in sum."""
    rng = random.Random(f"{kind} {seed}")
    shares = [rng.expovariate(1.0) for _ in range(_N_RECORDS)]
    pauses = [share / sum(shares) * seconds * (1 - _REDUCING) for share in shares]
    return _KINDS[kind](rng, pauses, seconds * _REDUCING / _N_GROUPS)


def take_time(seconds: float) -> None:
    """Wait, and work a little."""
    if not process.is_slot:
        return
    end = time.process_time() + _BUSY * seconds
    while time.process_time() < end:
        zlib.crc32(b"busy" * 1000)
    time.sleep((1 - _BUSY) * seconds)


def _words(rng: random.Random, pauses: list[float], group_seconds: float) -> Task:
    texts = [" ".join(f"w{int(rng.expovariate(0.1)) % _N_GROUPS}" for _ in range(200)) for _ in pauses]

    def mapfn(key: int, value: tuple[str, float]) -> Iterator[Record]:
        text, pause = value
        take_time(pause)
        for word in text.split():
            yield word, 1

    def combinefn(word: str, counts: list[int]) -> int:
        return sum(counts)

    def reducefn(word: str, counts: list[int]) -> int:
        take_time(group_seconds)
        return sum(counts)

    source = dict(enumerate(zip(texts, pauses, strict=True)))
    return Task(lambda: source, mapfn, reducefn, {"combinefn": combinefn})


def _large(rng: random.Random, pauses: list[float], group_seconds: float) -> Task:
    def mapfn(key: int, value: tuple[bytes, float]) -> Iterator[Record]:
        block, pause = value
        take_time(pause)
        yield key % _N_GROUPS, block * (_VALUE_BYTES // len(block))
        yield -1, key

    def reducefn(key: int, values: list[Any]) -> tuple[int, str]:
        take_time(group_seconds)
        digest = hashlib.sha256()
        for value in values:
            digest.update(value if isinstance(value, bytes) else b"%d," % value)
        return len(values), digest.hexdigest()

    source = [(key, (rng.randbytes(1000), pause)) for key, pause in enumerate(pauses)]
    return Task(lambda: source, mapfn, reducefn)


def _hot(rng: random.Random, pauses: list[float], group_seconds: float) -> Task:
    def mapfn(key: str, pause: float) -> list[Record]:
        if process.is_slot and key.endswith("7") and not os.fork():  # a child that stays
            time.sleep(1_000)
            os._exit(0)
        take_time(pause)
        return [("hot" if i % 10 else i % _N_GROUPS, (key, i)) for i in range(500)]

    def reducefn(key: Any, values: list[Any]) -> tuple[int, list[Any], int]:
        take_time(group_seconds)
        return len(values), values[:3] + values[-3:], zlib.crc32(repr(values).encode())

    source = [(f"record {rng.random()}", pause) for pause in pauses]
    return Task(lambda: source, mapfn, reducefn, {"n_partitions": 8})


def _bad(rng: random.Random, pauses: list[float], group_seconds: float) -> Task:
    def mapfn(key: int, value: tuple[int, float]) -> Iterator[Record]:
        number, pause = value
        take_time(pause)
        yield number % _N_GROUPS, 1 / (number % 7)
        if number % 11 == 0:
            raise ValueError(f"odd duck {number}")
        yield number % 5, number

    def reducefn(key: int, values: list[float]) -> Iterator[float]:
        take_time(group_seconds)
        yield sum(values)
        if key == 3:
            raise KeyError(key)
        yield values[-1]

    source = {key: (rng.randrange(1000), pause) for key, pause in enumerate(pauses)}
    return Task(lambda: source, mapfn, reducefn, {"on_error": "skip"})


def _endless(rng: random.Random, pauses: list[float], group_seconds: float) -> Task:
    values = [(rng.random(), pause) for pause in pauses]

    def source() -> Iterator[Record]:
        for number, (value, pause) in enumerate(values):
            time.sleep(pause / 100)
            yield number, (value, pause)

    def mapfn(key: int, value: tuple[float, float]) -> Iterable[Record]:
        number, pause = value
        take_time(pause)
        return [((key % _N_GROUPS, "even" if key % 2 else "odd"), {"key": key, "value": number})]

    return Task(source, mapfn)


_KINDS = {"words": _words, "large": _large, "hot": _hot, "bad": _bad, "endless": _endless}
