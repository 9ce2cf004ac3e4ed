"""Processes are stopped and go on, the coordinator's loop is late, and user code keeps the interpreter to itself."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.faults.conftest import Stopwatch
from tests.faults.scene import HERE, THERE, Scene, known_inside, last, slots, supervisor

pytestmark = pytest.mark.slow

#: For jobs that work on all hosts, and wait there; and the job itself.
EVERYWHERE = """
import ctypes
KERNEL = os.getpid()
def keep_the_interpreter(seconds):
    ctypes.PyDLL(None).sleep(seconds)
def words(key, line):
    if os.getpid() != KERNEL:
        say(here(), "has", key)
        wait("go")
    for word in line.split():
        yield word, 1
SOURCE = {i: f"the quick fox {i} jumps" for i in range(3)}
def outcomes(result):
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
def heard(cluster):
    "What slots do whose hosts are heard."
    return [slot.doing for host in cluster.hosts() if host.state == "ready" for slot in host.slots]
def again(cluster):
    while n_slots := int(sys.stdin.readline()):
        while heard(cluster) != ["idle"] * n_slots:
            time.sleep(0.01)
        say("back")
        outcomes(same(SOURCE, words, total))
def once():
    outcomes(same(SOURCE, words, total))
%s
with jmr.Cluster(**LISTEN | {"workers": 1}) as cluster:
    await_slots(cluster, 3)
    once()
    again(cluster)
"""


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it is a slot whose task was done by another, and was killed
        os.kill(pid, signal.SIGCONT)


@pytest.mark.minutes
@pytest.mark.faults("a worker and its slots are stopped for 10 s", "nothing is lost", within=20)
def test_worker_is_stopped_for_a_moment(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    scene.h2.freeze()
    scene.let_go()
    last(10)
    scene.h2.thaw()
    assert "lost" not in scene.ended()
    watch.stop()
    scene.close()
    assert scene.n_joined("h2") == 1


@pytest.mark.minutes
@pytest.mark.faults(
    "a worker and its slots are stopped for 2 min", "its tasks run elsewhere; it joins again", within=65
)
def test_worker_is_stopped_for_long(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    scene.h2.freeze()
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    last(60)
    scene.let_go()
    scene.h2.thaw()
    watch.also("it is back after", scene.back())
    scene.close()
    assert scene.n_joined("h2") == 2


@pytest.mark.minutes
@pytest.mark.faults("a worker's supervisor is stopped for {seconds} s", "its slots work on", within=20)
@pytest.mark.parametrize("seconds", [10, 120])
def test_supervisor_is_stopped(scene: Scene, watch: Stopwatch, seconds: int) -> None:
    scene.begin()
    pid = supervisor(scene.h2)
    watch.start()
    stop(pid)
    scene.let_go()
    assert "lost" not in scene.ended()
    watch.stop()
    last(seconds)
    go_on(pid)
    scene.back()
    scene.close()
    assert scene.n_joined("h2") == 1


@pytest.mark.minutes
@pytest.mark.faults("the local supervisor is stopped for 2 min", "its slots work on", within=20)
def test_local_supervisor_is_stopped(scene: Scene, watch: Stopwatch) -> None:
    scene.begin(HERE, has="map has")
    pid = supervisor(scene.h1)
    watch.start()
    stop(pid)
    scene.let_go("map", "reduce")
    assert "lost" not in scene.ended()
    watch.stop()
    last(120)
    go_on(pid)
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("a slot is stopped for {seconds} s", "its task is done by it, or by another within 65 s", within=65)
@pytest.mark.parametrize("seconds", [10, 120])
def test_slot_is_stopped(scene: Scene, watch: Stopwatch, seconds: int) -> None:
    scene.begin(THERE.replace("range(3)", "range(20)"))  # most of it is done elsewhere, so a backup may begin
    (pid,) = slots(scene.h2)
    watch.start()
    stop(pid)
    scene.let_go()
    if seconds == 10:
        last(10)
        go_on(pid)
    scene.ended()
    watch.stop()
    go_on(pid)
    scene.back()
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("a slot with one of few tasks is stopped for good", "it is ended; its task runs again", within=65)
def test_slot_with_one_of_few_tasks_is_stopped(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    (pid,) = slots(scene.h2)
    watch.start()
    stop(pid)
    scene.let_go()
    assert "('h2/1', 'stopped')" in scene.ended()
    watch.stop()
    scene.back()
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("a local slot with one of few tasks is stopped for good", "the same", within=65)
def test_local_slot_with_one_of_few_tasks_is_stopped(scene: Scene, watch: Stopwatch) -> None:
    scene.begin(HERE.replace("range(40)", "range(3)"), has="")
    pid = known_inside(scene.h1, int(scene.coordinator.wait_for(r"map has (\d+)")[1]))
    watch.start()
    stop(pid)
    scene.let_go("map", "reduce")
    assert "'stopped'" in scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("the kernel is stopped for {seconds} s", "the job goes on; workers that left come back", within=30)
@pytest.mark.parametrize("seconds", [10, 45, 120])
def test_kernel_is_stopped(scene: Scene, watch: Stopwatch, seconds: int) -> None:
    scene.begin(EVERYWHERE % "", has="")
    for _ in range(3):
        scene.coordinator.wait_for("has")
    stop(scene.coordinator.process.pid)
    let_all_go(scene)
    last(seconds)
    watch.start("its end")
    go_on(scene.coordinator.process.pid)
    scene.ended()
    watch.stop()
    watch.also("all are back after", scene.back(3))
    said = scene.close()
    if seconds < 60:
        assert "lost" not in said
    n_joined = 1 if seconds < 60 else 2
    assert (scene.n_joined("h2"), scene.n_joined("h3")) == (n_joined, n_joined)


@pytest.mark.minutes
@pytest.mark.faults("the coordinator's loop is late by 30 s", "nothing is lost", within=40)
def test_loop_is_late(scene: Scene, watch: Stopwatch) -> None:
    late = """
