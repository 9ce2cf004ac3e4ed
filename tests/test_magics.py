"""The magics, in a real IPython shell; jobs run inline where it does not matter who runs them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import jmr
from jmr.coordinator.status import SlotStatus, WorkerStatus
from jmr.engines import cluster as engines_cluster
from jmr.notebook import commands
from jmr.notebook.line import words
from jmr.progress.report import Report
from jmr.session import calling
from jmr.session import preview as session_preview
from jmr.session import running as session_running
from tests.shells import plain

if TYPE_CHECKING:
    pass

COUNT_WORDS = """
source = {"a.txt": "the cat the dog", "b.txt": "the end"}

def mapfn(name, text):
    for word in text.split():
        yield word, 1

def reducefn(word, ones):
    return sum(ones)
"""
COUNTS = {"the": 3, "cat": 1, "dog": 1, "end": 1}


def run(ip: InteractiveShell, cell: str) -> Any:
    """The cell's value."""
    result = ip.run_cell(cell, store_history=True)
    result.raise_error()
    return result.result


def refused(ip: InteractiveShell, cell: str) -> str:
    """What a cell that cannot be right is told."""
    with pytest.raises(UsageError) as caught:
        run(ip, cell)
    return str(caught.value)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What the shell printed, without colours."""
    return plain("".join(capsys.readouterr()))


@pytest.fixture
def called(monkeypatch) -> list[tuple[Any, dict[str, Any]]]:
    """The session's calls: notes and arguments."""
    calls = []
    real = calling.run_with_notes

    def run_with_notes(notes, **arguments):
        calls.append((list(notes), arguments))
        return real(notes, **arguments | {"engine": "inline"})

    monkeypatch.setattr(calling, "run_with_notes", run_with_notes)
    return calls


# %%mapreduce


def test_a_cell_defines_a_job_and_its_result_is_the_cells_value(ip):
    assert list(run(ip, "%%mapreduce" + COUNT_WORDS).items()) == list(COUNTS.items())


def test_a_name_takes_the_result_and_the_cell_has_no_value(ip):
    assert run(ip, "%%mapreduce counts --engine inline" + COUNT_WORDS) is None
    assert ip.user_ns["counts"] == COUNTS
    assert isinstance(ip.user_ns["counts"], jmr.Result)


def test_what_the_cell_defines_stays_defined(ip):
    run(ip, "%%mapreduce --engine inline" + COUNT_WORDS)
    assert run(ip, "sum(map(len, source.values())), reducefn('x', [1, 2])") == (22, 3)


def test_parts_of_earlier_cells_are_used_and_told(ip, called):
    run(ip, COUNT_WORDS)
    run(ip, "%%mapreduce\ndef mapfn(name, text):\n    yield name, len(text)")
    notes, arguments = called[0]
    assert notes == ["source and reducefn from earlier cells"]
    assert arguments["source"] == ip.user_ns["source"]


def test_a_job_whose_parts_are_all_its_own_has_no_notes(ip, called):
    run(ip, "%%mapreduce" + COUNT_WORDS)
    run(ip, "%%mapreduce" + COUNT_WORDS)
    assert [notes for notes, _ in called] == [[], []]


def test_one_inherited_part_is_singular_and_three_are_listed(ip, called):
    run(ip, COUNT_WORDS)
    run(ip, "%%mapreduce\nsource = {}\nfrom operator import add as mapfn")
    run(ip, "%%mapreduce\n1")
    assert [notes for notes, _ in called] == [
        ["reducefn from an earlier cell"],
        ["source, mapfn and reducefn from earlier cells"],
    ]


@pytest.mark.parametrize(
    "binding",
    [
        "reducefn = sum_up",
        "def reducefn(k, vs): return 1",
        "from operator import itemgetter as reducefn",
        "for reducefn in [sum_up]: pass",
        "with open('/dev/null') as reducefn: pass\nreducefn = sum_up",
        "globals()['reducefn'] = lambda k, vs: 1",
        "def define():\n    global reducefn\n    reducefn = lambda k, vs: 1\ndefine()",
        "%time reducefn = lambda k, vs: 1",
        "if (reducefn := sum_up): pass",
    ],
)
def test_every_way_to_bind_a_name_counts_as_this_cells(ip, called, binding):
    run(ip, COUNT_WORDS + "sum_up = reducefn")
    run(ip, f"%%mapreduce\n{binding}\nsource = {{}}")
    assert called[0][0] == ["mapfn from an earlier cell"]


