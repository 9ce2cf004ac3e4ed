"""Real clusters of every kind, of two slots each, on this machine; what starts here also ends here.

    with dask_client() as client:           a scheduler and two workers in processes of their own
    with ray_running() as engine:           a local Ray, that of this process
    with spark_session() as session:        local[2], in a JVM
    with connect_session() as session:      a Spark Connect server of its own, with a session there
    with process_pool() as executor:        two processes
    with thread_pool() as executor:         two threads

Their workers import jmr and the tests from this checkout. Where a package or Java is missing, the test is skipped,
and says so; with JMR_NO_SKIP that is a failure.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from jmr.engines.variables import variables
from tests.engines.gate import Gate, wait_at

__all__ = [
    "checkout_on_path",
    "connect_session",
    "dask_client",
    "process_pool",
    "ray_running",
    "spark_session",
    "thread_pool",
]

CHECKOUT = Path(__file__).parents[2]


@contextlib.contextmanager
def checkout_on_path() -> Iterator[None]:
    """Whatever Python is started meanwhile imports from this checkout, and is this Python."""
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    with variables(PYTHONPATH=path, PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1"):
        yield


@contextlib.contextmanager
def served(module: str, *arguments: str) -> Iterator[str]:
    """A program of ours that says where it listens, and ends when its standard input does."""
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    with (
        checkout_on_path(),
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=said, text=True, cwd=CHECKOUT) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                said.seek(0)
                pytest.fail(f"{module} did not start:\n{said.read()}")
            yield address
        finally:
            process.stdin.close()


@contextlib.contextmanager
def process_pool() -> Iterator[Executor]:
    """Two processes that know nothing of this one, not even its salt for hashes of strings; they are there already."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        gate = Gate()
        both = [executor.submit(wait_at, gate.port) for _ in range(2)]  # one that waits takes no second one
        gate.open()
        wait(both)
        yield executor


@contextlib.contextmanager
def thread_pool() -> Iterator[Executor]:
    """Two threads, which are there already."""
    with ThreadPoolExecutor(2) as executor:
        both = Barrier(2)
        list(executor.map(lambda _: both.wait(10), range(2)))
        yield executor


@contextlib.contextmanager
def dask_client() -> Iterator[Any]:
    """A client of a scheduler that runs elsewhere, as those of a company do."""
    distributed = pytest.importorskip("distributed")
    with served("tests.engines.dask_cluster") as address, distributed.Client(address) as client:
        client.sync(distributed.utils.offload, pow, 2, 3)  # its thread for large messages stays
        yield client


@contextlib.contextmanager
def ray_running() -> Iterator[str]:
    """The local Ray of this process."""
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = pytest.importorskip("ray")
    with checkout_on_path():
        _init(ray, n_attempts=3)
    try:
        yield "ray"
    finally:
        ray.shutdown()


def _init(ray: Any, n_attempts: int) -> None:
    """Ray gives its own processes 15 s to start, and cannot be told to wait longer where a machine is busy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of what has started in vain: that ends with this process
        try:
            ray.init(num_cpus=2, _node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False)
        except Exception:
            ray.shutdown()
            if n_attempts == 1:
                raise
        else:
            return
        gc.collect()
    _init(ray, n_attempts - 1)


@contextlib.contextmanager
def spark_session() -> Iterator[Any]:
    """A classic session."""
    sql = _spark()
    with checkout_on_path():
        builder = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
        session = builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
        try:
            session.range(1).count()
            yield session
        finally:
            session.stop()


@contextlib.contextmanager
def connect_session() -> Iterator[Any]:
    """A session of a server that runs elsewhere."""
    _spark()
    pytest.importorskip("grpc")
    from pyspark.sql.connect.session import SparkSession

    with served("tests.engines.connect_server") as address:
        session = SparkSession.builder.remote(address).create()
        try:
            yield session
        finally:
            session.stop()


def _spark() -> Any:
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("Java is missing")
    return pytest.importorskip("pyspark.sql")
