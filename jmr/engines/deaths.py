"""Names the record or group that ended its slot, and how.

The coordinator does not unpickle, so it hands over the task's input and an index; in the calling thread, the index
becomes a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jmr.coordinator.books import told_exit
from jmr.coordinator.mail import JobPoisoned
from jmr.errors import SlotDiedError, describe
from jmr.progress.words import size
from jmr.result import BadRecord
from jmr.shuffle.files import fetch, fetch_all
from jmr.tasks.map import records_of
from jmr.tasks.reduce import group_at
from jmr.wire.messages import CANNOT_ANSWER

__all__ = ["bad_record_of", "error_of_death"]


def error_of_death(poison: JobPoisoned, folder: str) -> SlotDiedError:
    """Say which record or group did it, how the slot ended, and how often that was tried.

    Parameters
    ----------
    poison
        From the coordinator.
    folder
        The function that reduce tasks call: "reducefn", or "combinefn" where that is left out.
    """
    is_map = poison.split is not None
    role, subject = ("mapfn", "record") if is_map else (folder, "group")
    task = f"split {poison.task}" if is_map else poison.task
    culprit = _culprit(poison)
    times = "once" if poison.n_deaths == 1 else f"{poison.n_deaths} times"
    if poison.status == CANNOT_ANSWER:
        return SlotDiedError(
            f"the process of {poison.task} could not send its answer, {times} (worker {poison.slot}): a function of "
            "yours closed a file descriptor that is not its own, or replaced something that Python itself needs."
        )
    if culprit is None:
        return SlotDiedError(
            f"the process of {poison.task} ended {times} (worker {poison.slot}), and at no single {subject}: "
            f"{told_exit(poison.status)}{_where(poison.stack)}; peak memory {size(poison.peak_bytes)}. "
            "Look at combinefn, at how your values are pickled, and at threads that your functions leave behind."
        )
    return SlotDiedError(
        f"{role} ended its process {times}, at {subject} key={describe(culprit[0])} ({task}, worker {poison.slot}): "
        f"{told_exit(poison.status)}{_where(poison.stack)}; peak memory {size(poison.peak_bytes)}. "
        f"To look into it: call {role} on that {subject} in a process of its own (`python` in a terminal), not in your "
        'kernel, which it would end; or leave it out with on_error="skip".'
    )


def bad_record_of(poison: JobPoisoned, folder: str) -> BadRecord:
    """The record or group, for `result.errors`."""
    culprit = _culprit(poison)
    key, value = culprit if culprit is not None else (None, None)
    error = error_of_death(poison, folder)
    phase = folder.removesuffix("fn") if poison.split is None else "map"
    return BadRecord(phase, key, value, error, f"SlotDiedError: {error}\n")


def _culprit(poison: JobPoisoned) -> tuple[Any, Any] | None:
    """The record or the group (its key, its values); None if the slot had not said where it was."""
    if poison.index is None:
        return None
    try:
        if poison.split is not None:
            split = b"".join(poison.split) if isinstance(poison.split, list) else fetch(poison.split)
            return records_of(split)[poison.index]
        return group_at(
            lambda: fetch_all(poison.inputs, poison.inline), poison.n_partitions, poison.n_parts, poison.index
        )
    except Exception:  # unpickling runs the objects' own code; the death is told without
        return None


def _where(stack: Sequence[str]) -> str:
    return f", in {', called by '.join(stack[:3])}" if stack else ""
