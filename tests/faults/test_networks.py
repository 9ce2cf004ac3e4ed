"""Cables are pulled, and packets lost: both ways or one, while something is sent or nothing is.

A connection over which nothing comes for 60 s is given up by both of its ends.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import Stopwatch
from tests.faults.scene import Scene, last
from tests.remote import await_that, files

pytestmark = pytest.mark.slow

REDONE = "its tasks begin elsewhere within 65 s"
LOST = "its tasks run elsewhere within 65 s; it joins again"
#: A job that moves much from or to h2, by a cable that lets little through.
LARGE = """
import zlib
N_BYTES = 60_000_000
SOURCE = {i: os.urandom(N_BYTES if %(input)d else 10) for i in range(3)}
def words(key, value):
    if here() != HOME:
        say(here(), "has", key)
    yield key, value * (1 if %(input)d else N_BYTES // 10)
def size(key, values):
    return len(values[0]), zlib.crc32(values[0])
def outcomes(result):
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
with jmr.Cluster(**LISTEN) as cluster:
    say("listening")
    sys.stdin.readline()
    await_slots(cluster, 2)
    outcomes(same(SOURCE, words, size))
"""


@pytest.mark.faults("a cable is pulled for 2 s", "nothing is lost", within=20)
def test_cable_is_out_for_a_moment(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    scene.h2.cut()
    scene.let_go()
    last(2)
    scene.h2.heal()
    assert "lost" not in scene.ended()
    watch.stop()
    scene.close()
    assert scene.n_joined("h2") == 1


@pytest.mark.minutes
@pytest.mark.faults("a cable is pulled for 5 min", LOST, within=65)
def test_cable_is_out_for_long(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    scene.h2.cut()
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    last(240)
    scene.let_go()
    scene.h2.heal()
    watch.also("it is back after", scene.back())
    scene.close()
    assert scene.n_joined("h2") == 2


@pytest.mark.minutes
@pytest.mark.faults("packets are dropped while a worker works, {how}", LOST, within=65)
@pytest.mark.parametrize("how", ["both ways", "those to it", "those from it"])
def test_packets_are_dropped_while_it_works(scene: Scene, watch: Stopwatch, how: str) -> None:
    scene.begin()
    watch.start()
    {"both ways": scene.h2.hole, "those to it": scene.h2.deafen, "those from it": scene.h2.mute}[how]()
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    last(15)
    scene.let_go()
    scene.h2.unhole()
    watch.also("it is back after", scene.back())
    scene.close()
    assert scene.n_joined("h2") == 2


@pytest.mark.minutes
@pytest.mark.faults("packets are dropped while a worker is idle, {how}", "a job 20 s later runs elsewhere", within=20)
@pytest.mark.parametrize("how", ["both ways", "those to it", "those from it"])
def test_packets_are_dropped_while_it_is_idle(scene: Scene, watch: Stopwatch, how: str) -> None:
    scene.begin()
    scene.let_go()
    scene.ended()
    {"both ways": scene.h2.hole, "those to it": scene.h2.deafen, "those from it": scene.h2.mute}[how]()
    last(20)
    watch.start("its beginning")
    scene.coordinator.tell("1")
    assert "h2/1" not in scene.ended()
    watch.stop()
    scene.h2.unhole()
    watch.also("it is back after", scene.back())
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("packets are dropped while much is sent to a worker, {how}", REDONE, within=65)
@pytest.mark.parametrize("how", ["both ways", "those to it", "those from it"])
def test_packets_are_dropped_while_input_is_sent(scene: Scene, watch: Stopwatch, how: str) -> None:
    scene.begin(LARGE % {"input": 1}, has="")
    scene.h2.rate("80mbit")
    scene.coordinator.tell("go on")
    await_that(lambda: any("carried-" in name for name in files(scene.h2)))
    break_and_end(scene, watch, how)


@pytest.mark.minutes
@pytest.mark.faults("packets are dropped while a worker sends much, {how}", REDONE, within=65)
@pytest.mark.parametrize("how", ["both ways", "those to it", "those from it"])
def test_packets_are_dropped_while_output_is_sent(scene: Scene, watch: Stopwatch, how: str) -> None:
    scene.begin(LARGE % {"input": 0}, has="")
    scene.h2.rate("80mbit")
    scene.coordinator.tell("go on")
    scene.coordinator.wait_for("h2 has")
    last(1)
    break_and_end(scene, watch, how)


def break_and_end(scene: Scene, watch: Stopwatch, how: str) -> None:
    """Drop packets until the worker is lost and its work done elsewhere."""
    watch.start()
    {"both ways": scene.h2.hole, "those to it": scene.h2.deafen, "those from it": scene.h2.mute}[how]()
    scene.told("h3 has", 3)
    watch.stop()
    assert "('h2/1', 'lost')" in scene.ended()
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("a network that loses 5 % of all packets", "nothing is lost", within=60)
def test_network_is_bad(scene: Scene, watch: Stopwatch) -> None:
    scene.begin(LARGE % {"input": 0}, has="")
    scene.h2.loss(5)
    watch.start()
    scene.coordinator.tell("go on")
    assert "lost" not in scene.ended()
    watch.stop()
    scene.close()
