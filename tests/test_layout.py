"""The house's plan: a module imports only from rooms above it, and pure rooms do no I/O."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import jmr

HOME = Path(jmr.__file__).parent
ROOMS = [
    "tracebacks",
    "errors",
    "codec",
    "urls",
    "sinks",
    "plan",
    "sources",
    "tasks",
    "result",
    "progress",
    "scheduler",
    "wire",
    "links",
    "shuffle",
    "worker",
    "checkpoint",
    "launch",
    "coordinator",
    "interrupts",
    "engines",
    "views",
    "session",
    "notebook",
    "cli",
]
#: What a room may not import, from the standard library or elsewhere.
IMPURE = {"asyncio", "multiprocessing", "os", "pathlib", "select", "selectors", "signal", "socket", "subprocess"}
IMPURE |= {"tempfile", "threading", "tornado"}
CLOCKS = {"random", "time", "datetime"}
PURE = {
    "errors": (IMPURE | CLOCKS) - {"os"},
    "plan": IMPURE | CLOCKS,
    "sources": (IMPURE | CLOCKS) - {"os"},
    "tasks": IMPURE | {"random"},
    "result": IMPURE | CLOCKS,
    "scheduler": IMPURE | CLOCKS | {"pickle", "cloudpickle"},
    "wire": IMPURE | CLOCKS | {"pickle", "cloudpickle"},
}
FILES = sorted(HOME.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "jmr" else {node.module or ""}
            )
            found |= names
    return found


def room(path: Path) -> str:
    return path.relative_to(HOME).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_module_imports_only_from_rooms_above_its_own(path: Path) -> None:
    if path == HOME / "__init__.py":
        return
    here = ROOMS.index(room(path))
    for name in imports(path):
        if name.startswith("jmr."):
            assert ROOMS.index(name.split(".")[1]) <= here, f"{room(path)} imports {name}, a room below it"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in PURE], ids=lambda path: str(path.relative_to(HOME)))
def test_a_pure_room_does_no_io(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & PURE[room(path)]


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "codec"], ids=lambda path: str(path.relative_to(HOME)))
def test_only_codec_pickles(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "cloudpickle"}


def test_every_room_is_in_the_plan() -> None:
    assert {room(path) for path in FILES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_package_says_first_what_one_calls() -> None:
    """`jmr?` shows its docstring."""
    calls = re.findall(r"^ {4}\$? ?([%\w.-]+)", (jmr.__doc__ or "").partition("room by room")[0], re.MULTILINE)
    others = ("load_ipython_extension", "unload_ipython_extension")
    functions = {f"jmr.{name}" for name in jmr.__all__ if name.islower() and name not in others}
    assert functions | {"jmr.Cluster", "jmr.last"} == {name for name in calls if name.startswith("jmr.")}
    assert [name for name in calls if name.startswith("%")] == ["%load_ext", "%%mapreduce", "%mapreduce", "%jmr"]


def test_the_package_lists_its_rooms_in_this_order() -> None:
    listed = [
        line.split()[0] for line in (jmr.__doc__ or "").splitlines() if line.startswith("    ") and "  " in line.strip()
    ]
    assert [name for name in listed if name in ROOMS] == ROOMS
