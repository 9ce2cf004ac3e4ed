"""Modules on other hosts: those beside the script travel, and where one is missing the job goes on elsewhere."""

from __future__ import annotations

import pytest

from tests.hosts import Host, Hosts
from tests.remote import TOP, joined_worker, kill_all, python_there, script, touch

pytestmark = pytest.mark.slow

INSTALLED = "/tmp/installed/site-packages"


def write(host: Host, path: str, text: str) -> None:
    assert host.run(["sh", "-c", f"mkdir -p $(dirname {path}); cat >{path}"], input=text).returncode == 0


def install(host: Host) -> dict[str, str]:
    """Have a module `special` there, with which an environment is run that knows it."""
    write(host, f"{INSTALLED}/special.py", "def double(x):\n    return 2 * x\n")
    return {"PYTHONPATH": f"{TOP}:{INSTALLED}"}


def test_modules_beside_the_script_travel_and_their_new_code_runs(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    write(h1, "/tmp/w/helper.py", "import deeper\ndef double(x):\n    return deeper.FACTOR * x\n")
    write(h1, "/tmp/w/deeper.py", "FACTOR = 2\n")
    write(h1, "/tmp/w/lazy.py", "def shift(x):\n    return x + 1\n")
    body = """
import importlib, helper
def mapfn(key, value):
    import lazy
    assert here() != "h2" or not os.path.exists("/tmp/w")
    yield key % 5, lazy.shift(helper.double(value))
SOURCE = {i: i for i in range(50)}
with jmr.Cluster(**LISTEN) as cluster:
    assert same(SOURCE, mapfn, total)[0] == 2 * 225 + 10
    for name, text in ("deeper", "FACTOR = 30"), ("lazy", "def shift(x): return x - 1"):
        with open(name + ".py", "w") as file:
            file.write(text)
    import deeper, lazy
    for module in deeper, helper, lazy:
        importlib.reload(module)
    assert same(SOURCE, mapfn, total)[0] == 30 * 225 - 10
"""
    coordinator = script(h1, body, cwd="/tmp/w")
    joined_worker(h2, "--slots", "2")
    coordinator.end()


AT_THE_TOP = "from special import double\ndef mapfn(key, value): yield key % 5, double(value)\nreducefn = total\n"
IN_MAPFN = "def mapfn(key, value):\n    import special\n    yield key % 5, special.double(value)\nreducefn = total\n"
IN_REDUCEFN = (
    "def mapfn(key, value): yield key % 5, value\n"
    "def reducefn(key, values):\n    import special\n    return special.double(sum(values))\n"
)
FUNCTIONS = pytest.mark.parametrize("functions", [AT_THE_TOP, IN_MAPFN, IN_REDUCEFN], ids=["top", "map", "reduce"])


@FUNCTIONS
@pytest.mark.parametrize("n_local", [0, 1])
def test_host_that_lacks_a_module_is_named_and_others_do_the_job(hosts: Hosts, functions: str, n_local: int) -> None:
    h1, h2, h3, _ = hosts
    body = f"""
with jmr.Cluster(workers={n_local}, listen="10.77.0.11") as cluster:
    await_slots(cluster, 2)
    result = same({{i: i for i in range(50)}}, mapfn, reducefn, progress=True)
    say("stats", result.stats.n_records, result.stats.n_pairs, result.stats.n_keys, result.stats.n_map_tasks)
    done = [one for one in result.timeline if one.outcome == "done"]
    say("done", len(done), {{one.slot for one in done}})
    assert len(done) == result.stats.n_map_tasks + result.stats.n_reduce_tasks
"""
    coordinator = script(h1, functions + body, **install(h1))
    coordinator.wait_for("listening")
    joined_worker(h2, "--slots", "1")
    if not n_local:
        joined_worker(h3, "--slots", "1", **install(h3))
    said = coordinator.end()
    assert "without h2, which has no module 'special'" in said
    assert "stats 50 50 5" in said


@FUNCTIONS
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_module_that_every_host_lacks_is_named_with_them(hosts: Hosts, functions: str, on_error: str) -> None:
    h1, h2, h3, _ = hosts
    body = f"""
with jmr.Cluster(**LISTEN) as cluster:
    await_hosts(cluster, 2)
    try:
        jmr.run({{i: i for i in range(50)}}, mapfn, reducefn, on_error="{on_error}", progress=False)
    except jmr.WorkerError as error:
        say("refused:", error)
    same({{1: 1}}, lambda key, value: [(key, value)])
"""
    coordinator = script(h1, functions + body, **install(h1))
    coordinator.wait_for("listening")
    for host in h2, h3:
        joined_worker(host, "--slots", "2")
    refused = coordinator.wait_for("refused: .*$")[0]
    for host in h2, h3:
        assert f"{host.name} has no module 'special'" in refused
    coordinator.end()


@pytest.mark.parametrize("refused", ["before", "after"])
def test_job_waits_for_the_only_host_with_its_modules_while_that_is_lost(hosts: Hosts, refused: str) -> None:
    h1, h2, h3, _ = hosts
    install(h3)
    body = """
jmr.links.leases._LOST_SECONDS = 1000
def mapfn(key, value):
    import special
    if here() != HOME:
        say("stuck")
        wait("go")
    yield key, special.double(value)
with jmr.Cluster(workers=0, ssh=["h2:1", "h3:1"], python=sys.argv[1]) as cluster:
    await_slots(cluster, 2)
    say("idle")
    sys.stdin.readline()
    while sys.argv[2] == "after" and "silent" not in [host.state for host in cluster.hosts()]:
        time.sleep(0.01)
    job = jmr.submit({i: i for i in range(50)}, mapfn, total, progress=False)
    while "without h2, which has no module 'special'" not in job._report.notes or not job._report.is_waiting:
        time.sleep(0.01)
    say("waits")
    say("same", job.result() == {i: 2 * i for i in range(50)})
"""
    python = python_there(hosts, INSTALLED, quick=True)
    coordinator = script(h1, body, python, refused, quick=True, **install(h1))
    coordinator.wait_for("idle")
    if refused == "after":
        h2.freeze()
    coordinator.tell("go on")
    coordinator.wait_for("stuck")
    kill_all(h3)
    h3.hole()
    h2.thaw()
    coordinator.wait_for("waits")
    h3.unhole()
    touch(h3, "go")
    assert "same True" in coordinator.end()


def test_module_that_the_kernel_lacks_is_an_error_of_the_users(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
import importlib
def mapfn(key, value):
    try:
        import fast_version_that_nobody_has
    except ImportError:
        if value == "bad fallback":
            raise ValueError(value)
    if value == "told":
        try:
            import no_such_module
        except ImportError as error:
            raise RuntimeError(value) from error
    yield importlib.import_module(value).__name__, 1
VALUES = ["json", "no_such_module", "json.no_such_part", "told", "bad fallback", "colorsys", "helper", "helper.part"]
with jmr.Cluster(**LISTEN) as cluster:
    await_hosts(cluster, 1)
    result = same(dict(enumerate(VALUES)), mapfn, total, on_error="skip")
    say("kept", list(result), len(result.errors))
    try:
        jmr.run({1: "no_such_module"}, mapfn, total, progress=False)
    except jmr.MapError as error:
        say("raised:", error)
"""
    write(h1, "/tmp/w/helper.py", "")
    coordinator = script(h1, "import helper\n" + body, cwd="/tmp/w")
    joined_worker(h2, "--slots", "1")
    said = coordinator.end()
    assert "kept ['json', 'colorsys', 'helper'] 5" in said
    assert "raised: mapfn raised ModuleNotFoundError" in said


def test_module_that_only_the_data_names_is_missed_if_the_kernel_has_it(hosts: Hosts) -> None:
    h1, h2, *_ = hosts
    body = """
import importlib
def mapfn(key, value):
    yield importlib.import_module(value).double(key), 1
with jmr.Cluster(**LISTEN) as cluster:
    await_hosts(cluster, 1)
    try:
        jmr.run({1: "special"}, mapfn, total, on_error="skip", progress=False)
    except jmr.WorkerError as error:
        say("refused:", error)
"""
    coordinator = script(h1, body, **install(h1))
    joined_worker(h2, "--slots", "1")
    assert "h2 has no module 'special'" in coordinator.wait_for("refused: .*$")[0]
    coordinator.end()
