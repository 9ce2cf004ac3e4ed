"""What goes to slots on another host and back, in every size and way: all of it equals the plain loop's."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.hosts import Hosts
from tests.remote import await_no_job_files, await_that, files, joined_worker, processes, script

pytestmark = pytest.mark.slow

START = """
import array, dataclasses, random
import numpy as np
def alike(source, mapfn, reducefn=None, **options):
    "As `same`, also for arrays: compares what they are when pickled."
    import pickle
    plain = {name: options[name] for name in ("combinefn", "on_error") if name in options}
    expected = jmr.run(source, mapfn, reducefn, engine="inline", progress=False, **plain)
    result = jmr.run(source, mapfn, reducefn, progress=False, **options)
    assert list(result) == list(expected), (list(result), list(expected))
    for key in expected:
        assert pickle.dumps(result[key], 5) == pickle.dumps(expected[key], 5), key
        assert type(result[key]) is type(expected[key])
    assert {one.slot.partition("/")[0] for one in result.timeline} == {"h2"}
    say("alike", len(result), result.stats.shuffled_bytes)
    return result
"""
RUN = """
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    run()
    say("all done")
    sys.stdin.readline()
"""
#: Of the coordinator: all in memory, and nearly nothing.
MEMORY = pytest.mark.parametrize("memory", ["", "1M"])


def run_in(hosts: Hosts, body: str, memory: str = "") -> str:
    """Run the script's run(), with two slots on h2; all that it says. No file of a job is left."""
    environment = {"JMR_MEMORY": memory} if memory else {}
    coordinator = script(hosts["h1"], START + body + RUN, **environment)
    joined_worker(hosts["h2"], "--slots", "2")
    coordinator.wait_for("all done")
    for name in "h1", "h2":
        await_no_job_files(hosts[name])
    coordinator.tell("end")
    return coordinator.end()


@MEMORY
def test_map_outputs_of_all_sizes(hosts: Hosts, memory: str) -> None:
    body = """
def blocks(key, value):
    for i in range(4):
        yield (key + i) % 7, random.Random(key).randbytes(value)
def lengths(key, values):
    return [(len(value), value[:9]) for value in values]
def run():
    for n_bytes in 10, 20_000, 300_000, 3_000_000:
        alike({i: n_bytes for i in range(12)}, blocks, lengths)
        alike({i: n_bytes for i in range(4)}, blocks)
"""
    run_in(hosts, body, memory)


@MEMORY
def test_splits_that_lie_in_files_and_arrays_that_can_be_written(hosts: Hosts, memory: str) -> None:
    body = """
def halves(key, value):
    value[0] = -1.0
    yield key % 2, value[::2]
def add(key, values):
    values[0] += 1
    return sum(values)
def small(key, value):
    yield value["name"], value["n"]
def run():
    rows = {i: np.arange(500_000, dtype=float) + i for i in range(8)}
    alike(rows, lambda key, value: halves(key, value.copy() if here() == HOME else value), add)
    alike([(i, {"name": f"name {i % 100}", "n": i, "text": "x" * 200}) for i in range(40_000)], small, total)
"""
    run_in(hosts, body, memory)


@MEMORY
def test_table_that_functions_capture(hosts: Hosts, memory: str) -> None:
    body = """
TABLE = np.arange(4_000_000)
def look_up(key, value):
    yield key % 3, int(TABLE[value])
def run():
    alike({i: i * 1000 for i in range(300)}, look_up, lambda key, values: sum(values) + int(TABLE[-1]))
    alike({i: i * 1000 for i in range(300)}, look_up, total)
"""
    run_in(hosts, body, memory)


@MEMORY
def test_reduce_of_much_dealt_out_in_parts_and_combined(hosts: Hosts, memory: str) -> None:
    body = """
def pairs(key, value):
    generator = random.Random(key)
    for _ in range(value):
        yield generator.randrange(20_000), "v" * 40
def ones(key, value):
    return ((word, 1) for word, _ in pairs(key, value))
def run():
    alike({i: 20_000 for i in range(8)}, pairs, lambda key, values: len(values), n_partitions=2)
    alike({i: 20_000 for i in range(8)}, ones, total, combinefn=total)
"""
    run_in(hosts, body, memory)


@MEMORY
def test_map_outputs_that_are_spilled_there(hosts: Hosts, memory: str) -> None:
    body = """
import os, signal
def pairs(key, value):
    generator = random.Random(key)
    for i in range(value):
        if i % 700 == 699 and here() != HOME:
            os.kill(os.getpid(), signal.SIGURG)
        yield generator.randrange(20_000), "v" * generator.randrange(80)
def ones(key, value):
    return ((word, 1) for word, _ in pairs(key, value))
def run():
    for n in 800, 20_000:
        alike({i: n for i in range(4)}, pairs, n_partitions=2)
        alike({i: n for i in range(4)}, ones, total, combinefn=total)
"""
    run_in(hosts, body, memory)


