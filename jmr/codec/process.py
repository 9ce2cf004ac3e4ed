"""Whether this process is a slot: set once, right after the fork. And which modules are a process's own."""

from __future__ import annotations

__all__ = ["OWN_MODULES", "TASK_MODULE", "is_slot"]

is_slot = False
#: What a task file becomes.
TASK_MODULE = "__task__"
#: No other process can import these, or would find something else: what they define travels by value.
OWN_MODULES = ("__main__", TASK_MODULE)
