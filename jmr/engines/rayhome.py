"""Ray as a process has it: imported, started for one job, quiet; and what its errors say.

    imported() ──> OwnRay: init ... shut_down
    RayError ──error_of──> SlotDiedError, WorkerError: a sentence

Ray's workers find the modules that this process finds, and what they print comes with receipts.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from jmr import interrupts
from jmr.engines.variables import variables
from jmr.errors import JmrError, SlotDiedError, WorkerError, printable
from jmr.launch.local import default_slots

__all__ = ["OwnRay", "error_of", "imported"]

#: Most of what Ray says that is worth a reader's time.
_MOST_CHARACTERS = 300
_ADDRESS = "RAY_ADDRESS"


def imported() -> ModuleType:
    """Ray. Raises WorkerError if it is not installed."""
    # Read when Ray is imported. Otherwise, under `uv run`, each of its workers would install all packages anew.
    with interrupts.deferred(), variables(RAY_ENABLE_UV_RUN_RUNTIME_ENV="0"), _quiet():
        try:
            return importlib.import_module("ray")
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise WorkerError('engine="ray" needs Ray: pip install "jmr[ray]"') from error


class OwnRay:
    """A Ray for one job: on this host, or the one that RAY_ADDRESS names, which is only left at the end.

    Raises
    ------
    WorkerError
        It does not start.
    """

    def __init__(self, ray: ModuleType) -> None:
        self._ray = ray
        self._is_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM)  # Ray has one of its own
        for is_last in (False, True):
            try:
                self._start()
            except Exception as error:
                _end_half_a_ray(error)
                self.shut_down()
                if "timed out" in str(error) and not is_last:  # it gives its processes 15 s, on a busy machine too
                    continue
                raise WorkerError(f"Ray does not start: {_brief(error)}") from error
            else:
                return

    def _start(self) -> None:
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if os.path.exists(entry or os.curdir))
        with variables(PYTHONPATH=path), _quiet():
            if os.environ.get(_ADDRESS):
                self._ray.init(configure_logging=False, log_to_driver=False)
            else:
                self._ray.init("local", num_cpus=default_slots(), **_PLAIN)

    def shut_down(self) -> None:
        """End it, and wait for that."""
        with interrupts.deferred(), _quiet():
            self._ray.shutdown()
            if self._is_main and self._handler is not None:
                signal.signal(signal.SIGTERM, self._handler)


_PLAIN: dict[str, Any] = {"include_dashboard": False, "configure_logging": False, "log_to_driver": False}


def _end_half_a_ray(error: Exception) -> None:
    """End what Ray had started before it gave up. It forgets that: only frames of the error still know its node."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        node: Any = frame.f_locals.get("self")
        if hasattr(node, "kill_all_processes"):
            with contextlib.suppress(Exception):  # there may be little of it yet
                node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No word on tokens, /dev/shm, deprecations: no concern of somebody who has asked for a job's result."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def error_of(error: Exception, n_attempts: int) -> JmrError:
    """What it means that a task, or a call of Ray, has ended so.

    Parameters
    ----------
    error
        A RayError.
    n_attempts
        How often Ray has tried a task.
    """
    from ray import exceptions

    times = f"{n_attempts} times" if n_attempts > 1 else "once"
    match error:
        case exceptions.RayTaskError():
            cause = error.cause
            return WorkerError(
                f"a task failed on a worker of Ray's, outside of your functions: {_brief(cause)}. "
                "jmr must be installed there, in the same version as here"
            )
        case exceptions.WorkerCrashedError():
            return SlotDiedError(
                f"a worker of Ray's died while it ran one of your functions, and Ray has tried it {times}. It has "
                "exited, or a signal has ended it. Which record it was, Ray cannot tell: with engine=None, jmr does"
            )
        case exceptions.OutOfMemoryError():
            return SlotDiedError(
                "Ray has ended workers that ran your functions, as the host was short of memory. Emit less at once, or "
                f"give a combinefn, or have fewer CPUs in Ray. Ray says: {_brief(error)}"
            )
        case exceptions.RuntimeEnvSetupError():
            return WorkerError(f"Ray could not set up its workers' environment (runtime_env): {_brief(error)}")
        case exceptions.ObjectLostError():
            return WorkerError(
                "Ray has lost what a task needs, with the node where it lay, and could not make it anew. "
                f"Run the job again. Ray says: {_brief(error)}"
            )
        case exceptions.TaskCancelledError():
            return WorkerError("somebody has cancelled a task of this job in Ray")
        case _:
            return WorkerError(f"Ray cannot go on: {_brief(error)}")


def _brief(error: BaseException) -> str:
    """The class, and the first words of what may be a page."""
    text = printable(str(error).strip(), _MOST_CHARACTERS)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
