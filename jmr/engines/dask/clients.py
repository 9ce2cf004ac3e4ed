"""Whose Dask cluster a job runs on.

    a Client ──────────────> that one, which is the user's: it is never closed
    "dask" ──a default?────> the current client
           └─ none ────────> processes on this host, and a client, which end with the job

A cluster that is started here must be silent: what Dask logs of workers that end would stand in a notebook's cell.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from distributed import Client, LocalCluster, default_client

from jmr import interrupts
from jmr.errors import ArgumentValueError, WorkerError
from jmr.launch.local import default_slots

__all__ = ["end", "given_client", "is_near", "start"]


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


def start() -> tuple[LocalCluster, Client]:
    """A cluster of processes on this host, and its client, which is nobody's default."""
    with interrupts.deferred():
        cluster = LocalCluster(
            n_workers=default_slots(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
        try:
            return cluster, Client(cluster, set_as_default=False)
        except BaseException:
            cluster.close()
            raise


def end(cluster: LocalCluster, client: Client | None, *, at_once: bool) -> None:
    """End both; `at_once` without waiting for functions that run."""
    if at_once:
        for nanny in list(cluster.workers.values()):
            with contextlib.suppress(Exception):  # it has ended by itself
                nanny.auto_restart = False
                nanny.process.process.kill()
    with contextlib.closing(cluster):
        if client is not None:
            client.close()
