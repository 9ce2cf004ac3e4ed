"""What Tab offers on the magics' lines, asked of a real IPython's completer, with jedi and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter

import jmr
from jmr.notebook.completion import Asked
from jmr.progress.report import Report
from jmr.session import running as session_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from IPython.core.interactiveshell import InteractiveShell

MAPREDUCE_OPTIONS = ["--workers", "--n-partitions", "--max-attempts", "--on-error", "--checkpoint", "--out"]
DEFINITIONS = """
import string
docs, n, _hidden = {}, 4, 5
def count(key, value): pass
class Words: pass
"""


@pytest.fixture(params=[True, False], ids=["jedi", "no jedi"])
def ip(shell: InteractiveShell, request, tmp_path, monkeypatch) -> Iterator[InteractiveShell]:
    """A shell with some names, in a folder with some task files."""
    monkeypatch.chdir(tmp_path)
    for name in ("triangular.py", "my tasks.py", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "tasks").mkdir()
    shell.Completer.use_jedi = request.param
    shell.run_cell(DEFINITIONS)
    yield shell
    shell.reset(new_session=False)


def offered(ip: InteractiveShell, code: str) -> list[str]:
    """What the cell would be after each completion; the cursor is at the |, or at the end."""
    cursor = code.index("|") if "|" in code else len(code)
    with provisionalcompleter():
        found = list(ip.Completer.completions(code.replace("|", ""), cursor))
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("%%mapreduce --", ["--source", "--mapfn", "--combinefn", "--reducefn", "--no-reduce", "--final", "--workers"]),
        ("%%mapreduce counts --w", ["--workers"]),
        ("%mapreduce docs count --", MAPREDUCE_OPTIONS),
        ("%mapreduce docs count --workers 2 --max-attempts n --", ["--n-partitions", "--on-error", "--checkpoint"]),
        ("%mapreduce docs count ", ["Words", "count", "--workers"]),
        ("%%mapreduce ", ["--source"]),
    ],
)
def test_options_are_offered_in_their_order_and_each_once(ip, code, first):
    assert offered(ip, code)[: len(first)] == first


@pytest.mark.parametrize(
    ("code", "all_of_them"),
    [
        ("%%mapreduce --on-error ", ["raise", "skip"]),
        ("%%mapreduce --on-error s", ["skip"]),
        ("%%mapreduce --on-error=s", ["skip"]),
        ("x = %mapreduce docs count --on-error ", ["raise", "skip"]),
        ("%%mapreduce --engine ", ["inline", "dask", "ray", "spark"]),
        ("%%mapreduce --workers ", ["n"]),
        ("%%mapreduce --source ", ["count", "docs", "n"]),
        ("%%mapreduce --source d", ["docs"]),
        ("%%mapreduce --mapfn ", ["Words", "count"]),
        ("%%mapreduce --reducefn s", ["string"]),
        ("%%mapreduce d", ["docs"]),
        ("%mapreduce docs c", ["count"]),
    ],
)
def test_values_are_offered_where_they_belong_and_nothing_else(ip, code, all_of_them):
    assert offered(ip, code) == all_of_them


def test_what_the_cell_will_define_is_offered_first(ip):
    body = "\nrows = {1: 2}\ndef letters(key, value):\n    inner = 1\n"
    assert offered(ip, f"%%mapreduce --source |{body}")[:2] == ["rows", "letters"]
    assert offered(ip, f"%%mapreduce --mapfn |{body}") == ["letters", "Words", "count"]


def test_task_files_are_offered_to_the_line_magic(ip):
    assert offered(ip, "%mapreduce t") == ["tasks/", "triangular.py"]
    assert offered(ip, "%mapreduce my") == ['"my tasks.py"']
    assert offered(ip, "%mapreduce ./tri") == ["./triangular.py"]


def test_directories_are_offered_for_a_checkpoint(ip):
    assert offered(ip, "%%mapreduce --checkpoint t") == ["tasks/"]


def test_commands_of_jmr_are_offered(ip):
    assert offered(ip, "%jmr ") == ["status", "workers", "listen", "jobs", "cancel", "stop"]
    assert offered(ip, "%jmr l") == ["listen"]
    assert offered(ip, "%jmr listen ") == ["--new-token"]


def test_jobs_that_run_are_offered_to_be_cancelled(ip, monkeypatch):
    monkeypatch.setattr(session_running, "running_jobs", lambda: [Report("words"), Report("sums"), Report("words")])
    assert offered(ip, "%jmr cancel ") == ["words", "sums"]
    assert offered(ip, "%jmr cancel w") == ["words"]


def test_a_cluster_is_offered_as_an_engine(ip, cluster):
    ip.user_ns["mine"] = cluster
    assert offered(ip, "%%mapreduce --engine ") == ["inline", "dask", "ray", "spark", "mine"]


def test_python_is_left_to_ipython(ip):
    if ip.Completer.use_jedi:  # else not every version knows what to do in a magic's line
        assert "items" in offered(ip, "%%mapreduce --source docs.it")
    assert "docs" in offered(ip, "%%mapreduce --source f(do")
    assert "docs" in offered(ip, "%%mapreduce\nx = do")
    assert "--source" not in offered(ip, "x = 1\n%%mapreduce ")


def test_private_names_are_offered_to_who_asks(ip):
    assert offered(ip, "%%mapreduce --source _hid") == ["_hidden"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("%mapreduce", None),
        ("%%mapreduce ", Asked("%%mapreduce", (), "", "")),
        ("%mapreduce f(1, 2", Asked("%mapreduce", (), "f(1, 2", "")),
        ("%mapreduce f(1, ", Asked("%mapreduce", (), "f(1, ", "")),
        ("a, b = %mapreduce 'x y' ", Asked("%mapreduce", ("'x y'",), "", "")),
        ("  %jmr wo", Asked("%jmr", (), "wo", "")),
        ("%time %jmr ", None),
    ],
)
def test_a_line_is_understood_up_to_the_cursor(text, asked):
    assert Asked.at(text, 0, len(text)) == asked


def test_names_that_ipython_put_there_are_not_the_users(ip):
    ip.user_ns["jmr"] = jmr
    assert not {"In", "Out", "exit", "quit", "get_ipython"} & set(offered(ip, "%%mapreduce --source "))
