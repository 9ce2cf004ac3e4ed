"""What a cluster looks like, in words and in HTML.

WorkerStatus, WorkerStatus, ... ──status_text──> lines
                                ──status_html──> a table
"""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Sequence

from jmr.coordinator.status import WorkerStatus
from jmr.launch.address import DEFAULT_PORT, Address
from jmr.launch.token import VARIABLE, token_path
from jmr.progress.words import plural

__all__ = ["invitation", "status_html", "status_text"]

_HEAD = ("host", "slots", "what they do", "Python", "load", "free", "state")
_EVERYWHERE = ("0.0.0.0", "::")


def invitation(address: Address) -> str:
    """What to do on the other hosts; the token's place, never the token."""
    host = "ADDRESS" if address.host in _EVERYWHERE else address.host
    there = "In a terminal on this host" if address.is_loopback else "On each other host"
    where = host if address.port == DEFAULT_PORT else str(Address(host, address.port))
    note = " (ADDRESS: of this host, as the others know it)" if host == "ADDRESS" else ""
    return f"Listening on {address}. {there}:\n\n    jmr-worker {where}{note}\n\n{_token_note(address)}"


def _token_note(address: Address) -> str:
    if os.environ.get(VARIABLE):
        return f"It needs the token that the environment variable {VARIABLE} holds here, in the same variable."
    if address.is_loopback:
        return f"It needs the token in {token_path()}, and finds it there."
    return (
        f"It needs the token in {token_path()}: nothing to do where the home directory is the same, else copy that "
        f"file to the same place there, once ({VARIABLE} and --token-file would do as well)."
    )


def status_text(workers: Sequence[WorkerStatus], address: str | None) -> str:
    """A line for each worker, in columns; and one for each slot of this host, if there is no other."""
    return "\n".join([_table(workers), *([f"listening on {address}"] if address else [])])


def _table(workers: Sequence[WorkerStatus]) -> str:
    rows = [_HEAD, *map(_row, workers)]
    if len(workers) == 1:
        slots = workers[0].slots
        width = max((len(slot.name) for slot in slots), default=0)
        n_slots = plural(len(slots), "slot")
        return "\n".join([n_slots, *(f"  {slot.name:<{width}}  {slot.doing}" for slot in slots)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def status_html(workers: Sequence[WorkerStatus], address: str | None) -> str:
    """The same as a table."""
    head = "".join(f"<th style='text-align:left'>{html.escape(cell)}</th>" for cell in _HEAD)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in _row(worker)) + "</tr>"
        for worker in workers
    )
    where = f"listening on {html.escape(address)}" if address else "not listening"
    if not workers:
        return "<div>jmr.Cluster, closed</div>"
    return (
        f"<div><div>jmr.Cluster, {where}</div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(worker: WorkerStatus) -> tuple[str, ...]:
    doing = Counter("busy" if slot.is_busy else slot.doing for slot in worker.slots)
    name = worker.name if worker.name == worker.origin else f"{worker.name} ({worker.origin})"
    return (
        name,
        str(len(worker.slots)),
        ", ".join(f"{n} {what}" for what, n in sorted(doing.items())) or "-",
        worker.python,
        "-" if worker.load is None else f"{worker.load:.1f}",
        "-" if worker.free_bytes is None else f"{worker.free_bytes / 2**30:.1f} GiB",
        worker.state,
    )
