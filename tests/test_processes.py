"""Processes and signals, for real: interrupts, killed kernels, killed workers, leaks, forks."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jmr

pytestmark = pytest.mark.slow

PRELUDE = """
import os, signal, sys, threading, time
import jmr
jmr.run  # imports what it needs: an interrupt in the midst of that has a test of its own
from jmr.engines.cluster import default_cluster
SOURCE = {i: i for i in range(100)}
def identity(key, value):
    yield key, value
def forever(key, value):
    while True:
        pass
def ready_for_ever(key, value):
    print("ready", flush=True)
    while True:
        pass
def say(*words):
    print(*words, flush=True)
"""


class Script:
    """A Python process that says lines, which the test waits for."""

    def __init__(self, body: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._said = b""

    def line(self, timeout: float = 20) -> str:
        """The next line; a script that says nothing fails the test."""
        assert self.process.stdout is not None
        while b"\n" not in self._said:
            ready, _, _ = select.select([self.process.stdout], [], [], timeout)
            assert ready, "the script says nothing"
            said = os.read(self.process.stdout.fileno(), 65536)
            assert said, f"the script has ended: {self.process.communicate()[1].decode()}"
            self._said += said
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def end(self) -> str:
        """Wait for its end; what it said since, or its error."""
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, err.decode()
        return str(out.decode())


@contextlib.contextmanager
def script(body: str, **environment: str) -> Iterator[Script]:
    running = Script(body, **environment)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def gone(pids: list[int], timeout: float = 5) -> list[int]:
    """Wait for processes that are not our children; returns those that still live."""
    left = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        with open(descriptor, closefd=True) as watch:
            if not select.select([watch], [], [], timeout)[0]:
                left.append(pid)
    return left


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


INTERRUPTED = """
for attempt in range(2):
    try:
        {call}
    except KeyboardInterrupt as error:
        say("interrupted", type(error).__name__)
    say(jmr.run(SOURCE, lambda k, v: [("sum", v)], lambda k, v: sum(v), workers=4, progress=False))
"""


@pytest.mark.parametrize(
    "call",
    [
        "jmr.run({1: 1}, ready_for_ever, workers=2, progress=False)",
        "jmr.run({1: 1}, identity, ready_for_ever, workers=2, progress=False)",
        "jmr.submit({1: 1}, ready_for_ever, workers=2, progress=False).result()",
    ],
    ids=["map", "reduce", "result"],
)
def test_an_interrupt_ends_the_job_and_the_slots_stay_usable(call: str) -> None:
    """Of a job that runs on its own it ends the waiting; that keeps its slot, and there are others."""
    with script(INTERRUPTED.format(call=call)) as running:
        for _ in range(2):
            assert running.line().endswith("] ready")
            running.process.send_signal(signal.SIGINT)
            assert running.line() == "interrupted KeyboardInterrupt"
            assert running.line() == "{'sum': 4950}"


RUN = "jmr.run({1: 2}, identity, progress=False)"


@pytest.mark.parametrize(
    ("module", "first"),
    [("jmr.plan", "jmr.run"), ("asyncio.coroutines", RUN), ("jmr.engines.slots", RUN), ("jmr.session.running", RUN)],
)
def test_an_interrupt_while_jmr_is_imported_waits(module: str, first: str) -> None:
    body = """
for name in [name for name in sys.modules if name.startswith(("jmr", "asyncio"))]:
    del sys.modules[name]
import jmr, jmr.interrupts
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
try:
    FIRST
except KeyboardInterrupt:
    say("interrupted", "MODULE" in sys.modules)
say(jmr.run({1: 2}, identity, progress=False))
"""
    with script(body.replace("MODULE", module).replace("FIRST", first)) as running:
        assert running.line() == "interrupted True", "after the import, not in its midst"
        assert running.line() == "{1: [2]}"
        running.end()


def test_an_interrupt_while_slots_start_leaves_one_set_of_them() -> None:
    body = """
for attempt in range(5):
    try:
        say('ready')
        jmr.run(SOURCE, forever, workers=2, progress=False)
    except KeyboardInterrupt:
        say('interrupted')
jmr.run(SOURCE, identity, workers=2, progress=False)
with open(f"/proc/self/task/{os.getpid()}/children") as children:
    n_supervisors = len(children.read().split())
