"""Names the record or group that ended its slot, and how.

The coordinator does not unpickle, so it hands over the task's input and an index; in the calling thread, the index
becomes a key. A group that combinefn was given in a map task stands in no input: its slot has left a copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jmr import tracebacks
from jmr.codec.values import Buffer, dump_at_most, load
from jmr.coordinator.books import told_exit
from jmr.coordinator.mail import JobPoisoned
from jmr.engines.base import SUBJECTS
from jmr.engines.replay import LOOK, MOST_KEPT_BYTES, Replay, found, function_of, told_missing
from jmr.errors import SlotDiedError, describe, printable
from jmr.plan import Plan
from jmr.progress.words import size
from jmr.result import BadRecord
from jmr.tasks.folding import is_group
from jmr.wire.messages import CANNOT_ANSWER, TAIL_BYTES

__all__ = ["bad_record_of", "error_of_death"]

#: Of what the slot had printed: so many lines, and so much of each.
_LAST_LINES, _LINE_WIDTH = 5, 200
#: Where a frame stands, as a supervisor tells it.
_FRAME = re.compile(r" \((.+):(\d+)\)$")


def error_of_death(poison: JobPoisoned, plan: Plan) -> SlotDiedError:
    """Say which record or group did it, how the slot ended, what it had printed last, and how often that was tried."""
    return _error_at(poison, plan, _culprit(poison))


def bad_record_of(poison: JobPoisoned, plan: Plan) -> BadRecord:
    """The record or group, for `result.errors`."""
    culprit = _culprit(poison)
    key, value = (*(culprit or ()), None, None)[:2]
    error = _error_at(poison, plan, culprit)
    text = f"SlotDiedError: {error}\n"
    return BadRecord(_phase(poison, plan), key, value, error, text, _replay(poison, plan, culprit, keeps=False))


def _error_at(poison: JobPoisoned, plan: Plan, culprit: tuple[Any, ...] | None) -> SlotDiedError:
    phase = _phase(poison, plan)
    is_map = poison.origin.split is not None
    role, subject = f"{phase}fn", SUBJECTS[phase]
    task = f"split {poison.task}" if is_map else poison.task
    times = "once" if poison.n_deaths == 1 else f"{poison.n_deaths} times"
    how = f"{told_exit(poison.status)}{_where(poison.stack)}; peak memory {size(poison.peak_bytes)}."
    last = _last_lines(bytes(poison.printed))
    if poison.status == CANNOT_ANSWER:
        return SlotDiedError(
            f"the process of {poison.task} could not send its answer, {times} (worker {poison.slot}): a function of "
            "yours closed a file descriptor that is not its own, kept all that there are, or replaced something that "
            f"Python itself needs.{last}"
        )
    if poison.why:
        where = f"no single {subject}" if culprit is None else f"{subject} key={describe(culprit[0])}"
        return SlotDiedError(
            f"{role} ran out of memory, {times}, at {where} ({task}, worker {poison.slot}): its process {poison.why}, "
            f"with no other task beside it.{last}\nHave it take less at once, or use a host with more memory; or leave "
            'it out with on_error="skip".'
        ).set_replay(_replay(poison, plan, culprit))
    if culprit is None:
        return SlotDiedError(
            f"the process of {poison.task} ended {times} (worker {poison.slot}), and at no single {subject}: {how}"
            f"{last}\nLook at how your values are pickled, and at threads that your functions leave behind."
        )
    replay = _replay(poison, plan, culprit)
    look = (
        f"have {role} print where it is, as its last lines are told."
        if replay.missing
        else f"jmr.replay() calls {role} on that {subject} again, in a process of its own, and shows what it prints "
        "and how it ends."
    )
    return SlotDiedError(
        f"{role} ended its process {times}, at {subject} key={describe(culprit[0])} ({task}, worker {poison.slot}): "
        f'{how}{last}{LOOK} {look} To go on without that {subject}: on_error="skip".'
    ).set_replay(replay)


def _phase(poison: JobPoisoned, plan: Plan) -> str:
    """Whose call it was."""
    if poison.origin.split is None:
        return "combine" if plan.reducefn is None and plan.combinefn is not None else "reduce"
    return "combine" if poison.index is not None and is_group(poison.index) else "map"


def _replay(poison: JobPoisoned, plan: Plan, culprit: tuple[Any, ...] | None, *, keeps: bool = True) -> Replay:
    """With a copy of the record, unless somebody else `keeps` it."""
    blob, missing = None, ""
    if culprit is None or len(culprit) < 2:
        is_read = culprit is not None and poison.origin.split is None
        missing = told_missing() if is_read else "its slot left no copy of it"
    elif keeps:
        blob = dump_at_most(culprit, MOST_KEPT_BYTES)
        missing = "" if blob is not None else told_missing()
    phase = _phase(poison, plan)
    return Replay(phase, function_of(phase, plan), blob, missing=missing, was_fatal=True)


def _culprit(poison: JobPoisoned) -> tuple[Any, ...] | None:
    """The record, or the group's key and values, or its key alone. None if the slot had not said where it was."""
    if poison.index is None:
        return None
    try:
        if is_group(poison.index):
            return _group_left(poison.group)
        return found(poison.origin, poison.index)
    except Exception:  # unpickling runs the objects' own code; the death is told without
        return None


def _group_left(blob: Buffer) -> tuple[Any, ...] | None:
    group = load(blob) if blob else None
    return group if isinstance(group, tuple) and 1 <= len(group) <= 2 else None


def _where(stack: Sequence[str]) -> str:
    told = [_FRAME.sub(lambda frame: f" ({tracebacks.located(*frame.groups())})", text) for text in stack[:3]]
    return f", in {', called by '.join(told)}" if told else ""


def _last_lines(printed: bytes) -> str:
    """What the slot had printed last, with whatever cannot be printed escaped; lines of which the beginning is cut."""
    lines = printed.decode(errors="backslashreplace").splitlines()
    if len(printed) >= TAIL_BYTES and len(lines) > 1:
        del lines[0]  # its beginning is not there
    told = [printable(line, _LINE_WIDTH) for line in lines if line.strip()][-_LAST_LINES:]
    return "".join(["\nIt had printed last:", *(f"\n    {line}" for line in told)]) if told else ""
