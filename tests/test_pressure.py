"""A host that runs out of memory, as stories: what is measured, and what is decided."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from jmr.coordinator.pressure import CapWorker, Decision, Pressure, Sample, StopSlot

#: A host with 100 GiB, so that percents read as such.
GIB = 1 << 30
JOB = 7


class Host:
    """Tells samples, a second apart."""

    def __init__(self) -> None:
        self.pressure = Pressure()
        self.now = 100.0

    def says(self, used: float, slots: Mapping[int, float], running: Mapping[int, int] | list[int]) -> list[Decision]:
        """In GiB; slots that run do so for the one job, unless others are named."""
        jobs = dict.fromkeys(running, JOB) if isinstance(running, list) else running
        sizes = {slot: int(n * GIB) for slot, n in slots.items()}
        self.now += 1.0
        return self.pressure.weigh(Sample(self.now, int(used * GIB), 100 * GIB, sizes, jobs))


def test_a_host_with_room_is_left_alone():
    host = Host()
    assert host.says(50, {1: 20, 2: 20}, [1, 2]) == []
    assert host.says(79, {1: 30, 2: 30}, [1, 2]) == []


def test_from_80_percent_on_nothing_new_begins_until_70_percent_again():
    host = Host()
    told = [host.says(used, {1: used / 3, 2: used / 3}, [1, 2]) for used in (79, 80, 85, 75, 71, 69, 75)]
    assert told == [[], [CapWorker(1)], [], [], [], [CapWorker(None)], []]


def test_what_others_have_filled_lets_as_many_run_as_before():
    host = Host()
    assert host.says(82, dict.fromkeys(range(4), 1), [0, 1, 2, 3]) == [CapWorker(4)]
    assert host.says(85, dict.fromkeys(range(4), 1), []) == []
    assert host.says(60, dict.fromkeys(range(4), 1), []) == [CapWorker(None)]
    assert host.says(82, dict.fromkeys(range(4), 1), []) == [CapWorker(4)]


def test_with_nothing_at_work_one_may_begin():
    assert Host().says(90, {1: 1}, []) == [CapWorker(1)]


def test_at_95_percent_the_largest_slot_is_stopped_and_fewer_run():
    host = Host()
    assert host.says(96, {1: 30, 2: 40, 3: 20}, [1, 2, 3]) == [CapWorker(1), StopSlot(2, 40 * GIB, is_blamed=False)]
    assert host.says(60, {1: 30, 3: 20}, [1, 3]) == [CapWorker(2)]


def test_fewer_run_until_the_jobs_that_ran_then_are_over():
    host = Host()
    host.says(96, {1: 30, 2: 40}, {1: 7, 2: 8})
    assert host.says(10, {1: 1, 3: 1}, {1: 9}) == []
    assert host.pressure.forget(9) == []
    assert host.pressure.forget(7) == []
    assert host.pressure.forget(8) == [CapWorker(None)]


def test_the_next_is_stopped_only_when_the_memory_of_the_last_had_time_to_come_back():
    host = Host()
    host.says(96, {1: 30, 2: 40, 3: 20}, [1, 2, 3])
    assert host.says(96, {1: 30, 2: 40, 3: 20}, [1, 3]) == []
    assert host.says(96, {1: 30, 2: 10, 3: 20}, [1, 3]) == []  # it is not gone
    assert host.says(97, {1: 40, 3: 50, 4: 0}, [1, 3]) == [StopSlot(3, 50 * GIB, is_blamed=False)]
    assert host.says(60, {1: 50, 4: 0}, [1]) == []  # one is what may run


def test_who_fills_the_host_alone_is_to_blame():
    host = Host()
    assert host.says(96, {1: 80, 2: 1}, [1]) == [CapWorker(1), StopSlot(1, 80 * GIB, is_blamed=True)]
    assert host.says(20, {2: 1}, []) == [CapWorker(None)]


def test_nobody_is_stopped_for_what_others_have():
    host = Host()
    assert host.says(96, {1: 5, 2: 6}, [1, 2]) == [CapWorker(1)]
    assert host.says(97, {1: 7, 2: 0.01}, [1]) == []
    assert host.says(60, {1: 7, 2: 0.01}, [1]) == [CapWorker(None)]


def test_idle_slots_that_keep_much_go_first():
    host = Host()
    slots = {1: 60, 2: 4, 3: 4, 4: 0.01}
    assert host.says(96, slots, [1]) == [
        CapWorker(1),
        StopSlot(2, 4 * GIB, is_blamed=False),
        StopSlot(3, 4 * GIB, is_blamed=False),
    ]
    assert host.says(96, {1: 68, 4: 0.01}, [1]) == []
    assert host.says(96, {1: 76, 4: 0.01, 5: 0.01}, [1]) == [StopSlot(1, 76 * GIB, is_blamed=True)]


def test_a_host_that_is_full_of_idle_slots_too_small_to_matter_stops_none_of_them():
    host = Host()
    assert host.says(96, dict.fromkeys(range(1000), 0.05), []) == [CapWorker(1)]


def test_of_two_whom_the_kernel_kills_one_is_not_to_blame_and_fewer_run():
    pressure = Pressure()
    assert pressure.killed(1.0, {1: JOB, 2: JOB}) == (False, [CapWorker(1)])
    assert pressure.killed(5.0, {2: JOB}) == (True, [])
    assert pressure.forget(JOB) == [CapWorker(None)]


def test_when_all_rests_nothing_is_left_of_it():
    host = Host()
    host.says(96, {1: 30, 2: 40, 3: 20}, [1, 2, 3])
    assert host.pressure.rest() == [CapWorker(None)]
    assert host.pressure.rest() == []


hosts = st.lists(st.tuples(st.floats(0, 100), st.lists(st.floats(0, 60), min_size=3, max_size=3), st.integers(0, 7)))


@given(hosts)
def test_one_may_always_run_and_of_those_at_work_one_is_stopped_at_a_time(story):
    host = Host()
    most: int | None = None
    n_before = 0
    for used, sizes, bits in story:
        slots = dict(enumerate(sizes))
        running = [slot for slot in slots if bits >> slot & 1]
        decisions = host.says(used, slots, running)
        caps = [decision.most for decision in decisions if isinstance(decision, CapWorker)]
        stops = [decision for decision in decisions if isinstance(decision, StopSlot)]
        assert len(caps) <= 1
        assert caps != [most]
        most = caps[0] if caps else most
        assert most is None or most >= 1
        assert used >= 80 or not stops
        at_work = [stop.slot for stop in stops if stop.slot in running]
        assert len(at_work) <= 1
        assert not at_work or stops[0].is_blamed == (len(running) == 1)
        assert not any(stop.is_blamed for stop in stops if stop.slot not in running)
        assert not (stops and n_before), "two stops in two seconds"
        n_before = len(stops)
    host.pressure.rest()
    assert host.pressure.rest() == []