say(n_supervisors, sum(thread.name == "jmr-coordinator" for thread in threading.enumerate()))
"""
    with script(body) as running:
        for _ in range(5):
            assert running.line() == "ready"
            running.process.send_signal(signal.SIGINT)
            assert running.line() == "interrupted"
        assert running.line() == "1 1"
        running.end()


SOURCES = {
    "sleeps": "def source():\n    say('ready')\n    time.sleep(60)\n    yield 1, 1\n",
    "swallows and goes on": (
        "def source():\n    for i in range(10**9):\n        try:\n            if i == 3: say('ready')\n"
        "            time.sleep(0.01)\n        except:\n            pass\n        yield i, i\n"
    ),
    "swallows for ever": (
        "def source():\n    say('ready')\n    while True:\n        try:\n            time.sleep(0.01)\n"
        "        except:\n            continue\n    yield 1, 1\n"
    ),
    "swallows twice": (
        "def source():\n    say('ready')\n    while True:\n        try:\n            try:\n"
        "                time.sleep(0.01)\n            except:\n                pass\n"
        "        except:\n            pass\n    yield 1, 1\n"
    ),
    "swallows in a helper": (
        "def wait():\n    try:\n        time.sleep(0.01)\n    except BaseException:\n        return\n"
        "def source():\n    say('ready')\n    while True:\n        wait()\n    yield 1, 1\n"
    ),
}


@pytest.mark.parametrize("engine", ["None", "'inline'"])
@pytest.mark.parametrize("kind", SOURCES)
def test_no_source_swallows_an_interrupt(kind: str, engine: str) -> None:
    call = f"jmr.run(source(), identity, workers=2, progress=False, engine={engine})"
    with script(SOURCES[kind] + INTERRUPTED.format(call=call)) as running:
        for _ in range(2):
            assert running.line() == "ready"
            running.process.send_signal(signal.SIGINT)
            assert running.line() == "interrupted KeyboardInterrupt"
            assert running.line() == "{'sum': 4950}"
        running.end()


@pytest.mark.parametrize("engine", ["None", "'inline'"])
def test_an_interrupt_comes_out_of_a_job_that_runs_while_another_is_handled(engine: str) -> None:
    body = f"""
def source():
    try:
        signal.raise_signal(signal.SIGINT)
    except:
        pass
    yield 1, 2
def final(key, value):
    try:
        signal.raise_signal(signal.SIGINT)
    except:
        pass
try:
    raise KeyboardInterrupt
except KeyboardInterrupt:
    for arguments in ((source(), None), ({{1: 2}}, final)):
        try:
            say("lost", jmr.run(arguments[0], identity, final=arguments[1], progress=False, engine={engine}))
        except KeyboardInterrupt:
            say("interrupted")
"""
    with script(body) as running:
        assert [running.line(), running.line()] == ["interrupted", "interrupted"]
        running.end()


def test_a_source_may_clean_up_on_its_way_out() -> None:
    body = """
def source():
    try:
        say('ready')
        time.sleep(60)
    finally:
        time.sleep(1)
        say('clean')
    yield 1, 1
try:
    jmr.run(source(), identity, workers=2, progress=False)
except KeyboardInterrupt:
    say('interrupted')
"""
    with script(body) as running:
        assert running.line() == "ready"
        running.process.send_signal(signal.SIGINT)
        assert [running.line(), running.line()] == ["clean", "interrupted"]


def test_a_handler_of_the_users_own_is_left_alone() -> None:
    body = """
came = []
signal.signal(signal.SIGINT, lambda *_: came.append(1))
def source():
    say('ready')
    while not came:
        time.sleep(0.01)
    yield 1, 2
say(jmr.run(source(), identity, workers=2, progress=False), came)
"""
    with script(body) as running:
        assert running.line() == "ready"
        running.process.send_signal(signal.SIGINT)
        assert running.line() == "{1: [2]} [1]"
        running.end()


def test_many_interrupts_leave_no_job_open_and_raise_nothing_else() -> None:
    """Two signals a job, at all distances: what is cut short must be cleaned up all the same."""
    body = """
def mapfn(key, value):
    time.sleep(0.002)
    yield key, value
jmr.run(SOURCE, identity, workers=2, progress=False)
me, wait = os.getpid(), threading.Event().wait
for turn in range(60):
    def press():
        wait(turn % 20 * 0.001)
        os.kill(me, signal.SIGINT)
        wait(turn % 7 * 0.0005)
        os.kill(me, signal.SIGINT)
    pressing = threading.Thread(target=press)
    try:
        try:
            pressing.start()
            jmr.run(SOURCE, mapfn, workers=2, progress=False)
        except KeyboardInterrupt:
            pass
        pressing.join()
    except KeyboardInterrupt:
        pressing.join()
