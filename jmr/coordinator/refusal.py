"""Why a worker cannot take part in a job; it gets no more of that one, and goes on with others."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Refusal", "cannot_hold", "cannot_keep", "lacks_module"]

#: Of what a worker says.
_MOST_SHOWN = 500
_FREE_SPACE = "Free some space there, or start jmr-worker with JMR_TMP set to a directory that has more."


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong there, said of the worker; and what to do about it."""

    reason: str
    advice: str


def lacks_module(module: str) -> Refusal:
    """The job needs a module that is not installed on the worker's host."""
    return Refusal(
        f"has no module {module!r}",
        "Install it there, or put it beside your notebook or task file, from where modules travel with the job.",
    )


def cannot_keep(reason: str) -> Refusal:
    """The file of the job's functions cannot be written on the worker's host."""
    return Refusal(f"cannot keep the functions of this job: {_shown(reason)}", _FREE_SPACE)


def cannot_hold(reason: str) -> Refusal:
    """What a task takes cannot be written on the worker's host."""
    return Refusal(f"cannot hold what a task takes: {_shown(reason)}", _FREE_SPACE)


def _shown(reason: str) -> str:
    return "".join(c for c in reason if c.isprintable())[:_MOST_SHOWN]
