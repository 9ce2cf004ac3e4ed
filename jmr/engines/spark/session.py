"""The session that a job runs on: the user's, or one of our own, for one job.

    engine=SparkSession ──checked──> it            engine="spark" ──found──> the active one, or else
                                                        ──OwnSession──> Java, started quietly, ended with the job

Nothing of a session of the user's is changed, or stopped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

from jmr.engines.variables import variables
from jmr.errors import ArgumentValueError, WorkerError
from jmr.launch.local import default_slots
from jmr.shuffle.budget import memory_budget
from jmr.shuffle.directory import Directories

__all__ = ["OwnSession", "active", "checked", "count_slots", "is_remote", "need_spark"]

_END_SECONDS = 10.0
_NEEDS_JAVA = 'engine="spark" needs Java 17 or 21: install it, or set JAVA_HOME to where it lies'
_LEAST_JAVA_BYTES, _MOST_JAVA_BYTES = 1 << 30, 1 << 33
#: Of sessions of Spark Connect.
_n_slots: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def need_spark() -> None:
    """Refuse where Spark, or what it needs of Python, is not installed."""
    try:
        import pyarrow  # noqa: F401
        import pyspark
    except ImportError as error:
        raise ArgumentValueError(
            f'engine="spark" needs PySpark and PyArrow: pip install "jmr[spark]" ({error})'
        ) from error
    if int(pyspark.__version__.partition(".")[0]) < 4:
        raise ArgumentValueError(f'engine="spark" needs PySpark 4, not {pyspark.__version__}: pip install "jmr[spark]"')


def checked(session: Any) -> Any:
    """The user's session, if it can run jobs."""
    if is_remote(session):
        has_stopped = session.is_stopped
    else:
        context = session.sparkContext._jsc
        has_stopped = context is None or context.sc().isStopped()
    if has_stopped:
        raise WorkerError("this SparkSession is stopped: make a new one")
    return session


def is_remote(session: Any) -> bool:
    """Whether it is one of Spark Connect."""
    return ".connect." in type(session).__module__


def active() -> Any:
    """The user's session, if there is one; None if not."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    if session is None and SparkContext._active_spark_context is not None:  # of another thread
        session = SparkSession.builder.getOrCreate()
    if session is None and os.environ.get("SPARK_REMOTE"):
        session = SparkSession.builder.getOrCreate()
    return session


def count_slots(session: Any) -> int:
    """How many tasks it runs at the same time."""
    if not is_remote(session):
        return int(session.sparkContext.defaultParallelism)
    if session not in _n_slots:  # a client is not told; but in so many parts Spark cuts what comes from nowhere
        parts = session.range(1 << 20).selectExpr("spark_partition_id() as part")
        _n_slots[session] = 1 + int(parts.selectExpr("max(part)").toArrow().column(0)[0].as_py())
    return _n_slots[session]


def quiet() -> None:
    """Have Spark not warn of a pandas that it is not made for: no data goes through pandas."""
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas", category=FutureWarning)


class OwnSession:
    """A session of one job, with Java and Python workers on this host."""

    def __init__(self) -> None:
        self._gateway: Any = None
        self._session: Any = None
        self._thread: threading.Thread | None = None
        self._directories = Directories()
        self._said = Path(self._directories.disk.path, "java.log")

    def start(self) -> Any:
        """Start it, in another thread: in the main one Spark would take over Ctrl-C."""
        failed: list[BaseException] = []

        def start() -> None:
            try:
                self._start()
            except BaseException as error:
                failed.append(error)

        self._thread = threading.Thread(target=start, name="jmr-spark-start", daemon=True)
        self._thread.start()
        self._thread.join()
        if failed:
            raise self._error_of(failed[0]) from failed[0]
        return self._session

    def _start(self) -> None:
        if "PYSPARK_GATEWAY_PORT" not in os.environ and not _has_java():
            raise WorkerError(_NEEDS_JAVA)
        from pyspark import SparkConf, SparkContext, java_gateway
        from pyspark.sql import SparkSession

        launch: Any = java_gateway.launch_gateway
        conf = SparkConf().setMaster(f"local[{default_slots()}]").setAppName("jmr").setAll(self._settings())
        # Spark reads these as it starts, and at no other time.
        with variables(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable):
            if SparkContext._gateway is None:
                with self._said.open("wb") as log:
                    self._gateway = launch(conf, {"stdout": subprocess.DEVNULL, "stderr": log})
            self._session = SparkSession(SparkContext(conf=conf, gateway=self._gateway))

    def _settings(self) -> list[tuple[str, str]]:
        """Loopback only, no pages, no bar, and modules found where this process finds them."""
        java_bytes = min(max(memory_budget(), _LEAST_JAVA_BYTES), _MOST_JAVA_BYTES)
        return [
            (
                "spark.driver.extraJavaOptions",
                "-XX:+ExitOnOutOfMemoryError",
            ),  # half dead, it would keep the job waiting
            ("spark.driver.host", "127.0.0.1"),
            ("spark.driver.bindAddress", "127.0.0.1"),
            ("spark.driver.memory", f"{java_bytes >> 20}m"),
            ("spark.driver.maxResultSize", "0"),
            ("spark.executorEnv.PYTHONPATH", os.pathsep.join(path or os.getcwd() for path in sys.path)),
            ("spark.local.dir", self._directories.disk.path),
            ("spark.log.level", "ERROR"),
            ("spark.ui.enabled", "false"),
            ("spark.ui.showConsoleProgress", "false"),
        ]

    def _error_of(self, error: BaseException) -> BaseException:
        if isinstance(error, WorkerError) or not isinstance(error, Exception):
            return error
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        if "UnsupportedClassVersionError" in said:
            return WorkerError(f"{_NEEDS_JAVA} (the one that was found is older)")
        last = next((line for line in reversed(said.splitlines()) if re.search(r"\w", line)), "")
        return WorkerError(f"Spark does not start: {type(error).__name__}: {error} {last}".rstrip())

    def close(self) -> None:
        """End it, and its Java; harmless if it has not started."""
        if self._thread is not None:
            self._thread.join()  # Ctrl-C may have come while it starts
        session, self._session = self._session, None
        gateway, self._gateway = self._gateway, None
        try:
            if session is not None:
                session.stop()
        finally:
            if gateway is not None:
                _end(gateway)
            self._directories.close()


def _has_java() -> bool:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java" if not home else os.path.join(home, "bin", "java")) is not None


def _end(gateway: Any) -> None:
    """Java ends when its standard input does."""
    from pyspark import SparkContext

    SparkContext._gateway = SparkContext._jvm = None
    gateway.shutdown()
    process = gateway.proc
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
