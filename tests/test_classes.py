"""Classes that travel by value are known in a later process by the identities that they had in an earlier one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jmr
from jmr.codec.classes import class_named
from tests.checkpoints import Calls

#: Twice the same program, so twice the same class: the second process finds what the first has pickled.
PROGRAM = """
import dataclasses, sys
from pathlib import Path
from jmr.codec.classes import identity_of, know_as
from jmr.codec.values import dump, load

class Outer:
    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int

file = Path(sys.argv[1])
if not file.exists():
    assert identity_of(Outer.Point) is None
    blob = b"".join(dump([Outer.Point(1)]))
    identity = identity_of(Outer.Point)
    file.write_bytes(identity.encode() + blob)
else:
    identity, blob = file.read_bytes()[:32].decode(), file.read_bytes()[32:]
    if sys.argv[2] == "known":
        know_as(Outer.Point, identity)
    print(load(blob)[0] == Outer.Point(1), type(load(blob)[0]) is Outer.Point)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("known", "same"), [("known", "True True\n"), ("unknown", "False False\n")])
def test_a_class_that_is_known_by_its_old_identity_is_the_same(tmp_path: Path, known: str, same: str) -> None:
    for said in ("", same):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "blob"), known],
            env={**os.environ, "PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == (said, "")


def test_a_class_that_travels_by_name_needs_no_identity() -> None:
    assert class_named("tests.test_classes", "Path") is None
    assert class_named("pathlib", "Path") is None


CLASSES = """
import collections, dataclasses, sys
from typing import Generic, TypeVar
import jmr
from tests.checkpoints import alone, note
KEPT, CALLS, CHANGED, CODE = sys.argv[1:]
T = TypeVar("T")
Point = Twin = Sent = None

def make(*bases):
    @dataclasses.dataclass(frozen=True, order=True)
    class Made(*bases):
        x: int
        n = 0
        def __post_init__(self):
            type(self).n += 1
    return Made

exec(CODE)

def mapfn(key, large):
    note(CALLS, key)
    yield large[1] if type(large) is tuple else Point(5), (key, Twin)

def reducefn(point, values):
    return point, [key for key, _ in values]

def source():
    for key, large in alone([(0, 0), (1, int(CHANGED)), (2, 2)]):
        yield key, (large, Sent(5)) if Sent else large

def run(**options):
    found = jmr.run(source(), mapfn, reducefn, n_partitions=1, progress=False, **options)
    return [(key, value, type(key), type(value[0])) for key, value in found.items()]

found = run(checkpoint=KEPT, workers=2)
CALLS = "/dev/null"
assert found == run(engine="inline"), found
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("Point = make()", "1"),
        ("Point = make(Generic[T])", "1"),
        ("Point = collections.namedtuple('Place', 'x')", "1"),
        ("Sent = collections.namedtuple('Sent', 'x')", "1"),
        ("Point, Twin = make(), make()", "012"),  # nobody can say which of them was which
        ("Sent = make()", "012"),  # no function leads to it
    ],
)
def test_keys_of_a_class_of_an_earlier_process_are_of_this_one_s(tmp_path: Path, code: str, again: str) -> None:
    calls = Calls(tmp_path / "calls")
    for changed, mapped in (("1", "012"), ("7", again)):
        done = subprocess.run(
            [sys.executable, "-c", CLASSES, str(tmp_path / "kept"), calls.path, changed, code],
            env={**os.environ, "PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(calls.take()) == list(mapped)
