"""Processes are killed, and a host loses its power."""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.conftest import Stopwatch
from tests.faults.scene import HERE, Scene, known_inside, supervisor
from tests.remote import kill_all

pytestmark = pytest.mark.slow


@pytest.mark.faults("a slot is killed while it maps", "its task runs again at once", within=20)
def test_slot_is_killed_while_it_maps(scene: Scene, watch: Stopwatch) -> None:
    scene.begin(HERE, has="")
    pid = known_inside(scene.h1, int(scene.coordinator.wait_for(r"map has (\d+)")[1]))
    watch.start()
    os.kill(pid, signal.SIGKILL)
    scene.let_go("map", "reduce")
    assert "'died'" in scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.faults("a slot is killed while it reduces", "its task runs again at once", within=20)
def test_slot_is_killed_while_it_reduces(scene: Scene, watch: Stopwatch) -> None:
    scene.begin(HERE, has="")
    scene.let_go("map")
    pid = known_inside(scene.h1, int(scene.coordinator.wait_for(r"reduce has (\d+)")[1]))
    watch.start()
    os.kill(pid, signal.SIGKILL)
    scene.let_go("reduce")
    assert "'died'" in scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.faults("the local supervisor is killed in {phase}", "another starts; its tasks run again", within=20)
@pytest.mark.parametrize("phase", ["map", "reduce"])
def test_local_supervisor_is_killed(scene: Scene, watch: Stopwatch, phase: str) -> None:
    scene.begin(HERE, has="")
    if phase == "reduce":
        scene.let_go("map")
    scene.coordinator.wait_for(f"{phase} has")
    watch.start()
    os.kill(supervisor(scene.h1), signal.SIGKILL)
    scene.let_go("map", "reduce")
    assert "'lost'" in scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.faults("a remote worker's supervisor is killed", "its tasks run elsewhere; it joins again", within=20)
def test_remote_supervisor_is_killed(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    os.kill(supervisor(scene.h2), signal.SIGKILL)
    scene.let_go()
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    watch.also("it is back after", scene.back())
    scene.close()
    assert (scene.n_joined("h2"), scene.n_joined("h3")) == (2, 1)


@pytest.mark.faults("a remote worker is killed", "its tasks run elsewhere", within=20)
def test_remote_worker_is_killed(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    kill_all(scene.h2)
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.minutes
@pytest.mark.faults("a host loses its power", "its tasks run elsewhere within 65 s", within=65)
def test_host_loses_its_power(scene: Scene, watch: Stopwatch) -> None:
    scene.begin()
    watch.start()
    scene.h2.poweroff()
    assert "('h2/1', 'lost')" in scene.ended()
    watch.stop()
    scene.close()
