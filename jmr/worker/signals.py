"""What a supervisor tells a slot that is at work, and does not read messages meanwhile."""

from __future__ import annotations

import signal

__all__ = ["SPILL_SIGNAL"]

#: The slot has more than its share of the memory: please put on disk what can be. Nobody dies of it who has no handler,
#: and hardly anybody has one of their own; for the same reasons Go's runtime uses it.
SPILL_SIGNAL = signal.SIGURG
