"""What is measured: for each workload its records, its functions, and how a pool's user would cut it.

Light to import, since the cold start is one of the things that are measured. All sources are the same in every process:
seeded, and read with PYTHONHASHSEED=0. Building them is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["WORKLOADS", "Workload"]

Source = Any


@dataclass(frozen=True)
class Workload:
    """One job."""

    name: str
    #: What it is, for the table.
    title: str
    build: Callable[[float], Source]
    mapfn: Callable[[Any, Any], Any]
    reducefn: Callable[[Any, list[Any]], Any]
    combinefn: Callable[[Any, list[Any]], Any] | None = None
    #: Into how many batches a pool's user would cut the source for two processes.
    n_batches: int = 16
    #: Calls to take the median of, in one process.
    n_calls: int = 1


def first(_key: Any, values: list[Any]) -> Any:
    return values[0]


def total(_key: Any, values: list[Any]) -> Any:
    return sum(values)


def everything(_key: Any, values: list[Any]) -> Any:
    return values


def identity(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    yield key, value


# Small jobs: octo.py's triangular numbers.


def triangular(key: int, value: int) -> Iterator[tuple[int, int]]:
    for i in range(value + 1):
        yield key, i


def hundred(_scale: float) -> Source:
    return {i: i for i in range(100)}


# 100,000 tiny records.


def tiny(scale: float) -> Source:
    return [(i, i) for i in range(int(100_000 * scale))]


def tiny_map(key: int, value: int) -> Iterator[tuple[int, int]]:
    yield key % 100, value


# Work that only burns CPU, in equal and in very unequal pieces.


def burn(key: int, n_steps: int) -> Iterator[tuple[int, int]]:
    x = 0
    for i in range(n_steps):
        x += i & 3
    yield key % 16, x


def equal_pieces(scale: float) -> Source:
    return [(i, int(250_000 * scale)) for i in range(200)]


def unequal_pieces(scale: float) -> Source:
    return [(i, int(125_000 * scale)) for i in range(60)] + [(60 + i, int(25_000_000 * scale)) for i in range(2)]


# Words.


def zipf(n: int) -> list[str]:
    import random

    words = [f"word{i}" for i in range(50_000)]
    weights = [0.0]
    for rank in range(1, len(words) + 1):
        weights.append(weights[-1] + 1 / rank)
    return random.Random(1).choices(words, cum_weights=weights[1:], k=n)


def lines(scale: float) -> Source:
    n = int(1_000_000 * scale)
    words = zipf(10 * n)
    return [(i, " ".join(words[10 * i : 10 * i + 10])) for i in range(n)]


def count_words(_line: int, text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        yield word, 1


def documents(scale: float) -> Source:
    n = int(20_000 * scale)
    words = zipf(150 * n)
    return [(i, " ".join(words[150 * i : 150 * i + 150])) for i in range(n)]


def words_of(document: int, text: str) -> Iterator[tuple[str, int]]:
    for word in dict.fromkeys(text.split()):
        yield word, document


def text_files(scale: float) -> Source:
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.gettempdir()) / f"jmr-benchmark-texts-{scale}"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.txt" for i in range(int(200 * scale) or 1)]
    if not all(path.exists() for path in paths):
        words = zipf(33_000 * len(paths))
        for i, path in enumerate(paths):
            path.write_text(" ".join(words[33_000 * i : 33_000 * (i + 1)]))
    return {i: str(path) for i, path in enumerate(paths)}


def count_file(_i: int, path: str) -> Any:
    from collections import Counter

    with open(path, encoding="utf-8") as file:
        return Counter(file.read().split()).items()


# Numbers.


def amounts(scale: float) -> Source:
    import random

    dice = random.Random(2)
    n_keys = int(100_000 * scale) or 1
    return [(int(dice.random() * n_keys), dice.random()) for _ in range(int(3_000_000 * scale))]


def mean(_key: int, values: list[float]) -> float:
    return sum(values) / len(values)


def seeds(scale: float) -> Source:
    return [(i, i) for i in range(int(4_000 * scale))]


def half_on_one_key(_key: int, value: int) -> Iterator[tuple[int, int]]:
    x = 7919 * value + 1
    for _ in range(500):
        x = (1103515245 * x + 12345) & 0xFFFFF
        yield -1, x
        yield x % 1000, x


# Arrays of 4 MB.


def arrays(scale: float) -> Source:
    import numpy as np

    return {i: np.full(500_000, float(i)) for i in range(int(64 * scale))}


def means(key: int, array: Any) -> Iterator[tuple[int, Any]]:
    yield key, array.reshape(1000, 500).mean(axis=1)


def pass_on(key: int, array: Any) -> Iterator[tuple[int, Any]]:
    yield key % 8, array


def grand_total(_key: int, found: list[Any]) -> float:
    return float(sum(array.sum() for array in found))


# More than fits into the budget.


def endless_blobs(scale: float) -> Source:
    return ((i, i) for i in range(int(400_000 * scale)))


def blob(_key: int, value: int) -> Iterator[tuple[int, bytes]]:
    yield value % 20_000, value.to_bytes(8, "little") * 1_250


def checksum(_key: int, found: list[bytes]) -> tuple[int, int]:
    import zlib

    crc = 0
    for piece in found:
        crc = zlib.crc32(piece, crc)
    return len(found), crc


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("small_cold", "small job, from process start", hundred, triangular, total),
        Workload("small_warm", "small job, warm", hundred, triangular, total, n_calls=201),
        Workload("tiny", "100 k tiny records", tiny, tiny_map, total, n_calls=9),
        Workload("cpu", "CPU-bound, 200 equal pieces", equal_pieces, burn, total, n_batches=50),
        Workload("skewed", "60 short pieces, then 2 long ones", unequal_pieces, burn, total, n_batches=62),
        Workload("wordcount", "word count, 10 M pairs", lines, count_words, total),
        Workload("wordcount_combine", "word count with a combiner", lines, count_words, total, total),
        Workload("index", "inverted index, 20 k documents", documents, words_of, everything),
        Workload("groupby", "group-by, 3 M records, 100 k keys", amounts, identity, mean),
        Workload("hotkey", "half of 4 M pairs on one key", seeds, half_on_one_key, total),
        Workload("arrays_in", "64 arrays of 4 MB in, 8 KB out", arrays, means, first),
        Workload("arrays_shuffle", "64 arrays of 4 MB through the shuffle", arrays, pass_on, grand_total),
        Workload("textfiles", "words of 200 text files", text_files, count_file, total, total),
        Workload("bigshuffle", "4 GB through a budget of 512 MB", endless_blobs, blob, checksum),
    )
}
