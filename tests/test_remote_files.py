"""Files that a worker on another host does not see: it is sent what its splits read, and the answer is the same."""

from __future__ import annotations

import re

import pytest

from tests.hosts import Host, Hosts
from tests.remote import (
    await_no_job_files,
    await_that,
    joined_worker,
    kill_all,
    processes,
    script,
)

pytestmark = pytest.mark.slow

#: Makes the same files wherever it is run, unless told to make others; and the job.
FILES = """
import os
def write_texts(word="fox", when="1700000000", folder="/tmp/texts", n=40):
    os.makedirs(folder, exist_ok=True)
    for i in range(4):
        path = f"{folder}/{i}.txt"
        with open(path, "w") as file:
            for line in range(n):
                file.write(f"the quick {word} {line % 7} jumps over {i}\\n")
        os.utime(path, (int(when), int(when)))
def words(key, line):
    for word in line.split():
        yield word, 1
def texts(**options):
    return jmr.files("/tmp/texts/*.txt", **{"by": "line", **options})
def told(result):
    say("told", repr(result.summary))
    say("hosts", sorted({one.slot.partition("/")[0] for one in result.timeline}))
"""
#: A source of the user's own, that reads what it is told to by its files, and can be held up in the kernel.
OWN = """
import jmr.sources
class Lines(jmr.Split):
    def __init__(self, path, lines=None):
        self.path, self.lines = path, lines
    def read(self, set_aside):
        if self.lines is None and not os.path.exists(self.path):
            raise jmr.sources.NotHereError(self.path)
        lines = self.lines or open(self.path).readlines()
        return list(range(len(lines))), lines
    def carried(self):
        say("carries", self.path)
        while not os.path.exists("/tmp/go"):
            time.sleep(0.01)
        return Lines(self.path, open(self.path).readlines())
class Texts(jmr.Source):
    def splits(self):
        for i in range(4):
            yield Lines(f"/tmp/texts/{i}.txt")
"""
NOT_SEEN = "does not see what this job reads, and was sent it"


def write_texts(host: Host, *arguments: str) -> None:
    done = host.run(["python3", "-c", f"{FILES}\nwrite_texts(*{arguments!r})"])
    assert done.returncode == 0, done


@pytest.mark.parametrize("kind", ["line", "file", "bytes"])
def test_host_without_the_files_is_sent_them(hosts: Hosts, kind: str) -> None:
    body = f"""
write_texts(n=4_000)
def words(key, text):
    for word in text.split():
        yield word, 1
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    told(same(texts(by={kind!r}, block_bytes=20_000), words, total))
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "2")
    coordinator.wait_for(f"told .*h2 {NOT_SEEN}")
    coordinator.wait_for(r"hosts \['h2'\]")
    coordinator.end()
    await_no_job_files(hosts["h2"])


@pytest.mark.parametrize("other", [("zebra",), ("dog", "1700000001")], ids=["size", "time"])
def test_host_with_others_of_the_same_names_is_sent_them(hosts: Hosts, other: tuple[str, ...]) -> None:
    write_texts(hosts["h2"], *other)
    body = """
write_texts()
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    told(same(texts(), words, total))
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    coordinator.wait_for(f"told .*h2 {NOT_SEEN}")
    coordinator.end()


def test_host_that_sees_the_same_files_reads_them_by_itself(hosts: Hosts) -> None:
    write_texts(hosts["h2"])
    body = """
write_texts()
class Gone(jmr.Source):
    def splits(self):
        splits = list(texts().splits())
        for i in range(4):
            os.unlink(f"/tmp/texts/{i}.txt")
        return iter(splits)
with jmr.Cluster(**LISTEN) as cluster:
    expected = jmr.run(texts(), words, total, engine="inline", progress=False)
    await_slots(cluster, 1)
    result = jmr.run(Gone(), words, total, progress=False)
    assert list(result.items()) == list(expected.items())
    told(result)
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    assert NOT_SEEN not in coordinator.wait_for("told .*")[0]
    coordinator.end()


def test_two_hosts_of_which_one_sees_them_and_this_one_give_one_answer(hosts: Hosts) -> None:
    write_texts(hosts["h2"])
    body = """
write_texts()
with jmr.Cluster(workers=1, listen="10.77.0.11") as cluster:
    await_slots(cluster, 3)
    for _ in range(3):
        result = same(texts(), words, total)
    told(result)
"""
    coordinator = script(hosts["h1"], FILES + body)
    for name in "h2", "h3":
        joined_worker(hosts[name], "--slots", "1")
    assert "h2 does not see" not in coordinator.wait_for("told .*")[0]
    coordinator.wait_for(r"hosts \['h2', 'h3', 'local'\]")
    coordinator.end()


def test_file_that_is_nowhere_is_named_and_set_aside(hosts: Hosts) -> None:
    body = """
