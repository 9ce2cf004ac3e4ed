"""What a job lives on is used up: room on disks, file descriptors, workers; and the clock on the wall jumps."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.conftest import Stopwatch
from tests.faults.scene import THERE, Scene, last
from tests.hosts import Host
from tests.remote import kill_all

pytestmark = pytest.mark.slow

#: A job whose input and output do not fit into memory.
LARGE = """
import zlib
SOURCE = {i: os.urandom(1_000_000) for i in range(40)}
def pass_on(key, value):
    yield key % 7, value
def sizes(key, values):
    return [(len(value), zlib.crc32(value)) for value in values]
def outcomes(result):
    say("outcomes", sorted({(one.slot, one.outcome) for one in result.timeline}))
"""


@pytest.mark.faults(
    "the disk of the kernel's host is full", "the job ends with a sentence; once freed, it runs", within=20
)
def test_disk_of_the_coordinator_is_full(scene: Scene, watch: Stopwatch) -> None:
    body = """
with jmr.Cluster(workers=2) as cluster:
    try:
        jmr.run(SOURCE, pass_on, sizes, progress=False)
    except jmr.WorkerError as error:
        say("failed:", error)
    sys.stdin.readline()
    outcomes(same(SOURCE, pass_on, sizes))
"""
    fill(scene.h1)
    watch.start()
    scene.begin(LARGE + body, has="", environment=SMALL)
    told = scene.coordinator.wait_for("failed:.*$")[0]
    watch.stop()
    assert "/tmp/small" in told
    assert "free some space" in told
    scene.h1.run(["rm", "/tmp/small/ballast"])
    scene.coordinator.tell("go on")
    assert scene.ended() == "outcomes [('local/1', 'done'), ('local/2', 'done')]"
    scene.close()


@pytest.mark.faults("the disk of a worker's host is full", "the job goes on without it, and says so", within=20)
def test_disk_of_a_worker_is_full(scene: Scene, watch: Stopwatch) -> None:
    body = """
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    result = same(SOURCE, pass_on, sizes, progress=True)
    outcomes(result)
"""
    fill(scene.h2)
    for host in scene.h1, scene.h3:
        host.run(["mkdir", "/tmp/small"])
    scene.begin(LARGE + body, has="", environment=SMALL)
    watch.start()
    assert "('h2/1', 'refused')" in scene.ended()
    watch.stop()
    said = scene.close()
    assert "without h2, which" in said
    assert "/tmp/small" in said


SMALL = {"JMR_TMP": "/tmp/small", "JMR_MEMORY": "4M"}


def fill(host: Host) -> None:
    """Have a disk in /tmp/small on this host that is full."""
    host.run(["sh", "-ec", "mkdir /tmp/small; mount -t tmpfs -o size=200m tmpfs /tmp/small"])
    host.run(["sh", "-ec", "head -c 150m /dev/zero >/tmp/small/ballast"])


@pytest.mark.faults("the kernel has no file descriptor left", "the job goes on with the slots that live", within=20)
def test_no_descriptor_is_left_in_the_kernel(scene: Scene, watch: Stopwatch) -> None:
    body = """
import resource
SOURCE = {i: i for i in range(100)}
KERNEL = os.getpid()
def die(key, value):
    if key == 7 and os.getpid() != KERNEL and not os.path.exists("/tmp/died"):
        open("/tmp/died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    yield key % 7, value
def outcomes(result):
    say("outcomes", sorted({one.outcome for one in result.timeline}))
with jmr.Cluster(workers=2) as cluster:
    same(SOURCE, lambda key, value: [(key % 7, value)], total)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    say("starts")
    outcomes(same(SOURCE, die, total))
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    outcomes(same(SOURCE, die, total))
    await_slots(cluster, 2)
"""
    scene.begin(body, has="starts")
    watch.start()
    assert "'died'" in scene.ended()
    watch.stop()
    scene.ended()
    scene.close()


@pytest.mark.faults("user code uses up a slot's file descriptors", "its next task runs in a new slot", within=20)
def test_no_descriptor_is_left_in_a_slot(scene: Scene, watch: Stopwatch) -> None:
    body = """
KERNEL = os.getpid()
KEPT = []
def keep_all(key, value):
    if key == 3 and os.getpid() != KERNEL and not os.path.exists("/tmp/kept"):
        open("/tmp/kept", "w").close()
        try:
            while True:
                KEPT.append(os.open("/", 0))
        except OSError:
            say("none is left")
    yield key % 7, value
with jmr.Cluster(workers=1) as cluster:
    outcomes(same(SOURCE, keep_all, sizes))
"""
    watch.start()
    scene.begin(LARGE + body, has="none is left")
    scene.ended()
    watch.stop()
    scene.close()


@pytest.mark.faults("all workers are gone", "the job waits, visibly, and goes on when one joins", within=20)
def test_all_workers_are_gone(scene: Scene, watch: Stopwatch) -> None:
    body = (
        THERE[: THERE.index("with jmr")]
        + """
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    job = jmr.submit(SOURCE, words, total, progress=False)
    while "waiting for a worker to join" not in repr(job):
        time.sleep(0.01)
    say("waits")
    assert list(job.result().items()) == list(jmr.run(SOURCE, words, total, engine="inline").items())
    say("same")
    outcomes(job.result())
"""
    )
    scene.begin(body)
    for host in scene.h3, scene.h2:  # first the one that would do all the work
        kill_all(host)
    scene.coordinator.wait_for("waits")
    watch.start("one has joined")
    scene.workers["h3"] = scene.join(scene.h3)
    assert "('h3/1', 'done')" in scene.ended()
    watch.stop()
    scene.close()


#: time.sleep sleeps until a moment of the monotonic clock, for which libfaketime has no ear.
SLEEPLESS = """
import select
def pause(seconds):
    select.select([], [], [], seconds)
def wait(name):
    while not os.path.exists("/tmp/" + name):
        pause(0.01)
time.sleep = pause
"""


@pytest.mark.faults("the clock on the wall jumps by {hours:+} h", "nothing happens", within=20)
@pytest.mark.parametrize("hours", [1, -1])
def test_clock_jumps(scene: Scene, watch: Stopwatch, hours: int) -> None:
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        pytest.skip("needs faketime. On Debian: apt-get install faketime")
    clock = scene.folder / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    scene.begin(SLEEPLESS + THERE.replace('say("back")', 'say("back", time.time())'), environment=environment)
    clock.write_text(f"{3600 * hours:+}")
    last(1)
    watch.start()
    scene.let_go()
    assert "lost" not in scene.ended()
    watch.stop()
    scene.back()
    said = scene.close()
    jumped = float(said[said.index("back") :].split()[1]) - time.time()
    assert abs(jumped - 3600 * hours) < 60
    assert scene.n_joined("h2") == scene.n_joined("h3") == 1
