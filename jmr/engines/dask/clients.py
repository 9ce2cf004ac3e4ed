"""Whose Dask cluster a job runs on.

    a Client ──────────────> that one, which is the user's: it is never closed
    "dask" ──a default?────> the current client
           └─ none ────────> processes on this host, and a client, which end with the job

A cluster that is started here must be silent: what Dask logs of workers that end would stand in a notebook's cell.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from distributed import Client, LocalCluster, Nanny, default_client

from jmr import interrupts
from jmr.errors import ArgumentValueError, WorkerError
from jmr.launch.local import default_slots

__all__ = ["OwnCluster", "given_client", "greet", "is_near", "told_missing"]

_TASKS = "jmr.engines.dask.tasks"

#: For a worker's process to end by itself.
_PATIENCE_SECONDS = 1.0


def given_client(engine: Any) -> Client | None:
    """The user's client, by the argument `engine`; None if there is none.

    Raises
    ------
    ArgumentValueError
        It is an asynchronous one.
    WorkerError
        It is closed.
    """
    client = engine
    if isinstance(engine, str):
        try:
            client = default_client()
        except ValueError:
            return None
    if client.asynchronous:
        raise ArgumentValueError(
            "the Dask Client is an asynchronous one, whose calls must be awaited: make one without asynchronous=True. "
            "To await a job: await jmr.submit(...)"
        )
    if client.status != "running":
        raise WorkerError(f"the Dask Client is {client.status}: make a new one")
    return client


def is_near(client: Client) -> bool:
    """Whether its workers are reached from here; others may let their scheduler alone speak to us."""
    return bool(client.direct_to_workers) or isinstance(client.cluster, LocalCluster)


#: By client, the addresses of workers that have jmr.
_greeted: weakref.WeakKeyDictionary[Client, set[str]] = weakref.WeakKeyDictionary()


async def greet(client: Client, workers: Sequence[str]) -> str:
    """Have workers that are new import what they will run; says what is wrong with one of them, if anything is.

    A worker that cannot import what a task names drops its connection to the scheduler, again and again, and says so
    in its own log only.
    """
    known = _greeted.setdefault(client, set())
    new = [worker for worker in workers if worker not in known]
    if not new:
        return ""
    found = await client.run(eval, f"__import__({_TASKS!r}) and None", workers=new, on_error="return")
    failures = {worker: error for worker, error in found.items() if isinstance(error, ImportError)}
    known.update(found.keys() - failures.keys())
    return next((told_missing(f"the worker {worker}", error) for worker, error in failures.items()), "")


def told_missing(where: str, error: ImportError) -> str:
    """What to do where jmr cannot be imported."""
    return (
        f"jmr is not installed on the Dask cluster: {where} says {error}. Install it where the scheduler and the "
        "workers run, in the same version as here"
    )


class OwnCluster:
    """Processes on this host, one for each CPU, for one job.

    Raises
    ------
    WorkerError
        Dask cannot start them.
    """

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()
        with interrupts.deferred(), contextlib.ExitStack() as started:
            started.enter_context(_silence())
            try:
                cluster = LocalCluster(
                    n_workers=default_slots(),
                    threads_per_worker=1,
                    worker_class=_Nanny,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # else it wants the one usual port
                    silence_logs=logging.CRITICAL,
                )
            except RuntimeError as error:
                raise WorkerError(f"Dask could not start processes on this host: {error}") from error
            started.callback(cluster.close)
            #: Nobody's default.
            self.client = Client(cluster, set_as_default=False)
            started.callback(self.client.close)
            self._resources = started.pop_all()

    def close(self) -> None:
        """End them, and functions that run there."""
        self._resources.close()


class _Nanny(Nanny):  # type: ignore[misc, unused-ignore]
    """Starts a worker's process, and ends it soon, whatever it is at."""

    async def instantiate(self) -> Any:
        """The user's functions travel by value, so that nobody needs the user's script, which would run once more."""
        with _hidden_script():
            return await super().instantiate()

    async def kill(self, timeout: float = _PATIENCE_SECONDS, reason: str = "nanny-kill") -> None:
        """A function that runs would be waited for."""
        await super().kill(timeout=min(timeout, _PATIENCE_SECONDS), reason=reason)


@contextlib.contextmanager
def _hidden_script() -> Iterator[None]:
    """Have `multiprocessing` take this process for one without a script, as a notebook's kernel is."""
    main = vars(sys.modules["__main__"])
    with _script.held(lambda: {name: main[name] for name in ("__file__", "__spec__") if name in main}, main.update):
        main.pop("__file__", None)
        main["__spec__"] = None
        yield


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Have Dask log nothing here.

    Its own `silence_logs` goes wrong where clusters do not end in the opposite order of their starts.
    """
    logger = logging.getLogger("distributed")

    def restore(levels: dict[logging.Handler, int]) -> None:
        for handler, level in levels.items():
            handler.removeFilter(_is_grave)
            handler.setLevel(level)

    with _logs.held(lambda: {handler: handler.level for handler in logger.handlers}, restore):
        for handler in logger.handlers:
            handler.addFilter(_is_grave)  # once
        yield


def _is_grave(record: logging.LogRecord) -> bool:
    return record.levelno > logging.CRITICAL


class _Shared:
    """What the first who needs it changed has saved, and the last gives back."""

    def __init__(self) -> None:
        self._n_users = 0
        self._saved: Any = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def held(self, save: Callable[[], Any], restore: Callable[[Any], None]) -> Iterator[None]:
        with self._lock:
            self._n_users += 1
            if self._n_users == 1:
                self._saved = save()
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if not self._n_users:
                    restore(self._saved)


_script, _logs = _Shared(), _Shared()
