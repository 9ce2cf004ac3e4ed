"""A slot works as if it were the kernel: same directory, same sys.path, same environment.

    kernel: Surroundings.here() ──> OpenJob ──> slot: surroundings.over(its own).take_on()

On another host only the directory is the kernel's, if it is there as well: its paths and variables mean something else.
Taken as they are when a job starts. Threads of numeric libraries are limited, so that slots do not fight for cores.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace

from jmr.worker.notices import Hearing

__all__ = ["THREAD_VARIABLES", "TOKEN_VARIABLE", "Surroundings"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


#: Is for coordinators and workers: no user code gets to see it.
TOKEN_VARIABLE = "JMR_TOKEN"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the user's code believes to be."""

    directory: str | None
    #: None, like the next: the slot's own.
    path: tuple[str, ...] | None
    environment: dict[str, str] | None
    recursion_limit: int
    #: Not taken on with the rest, but when the user's functions are there.
    hearing: Hearing

    @classmethod
    def here(cls, n_threads: int = 0) -> Surroundings:
        """Those of this process; numeric libraries get `n_threads`, if any, unless the user set a number."""
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = None
        threads = dict.fromkeys(THREAD_VARIABLES, str(n_threads)) if n_threads else {}
        environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        return cls(directory, tuple(sys.path), threads | environment, sys.getrecursionlimit(), Hearing.here())

    def elsewhere(self) -> Surroundings:
        """What of them makes sense on another host."""
        return replace(self, path=None, environment=None)

    def over(self, own: Surroundings) -> Surroundings:
        """These, with what they leave open from a slot's own."""
        if self.path is not None:
            return self
        directory = self.directory if self.directory is not None and os.path.isdir(self.directory) else own.directory
        return replace(self, directory=directory, path=own.path, environment=own.environment)

    def take_on(self) -> None:
        """Make them this process's."""
        assert self.path is not None
        assert self.environment is not None
        if self.directory is not None:
            os.chdir(self.directory)
        if tuple(sys.path) != self.path:
            sys.path[:] = self.path
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
            time.tzset()
        sys.setrecursionlimit(self.recursion_limit)
