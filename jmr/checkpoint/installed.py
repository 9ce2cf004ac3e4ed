"""Which version of what was installed a module belongs to: read off the folder that it lies in.

    numpy ──> site-packages/numpy/ ── beside it ──> numpy-2.1.0.dist-info
    yaml ───> site-packages/yaml/ ── whose RECORD names it ──> pyyaml-6.0.dist-info

Not by importlib.metadata, which reads all that is installed, for a second, where one has another name than the module.
Must not look at what has been imported: another process would import what is there now.
"""

from __future__ import annotations

import os
import re

__all__ = ["Installed"]

_MARKS = (".dist-info", ".egg-info")
#: Where what was installed says what belongs to it.
_LISTS = ("RECORD", "top_level.txt")


class Installed:
    """What is installed in folders, as it is now: each is read once."""

    def __init__(self) -> None:
        self._marks: dict[str, list[str]] = {}
        self._lists: dict[str, bytes] = {}

    def version(self, root: str, folder: str) -> str:
        """The names and versions of what brought a module, or outermost package, to a folder; empty if none says so.

        A package that is a mere folder may have been brought by several.
        """
        marks = self._marks_in(folder)
        named = [mark for mark in marks if _plain(mark.partition("-")[0]) == _plain(root)]
        own = re.compile(rb"^%s([/.\\,\r\n]|$)" % re.escape(root.encode()), re.MULTILINE)
        return " ".join(named or [mark for mark in marks if own.search(self._list_of(os.path.join(folder, mark)))])

    def _marks_in(self, folder: str) -> list[str]:
        if folder not in self._marks:
            try:
                self._marks[folder] = sorted(name for name in os.listdir(folder) if name.endswith(_MARKS))
            except OSError:  # removed, not to be read, or in an archive
                self._marks[folder] = []
        return self._marks[folder]

    def _list_of(self, mark: str) -> bytes:
        if mark not in self._lists:
            found = b""
            for name in _LISTS:
                try:
                    with open(os.path.join(mark, name), "rb") as file:
                        found += b"\n" + file.read()
                except OSError:  # there need not be one
                    continue
            self._lists[mark] = found
        return self._lists[mark]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
