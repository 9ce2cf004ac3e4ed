"""Environment variables that an engine reads as it starts, and that are nobody else's concern.

before ──variables(NAME="value")──> the engine's processes start ──> before
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["variables"]


@contextlib.contextmanager
def variables(**values: str) -> Iterator[None]:
    """Set them inside of the block, for all threads; what was there before is there again behind it.

    Examples
    --------
    >>> with variables(ODD_DUCK="yes"):
    ...     os.environ["ODD_DUCK"]
    'yes'
    >>> "ODD_DUCK" in os.environ
    False
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
