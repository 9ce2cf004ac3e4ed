"""Whether this process is a slot: set once, right after the fork. And which modules are a process's own."""

from __future__ import annotations

import threading

__all__ = ["OWN_MODULES", "TASK_MODULE", "is_slot", "runs_task", "task"]

is_slot = False
#: Its attribute `is_running` is True in a thread that runs a task of a job for another engine, in no slot of ours.
task = threading.local()
#: What a task file becomes.
TASK_MODULE = "__task__"
#: No other process can import these, or would find something else: what they define travels by value.
OWN_MODULES = ("__main__", TASK_MODULE)


def runs_task() -> bool:
    """Whether the caller is inside a task, wherever that runs."""
    return is_slot or getattr(task, "is_running", False)