coordinator = default_cluster()._coordinator
say(jmr.run({1: 2}, identity, workers=2, progress=False), sorted(coordinator._desk.jobs), sys.getswitchinterval())
"""
    with script(body) as running:
        assert running.line(60) == "{1: [2]} [] 0.005"
        running.end()


def test_an_interrupt_at_the_edge_of_a_job_comes_out_once_and_is_over() -> None:
    body = """
import random
from jmr import interrupts
jmr.run({1: 1}, identity, engine="inline", progress=False)  # an interrupted import would be another story
dice, me, n_out = random.Random(7), threading.main_thread().ident, 0
for turn in range(150):
    pressing = threading.Timer(0.002 + dice.random() * 0.01, signal.pthread_kill, (me, signal.SIGINT))
    try:
        pressing.start()
        while True:
            jmr.run({1: 1}, identity, engine="inline", progress=False)
    except KeyboardInterrupt:
        n_out += 1
    pressing.join()
    assert interrupts._watch is None, turn
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, turn
say(n_out)
"""
    with script(body) as running:
        assert running.line(60) == "150"
        running.end()


@pytest.mark.parametrize("place", ["__enter__", "end", "__exit__"])
def test_an_interrupt_in_our_own_books_waits(place: str) -> None:
    body = f"""
from jmr import interrupts
owner = interrupts._Watch if "{place}" == "end" else interrupts.watched
original = getattr(owner, "{place}")
def pressed(*args):
    result = None
    if "{place}" == "__enter__":
        result = original(*args)
    signal.raise_signal(signal.SIGINT)
    return result if "{place}" == "__enter__" else original(*args)
pressed.__code__ = pressed.__code__.replace(co_filename=interrupts.__file__)
setattr(owner, "{place}", pressed)
try:
    say(jmr.run({{1: 1}}, identity, engine="inline", progress=False))
except KeyboardInterrupt:
    say("interrupted")