def once():
    job = jmr.submit(SOURCE, words, total, progress=False)
    sys.stdin.readline()
    cluster._coordinator.call(time.sleep, 30)
    assert list(job.result().items()) == list(jmr.run(SOURCE, words, total, engine="inline").items())
    say("same")
    outcomes(job.result())
"""
    scene.begin(EVERYWHERE % late, has="")
    for _ in range(3):
        scene.coordinator.wait_for("has")
    watch.start()
    scene.coordinator.tell("be late")
    last(1)
    let_all_go(scene)
    assert "lost" not in scene.ended()
    watch.stop()
    watch.also("all are there after", scene.back(3))
    scene.close()
    assert scene.n_joined("h2") == scene.n_joined("h3") == 1


@pytest.mark.minutes
@pytest.mark.faults(
    "a source keeps the kernel's interpreter for 2 min", "the job goes on; workers come back", within=30
)
def test_source_keeps_the_interpreter(scene: Scene, watch: Stopwatch) -> None:
    source = """
def pairs():
    first, *others = SOURCE.items()
    yield first
    say("begins to hold")
    keep_the_interpreter(120)
    say("ends to hold")
    yield from others
def once():
    result = jmr.run(pairs(), words, total, progress=False)
    assert list(result.items()) == list(jmr.run(SOURCE, words, total, engine="inline").items())
    say("same")
    outcomes(result)
"""
    scene.begin(EVERYWHERE % source, has="")
    let_all_go(scene)
    scene.coordinator.wait_for("begins to hold")
    scene.coordinator.wait_for("ends to hold", timeout=150)
    watch.start("its end")
    scene.ended()
    watch.stop()
    watch.also("all are back after", scene.back(3))
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("user code keeps a slot's interpreter for 2 min", "nothing is lost; others go on", within=130)
def test_slot_keeps_the_interpreter(scene: Scene, watch: Stopwatch) -> None:
    held = """
def words(key, line):
    if here() == "h2":
        keep_the_interpreter(120)
    yield from [(word, 1) for word in line.split()]
"""
    scene.begin(EVERYWHERE % held, has="")
    let_all_go(scene)
    watch.start()
    assert "lost" not in scene.ended(timeout=150)
    watch.stop()
    scene.close()
    assert scene.n_joined("h2") == 1


def let_all_go(scene: Scene) -> None:
    """Calls that wait, on whatever host."""
    for host in scene.h1, scene.h2, scene.h3:
        scene.let_go(host=host)
