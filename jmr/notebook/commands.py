"""`%jmr`: the cluster that runs this kernel's jobs, and what it does.

    line ──> status | workers N | listen [ADDR] | jobs | cancel NAME | stop ──> words, or in a notebook a table

What a command needs is loaded when it runs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jmr.notebook.completion import COMMANDS
from jmr.notebook.ipython import UsageError
from jmr.notebook.line import unquoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jmr.progress.report import Report

__all__ = ["obey"]

_USAGE = (
    "write %jmr status, %jmr workers N, %jmr listen, %jmr listen ADDRESS, %jmr jobs, %jmr cancel NAME, or %jmr stop"
)
_HEAD = ("job", "how far", "for")


def obey(line: str) -> None:
    """Do what a line says.

    Raises
    ------
    UsageError
        It says nothing that can be done.
    """
    __tracebackhide__ = True
    match line.split():
        case [] | ["status"]:
            _show_status()
        case ["workers", count] if count.isdecimal():
            print(_resized(int(count)))
        case ["listen", *rest] if _is_address(rest):
            print(_listening(rest))
        case ["jobs"]:
            _show_jobs()
        case ["cancel", *rest] if rest:
            print(_cancelled(unquoted(line.strip().removeprefix("cancel").strip())))
        case ["stop"]:
            print(_stopped())
        case [command, *rest]:
            raise UsageError(f"%jmr {line}: {_meant(command, rest)}{_USAGE}")


def _meant(command: str, rest: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(command.lower(), COMMANDS, n=1)
    return f"did you mean %jmr {' '.join([*close, *rest])}? Else " if close and close != [command] else ""


def _show_status() -> None:
    """Lines; in a notebook a table, where there is more than one host."""
    from jmr.engines.cluster import default_cluster

    cluster = default_cluster()
    if cluster is None:
        print("No slots run: the next job starts them, or %jmr workers N.")
        return
    from jmr.engines.view import status_html, status_text

    hosts = cluster.hosts()
    html = status_html(hosts, cluster.address) if len(hosts) > 1 else None
    _show(status_text(hosts, cluster.address), html)


def _show_jobs() -> None:
    from jmr.session.running import running_jobs

    reports = running_jobs()
    if not reports:
        print("No jobs run.")
        return
    from jmr.views.card import table

    rows = [_row(report, time.monotonic()) for report in reports]
    _show(_in_columns(rows), table(_HEAD, [[_escaped(cell) for cell in row] for row in rows], "llr"))


def _row(report: Report, now: float) -> tuple[str, str, str]:
    """Name, how far, and since when."""
    from jmr.progress.words import whole
    from jmr.views.text import how_far

    return report.name, how_far(report, now), whole(report.elapsed(now))


def _in_columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _escaped(text: str) -> str:
    import html

    return html.escape(text)


def _show(text: str, html: str | None) -> None:
    from jmr.progress.where import kernel_shell

    if html is None or kernel_shell() is None:
        print(text)
        return
    from jmr.progress.routing import displayed

    displayed({"text/plain": text, "text/html": html}, raw=True)


def _is_address(words: list[str]) -> bool:
    addresses = [word for word in words if word != "--new-token"]
    return len(addresses) <= 1 and not any(word.startswith("-") for word in addresses)


def _listening(words: list[str]) -> str:
    from jmr.engines.cluster import current_cluster

    addresses = [word for word in words if word != "--new-token"]
    cluster = current_cluster()
    before = cluster.address
    told = cluster.listen(*addresses, new_token="--new-token" in words)
    if before is None or before == cluster.address:
        return told
    return f"{told}\n\nNobody can join at {before} any more. Workers that have joined there stay."


def _resized(n_slots: int) -> str:
    from jmr.engines.cluster import resize
    from jmr.progress.words import plural

    resize(n_slots)
    return f"{plural(n_slots, 'slot')} for this kernel's jobs."


def _cancelled(name: str) -> str:
    from jmr.session.running import cancel_jobs, running_jobs

    n_cancelled = cancel_jobs(name)
    if n_cancelled:
        return f"Cancelled {name}." if n_cancelled == 1 else f"Cancelled {n_cancelled} jobs of the name {name}."
    names = ", ".join(dict.fromkeys(report.name for report in running_jobs()))
    return f"No job of the name {name} runs. These do: {names}." if names else "No jobs run."


def _stopped() -> str:
    from jmr.engines.cluster import default_cluster

    cluster = default_cluster()
    if cluster is None:
        return "There are no slots to stop."
    cluster.close()
    return "Stopped; the next job starts new slots."