def test_a_name_that_is_only_used_is_not_this_cells(ip, called):
    run(ip, COUNT_WORDS)
    run(ip, "%%mapreduce\nn = len(source)\n[mapfn for reducefn in ()]\ndef f(source): mapfn = 1")
    assert called[0][0] == ["source, mapfn and reducefn from earlier cells"]


def test_combinefn_and_final_of_earlier_cells_do_not_count(ip, called):
    run(ip, COUNT_WORDS + "combinefn = final = lambda *args: 1 / 0")
    run(ip, "%%mapreduce\n1")
    assert not {"combinefn", "final"} & set(called[0][1])


def test_combinefn_and_final_of_this_cell_count(ip):
    run(
        ip,
        "%%mapreduce --engine inline"
        + COUNT_WORDS
        + "combinefn = reducefn\nseen = []\ndef final(k, v): seen.append(k)",
    )
    assert ip.user_ns["seen"] == sorted(COUNTS)


def test_an_option_names_what_an_earlier_cell_defined(ip, called):
    run(ip, COUNT_WORDS + "adds = reducefn\ndef shows(k, v): pass\nfinal = combinefn = 'not these'")
    run(ip, "%%mapreduce --combinefn adds --final shows --source {'x': 'a  b'} --mapfn (lambda k, v: [(v, 1)])\n1")
    notes, arguments = called[0]
    assert notes == ["reducefn from an earlier cell"]
    assert arguments["combinefn"] is ip.user_ns["adds"]
    assert arguments["final"] is ip.user_ns["shows"]
    assert arguments["source"] == {"x": "a  b"}


def test_an_option_may_name_what_this_cell_defines(ip):
    assert run(
        ip, "%%mapreduce --mapfn letters --no-reduce\nsource = {1: 'ab'}\ndef letters(k, v): return [(c, k) for c in v]"
    ) == {
        "a": [1],
        "b": [1],
    }


def test_no_reduce_leaves_an_earlier_reducefn_out(ip, called):
    run(ip, COUNT_WORDS)
    assert run(ip, "%%mapreduce --no-reduce\n1")["the"] == [1, 1, 1]
    assert called[0][0] == ["source and mapfn from earlier cells"]


def test_without_any_reducefn_the_values_are_lists(ip):
    assert run(ip, "%%mapreduce --engine inline\nsource = {1: 2}\ndef mapfn(k, v): return [(k, v)]") == {1: [2]}


def test_options_reach_the_job_as_arguments(ip, called):
    run(ip, "n = 3")
    numbers = "--workers n --n-partitions 2*4 --max-attempts 1"
    line = f'{numbers} --on-error skip --name "word count" --no-speculate --no-progress'
    run(ip, f"%%mapreduce counts {line}{COUNT_WORDS}")
    arguments = {name: value for name, value in called[0][1].items() if name not in ("source", "mapfn", "reducefn")}
    assert arguments == {
        "workers": 3,
        "n_partitions": 8,
        "max_attempts": 1,
        "on_error": "skip",
        "name": "word count",
        "speculate": False,
        "progress": False,
    }


