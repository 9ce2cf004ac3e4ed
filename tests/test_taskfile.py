"""Task files: through jmr.run_file, the line magic and the command."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import jmr
from jmr.session.python2 import hint, old_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Write = Callable[..., Path]

TRIANGULAR = """
source = dict(zip(range(5), range(5)))

def mapfn(k, v):
    for i in range(v + 1):
        yield k, i

def reducefn(k, v):
    return sum(v)
"""
FINAL = """
def final(key, value):
    print(key, value)
"""
SUMS = {0: 0, 1: 1, 2: 3, 3: 6, 4: 10}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a task file, or another file beside it."""

    def write(text: str, name: str = "task.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture(autouse=True)
def paths_and_modules_stay() -> Iterator[None]:
    before = list(sys.path), sys.modules.get("helper")
    yield
    assert sys.path == before[0]
    sys.modules.pop("helper", None)


def run(path: Any, **options: Any) -> jmr.Result:
    return jmr.run_file(path, **{"workers": 2, "progress": False} | options)


def refused(path: Any, error: type[Exception] = jmr.TaskFileError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        run(path, **options)
    return str(caught.value)


# jmr.run_file


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_task_file_gives_the_result_of_its_job(write: Write, engine: Any) -> None:
    result = run(write(TRIANGULAR), engine=engine)
    assert list(result.items()) == list(SUMS.items())
    assert isinstance(result, jmr.Result)


def test_final_is_called_here_in_sorted_order(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run(write(TRIANGULAR.replace("zip(range(5), range(5))", "{3: 3, 1: 1}") + FINAL))
    assert capsys.readouterr().out == "1 1\n3 6\n"


def test_a_path_may_be_a_str_and_reducefn_may_be_left_out(write: Write) -> None:
    path = write("source = [(1, 2), (1, 3)]\ndef mapfn(k, v): return [(k, v)]\nreducefn = None")
    assert run(str(path)) == {1: [2, 3]}
    assert run(os.path.relpath(path), engine="inline") == {1: [2, 3]}


def test_a_combiner_counts(write: Write) -> None:
    path = write(TRIANGULAR + "\ndef combinefn(k, v):\n    return sum(v)")
    assert run(path) == SUMS


def test_the_file_runs_once_and_in_this_process_only(write: Write) -> None:
    path = write(
        """
        import os
        with open(__file__ + ".log", "a") as log:
            log.write(f"{os.getpid()} {__name__}\\n")
        if __name__ == "__main__":
            raise SystemExit("this is no script")
        source = [(i, i) for i in range(20)]
        def mapfn(k, v): yield "who", os.getpid()
        def reducefn(k, v): return set(v)
        """
    )
    pids = run(path)["who"]
    assert path.with_suffix(".py.log").read_text() == f"{os.getpid()} __task__\n"
    assert os.getpid() not in pids


def test_the_working_directory_stays_the_callers(write: Write) -> None:
    path = write("import os\nsource = {1: os.getcwd()}\ndef mapfn(k, v): yield v, os.getcwd()")
    assert run(path) == {os.getcwd(): [os.getcwd()]}


POINTS = """
    from __future__ import annotations
    import collections, dataclasses, enum, functools

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 0

    class Box:
        def __init__(self, value): self.value = value

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    Pair = collections.namedtuple("Pair", "a b")

    @functools.cache
    def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)

    source = [(i, Point(i)) for i in range(200)]

    def mapfn(k, point):
        yield Point(k % 2), Box(point)
        yield Colour(k % 2 + 1), Pair(fib(k % 10), fib)

    def reducefn(key, values):
        return values, all(isinstance(each, (Box, Pair)) for each in values)
    """


@pytest.mark.parametrize("engine", [None, "inline"])
def test_classes_of_the_file_come_back_as_what_they_are_here(write: Write, engine: Any) -> None:
    result = run(write(POINTS), engine=engine)
    task = sys.modules["__task__"]
    assert list(result) == [task.Point(0), task.Colour.RED, task.Point(1), task.Colour.BLUE]
    boxes, in_slot = result[task.Point(1)]
    assert in_slot
    assert {type(box) for box in boxes} == {task.Box}
    assert [box.value for box in boxes] == [task.Point(i) for i in range(1, 200, 2)]
    pairs, _ = result[task.Colour.RED]
    assert {type(pair) for pair in pairs} == {task.Pair}
    assert pairs[3].a == pairs[3].b(6) == 8
    assert pickle.loads(pickle.dumps(boxes[0])).value == task.Point(1)


def test_a_result_of_the_files_classes_is_the_source_of_another_job(write: Write) -> None:
    result = run(write(POINTS))
    again = jmr.run(result, lambda key, value: [(key, len(value[0]))], workers=2, progress=False)
    assert list(again.items()) == [(key, [100]) for key in result]


def test_an_edited_task_file_runs_as_it_is_now(write: Write) -> None:
    text = "class Box: size = {0}\nsource = [(i, i) for i in range(9)]\ndef mapfn(k, v): yield Box.size, Box()"
    for size in (1, 22, 333):
        result = run(write(text.format(size)))
        assert list(result) == [size]
        assert {type(box) for box in result[size]} == {sys.modules["__task__"].Box}


HELPED = """
    from helper import word
    source = dict.fromkeys(range(9))
    def mapfn(k, v):
        import helper
        yield word(), helper.Word(helper.word())
    def reducefn(k, v):
        return v
    """
HELPER = """
    class Word(str): pass
    def word(): return {0!r}
    """


@pytest.mark.parametrize("engine", [None, "inline"])
def test_modules_beside_the_file_are_imported_and_anew_when_edited(write: Write, engine: Any) -> None:
    path = write(HELPED)
    for word in ("one", "three", "eleven"):
        write(HELPER.format(word), "helper.py")
        result = run(path, engine=engine)
        assert result == {word: [word] * 9}
        assert {type(each) for each in result[word]} == {sys.modules["helper"].Word}


@pytest.mark.parametrize("engine", [None, "inline"])
def test_each_task_file_gets_the_module_beside_it(write: Write, engine: Any) -> None:
    for word in ("one", "two"):
        write(HELPED, f"{word}/task.py")
        old = write(HELPER.format(word), f"{word}/helper.py")
        os.utime(old, (1_000_000.0, 1_000_000.0))
    for word in ("one", "two", "one"):
        assert run(old.parent.parent / word / "task.py", engine=engine) == {word: [word] * 9}


def test_a_module_of_the_notebooks_by_that_name_is_left_alone(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = types.ModuleType("helper")
    mine.__file__ = str(write("", "elsewhere/helper.py"))
    monkeypatch.setitem(sys.modules, "helper", mine)
    write(HELPER.format("one"), "helper.py")
    assert run(write(HELPED)) == {"one": ["one"] * 9}
    assert sys.modules["helper"] is mine


def test_a_module_that_the_notebook_imported_from_there_is_the_same_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(HELPER.format("one"), "helper.py")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        mine = importlib.import_module("helper")
    (word,) = set(map(type, run(write(HELPED))["one"]))
    assert word is mine.Word


def test_a_module_that_only_the_job_imports_is_found(write: Write) -> None:
    write(HELPER.format("late"), "helper.py")
    path = write("source = {1: 2}\ndef mapfn(k, v):\n    import helper\n    yield k, helper.Word('x')")
    assert run(path) == {1: ["x"]}


def test_the_job_is_called_as_the_file_is(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    run(write(TRIANGULAR, "triangular.py"), progress=True)
    assert capsys.readouterr().err.startswith("triangular: 5 records")


def test_beside_the_file_is_where_a_link_leads(write: Write, tmp_path: Path) -> None:
    write(HELPER.format("one"), "real/helper.py")
    (tmp_path / "link.py").symlink_to(write(HELPED, "real/task.py"))
    assert run(tmp_path / "link.py") == {"one": ["one"] * 9}


def test_a_task_file_is_no_job_for_a_slot(write: Write) -> None:
    path = write("import jmr\nsource = {1: __file__}\ndef mapfn(k, v): return [(k, jmr.run_file(v))]")
    with pytest.raises(jmr.MapError, match=r"NestedRunError\('jmr.run_file was called inside a slot"):
        run(path)


# What can be wrong with a file


def test_a_file_that_cannot_be_read_is_told(write: Write, tmp_path: Path) -> None:
    assert refused(tmp_path / "nosuch.py") == f"There is no file {tmp_path}/nosuch.py (looked in {tmp_path})."
    assert "is a directory: name the file" in refused(tmp_path)
    assert "cannot be read: " in refused(write("", "task.py") / "beneath")
    assert "cannot be read: embedded null" in refused("a\0b.py")


def test_a_path_that_is_none_is_told() -> None:
    assert "path must be a task file's path, not 5 (int)" in refused(5, jmr.ArgumentTypeError)


def test_text_that_cannot_be_decoded_is_told(write: Write) -> None:
    path = write("")
    path.write_bytes("# ä\n\n\nname = 'ä'".encode("latin-1"))
    assert "cannot be decoded" in refused(path)
    path.write_bytes(b"# coding: nosuch\n")
    assert "Save it as UTF-8, or say in its first line what it is" in refused(path)
    path.write_bytes(b"# coding: latin-1\nsource = {'\xe4': 1}\ndef mapfn(k, v): yield k, v")
    assert run(path) == {"ä": [1]}


def test_what_the_file_does_not_define_is_told(write: Write) -> None:
    assert "defines no source. A task file needs one, such as:\n    source = {" in refused(write("def mapfn(): pass"))
    assert "defines no mapfn" in refused(write("source = {}"))
    assert "mapfn in " in (said := refused(write("source = {}\nmapfn = 5")))
    assert said.endswith("is 5 (int), and must be a function.")
    assert "final in " in refused(write("source = {}\ndef mapfn(k, v): pass\nfinal = 'print'"))


def test_options_that_there_are_not_are_told(write: Write) -> None:
    path = write(TRIANGULAR)
    assert "jmr.run_file has no option 'wrong'; it has engine, " in refused(path, jmr.ArgumentTypeError, wrong=1)
    assert "mapfn comes from the task file" in refused(path, jmr.ArgumentTypeError, mapfn=print)


def test_a_syntax_error_is_told_as_python_does(write: Write) -> None:
    said = refused(path := write("source = {}\ndef mapfn(k, v:\n    pass"))
    assert f'is not Python 3:\n  File "{path}", line 2\n    def mapfn(k, v:\n             ^\nSyntaxError: ' in said


def test_what_the_file_raises_comes_out_with_its_own_lines_only(write: Write) -> None:
    path = write("def f():\n    raise LookupError('no data')\nf()")
    with pytest.raises(LookupError, match="no data") as caught:
        run(path)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [(frame.filename, frame.line) for frame in frames if frame.filename != __file__] == [
        (str(path), "f()"),
        (str(path), "raise LookupError('no data')"),
    ]


def test_what_a_function_raises_shows_the_files_lines(write: Write) -> None:
    path = write("source = {1: 0}\ndef mapfn(k, v):\n    return 1 / v")
    with pytest.raises(jmr.MapError, match="ZeroDivisionError") as caught:
        run(path)
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.filename, frame.lineno, frame.line) == (str(path), 3, "return 1 / v")


# Python 2


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ("print key, value", "print(key, value)"),
        ("print 'a: %s; b' % key,  # why", "print('a: %s; b' % key, end=\" \")  # why"),
        ("print >>f, key, value", "print(key, value, file=f)"),
        ("print >>f, 'a' + 'b'", "print('a' + 'b', file=f)"),
        ("if key: print value; print", "if key: print(value); print"),
        ("print 'a %s' % (key,\n    value)", "print('a %s' % (key,\n    value))"),
        ("print lambda x: x, key", "print(lambda x: x, key)"),
        ("exec code", "exec(code)"),
        ("exec code in scope", "exec(code, scope)"),
        ("raise ValueError, 'a, b'", "raise ValueError('a, b')"),
        ("raise ValueError, 'a', tb", "raise ValueError('a').with_traceback(tb)"),
        ("key = `value` + `key`", "key = repr(value) + repr(key)"),
        ("if key <> value: pass", "if key != value: pass"),
        ("mode = 0755", "mode = 0o755"),
        ("n = 10L", "n = 10"),
        ('s = ur"x"', 's = r"x"'),
    ],
)
def test_a_python_2_line_is_shown_as_python_3(write: Write, old: str, now: str) -> None:
    ((number, text, rewritten),) = [(line.number, line.text, line.now) for line in old_lines(f"1\n{old}\n2")]
    assert (number, text, rewritten) == (2, old, now)
    assert old_lines(now) == []


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 takes it, with another meaning")
def test_an_old_except_is_shown_as_python_3() -> None:
    (line,) = old_lines("try:\n    pass\nexcept (KeyError, ValueError), e:\n    pass")
    assert (line.number, line.now) == (3, "except (KeyError, ValueError) as e:")


@pytest.mark.parametrize(
    "text",
    ["print(1)", "print", "x = 1.05e-07, 00, 0x1f", "def f(:", "print = 5\nprint >> 2 if 0 else 1", "'`<>`'", ""],
)
def test_what_is_no_python_2_is_not_called_so(text: str) -> None:
    assert old_lines(text) == []


def test_a_python_2_file_is_told_with_its_line_and_the_others(write: Write) -> None:
    path = write("source = {}\n\ndef final(key, value):\n    print key, value\n    print 'x'\n    print `key`")
    assert refused(path) == (
        f"{path}, line 4 is Python 2 (a print statement):\n    print key, value\n"
        "In Python 3 it reads:\n    print(key, value)\nSo are lines 5, 6."
    )


def test_arguments_taken_apart_are_explained(write: Write) -> None:
    said = refused(write("f = lambda (a, b): a"))
    assert said.endswith("take it whole, and do that in the function's body.")
    assert "indent with blanks only" in refused(write("if 1:\n        a = 1\n\tb = 2"))


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("source = xrange(5)", "xrange was Python 2's; Python 3 has range."),
        ("source = {}.iteritems()", "iteritems was Python 2's; Python 3 has items."),
        ("import urllib2", "urllib2 was Python 2's; Python 3 has urllib.request."),
        ("from itertools import izip", "izip was Python 2's; Python 3 has zip."),
    ],
)
def test_names_that_only_python_2_had_get_a_note(write: Write, text: str, note: str) -> None:
    with pytest.raises((NameError, AttributeError, ImportError)) as caught:
        run(write(text))
    assert caught.value.__notes__ == [note]
    assert hint(NameError("name 'nosuch' is not defined")) is None


