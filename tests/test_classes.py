"""Classes that travel by value are known in a later process by the identities that they had in an earlier one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jmr
from jmr.codec.classes import class_named

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