def test_classes_of_the_script_and_prints_come_back(hosts: Hosts) -> None:
    body = """
@dataclasses.dataclass
class Point:
    x: int
class OddError(Exception):
    def __init__(self, x, why):
        super().__init__(x, why)
        self.x = x
def points(key, value):
    if here() != HOME:
        print("point", key)
        print("error", key, file=sys.stderr)
    yield key % 2, Point(value)
def odd(key, value):
    if value == 7:
        raise OddError(value, "odd duck")
    yield key, value
def run():
    result = same({i: i for i in range(10)}, points)
    assert {type(point) for value in result.values() for point in value} == {Point}
    try:
        jmr.run({i: i for i in range(10)}, odd, progress=False)
    except jmr.MapError as error:
        say("raised", type(error.__cause__) is OddError, error.__cause__.x, str(error).splitlines()[0])
        import traceback
        traceback.print_exception(error)
    result = alike({i: i for i in range(10)}, odd, on_error="skip")
    say("skipped", [(bad.phase, bad.key, type(bad.error) is OddError) for bad in result.errors], 7 in result)
    def bad_group(key, values):
        raise OddError(key, "group")
    result = jmr.run({1: 1}, odd, bad_group, on_error="skip", progress=False)
    say("group", [(bad.phase, bad.key, bad.value) for bad in result.errors])
"""
    said = run_in(hosts, body)
    for i in range(10):
        assert said.count(f"] point {i}\n") == said.count(f"] error {i}\n") == 1
    assert "[h2/1] point" in said
    assert "[h2/2] point" in said
    assert "raised True 7 mapfn raised OddError(7, 'odd duck') for record key=7" in said
    assert "worker h2/" in said
    assert ", in odd\n" in said
    assert "skipped [('map', 7, True)] False" in said
    assert "group [('reduce', 1, [1])]" in said


@pytest.mark.parametrize(("when", "who"), [("out", "worker"), ("in", "host"), ("functions", "slot")])
def test_loss_amid_a_transfer(hosts: Hosts, when: str, who: str) -> None:
    h1, h2, h3, _ = hosts
    body = """
def blocks(key, value):
    say(here(), "has", key)
    for i in range(4):
        yield (key + i) % 7, random.Random(key).randbytes(3_000_000)
def lengths(key, values):
    return [(len(value), value[:9]) for value in values]
def slices(key, value):
    yield key, value[::1000]
TABLE = random.Random(0).randbytes(30_000_000)
def look(key, value):
    yield key, TABLE[key]
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 4)
    say("begins")
    if sys.argv[1] == "out":
        same({i: i for i in range(12)}, blocks, lengths)
    elif sys.argv[1] == "in":
        same({i: random.Random(i).randbytes(20_000_000) for i in range(6)}, slices)
    else:
        same({i: i for i in range(12)}, look)
    sys.stdin.readline()
"""
    h2.rate("100mbit")
    coordinator = script(h1, START + body, when, quick=True)
    lost, _ = [joined_worker(host, "--slots", "2", quick=True) for host in (h2, h3)]
    coordinator.wait_for("begins")
    if when == "out":
        coordinator.wait_for("h2 has")
    else:
        await_that(lambda: any("job-" in file for file in files(h2)))
    if who == "host":
        h2.poweroff()
    else:
        os.kill(lost.process.pid if who == "worker" else max(processes(h2)), signal.SIGKILL)
    coordinator.wait_for("same")
    for host in (h1, h3) if who == "host" else (h1, h2, h3):
        await_no_job_files(host)
    coordinator.tell("end")
    coordinator.end()


def test_what_slots_on_another_host_leave_is_kept_for_another_run(hosts: Hosts) -> None:
    """Small outputs come inline, larger ones as files in memory, or on disk; a class of the script is a key."""
    body = """
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
def blocks(key, value):
    for i in range(4):
        yield Point((key + i) % 7), random.Random(key).randbytes(value)
def lengths(key, values):
    return [len(value) for value in values]
def run():
    for n_bytes in 10, 300_000, 3_000_000:
        source, kept = {i: n_bytes for i in range(12)}, f"/tmp/kept-{n_bytes}"
        alike(source, blocks, lengths, checkpoint=kept)
        expected = jmr.run(source, blocks, engine="inline", progress=False)
        result = jmr.run(source, blocks, checkpoint=kept, progress=False)
        assert list(result.items()) == list(expected.items())
        assert {one.task.partition("-")[0] for one in result.timeline} == {"reduce"}
        say(result.summary._report.notes)
"""
    said = run_in(hosts, body, "64M")
    assert (
        len(re.findall(r"\['(\d+) of \1 map tasks and 0 of \d+ reduce tasks were kept in /tmp/kept-\d+'\]", said)) == 3
    )


def test_results_that_are_written_lie_on_the_coordinators_host(hosts: Hosts) -> None:
    body = """
def mapfn(key, value):
    yield key % 7, value
def first(key, values):
    return values[0]
def run():
    source = [(key, key) for key in range(700)]
    expected = jmr.run(source, mapfn, total, engine="inline", progress=False)
    result = jmr.run(source, mapfn, total, out="/tmp/sums", progress=False)
    assert {one.slot.partition("/")[0] for one in result.timeline} == {"h2"}
    assert all(os.path.exists(path) for path in result), result
    names = ["_manifest.json", *map(os.path.basename, result)]
    say("written", sum(result.values()), sorted(os.listdir("/tmp/sums")) == names)
    say("read", dict(jmr.run(result, lambda key, value: [(key, value)], first, progress=False)) == expected)
"""
    said = run_in(hosts, body)
    assert "written 7 True\n" in said
    assert "read True\n" in said
