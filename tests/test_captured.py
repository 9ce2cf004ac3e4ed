"""Functions that capture much: which variable it is, in the summary each time, in a warning once."""

from __future__ import annotations

import functools
import linecache
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jmr
from jmr.codec.weight import heaviest
from jmr.engines import weight
from jmr.engines.weight import remark
from tests.shells import ipython

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = np.zeros(1_500_000)
HERE = ("cell.py", 3, "__main__")


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    weight._told.clear()
    yield
    weight._told.clear()


def test_the_path_goes_through_helpers_partials_and_closures() -> None:
    names = ["x" * 2_000_000]

    def helper() -> int:
        return len(names)

    mapfn = functools.partial(lambda words, key, value: helper(), "y" * 3_000_000)
    found = heaviest({"mapfn": mapfn, "reducefn": len}, 1_000_000)
    assert [path for path, _ in found] == ["mapfn -> argument 0", "mapfn -> its function -> helper -> names"]
    assert [round(n_bytes / 1e6) for _, n_bytes in found] == [3, 2]


def test_what_two_functions_share_is_told_once_and_what_is_small_never() -> None:
    large, small = "x" * 2_000_000, "y" * 1_000

    def mapfn(key: Any, value: Any) -> Any:
        return large, small

    def reducefn(key: Any, values: Any) -> Any:
        return large

    assert [path for path, _ in heaviest({"mapfn": mapfn, "reducefn": reducefn}, 100_000)] == ["mapfn -> large"]


def test_a_function_that_travels_by_its_name_carries_nothing() -> None:
    assert heaviest({"mapfn": np.mean, "reducefn": None}, 1_000_000) == []


def test_the_same_functions_are_warned_of_once_and_noted_each_time() -> None:
    def job() -> Any:
        table = "x" * 12_000_000
        return lambda key, value: table

    with pytest.warns(UserWarning, match=r"^mapfn -> table is 12.0 MB: captured by the job's functions, so") as caught:
        note = remark({"mapfn": job(), "reducefn": None}, 12_000_100, HERE)
    assert note == "mapfn -> table: 12.0 MB captured"
    assert (caught[0].filename, caught[0].lineno) == ("cell.py", 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert remark({"mapfn": job(), "reducefn": None}, 12_000_100, HERE) == note
    with pytest.warns(UserWarning, match="what they capture"):  # another size: something else by now
        remark({"mapfn": lambda key, value: None, "reducefn": None}, 99_000_000, HERE)


def with_argument(name: str) -> Any:
    return functools.partial(lambda key, value, **much: None, **{name: "x" * 12_000_000})


def decorated(function: Any) -> Any:
    return lambda key, value: function(key, value)


def with_table() -> Any:
    table = "x" * 12_000_000
    return lambda key, value: table


def with_words() -> Any:
    words = "x" * 12_000_000
    return lambda key, value: words


class Called:
    """A mapfn that is an object."""

    def __init__(self, name: str) -> None:
        setattr(self, name, "x" * 12_000_000)

    def __call__(self, key: Any, value: Any) -> Any:
        return None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (with_argument("table"), with_argument("words")),
        (functools.partial(with_table()), functools.partial(with_words())),
        (decorated(with_table()), decorated(with_words())),
        (Called("table"), Called("words")),
    ],
    ids=["arguments of a partial", "functions of a partial", "functions in a decorator", "attributes of an object"],
)
def test_functions_that_look_alike_from_outside_are_each_warned_of(one: Any, other: Any) -> None:
    for mapfn in (one, other):
        with pytest.warns(UserWarning, match="is 12.0 MB"):
            remark({"mapfn": mapfn}, 12_000_100, HERE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        remark({"mapfn": one}, 12_000_100, HERE)


def test_a_submitted_job_is_warned_of_where_it_was_submitted(cluster) -> None:
    with pytest.warns(UserWarning, match="^mapfn -> TABLE is 12.0 MB") as caught:
        jmr.submit({1: 2}, lambda k, v: [(k, len(TABLE))], progress=False).result()
    assert caught[0].filename == __file__
    assert "jmr.submit(" in linecache.getline(__file__, caught[0].lineno)


def test_a_job_with_a_large_table_says_so_in_its_summary_and_at_the_users_line(capsys) -> None:
    with ipython() as ip:
        ip.user_ns.update(jmr=jmr, table=TABLE)
        with pytest.warns(UserWarning, match="make it the source, or part of it") as caught:
            ip.run_cell("%%mapreduce sums --workers 2\nsource = {1: 2}\ndef mapfn(k, v):\n    yield k, len(table)")
        assert re.match(r"<ipython-input|.*ipykernel", caught[0].filename)
        assert ip.user_ns["sums"] == {1: [1_500_000]}


def test_a_small_job_is_not_looked_at(monkeypatch) -> None:
    monkeypatch.setattr(weight, "remark", lambda *args: pytest.fail("looked at"))
    assert jmr.run({1: 2}, lambda k, v: [(k, v)], progress=False) == {1: [2]}
