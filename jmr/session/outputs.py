"""jmr.outputs: what a job has written, found again.

place ──manifest──> Written: a source, a table, a dict of files
"""

from __future__ import annotations

import os
from typing import Any

from jmr.errors import ArgumentTypeError, describe, hide_ours
from jmr.result import Result, Stats, Written
from jmr.sinks.reading import manifest_of, whole_path
from jmr.urls import is_url, place_named, shown

__all__ = ["outputs"]


def outputs(place: str | os.PathLike[str]) -> Result:
    """Find what a job with `out=place` has written.

    Parameters
    ----------
    place
        The directory, or the URL.

    Returns
    -------
    What the job gave: a dict of each file's path and how many keys it holds, without what else was known of the job. It
    is a source, whose records are the keys and values in the files; and it has `to_pandas`, `to_polars`, `to_arrow`.
    From JSON lines, a tuple in a value comes back as a list, and of a key as the tuple that it was.

    Raises
    ------
    ArgumentTypeError, ArgumentValueError
        It is no path; or there is no output, as that of a job that did not end.

    Examples
    --------
    >>> import jmr, os, tempfile
    >>> emit = lambda key, value: [(key, value)]
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     place = os.path.join(directory, "sums")
    ...     first = jmr.run([("a", 1), ("b", 2), ("a", 3)], emit, lambda k, v: sum(v), out=place, engine="inline")
    ...     jmr.run(jmr.outputs(place), emit, engine="inline")
    {'a': [4], 'b': [2]}
    """
    __tracebackhide__ = True
    try:
        return _found(place)
    except BaseException as error:
        hide_ours(error)
        raise


def _found(place: Any) -> Written:
    if not isinstance(place, str | os.PathLike) or not isinstance(os.fspath(place), str):
        raise ArgumentTypeError(
            f"place must be what a job's out= named, a path or a URL, not {describe(place)} ({type(place).__name__})"
        )
    named = place_named(os.fspath(place))
    manifest = manifest_of(named)
    join = "{}/{}".format if is_url(named) else os.path.join
    items = [(join(shown(named), part.name), part.n_keys) for part in manifest.parts]
    return Written(whole_path(named), manifest, items, stats=Stats(n_keys=manifest.n_keys))
