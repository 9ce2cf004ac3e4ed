"""What user code in a slot warns of and logs, on its way to the kernel; and which of it the kernel wants to hear of.

    kernel: Hearing.here() ──> OpenJob ──> slot: Hearing.take_on()      filters of warnings, levels of logging
    slot: warnings.warn, logging.warning ──> Notices ──notice(...)──> its stderr's pipe, once each

It works by what Python leaves to others: `warnings.showwarning`, and logging's last resort, which gets the records that
no handler takes. So user code that configures either in a slot has what it configured.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from jmr.worker.output import NOTICE_BYTES, notice

__all__ = ["Hearing", "Notices", "identity_of", "write_to"]

#: Different ones of a job that are sent once each; what differs from all of them is sent as often as it comes.
_MOST_DISTINCT = 1_000
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

#: Action, pattern of the message, module and name of the category, pattern of the module, line.
_Filter = tuple[str, str, str, str, str, int]


class Hearing(NamedTuple):
    """Which warnings and log records are wanted.

    No dataclass: that takes eight times as long to make, and every start of a worker waits for it.
    """

    filters: tuple[_Filter, ...]
    #: Of the root logger.
    level: int
    #: What `logging.disable` was told.
    disabled: int

    @classmethod
    def here(cls) -> Hearing:
        """What this process wants."""
        filters = (_plain(*item) for item in list(warnings.filters) if isinstance(item[2], type))
        return cls(tuple(filters), logging.root.level, logging.root.manager.disable)

    def take_on(self) -> None:
        """Want the same in this process. A level is left as it is where user code has given the root logger handlers.

        A filter for a category of a module that is not imported, or of the notebook's own, is left out.
        """
        warnings.resetwarnings()
        for action, message, module_name, name, module, line in self.filters:
            category = getattr(sys.modules.get(module_name), name, None)
            if isinstance(category, type) and issubclass(category, Warning):
                warnings.filterwarnings(action, message, category, module, line, append=True)  # type: ignore[arg-type]
        logging.disable(self.disabled)
        if not logging.root.handlers:
            logging.root.setLevel(self.level)


def _plain(action: str, message: Any, category: Any, module: Any, line: int) -> _Filter:
    return action, _pattern(message), category.__module__, category.__qualname__, _pattern(module), line


def _pattern(text: Any) -> str:
    """A filter has a compiled pattern, or nothing; Python's own have the very text."""
    if isinstance(text, str):
        return re.escape(text) + r"\Z"
    return "" if text is None else str(text.pattern)


class Notices(logging.Handler):
    """Sends each distinct warning and log record of a job once, and then how often it came again.

    Parameters
    ----------
    write
        Takes what `notice` makes; whoever reads it finds the job by its place.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
        self._write = write
        #: Of what was sent: how often it came again since that was told.
        self._n_more: dict[tuple[str, str, int], int] = {}

    def begin_job(self) -> None:
        """Forget what the last job was told of; undo what it did to where these come from."""
        self._n_more.clear()
        warnings.showwarning = self._show_warning
        logging.lastResort = self
        logging.basicConfig = _configured

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record that no handler of the user's takes."""
        try:
            self._send(self.format(record), "", 0)
        except Exception:  # its own arguments do not fit its text
            self.handleError(record)

    def tell_repeated(self) -> None:
        """Say what came again since this was called last."""
        for said, n in [(said, n) for said, n in self._n_more.items() if n]:
            self._n_more[said] = 0
            self._write(notice(*said, n))

    def _show_warning(  # noqa: PLR0917 - as Python calls it
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            with suppress(OSError):  # as Python does it
                file.write(warnings.formatwarning(message, category, filename, lineno, line))
        else:
            is_ours = filename.startswith(_PACKAGE)  # user code blames its caller
            self._send(f"{category.__name__}: {message}", "" if is_ours else filename, 0 if is_ours else lineno)

    def _send(self, text: str, path: str, line: int) -> None:
        said = text[:NOTICE_BYTES], path, line
        if said not in self._n_more:
            if len(self._n_more) < _MOST_DISTINCT:
                self._n_more[said] = 0
            self._write(notice(*said))
        else:
            self._n_more[said] += 1


_configure = logging.basicConfig


def _configured(**options: Any) -> None:
    """Without options it is what `logging.warning` and its like call, for what the last resort does already."""
    if options:
        _configure(**options)


def write_to(descriptor: int) -> Callable[[bytes], None]:
    """Writes to a pipe, for as long as it is that pipe: user code may have closed it and opened something else."""
    identity = identity_of(descriptor)

    def write(data: bytes) -> None:
        with suppress(OSError):
            if identity_of(descriptor) == identity:
                os.write(descriptor, data)

    return write


def identity_of(descriptor: int) -> tuple[int, int]:
    """What a descriptor leads to, which another file by the same number would not have."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
