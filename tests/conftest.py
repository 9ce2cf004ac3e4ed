"""Fixtures for all tests: what may be left behind (nothing), the warm cluster that they share, an IPython, hosts."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import jmr
from jmr.engines.cluster import default_cluster

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from tests.hosts import Hosts
    from tests.scheduling import Checked

#: Names a test on an engine, of those that tests/engines/conformance starts.
ON_ENGINE = r"tests/engines/conformance/.*[\[-](inline|cluster|executor|threads|dask|ray|spark|connect)[\]-]"
#: A skip for this reason is no failure, even where skips are.
FORBIDDEN = "kernel forbids"
#: What examples in docstrings need, by what they are of.
EXAMPLES_NEED = {
    "jmr.result.Result.to_pandas": "pandas",
    "jmr.result.Result.to_polars": "polars",
    "jmr.result.Result.to_arrow": "pyarrow",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With JMR_NO_SKIP, a test that is skipped for want of something has failed."""
    report = yield
    if report.skipped and os.environ.get("JMR_NO_SKIP") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if FORBIDDEN not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be skipped: {reason}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay in one process, and so do all tests on an engine: to start one takes seconds."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrEngine(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            on = re.match(ON_ENGINE, nodeid)
            return on[1] if on else super()._split_scope(nodeid)

    return ByFileOrEngine(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on several hosts can be chosen, or left out, by that; examples whose package is missing are skipped."""
    for item in items:
        needed = EXAMPLES_NEED.get(item.name)
        if needed is not None and importlib.util.find_spec(needed) is None:
            item.add_marker(pytest.mark.skip(reason=f"{needed} is not installed"))
        if {"netns_hosts", "hosts"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("hosts")


@pytest.fixture(scope="session", autouse=True)
def warm_cluster() -> Iterator[None]:
    """The kernel's own cluster, started once, so that tests see what a job leaves and not what starting takes."""
    jmr.run({1: 1}, lambda key, value: [], workers=2, progress=False)
    yield
    cluster = default_cluster()
    if cluster is not None:
        cluster.close()


def children() -> set[int]:
    """Process ids of this process's children."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended meanwhile
            found.update(map(int, (task / "children").read_text().split()))
    return found


@pytest.fixture(autouse=True)
def no_leaks(warm_cluster: None) -> Iterator[None]:
    """A test leaves no thread and no child process."""
    before = set(threading.enumerate()), children()
    yield
    for thread in set(threading.enumerate()) - before[0]:
        thread.join(5)
    threads = {thread.name for thread in set(threading.enumerate()) - before[0] if not _stays(thread)}
    assert not threads, f"threads left: {threads}"
    assert not children() - before[1], "processes left"


def _stays(thread: threading.Thread) -> bool:
    """The one thread that insists on interrupts, and what others keep for their own purposes."""
    return thread.name.startswith(("jmr-interrupts", "asyncio_", "IPython", "IOPub", "ThreadPoolExecutor"))


@pytest.fixture
def cluster() -> Iterator[jmr.Cluster]:
    """Two slots of the test's own."""
    with jmr.Cluster(workers=2) as cluster:
        yield cluster


@pytest.fixture
def scheduler() -> Iterator[Checked]:
    """One that is checked after every event, and at the end."""
    from tests.scheduling import Checked

    checked = Checked()
    yield checked
    checked.scheduler.check()


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """A real IPython, in this process, for all tests of a file."""
    from tests.shells import ipython

    with ipython() as shell:
        yield shell


@pytest.fixture
def ip(shell: InteractiveShell) -> Iterator[InteractiveShell]:
    """The same, with nothing defined but jmr."""
    shell.user_ns["jmr"] = jmr
    yield shell
    shell.reset(new_session=False)


@pytest.fixture
def netns_hosts() -> Iterator[Hosts]:
    """Hosts h1, h2 and h3, and nat1, a laptop behind a router; each test has its own, which takes 0.2 s."""
    from tests.hosts import Hosts

    with Hosts(3, laptop=True) as hosts:
        yield hosts


@pytest.fixture
def hosts(netns_hosts: Hosts) -> Hosts:
    """The same, after the token file was copied to each of them."""
    from tests.remote import share_token

    share_token(netns_hosts)
    return netns_hosts