def test_a_checkpoint_is_a_path_with_quotes_or_without(ip, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(ip, f"%%mapreduce --checkpoint ~/kept --no-progress{COUNT_WORDS}")
    run(ip, "%mapreduce source mapfn reducefn --checkpoint '~/kept, too' --no-progress")
    for name in ("kept", "kept, too"):
        assert (tmp_path / name / "journal").exists()


def test_out_is_a_path_with_quotes_or_without(ip, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(ip, f"%%mapreduce counts --out ~/counts --no-progress{COUNT_WORDS}")
    run(ip, "again = %mapreduce source mapfn reducefn --out '~/counts, too' --engine inline --no-progress")
    for variable, name in (("counts", "counts"), ("again", "counts, too")):
        assert next(iter(ip.user_ns[variable])) == str(tmp_path / name / "part-00000.jsonl")
        assert (tmp_path / name / "_manifest.json").exists()


def test_the_job_is_called_after_the_name(ip, called):
    run(ip, "%%mapreduce counts" + COUNT_WORDS)
    assert called[0][1]["name"] == "counts"


def test_a_given_cluster_is_an_engine(ip, called):
    run(ip, "mine = object()")
    run(ip, "%%mapreduce --engine mine" + COUNT_WORDS)
    assert called[0][1]["engine"] is ip.user_ns["mine"]


def test_magic_lines_and_shell_lines_work_in_the_cell(ip, called):
    run(ip, "%%mapreduce\nnames = !echo a b\n%time t = 1\nsource = {1: names[0]}\nmapfn = lambda k, v: [(v, k)]")
    assert called[0][1]["source"] == {1: "a b"}


def test_the_cells_last_expression_is_not_shown(ip, capsys):
    run(ip, "%%mapreduce x --engine inline" + COUNT_WORDS + "'an expression'")
    assert "an expression" not in shown(capsys)


def test_future_imports_hold_for_the_rest_of_the_cell(ip):
    run(
        ip,
        "%%mapreduce x --engine inline\nfrom __future__ import annotations\ndef typed(x: nothing): pass" + COUNT_WORDS,
    )
    assert ip.user_ns["typed"].__annotations__ == {"x": "nothing"}


# What cannot be right


def test_a_missing_source_is_told_with_what_to_write(ip):
    assert refused(ip, "%%mapreduce\ndef mapfn(k, v): pass") == (
        "%%mapreduce: there is no source: define source in this cell or an earlier one, "
        "or name it: %%mapreduce --source docs"
    )


def test_a_missing_mapfn_is_told_with_what_to_write(ip):
    assert "define mapfn in this cell or an earlier one, or name it" in refused(ip, "%%mapreduce\nsource = {}")


def test_a_keyword_is_no_name_for_the_result(ip):
    assert refused(ip, "%%mapreduce class\n1") == (
        "%%mapreduce: the result cannot be stored as 'class': write a variable's name"
    )
    assert "cannot be stored as '2x'" in refused(ip, "%%mapreduce 2x\n1")


def test_the_result_does_not_take_the_place_of_a_part(ip):
    assert "takes source, mapfn and reducefn from the cell, not from its line" in refused(ip, "%%mapreduce source\n1")


def test_unknown_options_are_told_with_where_to_look(ip):
    assert refused(ip, "%%mapreduce --wrong\n1") == (
        "%%mapreduce: unrecognized arguments: --wrong. %%mapreduce? shows what it takes."
    )


def test_unknown_words_are_told_with_what_may_have_been_meant(ip):
    assert ". Options are written with dashes. %%mapreduce?" in refused(ip, "%%mapreduce --on_error skip\n1")
    assert ". An expression with blanks needs brackets around it. %" in refused(ip, "%%mapreduce r lambda k\n1")
    assert refused(ip, "%%mapreduce --workers four\nsource = {}\ndef mapfn(k, v): pass") == (
        "%%mapreduce --workers: there is no 'four': define it in the cell, or run the cell that does"
    )
    assert refused(ip, "%%mapreduce --engine spork\nsource = {}\ndef mapfn(k, v): pass").startswith(
        "%%mapreduce --engine (inline, dask, ray, spark, or a jmr.Cluster, a Dask Client, a SparkSession, an "
        "Executor): there is no 'spork'"
    )


def test_names_that_are_not_there_are_told(ip):
    assert "there is no 'nosuch'" in refused(ip, "%%mapreduce --source nosuch" + COUNT_WORDS)


def test_what_is_no_expression_is_told(ip):
    assert "'{1:' is not a Python expression" in refused(ip, "%%mapreduce --source {1:" + COUNT_WORDS)


def test_reducefn_and_no_reduce_contradict_each_other(ip):
    assert "contradict" in refused(ip, "%%mapreduce --no-reduce --reducefn max" + COUNT_WORDS)


def test_wrong_options_are_told_before_the_cell_runs(ip):
    refused(ip, "%%mapreduce class\nran = True")
    assert "ran" not in ip.user_ns


def test_awaiting_outside_a_function_is_refused_in_a_sentence(ip):
    said = refused(ip, "%%mapreduce\nran = True\nawait something()")
    assert said == (
        "%%mapreduce: line 3 awaits outside a function, and a magic's cell cannot: await in a cell before this one."
    )
    assert "ran" not in ip.user_ns


# Errors of the cell itself


def error_shown(ip: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    assert not ip.run_cell(cell, store_history=True).success
    return shown(capsys)


def test_an_error_shows_the_cells_own_line_and_no_frame_of_ours(ip, capsys):
    said = error_shown(ip, capsys, "%%mapreduce\n\n\nx = 1\ny = x / 0")
    n = len(ip.user_ns["In"]) - 1
    assert f"Cell In[{n}], line 5" in said
    assert "----> 5 y = x / 0" in said
    assert "jmr/notebook" not in said
    assert "NameError" not in said


def test_blank_lines_before_the_magic_do_not_shift_the_numbers(ip, capsys):
    said = error_shown(ip, capsys, "\n\n%%mapreduce\n\ny = 1 / 0")
    assert "line 5" in said
    assert "----> 5 y = 1 / 0" in said


def test_a_syntax_error_is_shown_as_ipython_shows_it(ip, capsys):
    said = error_shown(ip, capsys, "%%mapreduce\nran = 1\n\ny = = 0")
    assert re.search(r"Cell In\[\d+\], line 4\s+y = = 0\s+\^\s+SyntaxError: invalid syntax", said)
    assert "Traceback" not in said
    assert "ran" not in ip.user_ns


def test_a_return_outside_a_function_is_a_syntax_error_too(ip, capsys):
    assert "SyntaxError: 'return' outside function" in error_shown(ip, capsys, "%%mapreduce\nreturn 1")


def test_a_failing_mapfn_shows_its_own_line_of_the_cell(ip, capsys):
    said = error_shown(ip, capsys, "%%mapreduce\nsource = {1: 0}\ndef mapfn(k, v):\n    yield k, 1 / v")
    assert "----> 4     yield k, 1 / v" in said
    assert "mapfn raised ZeroDivisionError" in said
    assert not re.search(r"jmr/(notebook|session|engines|codec|tasks)", said)


# %mapreduce


def test_the_line_magic_is_an_expression(ip):
    run(ip, COUNT_WORDS)
    run(ip, "counts = %mapreduce source mapfn reducefn --engine inline")
    assert ip.user_ns["counts"] == COUNTS


def test_the_line_magic_takes_expressions_with_blanks(ip):
    run(ip, "lists = %mapreduce {'a b': 1} (lambda k, v: [(k, v)]) --engine inline")
    assert ip.user_ns["lists"] == {"a b": [1]}


def test_the_line_magic_sees_local_names(ip):
    run(ip, "def f(docs):\n    m = lambda k, v: [(v, k)]\n    r = %mapreduce docs m --engine inline\n    return r")
    assert run(ip, "f({1: 2})") == {2: [1]}


def test_the_line_magic_says_what_is_missing(ip):
    assert "%mapreduce: the following arguments are required: mapfn" in refused(ip, "%mapreduce {}")


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("", []),
        ("  a   b ", ["a", "b"]),
        ("f(1, 'x  y') g", ["f(1, 'x  y')", "g"]),
        ('--name "it\'s" b', ["--name", '"it\'s"', "b"]),
        (r"'a\' b' c", [r"'a\' b'", "c"]),
        ("{1: [2, (3, 4)]} x", ["{1: [2, (3, 4)]}", "x"]),
        ("f(1, 2", ["f(1, 2"]),
        ("f(')', 1) b", ["f(')', 1)", "b"]),
    ],
)
def test_a_line_is_cut_where_python_would(line, cut):
    assert words(line) == cut


# %jmr


class FakeCluster:
    """Two slots that do as they are told."""

    address = None

    def __init__(self) -> None:
        self.closed = False

    def hosts(self) -> list[WorkerStatus]:
        return [
            WorkerStatus.here([SlotStatus("local/1", "idle"), SlotStatus("local/10", "words: map-4", is_busy=True)])
        ]

    def close(self) -> None:
        self.closed = True


def test_jmr_shows_what_each_slot_does(ip, capsys, monkeypatch):
    monkeypatch.setattr(engines_cluster, "default_cluster", FakeCluster)
    run(ip, "%jmr")
    run(ip, "%jmr status")
    assert shown(capsys) == "2 slots\n  local/1   idle\n  local/10  words: map-4\n" * 2


def test_jmr_says_when_nothing_runs(ip, capsys, monkeypatch):
    monkeypatch.setattr(engines_cluster, "default_cluster", lambda: None)
    run(ip, "%jmr")
    run(ip, "%jmr stop")
    assert shown(capsys) == (
        "No slots run: the next job starts them, or %jmr workers N.\nThere are no slots to stop.\n"
    )


def test_jmr_sets_the_number_of_slots(ip, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(engines_cluster, "resize", asked.append)
    run(ip, "%jmr workers 4")
    assert asked == [4]
    assert shown(capsys) == "4 slots for this kernel's jobs.\n"


def test_jmr_stops_the_slots(ip, capsys, monkeypatch):
    cluster = FakeCluster()
    monkeypatch.setattr(engines_cluster, "default_cluster", lambda: cluster)
    run(ip, "%jmr stop")
    assert cluster.closed


@pytest.mark.parametrize(
    "line", ["workers", "workers -1", "workers many", "begin", "status now", "listen a b", "listen --new"]
)
def test_jmr_says_what_it_understands(ip, line):
    assert refused(ip, f"%jmr {line}") == (
        f"%jmr {line}: write %jmr status, %jmr workers N, %jmr listen, %jmr listen ADDRESS, %jmr jobs, "
        "%jmr cancel NAME, or %jmr stop"
    )


def test_jmr_says_what_a_misspelt_command_may_mean(ip):
    assert refused(ip, "%jmr Wokers 4").startswith("%jmr Wokers 4: did you mean %jmr workers 4? Else write %jmr status")


def test_jmr_lists_the_jobs_that_run(ip, capsys, monkeypatch):
    reports = [
        Report("counts", started=98.0, n_records=5, n_records_total=10),
        Report("sums", started=90.0, n_records=9, reduce_began=98.5, n_reduce_tasks=8, n_reduce_tasks_done=3),
        Report("k", started=25.0, is_waiting=True),
    ]
    monkeypatch.setattr(session_running, "running_jobs", lambda: reports)
    monkeypatch.setattr(commands, "time", SimpleNamespace(monotonic=lambda: 100.0))
    run(ip, "%jmr jobs")
    assert [re.split("  +", line) for line in shown(capsys).splitlines()] == [
        ["counts", "map", "50% · 5 / 10 records · 2.5 records/s · about 2 s left", "2 s"],
        ["sums", "reduce", "38% · 3 / 8 tasks · 2 tasks/s · about 2 s left", "10 s"],
        ["k", "map · waiting for a worker to join", "1 min 15 s"],
    ]
    monkeypatch.setattr(session_running, "running_jobs", list)
    run(ip, "%jmr jobs")
    assert shown(capsys) == "No jobs run.\n"


def test_jmr_cancels_the_jobs_of_a_name_and_no_other(ip, capsys):
    gate = threading.Event()

    def submit(name):
        reached = threading.Event()

        def source():
            yield 1, 1
            reached.set()
            gate.wait()
            yield 2, 2

        job = jmr.submit(source(), lambda key, value: [(key, value)], engine="inline", progress=False, name=name)
        assert reached.wait(20)
        return job

    first, second, other = submit("my words"), submit("my words"), submit("sums")
    run(ip, "%jmr cancel words")
    assert shown(capsys) == "No job of the name words runs. These do: my words, sums.\n"
    run(ip, "%jmr cancel my words")
    assert shown(capsys) == "Cancelled 2 jobs of the name my words.\n"
    gate.set()
    for job in (first, second):
        with pytest.raises(jmr.JobCancelled):
            job.result()
    assert other.result() == {1: [1], 2: [2]}
    run(ip, "%jmr cancel 'my words'")
    assert shown(capsys) == "No jobs run.\n"


@pytest.mark.slow
def test_listening_elsewhere_says_that_nobody_can_join_where_it_was(ip, capsys, cluster):
    run(ip, "%jmr listen 127.0.0.1:0")
    first = cluster.address
    assert "any more" not in shown(capsys)
    run(ip, "%jmr listen 127.0.0.1:0")
    assert cluster.address != first
    assert f"\n\nNobody can join at {first} any more. Workers that have joined there stay.\n" in shown(capsys)


# Modules beside the notebook


@pytest.mark.slow
def test_an_edited_module_is_reloaded_here_and_in_slots(ip, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    helper = tmp_path / "helper_for_autoreload.py"
    helper.write_text("def add(value):\n    return value + 1\n")
    run(ip, "%load_ext autoreload\n%autoreload 2")
    run(ip, "import helper_for_autoreload as helper\nfrom helper_for_autoreload import add")
    job = "jmr.run({1: 1}, lambda k, v: [(k, (helper.add(v), add(v)))], progress=False), helper.add(1), add(1)"
    try:
        assert run(ip, job) == ({1: [(2, 2)]}, 2, 2)
        for much in (10, 200):
            helper.write_text(f"def add(value):\n    return value + {much}\n")
            assert run(ip, job) == ({1: [(1 + much, 1 + much)]}, 1 + much, 1 + much)
    finally:
        run(ip, "%autoreload 0\n%unload_ext autoreload")
        sys.modules.pop("helper_for_autoreload", None)  # what has been imported is shipped, in tests that follow too


# The extension


def test_loading_twice_is_harmless(ip, capsys):
    run(ip, "%load_ext jmr")
    run(ip, "%reload_ext jmr")
    assert run(ip, "%%mapreduce --engine inline" + COUNT_WORDS) == COUNTS
    assert len([each for each in ip.Completer.custom_matchers if "jmr" in each.matcher_identifier]) == 1


def test_unloading_takes_everything_away_and_loading_brings_it_back(ip, capsys):
    run(ip, "%unload_ext jmr")
    try:
        assert [each for each in ip.Completer.custom_matchers if "jmr" in each.matcher_identifier] == []
        for cell in ("%mapreduce a b", "%%mapreduce\n1", "%jmr"):
            with pytest.raises(UsageError, match="not found"):
                run(ip, cell)
    finally:
        run(ip, "%load_ext jmr")
    assert run(ip, "%%mapreduce --engine inline" + COUNT_WORDS) == COUNTS


def test_several_magics_share_a_notebook(ip, called):
    run(ip, "%%mapreduce counts" + COUNT_WORDS)
    run(ip, "%%mapreduce lengths\nsource = counts\ndef mapfn(word, n):\n    yield len(word), n")
    run(ip, "again = %mapreduce lengths.items() (lambda k, v: [(v, k)])")
    assert ip.user_ns["counts"] == COUNTS
    assert ip.user_ns["lengths"] == {3: 6}
    assert ip.user_ns["again"] == {6: [3]}
    assert [arguments["name"] for _, arguments in called[:2]] == ["counts", "lengths"]


# --preview


@pytest.fixture
def previewed(monkeypatch) -> list[dict[str, Any]]:
    """What was to be previewed."""
    asked = []

    def preview(source, mapfn, reducefn=None, **options):
        asked.append({"source": source, "mapfn": mapfn, "reducefn": reducefn} | options)
        return "the preview"

    monkeypatch.setattr(session_preview, "preview", preview)
    return asked


@pytest.mark.parametrize(
    ("line", "n"),
    [
        ("--preview", 5),
        ("--preview counts", 5),
        ("counts --preview", 5),
        ("--preview 3 counts", 3),
        ("counts --preview 3", 3),
        ("--workers 2 --preview", 5),
    ],
)
def test_preview_takes_the_place_of_the_job(ip, called, previewed, line, n):
    assert run(ip, f"%%mapreduce {line}{COUNT_WORDS}") == "the preview"
    assert called == []
    assert "counts" not in ip.user_ns
    (asked,) = previewed
    assert asked["n"] == n
    assert asked["workers"] == (2 if "2" in line else None)
    assert asked["source"] is ip.user_ns["source"]


def test_the_line_magic_previews_too(ip, previewed, tmp_path):
    run(ip, COUNT_WORDS)
    assert run(ip, "%mapreduce source mapfn reducefn --preview") == "the preview"
    (tmp_path / "squares.py").write_text("source = {2: 3}\ndef mapfn(k, v): yield k, v * v")
    assert run(ip, f"%mapreduce {tmp_path / 'squares.py'} --preview 1") == "the preview"
    assert [asked["n"] for asked in previewed] == [5, 1]
    assert previewed[1]["source"] == {2: 3}


def test_a_preview_shows_the_first_records_all_the_way(ip):
    seen = run(ip, "%%mapreduce --preview 1" + COUNT_WORDS)
    assert seen.results == {"the": 2, "cat": 1, "dog": 1}
    run(ip, "def final(word, count): raise AssertionError")
    assert run(ip, "%mapreduce source mapfn reducefn --preview").results == COUNTS


def test_a_preview_of_no_number_is_told(ip, previewed):
    run(ip, COUNT_WORDS)
    assert refused(ip, "%%mapreduce --preview=many\n1") == "--preview takes a number of records, not 'many'"


@pytest.mark.parametrize(
    ("question", "answers"),
    [
        (
            "%%mapreduce?",
            [
                "\n    %%mapreduce [NAME] [options]\n",
                "\n    %%mapreduce counts --workers 4\n    source = {",
                "\n        for word in text.split():\n",
                "\n    NAME              store the result here",
                "\n    --on-error WHAT   raise, or skip",
                "\n    --preview [N]     do not run the job",
            ],
        ),
        (
            "%mapreduce?",
            [
                "\n    [variable =] %mapreduce source mapfn [reducefn] [options]\n",
                "\n    counts = %mapreduce documents mapfn reducefn",
                "\n    --engine ENGINE   inline: one plain loop in the kernel, for %debug; ",
            ],
        ),
        ("%jmr?", ["\n    %jmr workers N            have N slots", "\n    %jmr listen ADDR[:PORT]   let it"]),
    ],
)
def test_help_reads_well(ip, capsys, monkeypatch, question, answers):
    monkeypatch.setattr("IPython.core.page.page", lambda text, *args, **kw: print(text["text/plain"]))
    run(ip, question)
    said = shown(capsys)
    for answer in answers:
        assert answer in said
    assert "mapreduce_line" not in said
    assert max(map(len, said.splitlines()[:-1])) <= 115


def test_loading_the_extension_imports_no_widgets_and_no_engine():
    code = (
        "import sys; from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell(); "
        "before = set(sys.modules); shell.run_line_magic('load_ext', 'jmr'); print(*set(sys.modules) - before)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.split())
    assert "jmr.notebook.magics" in loaded
    assert not loaded & {"ipywidgets", "cloudpickle", "tornado", "jmr.session.calling"}


def test_an_error_of_ours_shows_no_frame_of_ours(ip, capsys):
    ip.run_cell("import jmr\njmr.run({1: 2}, lambda k, v: 5, engine='inline')")
    shown = plain(capsys.readouterr().out)
    assert "ContractError" not in shown
    assert "mapfn returned 5 (int)" in shown
    assert "jmr.run(" in shown
    assert "running.py" not in shown
    ip.run_cell("jmr.run({1: 2}, 5)")
    shown = capsys.readouterr().out
    assert "mapfn must be a function" in shown
    assert "running.py" not in shown


def test_every_way_to_bind_a_name_counts():
    from jmr.notebook.cell import _names_bound_by

    text = """
import a.b, c as d
from e import f
g = h, (i, *j) = 1, (2, 3)
for k in (): pass
with open("x") as l: m: int = 1
try: pass
except ValueError as n: o += 1
def p(no): nor_this = 1
class q: nope = 1
[r for s in () if (t := 1)]
lambda u: u
match v:
    case [w, *x]: pass
    case {"k": y, **z}: pass
"""
    assert _names_bound_by(text) == set("adfghijklmnopqtwxyz")
