"""Silence, lateness and stops, a second at a time: the real links, leases and scheduler, in milliseconds.

    h2 ──Link──┐  beats, and what is heard   ┌── coordinator ──lease──> SlotPaused, SlotResumed, SlotLost ──> Scheduler
               └── bytes wait while a way ───┘
                   is lost or an end stopped

h2 works on a task that takes for ever. h3 is heard all the time, and what it begins is done at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from jmr.links.leases import BEAT_SECONDS, Lease, Leases
from jmr.scheduler.effects import StartAttempt
from jmr.scheduler.events import (
    AttemptFinished,
    Event,
    JobOpened,
    SlotJoined,
    SlotLost,
    SlotPaused,
    SlotResumed,
    SplitAdded,
)
from jmr.scheduler.jobs import JobOptions
from jmr.scheduler.machine import Scheduler
from jmr.wire.far import Beat
from tests.test_links import Pair

H2, H3 = 1, 2
ENDS = {"worker": "coordinator", "coordinator": "worker"}


class World:
    """Two hosts and what is between them, with a clock that only `until` moves."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 0
        #: Ends that are stopped, and those whose packets are lost.
        self.stopped: set[str] = set()
        self.unheard: set[str] = set()
        #: What has happened, and when.
        self.story: list[tuple[int, str]] = []
        self._numbers = itertools.count(10)
        self._slots = {H3: 1}
        self._scheduler = Scheduler()
        loop.time = lambda: float(self.now)  # type: ignore[method-assign]
        self.tell(JobOpened(0.0, 1, JobOptions()), SlotJoined(0.0, 1, H3))
        self._join()
        self.split()
        self.split()
        self.story.clear()

    def tell(self, *happened: Event) -> None:
        """Tell the scheduler, and have done what it wants done."""
        for event in happened:
            for effect in self._scheduler.handle(event):
                if isinstance(effect, StartAttempt):
                    self._start(effect)

    def split(self) -> None:
        """One more task is there to be done."""
        self.tell(SplitAdded(float(self.now), 1))

    def until(self, end: int) -> list[tuple[int, str]]:
        """Let time pass; what has happened so far."""
        while self.now < end:
            self.now += 1
            for name in ENDS:
                if name not in self.stopped:
                    self._act(name)
            self._deliver()
            if not self.stopped and not self.unheard and not self._is_joined and self.now % BEAT_SECONDS == 0:
                self._join()
        return self.story

    def _start(self, attempt: StartAttempt) -> None:
        host = "h3" if attempt.slot == self._slots[H3] else "h2"
        self.story.append((self.now, f"{attempt.task} on {host}"))
        if host == "h3":
            self.tell(AttemptFinished(float(self.now), attempt.slot))

    def _join(self) -> None:
        self._pair = Pair()
        self._pair.deliver()
        self._leases = {name: Leases(float(self.now)) for name in ENDS}
        self._is_joined = True
        self._slots[H2] = next(self._numbers)
        self.story.append((self.now, "h2 joins"))
        self.tell(SlotJoined(float(self.now), self._slots[H2], H2))

    def _act(self, name: str) -> None:
        """What an end does every second, before it listens: the worse order where it was stopped."""
        link = self._pair.links[name]
        if not link.is_open:
            return
        if self.now % BEAT_SECONDS == 0:
            link.send(Beat(0.0, 0))
            link._pump()
        change = self._leases[name].check(float(self.now), {H2: link.heard_at}).get(H2)
        if change is Lease.LOST:
            self.story.append((self.now, f"{name} gives up"))
            link.abort()
        elif change is not None and name == "coordinator":
            self.story.append((self.now, f"h2 is {change.value}"))
            kind = SlotPaused if change is Lease.SUSPECT else SlotResumed
            self.tell(kind(float(self.now), self._slots[H2]))

    def _deliver(self) -> None:
        """Bring what was sent to whoever listens; a connection that has ended on one end ends on the other, too."""
        for name, other in ENDS.items():
            wire, theirs = self._pair.wires[name], self._pair.wires[other]
            if name in self.unheard or other in self.stopped or theirs.is_closed:
                continue
            data, wire.sent = bytes(wire.sent), bytearray()
            if data:
                self._pair.links[other].data_received(data)
            if wire.is_closed:
                theirs.abort()
        if "coordinator" in self._pair.lost and self._is_joined:
            self._is_joined = False
            self.story.append((self.now, "h2 is lost"))
            self.tell(SlotLost(float(self.now), self._slots.pop(H2)))


def story(happens: Callable[[World], list[tuple[int, str]]]) -> list[tuple[int, str]]:
    """What is told at the end."""

    async def told() -> list[tuple[int, str]]:
        return happens(World(asyncio.get_running_loop()))

    return asyncio.run(told())


def test_healthy_worker_is_left_alone() -> None:
    assert story(lambda world: world.until(500)) == []


def test_silent_worker_gets_nothing_new_and_its_task_runs_elsewhere_after_a_minute() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.unheard = {"worker", "coordinator"}
        world.until(30)
        world.split()
        world.until(309)
        world.unheard = set()
        return world.until(320)

    assert story(happens) == [
        (26, "h2 is suspect"),
        (30, "map-2 on h3"),
        (71, "worker gives up"),
        (71, "coordinator gives up"),
        (71, "h2 is lost"),
        (71, "map-0 on h3"),
        (310, "h2 joins"),
    ]


def test_worker_that_is_not_heard_gets_nothing_new_and_is_given_up() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.unheard = {"worker"}
        return world.until(100)

    assert story(happens) == [
        (26, "h2 is suspect"),
        (71, "coordinator gives up"),
        (71, "h2 is lost"),
        (71, "map-0 on h3"),
    ]


def test_worker_that_hears_nothing_gives_up_and_its_task_runs_elsewhere() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.unheard = {"coordinator"}
        return world.until(100)

    assert story(happens) == [(71, "worker gives up"), (71, "h2 is lost"), (71, "map-0 on h3")]


def test_cable_that_is_out_for_most_of_a_minute_loses_nothing() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.unheard = {"worker", "coordinator"}
        world.until(12)
        world.unheard = set()
        world.until(20)
        world.unheard = {"worker", "coordinator"}
        world.until(69)
        world.unheard = set()
        return world.until(200)

    assert story(happens) == [(36, "h2 is suspect"), (71, "h2 is held")]


def test_worker_that_is_stopped_for_a_moment_loses_nothing() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.stopped = {"worker"}
        world.until(20)
        world.stopped = set()
        return world.until(200)

    assert story(happens) == []


def test_worker_that_is_stopped_for_two_minutes_joins_again() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.stopped = {"worker"}
        world.until(130)
        world.stopped = set()
        return world.until(140)

    assert story(happens) == [
        (26, "h2 is suspect"),
        (71, "coordinator gives up"),
        (71, "h2 is lost"),
        (71, "map-0 on h3"),
        (135, "h2 joins"),
    ]


def test_kernel_that_is_late_loses_nothing() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        for begin, end in (10, 40), (100, 159):
            world.until(begin)
            world.stopped = {"coordinator"}
            world.until(end)
            world.stopped = set()
        return world.until(300)

    assert story(happens) == []


def test_kernel_that_is_stopped_for_two_minutes_loses_workers_that_come_back() -> None:
    def happens(world: World) -> list[tuple[int, str]]:
        world.until(10)
        world.stopped = {"coordinator"}
        world.until(130)
        world.stopped = set()
        return world.until(140)

    assert story(happens) == [(71, "worker gives up"), (131, "h2 is lost"), (131, "map-0 on h3"), (135, "h2 joins")]
