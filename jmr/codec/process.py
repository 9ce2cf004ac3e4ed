"""Whether this process is a slot: set once, right after the fork."""

from __future__ import annotations

__all__ = ["is_slot"]

is_slot = False
