"""The command line: `jmr`.

For now it only says what is installed; task files and remote workers get their commands when they work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jmr

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Examples
    --------
    >>> main([])
    jmr runs MapReduce jobs from a notebook or a script:
    <BLANKLINE>
        import jmr
        counts = jmr.run(source, mapfn, reducefn)
    <BLANKLINE>
    or, in a notebook: %load_ext jmr, then %%mapreduce (and %%mapreduce? for help).
    0
    """
    parser = argparse.ArgumentParser(prog="jmr", description="MapReduce from a notebook.")
    parser.add_argument("--version", action="version", version=f"jmr {jmr.__version__}")
    parser.parse_args(arguments)
    print(
        "jmr runs MapReduce jobs from a notebook or a script:\n\n"
        "    import jmr\n"
        "    counts = jmr.run(source, mapfn, reducefn)\n\n"
        "or, in a notebook: %load_ext jmr, then %%mapreduce (and %%mapreduce? for help)."
    )
    return 0