setattr(owner, "{place}", original)
say(interrupts._watch, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
say(jmr.run({{1: 1}}, identity, engine="inline", progress=False))
"""
    with script(body) as running:
        assert [running.line() for _ in range(3)] == ["interrupted", "None True", "{1: [1]}"]
        running.end()


def test_a_second_interrupt_during_the_clean_up_is_safe() -> None:
    body = "signal.signal(signal.SIGINT, signal.default_int_handler)\n" + INTERRUPTED.format(
        call="say('ready'); jmr.run(SOURCE, forever, workers=2, progress=False)"
    )
    with script(body) as running:
        for _ in range(2):
            assert running.line() == "ready"
            for _ in range(3):
                running.process.send_signal(signal.SIGINT)
            assert running.line() == "interrupted KeyboardInterrupt"
            assert running.line() == "{'sum': 4950}"


def test_an_interrupt_outside_of_a_job_is_python_s_own() -> None:
    body = "before = signal.getsignal(signal.SIGINT)\njmr.run(SOURCE, identity, workers=2, progress=False)\n"
    with script(body + "say(signal.getsignal(signal.SIGINT) is before, sys.gettrace())") as running:
        assert running.line() == "True None"
        running.end()


def test_a_killed_kernel_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    body = """
def mapfn(key, value):
    if key == 0:
        import subprocess
        subprocess.Popen(["sleep", "600"])
        open(os.environ["FLAG"], "w").close()
    if key == 50:
        while not os.path.exists(os.environ["FLAG"]):
            pass
        print("mapping", flush=True)
        while True:
            pass
    yield key % 2, bytes(100_000)
jmr.run(SOURCE, mapfn, workers=2)
"""
    spill = tmp_path / "spill"
    spill.mkdir()
    with script(body, JMR_TMP=str(spill), FLAG=str(tmp_path / "flag")) as running:
        assert running.line().endswith("mapping")
        pids = descendants(running.process.pid)
        assert len(pids) >= 4, "a supervisor, two slots and a child of a slot"
        running.process.kill()
        assert gone(pids) == []
        assert list(spill.iterdir()) == []


def test_an_ended_kernel_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    with script("jmr.run(SOURCE, identity)\nsay('done')\nsys.stdin.readline()", JMR_TMP=str(tmp_path)) as running:
        assert running.line() == "done"
        pids = descendants(running.process.pid)
        running.process.terminate()
        assert gone(pids) == []
        assert list(tmp_path.iterdir()) == []


def test_a_killed_supervisor_is_replaced_and_the_job_goes_on(tmp_path: Path) -> None:
    body = """
def mapfn(key, value):
    flag = os.environ["FLAG"]
    if key == 30 and not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
        while True:
            pass
    yield "sum", value
result = jmr.run(SOURCE, mapfn, lambda k, v: sum(v), workers=2, progress=False)
say(result, any(a.outcome == "lost" for a in result.timeline))
"""
    with script(body, FLAG=str(tmp_path / "flag")) as running:
        assert running.line() == "{'sum': 4950} True"
        running.end()


@pytest.mark.parametrize("slots_first", [True, False])
def test_a_lost_supervisor_is_no_tasks_fault_whichever_end_is_noticed_first(slots_first: bool, tmp_path: Path) -> None:
    """One slot is idle by then, the last: it must not be given what the others leave, as it is lost, too."""
    body = f"""
def mapfn(key, value):
    while not os.path.exists(f"{{os.environ['FLAG']}}-{{key}}"):
        pass
    yield "sum", value
def let_go(key):
    open(f"{{os.environ['FLAG']}}-{{key}}", "w").close()
def until(true):
    while not true():
        threading.Event().wait(0.01)
cluster = jmr.Cluster(workers=3)
worker = cluster._running()._desk.local
def doing():
    return [state.rpartition(": ")[2] for _, state in cluster.status()]
until(lambda: doing() == ["idle"] * 3)
job = jmr.submit({{0: 1, 1: 2, 2: 4}}, mapfn, lambda k, v: sum(v), max_attempts=1, engine=cluster, progress=False)
until(lambda: sorted(doing()) == ["map-0", "map-1", "map-2"])
let_go(doing()[-1].removeprefix("map-"))
until(lambda: doing()[-1] == "idle")
supervisor = worker._supervisor
pid = supervisor.process.pid
if {slots_first}:
    os.kill(pid, signal.SIGSTOP)  # so that nobody says how they ended
    lines = [slot.line for slot in worker.slots]
    with open(f"/proc/{{pid}}/task/{{pid}}/children") as children:
        for slot in children.read().split():
            os.kill(int(slot), signal.SIGKILL)
    until(lambda: not any(line.is_open for line in lines))
os.kill(pid, signal.SIGKILL)
until(lambda: worker._supervisor not in (None, supervisor))
for key in range(3):
    let_go(key)
result = job.result(20)
say(result, sorted(attempt.outcome for attempt in result.timeline if attempt.task.startswith("map")))
"""
    with script(body, FLAG=str(tmp_path / "flag")) as running:
        assert running.line() == "{'sum': 7} ['done', 'done', 'done', 'lost', 'lost']"
        running.end()


def test_twenty_jobs_leak_nothing(tmp_path: Path) -> None:
    body = """
def bad(key, value):
    if key == 5: raise ValueError
    if key == 7: os._exit(1)
    yield key, bytes(30_000)
def count():
    def settled():
        return [state for _, state in default_cluster().status()] == ["idle"] * 2
    deadline = time.monotonic() + 10
    while not settled() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    from pathlib import Path
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    slots = [c for pid in children for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    supervisor_fds = [len(os.listdir(f"/proc/{pid}/fd")) for pid in children]
    files = [name for _, dirs, names in os.walk(os.environ["JMR_TMP"]) for name in names]
    return threading.active_count(), len(os.listdir("/proc/self/fd")), len(children), len(slots), supervisor_fds, files
def jobs(n):
    for _ in range(n):
        jmr.run(SOURCE, identity, workers=2, progress=False)
        jmr.run(SOURCE, bad, on_error="skip", workers=2, progress=False)
        try: jmr.run(SOURCE, bad, workers=2, progress=False)
        except jmr.JmrError: pass
        jmr.submit(SOURCE, identity, workers=2, progress=False).result()
jobs(1)
before = count()
jobs(5)
say(before == count() or (before, count()))
"""
    with script(body, JMR_TMP=str(tmp_path)) as running:
        assert running.line(60) == "True"
        running.end()


def test_a_forked_child_gets_slots_of_its_own() -> None:
    body = """
import warnings
warnings.simplefilter("ignore")
jmr.run(SOURCE, identity, workers=2, progress=False)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    say(len(jmr.run(SOURCE, identity, workers=2, progress=False)))
    default_cluster().close()
    os._exit(0)
os.waitpid(pid, 0)
say(len(jmr.run(SOURCE, identity, workers=2, progress=False)))
"""
    with script(body) as running:
        assert [running.line(), running.line()] == ["100", "100"]
        running.end()


def test_a_missing_interpreter_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    body = """
executable, sys.executable = sys.executable, "/nowhere/python"
for attempt in range(2):
    try:
        jmr.run(SOURCE, identity, progress=False)
    except jmr.WorkerError as error:
        say(error)
say(os.listdir(os.environ["JMR_TMP"]))
sys.executable = executable
say(len(jmr.run(SOURCE, identity, progress=False)))
"""
    with script(body, JMR_TMP=str(tmp_path)) as running:
        for _ in range(2):
            assert running.line().startswith("the worker on this host cannot be started: [Errno 2] No such file")
        assert [running.line(), running.line()] == ["[]", "100"]
        running.end()


def test_a_worker_that_does_not_start_is_told() -> None:
    body = """
sys.executable = "/bin/false"
try:
    jmr.run(SOURCE, identity, progress=False)
except jmr.WorkerError as error:
    say(error)
"""
    with script(body) as running:
        assert running.line().startswith("the worker on this host does not start")
        running.end()


def test_a_module_in_the_current_directory_does_not_shadow_the_library(tmp_path: Path) -> None:
    (tmp_path / "selectors.py").write_text("raise RuntimeError('shadowed')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import jmr; print(jmr.run({1: 2}, lambda k, v: [(k, v)], progress=False))"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "{1: [2]}\n", done.stderr


def test_no_listening_socket_is_opened(cluster: Any) -> None:
    jmr.run({1: 1}, lambda key, value: [], engine=cluster, progress=False)
    inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_socket(fd)}
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            assert not (fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes)


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:
        return False


def test_a_daemon_that_user_code_forks_does_not_delay_the_error(tmp_path: Path) -> None:
    body = """
def mapfn(key, value):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    with open(os.environ["FLAG"], "w") as file:
        file.write(str(pid))
    os._exit(4)
try:
    jmr.run({1: 1}, mapfn, workers=1, max_attempts=1, progress=False)
except jmr.SlotDiedError:
    say("told")
"""
    flag = tmp_path / "pid"
    with script(body, FLAG=str(flag)) as running:
        try:
            assert running.line(10) == "told"
            running.end()
        finally:
            os.kill(int(flag.read_text()), signal.SIGKILL)


def test_too_few_file_descriptors_are_told() -> None:
    body = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
def attempt(**options):
    result = jmr.run({1: 2}, identity, progress=False, **options)
    say(result, *result.summary._report.notes)
attempt(workers=1)
attempt(workers=100)
default_cluster().resize(1)
attempt(workers=1)
default_cluster().close()
cluster = jmr.Cluster(workers=100)
attempt(engine=cluster)
"""
    told = "{1: [2]} slots cannot be started: [Errno 24] Too many open files; it went on with the slots that there were"
    with script(body) as running:
        assert [running.line() for _ in range(4)] == ["{1: [2]}", told, "{1: [2]}", told]


def test_many_slots_start_and_a_class_of_main_stays_itself() -> None:
    body = """
FACTOR = 2
class Foo:
    def __init__(self, x): self.x = x
    def val(self): return self.x * FACTOR
result = jmr.run({1: 1}, lambda k, v: [(k, Foo(v))], lambda k, v: v[0], workers=2, progress=False)
FACTOR = 10
say(type(result[1]) is Foo, Foo(1).val(), result[1].val(), Foo.val.__globals__ is globals())
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (600, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with jmr.Cluster(workers=400) as cluster:
    supervisor = cluster._running()._desk.local._supervisor
    while [state for _, state in cluster.status()] != ["idle"] * 400:
        threading.Event().wait(0.01)
    limits = jmr.run(SOURCE, lambda k, v: [(resource.getrlimit(resource.RLIMIT_NOFILE)[0], k)], progress=False)
    say(list(limits), cluster._running()._desk.local._supervisor is supervisor)
"""
    with script(body) as running:
        assert running.line() == "True 10 10 True"
        assert running.line(60) == "[600] True"
        running.end()


def test_a_job_on_a_cluster_that_is_being_closed_ends() -> None:
    body = """
for _ in range(20):
    with jmr.Cluster(workers=1):
        job = jmr.submit({1: 1}, identity, progress=False)
    try:
        assert job.result(10) == {1: [1]}
    except jmr.WorkerError:
        pass
say("ended", sys.getswitchinterval())
"""
    with script(body) as running:
        assert running.line(60) == "ended 0.005"
        running.end()
