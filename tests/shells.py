"""A real IPython in the tests' own process."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

__all__ = ["ipython", "plain"]


def plain(text: str) -> str:
    """What IPython printed, without colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@contextlib.contextmanager
def ipython() -> Iterator[InteractiveShell]:
    """IPython without its history file; it takes the place of `__main__` and of sys's hooks while it lives."""
    before = sys.modules["__main__"], sys.displayhook, sys.excepthook
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    shell.run_cell("%load_ext jmr")
    yield shell
    shell.restore_sys_module_state()
    InteractiveShell.clear_instance()
    sys.modules["__main__"], sys.displayhook, sys.excepthook = before