def test_such_names_in_mapfn_get_a_note_too(write: Write) -> None:
    with pytest.raises(jmr.MapError) as caught:
        run(write("source = {1: 2}\ndef mapfn(k, v):\n    return [(i, i) for i in xrange(v)]"))
    assert caught.value.__notes__ == ["xrange was Python 2's; Python 3 has range."]


def test_a_python_2_module_beside_the_file_gets_a_note(write: Write) -> None:
    write("print 'hello'", "helper.py")
    with pytest.raises(SyntaxError) as caught:
        run(write("import helper"))
    assert caught.value.__notes__ == [
        "line 1 is Python 2 (a print statement):\n    print 'hello'\nIn Python 3 it reads:\n    print('hello')"
    ]


# %mapreduce


def cell(shell: InteractiveShell, text: str) -> Any:
    outcome = shell.run_cell(text)
    outcome.raise_error()
    return outcome.result


def test_the_line_magic_runs_a_task_file(
    shell: InteractiveShell, write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(TRIANGULAR + FINAL, "triangular.py")
    monkeypatch.chdir(path.parent)
    for line in ("triangular.py", "--workers 2 triangular.py", f'"{path}"', f"{path} --engine inline --no-progress"):
        result = cell(shell, f"%mapreduce {line}")
        assert (type(result), result) == (jmr.Result, SUMS)
        assert capsys.readouterr().out.startswith("0 0\n1 1\n")
    cell(shell, "sums = %mapreduce triangular.py --name sums --engine inline")
    assert shell.user_ns["sums"] == SUMS
    assert "mapfn" not in shell.user_ns


def test_the_line_magic_expands_home_and_takes_blanks_in_quotes(
    shell: InteractiveShell, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(TRIANGULAR, "my tasks/triangular.py")
    monkeypatch.setenv("HOME", str(path.parent.parent))
    assert cell(shell, '%mapreduce "~/my tasks/triangular.py" --engine inline') == SUMS


def test_an_expression_that_ends_in_py_is_one_where_functions_follow(shell: InteractiveShell) -> None:
    cell(
        shell,
        "import types\nmod = types.SimpleNamespace(py={1: 2})\ndef m(k, v): return [(k, v)]\ndef r(k, v): return v[0]",
    )
    assert cell(shell, "%mapreduce mod.py m --engine inline") == {1: [2]}
    assert cell(shell, "%mapreduce mod.py --engine inline m r") == {1: 2}


def test_a_lonely_source_is_no_task_file(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("%mapreduce {}")
    assert "mapfn (or, alone, a task file: %mapreduce triangular.py)" in capsys.readouterr().err
    shell.run_cell("%mapreduce?")
    assert "%mapreduce triangular.py" in capsys.readouterr().out


def test_a_task_file_that_is_wrong_shows_no_frame_of_ours(
    shell: InteractiveShell, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%colors nocolor")
    capsys.readouterr()
    for text, last in (
        ("print 'hello'", "    print('hello')"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("source = xrange(5)", "xrange was Python 2's; Python 3 has range."),
    ):
        shell.run_cell(f"%mapreduce {write(text)}")
        said = capsys.readouterr().out
        assert said.rstrip().endswith(last)
        assert "taskfile.py" not in said
        assert "magics.py" not in said


# jmr run

MAIN = "import sys; from jmr.cli import main; sys.exit(main())"


def command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own, as the installed one runs."""
    path = os.pathsep.join(filter(None, [str(Path(jmr.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_the_command_alone_says_what_there_is() -> None:
    said = command()
    assert (said.returncode, said.stderr) == (0, "")
    assert "jmr run triangular.py" in said.stdout
    assert command("--help").stdout == said.stdout
    assert command("--version").stdout == f"jmr {jmr.__version__}\n"
    assert "exit code: 0 done" in command("run", "--help").stdout


def test_the_command_says_what_a_misspelt_one_may_mean(write: Write) -> None:
    path = write("", "triangular.py")
    said = command("triangular.py", "--workers", "2")
    assert said.stderr.endswith("jmr: error: did you mean: jmr run triangular.py --workers 2\n")
    assert command("rum", "a b.py").stderr.endswith("jmr: error: did you mean: jmr run 'a b.py'\n")
    assert "Did you mean triangular.py?" in command("run", "triangluar.py", cwd=path.parent).stderr
    assert "Did you mean" not in command("run", "square.py", cwd=path.parent).stderr


INTERRUPTED_WHILE_LOADING = """
import sys
from jmr.cli import main, worker_main
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
sys.exit({call})
"""


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("jmr.cli.command", "main(['run', 'x.py'])"),
        ("jmr.cli.task", "main(['run', 'x.py'])"),
        ("jmr.session.taskfile", "main(['run', 'x.py'])"),
        ("jmr.cli.worker", "worker_main(['localhost'])"),
    ],
)
def test_an_interrupt_while_the_command_is_loaded_ends_it_in_a_line(module: str, call: str) -> None:
    path = os.pathsep.join(filter(None, [str(Path(jmr.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    program = INTERRUPTED_WHILE_LOADING.format(module=module, call=call)
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "jmr: interrupted\n")


@pytest.mark.slow
def test_the_command_prints_what_final_prints_and_progress_on_stderr(write: Write) -> None:
    path = write(TRIANGULAR + FINAL + "\nprint('read')", "triangular.py")
    said = command("run", "triangular.py", "--workers", 2, cwd=path.parent)
    assert (said.returncode, said.stdout) == (0, "0 0\n1 1\n2 3\n3 6\n4 10\n")
    assert said.stderr.startswith("read\n")
    assert "triangular: 5 records -> 5 keys in " in said.stderr


@pytest.mark.slow
def test_the_command_goes_on_from_a_checkpoint(write: Write) -> None:
    folder = write(TRIANGULAR + FINAL, "triangular.py").parent
    said = [command("run", "triangular.py", "--checkpoint", "kept", cwd=folder) for _ in range(2)]
    assert [each.stdout for each in said] == ["0 0\n1 1\n2 3\n3 6\n4 10\n"] * 2
    assert "were kept in kept" not in said[0].stderr
    assert re.search(r"\((\d) of \1 map tasks and (\d) of \2 reduce tasks were kept in kept\)\n", said[1].stderr)


def test_the_command_writes_results_and_says_where(write: Write) -> None:
    folder = write(TRIANGULAR, "triangular.py").parent
    said = [
        command("run", "triangular.py", "--engine", "inline", "--no-progress", "--out", "sums", cwd=folder)
        for _ in range(2)
    ]
    assert (said[0].returncode, said[0].stdout, said[0].stderr) == (0, "'sums/part-00000.jsonl': 5\n", "")
    lines = (folder / "sums" / "part-00000.jsonl").read_text().splitlines()
    assert lines == [f'{{"key": {n}, "value": {n * (n + 1) // 2}}}' for n in range(5)]
    assert (said[1].returncode, said[1].stdout) == (2, "")
    assert said[1].stderr.startswith("jmr: out='sums' holds the output of job 'triangular', 5 keys")


@pytest.mark.slow
def test_prints_of_mapfn_in_slots_are_no_part_of_the_result(write: Write) -> None:
    path = write("source = {'a': 1}\ndef mapfn(k, v):\n    print('mapped')\n    yield k, v\ndef final(k, v): print(k)")
    said = command("run", path, "--no-progress")
    assert (said.returncode, said.stdout) == (0, "a\n")
    assert said.stderr.endswith("] mapped\n")


def quietly(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return command("run", path, "--engine", "inline", "--no-progress", *options)


def test_the_command_prints_a_line_a_key_without_final(write: Write) -> None:
    path = write("source = {'b\\n': 1, (1, 2): None}\ndef mapfn(k, v): yield k, v\ndef reducefn(k, v): return v[0]")
    said = quietly(path)
    assert (said.returncode, said.stdout, said.stderr) == (0, "'b\\n': 1\n(1, 2): None\n", "")


def test_json_is_an_object_or_pairs_and_final_prints_to_stderr(write: Write) -> None:
    said = quietly(write(TRIANGULAR + FINAL), "--json")
    assert json.loads(said.stdout) == [[key, value] for key, value in SUMS.items()]
    assert said.stderr == "0 0\n1 1\n2 3\n3 6\n4 10\n"
    said = quietly(write("source = {'ä': 'b', 'c': None}\ndef mapfn(k, v): yield k, v"), "--json")
    assert json.loads(said.stdout) == {"ä": ["b"], "c": [None]}
    assert quietly(write("source = {}\ndef mapfn(k, v): yield k, v"), "--json").stdout == "{}\n"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("'a'", "{1}", "jmr: The value of key 'a' (list) cannot be JSON: Object of type set"),
        ("'a'", "float('nan')", "jmr: The value of key 'a' (list) cannot be JSON: Out of range float"),
        ("b'a'", "1", "jmr: The key b'a' (bytes) cannot be JSON: Object of type bytes"),
    ],
)
def test_what_json_cannot_hold_is_told_and_nothing_printed(write: Write, key: str, value: str, message: str) -> None:
    path = write(f"source = {{'first': 1, {key}: {value}}}\ndef mapfn(k, v): yield k, v")
    said = quietly(path, "--json")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith(message)


def test_a_failed_job_shows_the_users_lines_and_one_message(write: Write) -> None:
    path = write("source = {1: 0}\ndef mapfn(k, v):\n    return 1 / v")
    said = quietly(path)
    assert (said.returncode, said.stdout) == (1, "")
    assert f'Traceback (most recent call last):\n  File "{path}", line 3, in mapfn\n    return 1 / v\n' in said.stderr
    assert "\njmr: mapfn raised ZeroDivisionError('division by zero') for record key=1" in said.stderr
    assert said.stderr.endswith("\nTo step through it: put breakpoint() there, and run it with --engine inline.\n")
    assert said.stderr.count('  File "') == 1


@pytest.mark.slow
def test_a_failed_job_tells_what_can_be_done_from_a_command_line(write: Write) -> None:
    said = command("run", write("source = {1: 0}\ndef mapfn(k, v):\n    return 1 / v"), "--no-progress")
    assert said.stderr.endswith("\nTo step through it: put breakpoint() there, and run it with --engine inline.\n")
    died = write("import os\nsource = {1: 0}\ndef mapfn(k, v):\n    print('so far', flush=True)\n    os._exit(3)")
    said = command("run", died, "--no-progress")
    assert said.stderr.endswith(
        " MB.\nIt had printed last:\n    so far\nTo look into it: have it print where it is; its last lines are told. "
        "To go on without it: --on-error skip.\n"
    )


def test_a_failing_final_shows_its_line_and_what_it_had_printed(write: Write) -> None:
    said = quietly(path := write(TRIANGULAR + "def final(key, value):\n    print(key, 1 / (key - 2))"))
    assert (said.returncode, said.stdout) == (1, "0 -0.5\n1 -1.0\n")
    assert said.stderr.count('  File "') == said.stderr.count(f'  File "{path}"') == 1
    assert "\njmr: final raised ZeroDivisionError('division by zero') for key=2.\n" in said.stderr


def test_a_file_that_raises_shows_its_lines_only(write: Write) -> None:
    said = quietly(path := write("source = xrange(5)"))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.count('  File "') == said.stderr.count(f'  File "{path}", line 1, in <module>') == 1
    assert said.stderr.endswith("\nxrange was Python 2's; Python 3 has range.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nosuch.py"], "jmr: There is no file nosuch.py (looked in "),
        (["run", "taks.py"], "jmr: There is no file taks.py (looked in "),
        (["task.py", "--workers", "2"], "usage: jmr "),
        (["run"], "usage: jmr run "),
        (["run", "task.py", "--workers", "many"], "usage: jmr run "),
        (["run", "task.py", "--workers", "-1"], "jmr: workers must be from 0 to 10,000, not -1\n"),
        (["run", "old.py"], "jmr: old.py, line 1 is Python 2 (a print statement):\n    print 1\n"),
        (["walk"], "usage: jmr "),
        (["checkpoint"], "usage: jmr checkpoint "),
        (["chekpoint", "ls", "kept"], "usage: jmr "),
    ],
)
def test_a_wrong_call_or_file_exits_with_2(write: Write, arguments: list[str], message: str) -> None:
    write("print 1", "old.py")
    said = command(*arguments, cwd=write(TRIANGULAR).parent)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(message)
    assert "Traceback" not in said.stderr


def test_skipped_records_are_told(write: Write) -> None:
    path = write("source = {i: i for i in range(7)}\ndef mapfn(k, v): yield k, 1 / (v == 3)")
    said = quietly(path, "--on-error", "skip")
    assert (said.returncode, said.stdout) == (0, "3: [1.0]\n")
    first, *records, last = said.stderr.splitlines()
    assert first == "jmr: skipped 6 bad records or groups:"
    assert records[0] == "  map key=0: ZeroDivisionError('division by zero')"
    assert (len(records), last) == (5, "  and 1 more")


@pytest.mark.parametrize("final", ["", "def final(k, v): print(k, v)"])
def test_a_reader_that_has_enough_ends_the_command_quietly(write: Write, final: str) -> None:
    path = write(f"source = {{i: 'x' * 1000 for i in range(500)}}\ndef mapfn(k, v): yield k, v\n{final}")
    reading, writing = os.pipe()
    os.close(reading)
    try:
        said = subprocess.run(
            [sys.executable, "-c", MAIN, "run", path, "--engine", "inline", "--no-progress"],
            env=os.environ | {"PYTHONPATH": str(Path(jmr.__file__).parent.parent)},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writing)
    assert (said.returncode, said.stderr) == (141, "")


@pytest.mark.parametrize("engine", ["inline", "slots"])
def test_an_interrupt_is_one_line(write: Write, engine: str) -> None:
    path = write(
        """
        import signal
        def source():
            yield 1, 2
            signal.raise_signal(signal.SIGINT)
            yield 2, 3
        source = source()
        def mapfn(k, v): yield k, v
        """
    )
    said = command("run", path, "--no-progress", *(["--engine", engine] if engine == "inline" else []))
    assert (said.returncode, said.stdout, said.stderr) == (130, "", "jmr: interrupted\n")
