"""Splits that read what a worker does not see go there once more, with that inside."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import pytest

import jmr
from jmr.engines.executor import ExecutorPool
from jmr.sources import NotHereError, SetAside, dump_split, load_records
from jmr.sources.carrying import carried
from jmr.wire.far import SplitNotHere
from jmr.wire.messages import KillSlot, StartMap
from tests.peers import Peer, map_done

TOKEN = bytes(range(32))


class Now(Executor):
    """Runs each call at once, where it is submitted."""

    _max_workers = 2

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@dataclass(frozen=True)
class Page(jmr.Split):
    """Words that are not to be had where it is read, unless they are inside; "lost" ones cannot be had at all."""

    number: int
    words: tuple[str, ...] = ()
    fate: str = ""

    def read(self, set_aside: SetAside) -> tuple[list[Any], list[Any]]:
        if not self.words and self.fate == "part of it":
            set_aside(f"page {self.number}", NotHereError(f"page {self.number}"), 0)
            return [], []
        if not self.words:
            raise NotHereError(f"page {self.number}")
        return [(self.number, place) for place in range(len(self.words))], list(self.words)

    def carried(self) -> jmr.Split:
        if self.fate == "burnt":
            raise OSError(5, "it was burnt")
        if self.fate == "lost":
            raise NotHereError(f"page {self.number}", "it is nowhere")
        return self if self.fate in ("careless", "part of it") else Page(self.number, (f"word{self.number}", "and"))


@dataclass(frozen=True)
class Book(jmr.Source):
    fates: tuple[str, ...]

    def splits(self) -> Iterator[jmr.Split]:
        for number, fate in enumerate(self.fates):
            yield Page(number, (), fate)


def count(key: Any, word: str) -> Iterator[tuple[str, int]]:
    yield word, 1


def total(word: str, counts: list[int]) -> int:
    return sum(counts)


def plain(*numbers: int) -> dict[Any, str]:
    return {(number, place): word for number in numbers for place, word in enumerate((f"word{number}", "and"))}


def blob(split: jmr.Split) -> bytes:
    return b"".join(dump_split(split))


def test_a_split_is_carried_with_what_it_reads_inside() -> None:
    assert dict(load_records(b"".join(carried(blob(Page(3))))).pairs()) == plain(3)


@pytest.mark.parametrize(
    ("fate", "key", "why"),
    [
        ("lost", "page 7", "it is nowhere"),
        ("careless", "page 7", "it is not the same on this worker"),
        ("part of it", "page 7", "it is not the same on this worker"),
    ],
)
def test_what_is_not_here_either_is_set_aside_by_its_name_and_asked_for_no_more(fate: str, key: str, why: str) -> None:
    kept: list[tuple[Any, Exception]] = []
    split = b"".join(carried(blob(Page(7, (), fate))))
    assert not len(load_records(split, lambda key, error, n_before=0: kept.append((key, error))))
    [(found, error)] = kept
    assert (found, str(error.strerror), type(error)) == (key, why, FileNotFoundError)  # type: ignore[attr-defined]
    with pytest.raises(jmr.SourceError, match=f"'{key}' cannot be read: {why}"):
        load_records(split)


def test_what_fails_in_the_kernel_is_told_by_its_own_error() -> None:
    with pytest.raises(OSError, match="it was burnt"):
        load_records(b"".join(carried(blob(Page(7, (), "burnt")))))


def test_workers_of_another_engine_are_sent_what_they_do_not_see() -> None:
    result = jmr.run(Book(("", "", "", "")), count, total, engine=Now())
    assert list(result.items()) == list(jmr.run(plain(0, 1, 2, 3), count, total, engine="inline").items())
    assert result.stats.n_records == 8
    assert "workers of executor do not see what this job reads, and were sent it" in repr(result.summary)
    assert [attempt.outcome for attempt in result.timeline].count("refused") == 1


def test_what_was_refused_has_left_no_file_where_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the split leaves when it is mapped has the same name."""
    monkeypatch.setenv("JMR_MEMORY", "0")
    assert jmr.run(Book(("", "")), count, total, engine=Now()) == {"word0": 1, "and": 2, "word1": 1}


class Library(Book):
    def splits(self) -> Iterator[jmr.Split]:
        yield from map(Large, range(len(self.fates)))


class Large(Page):
    """Has much on it, where it is."""