write_texts()
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    source = texts()
    os.unlink("/tmp/texts/2.txt")
    try:
        jmr.run(source, words, total, progress=False)
    except jmr.SourceError as error:
        say("error", error)
    result = same(source, words, total, on_error="skip")
    say("errors", [(bad.phase, bad.key, bad.value) for bad in result.errors])
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    assert "/tmp/texts/2.txt" in coordinator.wait_for("error .*")[0]
    coordinator.wait_for(re.escape("errors [('read', '/tmp/texts/2.txt', None)]"))
    coordinator.end()


def test_job_that_is_cancelled_while_its_bytes_are_awaited(hosts: Hosts) -> None:
    body = """
write_texts()
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    job = jmr.submit(Texts(), words, total, progress=False)
    sys.stdin.readline()
    job.cancel()
    open("/tmp/go", "w").close()
    try:
        job.result()
    except jmr.JobCancelled:
        say("cancelled")
    told(same(Texts(), words, total))
"""
    coordinator = script(hosts["h1"], FILES + OWN + body)
    joined_worker(hosts["h2"], "--slots", "2")
    coordinator.wait_for("carries /tmp/texts/")
    coordinator.tell("cancel")
    coordinator.wait_for("cancelled")
    coordinator.wait_for("same")
    coordinator.end()
    await_no_job_files(hosts["h2"])


@pytest.mark.parametrize("is_killed", [True, False], ids=["slot killed", "power off"])
def test_worker_that_is_lost_while_it_waits_for_bytes(hosts: Hosts, is_killed: bool) -> None:
    body = """
write_texts()
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    job = jmr.submit(Texts(), words, total, progress=False)
    sys.stdin.readline()
    open("/tmp/go", "w").close()
    result = job.result()
    expected = jmr.run(Texts(), words, total, engine="inline", progress=False)
    assert list(result.items()) == list(expected.items())
    told(result)
"""
    coordinator = script(hosts["h1"], FILES + OWN + body, quick=True)
    joined_worker(hosts["h2"], "--slots", "1", quick=True)
    coordinator.wait_for("carries /tmp/texts/")
    if is_killed:
        before = set(processes(hosts["h2"]))
        kill_all(hosts["h2"])
        await_that(lambda: not before & set(processes(hosts["h2"])))
    else:
        hosts["h2"].poweroff()
    joined_worker(hosts["h3"], "--slots", "1", quick=True)
    coordinator.tell("go on")
    assert "h2 was lost" in coordinator.wait_for("told .*", timeout=60)[0]
    coordinator.end()


def test_slot_that_dies_after_it_was_sent_its_bytes_gets_them_again(hosts: Hosts) -> None:
    body = """
write_texts()
def deadly(key, line):
    if not os.path.exists("/tmp/died"):
        open("/tmp/died", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return words(key, line)
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    expected = jmr.run(texts(), words, total, engine="inline", progress=False)
    result = jmr.run(texts(), deadly, total, progress=False)
    assert list(result.items()) == list(expected.items())
    told(result)
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    coordinator.wait_for("told .*")
    coordinator.end()


def test_large_splits_go_by_file_and_leave_nothing(hosts: Hosts) -> None:
    body = """
write_texts(n=400_000)
def lengths(key, block):
    yield len(block), key
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 2)
    told(same(texts(by="bytes", block_bytes=3_000_000), lengths))
    say("lie", os.listdir("/dev/shm"))
    sys.stdin.readline()
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "2")
    coordinator.wait_for("told .*")
    for name in "h1", "h2":
        await_no_job_files(hosts[name])
    coordinator.tell("end")
    coordinator.end()


def test_record_that_a_function_fails_on_can_be_replayed_in_the_kernel(hosts: Hosts) -> None:
    body = """
write_texts()
def picky(key, line):
    if key == ("/tmp/texts/1.txt", 0):
        raise ValueError("odd")
    return words(key, line)
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    try:
        jmr.run(texts(), picky, total, progress=False)
    except jmr.MapError as error:
        say("failed at", error.key, error.value)
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    coordinator.wait_for(re.escape("failed at ('/tmp/texts/1.txt', 0) the quick fox 0 jumps over 1"))
    coordinator.end()


def test_poisonous_record_of_files_that_are_not_seen_is_named(hosts: Hosts) -> None:
    body = """
write_texts()
def poisonous(key, line):
    if key == ("/tmp/texts/3.txt", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return words(key, line)
with jmr.Cluster(**LISTEN) as cluster:
    await_slots(cluster, 1)
    result = jmr.run(texts(), poisonous, total, on_error="skip", max_attempts=2, progress=False)
    say("errors", [(bad.phase, bad.key) for bad in result.errors])
"""
    coordinator = script(hosts["h1"], FILES + body)
    joined_worker(hosts["h2"], "--slots", "1")
    coordinator.wait_for(re.escape("errors [('map', ('/tmp/texts/3.txt', 0))]"))
    coordinator.end()
