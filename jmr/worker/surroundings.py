"""A slot works as if it were the kernel: same directory, same sys.path, same environment.

    kernel: Surroundings.here() ──> OpenJob ──> slot: surroundings.take_on()

Taken as they are when a job starts. Threads of numeric libraries are limited, so that slots do not fight for cores.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

__all__ = ["THREAD_VARIABLES", "Surroundings"]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the user's code believes to be."""

    directory: str | None
    path: tuple[str, ...]
    environment: dict[str, str]
    recursion_limit: int

    @classmethod
    def here(cls, n_threads: int) -> Surroundings:
        """Those of this process; numeric libraries get `n_threads` unless the user set a number."""
        try:
            directory = os.getcwd()
        except OSError:  # it was removed
            directory = None
        threads = dict.fromkeys(THREAD_VARIABLES, str(n_threads))
        return cls(directory, tuple(sys.path), threads | dict(os.environ), sys.getrecursionlimit())

    def take_on(self) -> None:
        """Make them this process's."""
        if self.directory is not None:
            os.chdir(self.directory)
        if tuple(sys.path) != self.path:
            sys.path[:] = self.path
        if dict(os.environ) != self.environment:
            os.environ.clear()
            os.environ.update(self.environment)
            time.tzset()
        sys.setrecursionlimit(self.recursion_limit)