def test_what_is_sent_along_is_counted_among_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    most, finished, start_map = 10_000, ExecutorPool.finished, ExecutorPool.start_map
    under_way: list[int] = []
    read: list[int] = []

    def started(pool: ExecutorPool, index: int, split: bytes) -> None:
        start_map(pool, index, split)
        under_way.append(sum(len(task.arguments[0]) for task in pool._tasks.values()))

    def carried(page: Large) -> jmr.Split:
        read.append(page.number)
        return Page(page.number, ("word" * 1_000,))

    monkeypatch.setattr(Large, "carried", carried)
    monkeypatch.setattr(Now, "_max_workers", 8)
    monkeypatch.setattr("jmr.engines.driver._MOST_UNDER_WAY_BYTES", most)
    monkeypatch.setattr(ExecutorPool, "start_map", started)
    # Nothing is told as long as there is room for more.
    monkeypatch.setattr(ExecutorPool, "finished", lambda pool, seconds: finished(pool, seconds) if seconds else [])
    assert jmr.run(Library(("",) * 30), count, total, engine=Now()) == {"word" * 1_000: 30}
    assert most < max(under_way) < most + 5_000
    assert sorted(read) == list(range(30))


@pytest.mark.parametrize("fate", ["lost", "careless", "part of it"])
def test_what_nobody_sees_ends_a_job_of_another_engine_or_is_set_aside(fate: str) -> None:
    book = Book(("", fate, ""))
    with pytest.raises(jmr.SourceError, match="'page 1' cannot be read: it is"):
        jmr.run(book, count, total, engine=Now())
    result = jmr.run(book, count, total, engine=Now(), on_error="skip")
    assert list(result.items()) == list(jmr.run(plain(0, 2), count, total, engine="inline").items())
    assert [(bad.phase, bad.key) for bad in result.errors] == [("read", "page 1")]


# A worker on another host, which only talks like one.


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[jmr.Cluster]:
    """No slot here, and a port for others."""
    monkeypatch.setenv("JMR_TOKEN", TOKEN.hex())
    with jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        yield cluster


async def asks_for(peer: Peer) -> tuple[int, StartMap]:
    """Say of the next split that it reads what is not here; the order that comes instead."""
    stream, first = await peer.hear(StartMap)
    with pytest.raises(NotHereError):
        load_records(first.blobs[0])  # type: ignore[arg-type]
    peer.say(SplitNotHere(), stream)
    stream, again = await peer.hear(StartMap)
    assert (again.task, again.number) == (first.task, first.number)
    return stream, again


def with_peer(cluster: jmr.Cluster, book: Book, script: Callable[[Peer, jmr.Job], Awaitable[None]]) -> None:
    async def play() -> None:
        peer = await Peer.join(cluster.address or "", TOKEN)
        await peer.offer()
        job = jmr.submit(book, count, engine=cluster, progress=False)
        try:
            await script(peer, job)
        finally:
            await asyncio.to_thread(job.cancel)
            await asyncio.to_thread(job._thread.join, 20)
            await peer.close()

    asyncio.run(play())


@pytest.mark.slow
def test_the_same_attempt_goes_on_and_the_next_split_comes_with_all_at_once(listening: jmr.Cluster) -> None:
    async def script(peer: Peer, job: jmr.Job) -> None:
        stream, order = await asks_for(peer)
        assert dict(load_records(order.blobs[0]).pairs()) == plain(0)  # type: ignore[arg-type]
        peer.say(map_done([0] * 8), stream)
        _, order = await peer.hear(StartMap)
        assert (order.task, order.number) == (1, 1)
        assert dict(load_records(order.blobs[0]).pairs()) == plain(1)  # type: ignore[arg-type]

    with_peer(listening, Book(("", "")), script)


@pytest.mark.slow
def test_a_slot_that_asks_again_for_what_it_was_sent_is_dropped(listening: jmr.Cluster) -> None:
    async def script(peer: Peer, job: jmr.Job) -> None:
        stream, _ = await asks_for(peer)
        peer.say(SplitNotHere(), stream)
        await peer.dropped()

    with_peer(listening, Book(("",)), script)


@pytest.mark.slow
def test_a_job_that_is_cancelled_while_a_slot_waits_ends_that_slot(listening: jmr.Cluster) -> None:
    async def script(peer: Peer, job: jmr.Job) -> None:
        stream, _ = await asks_for(peer)
        await asyncio.to_thread(job.cancel)
        _, kill = await peer.hear(KillSlot)
        assert kill.slot == stream
        with pytest.raises(jmr.JobCancelled):
            await asyncio.to_thread(job.result, 20)

    with_peer(listening, Book(("", "")), script)
