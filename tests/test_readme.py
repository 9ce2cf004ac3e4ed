"""The README tells the truth: its code runs, what it names is there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import jmr

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text()


def script() -> str:
    """The README's Python blocks on the lines where they stand; `expression  # value` has become an assertion."""
    lines = [""] * README.count("\n")
    for block in re.finditer(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        code = block[1].splitlines()
        for statement in ast.parse(block[1]).body:
            expression, _, value = code[statement.end_lineno - 1].partition("  # ")
            if isinstance(statement, ast.Expr) and is_literal(value):
                code[statement.end_lineno - 1] = f"_is = {expression}; assert _is == {value}, _is"
        first = README.count("\n", 0, block.start(1))
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return False
    return True


@pytest.mark.slow
def test_the_code_of_the_readme_runs_and_gives_what_its_comments_say(tmp_path):
    code = tmp_path / "readme.py"
    code.write_text(script())
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [sys.executable, code],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert script().count("assert _is") > 3


def rooms_in(text: str) -> list[str]:
    return re.findall(r"^ *([a-z]+)  +\S", text, re.MULTILINE)


def test_the_architecture_names_every_room_in_the_package_s_own_order():
    entries = [path for path in (CHECKOUT / "jmr").iterdir() if path.is_dir() or path.suffix == ".py"]
    rooms = {path.stem for path in entries if not path.name.startswith("_")}
    (architecture,) = re.findall(r"^## Architecture\n.*?^```\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert set(rooms_in(architecture)) == rooms
    assert rooms_in(architecture) == rooms_in(jmr.__doc__.partition("room by room")[2])


def test_the_release_notes_open_with_this_version():
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    notes = README.partition("\n## Release notes\n")[2]
    assert notes.lstrip().startswith(f"### {version}\n")


def test_every_link_into_the_checkout_leads_somewhere():
    targets = re.findall(r"\]\((?!https?://|#)([^)]+)\)", README)
    assert targets
    assert [target for target in targets if not (CHECKOUT / target).exists()] == []


def test_every_error_in_the_table_can_be_caught_and_every_other_one_is_there():
    table = README.partition("\n## Errors that you may meet\n")[2].partition("\n## ")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    public = {name for name in jmr.__all__ if name.endswith("Error") or name == "JobCancelled"}
    assert told == public - {"JmrError", "FunctionError"}
