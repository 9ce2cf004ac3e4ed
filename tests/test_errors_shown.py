"""What a reader sees of an error in IPython: the user's frames and lines, what failed, at which record."""

from __future__ import annotations

import asyncio
import re
import textwrap
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jmr
from jmr import tracebacks
from jmr.codec.failures import raised_from, rebuild
from jmr.errors import without_ours
from jmr.result import BadRecord, BadRecords
from tests.shells import plain

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def shown(ip: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str) -> str:
    """What a failing cell shows, without colours; never anything of ours, or of IPython's."""
    capsys.readouterr()
    assert not ip.run_cell(textwrap.dedent(cell).strip(), store_history=True).success
    said = plain("".join(capsys.readouterr()))
    assert not re.search(r"(jmr|cloudpickle|IPython/core|concurrent|asyncio)/\w+", said), said
    return said


def test_the_users_exception_comes_first_and_the_record_last(ip, capsys):
    said = shown(
        ip,
        capsys,
        """
        def mapfn(key, value):
            return [(key, 2 + 1 / value)]
        jmr.run({"a": 0}, mapfn, progress=False)
        """,
    )
    n = len(ip.user_ns["In"]) - 1
    parts = [
        r"-+\nZeroDivisionError +Traceback \(most recent call last\)",
        rf"Cell In\[{n}\], line 3\b.*",
        r"(?s:.*)----> 3 jmr\.run\(.*",
        rf"Cell In\[{n}\], line 2, in mapfn\(\)",
        r"(?s:.*)----> 2     return \[\(key, 2 \+ 1 / value\)\]",
        r" {30}\^{9}",
        r"(?s:.*)",
        r"ZeroDivisionError: division by zero",
        r"MapError: mapfn raised ZeroDivisionError\('division by zero'\) for record key='a' \(split map-0, .*\)\.",
        r"To step through it here: jmr\.replay\(\), then %debug\.",
    ]
    assert re.fullmatch(r"\n+".join(parts), said.strip()), said
    assert said.count("Traceback") == 1
    assert "direct cause" not in said


def test_the_carets_count_characters_not_bytes(ip, capsys):
    said = shown(ip, capsys, "jmr.run({1: 0}, lambda k, v: [('äöü', 1 / v)], progress=False)")
    *_, line, carets = re.search(r"(?s).*(-> 1 [^\n]*)\n([ ^]*)\n", said).groups()
    line = "---" + line
    assert line[carets.index("^") : len(carets)] == "1 / v"


FAILING = {
    "mapfn": ("jmr.run({{1: 2}}, lambda k, v: {}, engine=engine)", "MapError: mapfn raised", "for record key=1"),
    "combinefn": (
        "jmr.run({{1: 2, 2: 3}}, lambda k, v: [(0, v)], max, combinefn=lambda k, v: {}, engine=engine)",
        "CombineError: combinefn raised",
        "for group key=0",
    ),
    "reducefn": (
        "jmr.run({{1: 2}}, lambda k, v: [(k, v)], lambda k, v: {}, engine=engine)",
        "ReduceError: reducefn raised",
        "for group key=1",
    ),
    "final": (
        "jmr.run({{1: 2}}, lambda k, v: [(k, v)], final=lambda k, v: {}, engine=engine)",
        "FinalError: final raised",
        "for key=1",
    ),
}


@pytest.mark.parametrize("engine", [None, "inline"])
@pytest.mark.parametrize("role", FAILING)
def test_each_function_shows_its_own_line_once(ip, capsys, role, engine):
    cell, told, where = FAILING[role]
    ip.user_ns["engine"] = engine
    said = shown(ip, capsys, cell.format("[][k]"))
    assert said.count("Traceback") == 1
    assert re.search(r"Cell In\[\d+\], line 1, in <lambda>", said)
    assert re.search(r"\n +\^{5}\n", said), "under [][k], not under the line"
    assert f"\n\n{told} IndexError('list index out of range') {where}" in said


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_failing_source_shows_its_own_line(ip, capsys, engine):
    ip.user_ns["engine"] = engine
    said = shown(
        ip,
        capsys,
        """
        def rows():
            yield 1, 2
            raise OSError("the tape broke")
        jmr.run(rows(), lambda k, v: [(k, v)], engine=engine)
        """,
    )
    assert '----> 3     raise OSError("the tape broke")' in said
    assert said.rstrip().endswith("OSError: the tape broke")
    assert said.count("Traceback") == 1


@pytest.mark.parametrize(
    ("how", "link"), [(" from error", "direct cause of"), ("", "During handling of the above exception, another")]
)
def test_what_led_to_it_is_shown_above_it(ip, capsys, how, link):
    said = shown(
        ip,
        capsys,
        f"""
        def mapfn(key, value):
            try:
                return [][key]
            except IndexError as error:
                raise ValueError("no such row"){how}
        jmr.run({{1: 0}}, mapfn, progress=False)
        """,
    )
    assert re.search(rf"(?s)IndexError: list index.*{link}.*ValueError: no such row\n\nMapError: mapfn raised", said)
    assert said.count("Traceback") == 2
    assert re.search(r"-> 3 +return \[\]\[key\]", said)
    assert re.search(r"-> 5 +raise ValueError", said)


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_group_of_exceptions_shows_each_with_its_line(ip, capsys, engine):
    ip.user_ns["engine"] = engine
    said = shown(
        ip,
        capsys,
        """
        def mapfn(key, value):
            errors = []
            for part in value:
                try:
                    1 / part
                except Exception as error:
                    errors.append(error)
            raise ExceptionGroup("bad parts", errors)
        jmr.run({1: [0, "a"]}, mapfn, engine=engine)
        """,
    )
    n = len(ip.user_ns["In"]) - 1
    assert "ExceptionGroup: bad parts (2 sub-exceptions)" in said
    assert said.count(f"|   Cell In[{n}], line 5, in mapfn\n    |     1 / part") == 2
    assert "| ZeroDivisionError: division by zero" in said
    assert "| TypeError: unsupported operand" in said


def test_an_exception_with_an_init_of_its_own_comes_back_as_itself(ip, capsys):
    said = shown(
        ip,
        capsys,
        """
        class BadRow(Exception):
            def __init__(self, row, why):
                super().__init__(f"row {row}: {why}")
                self.row = row
        def mapfn(key, value):
            raise BadRow(key, "too short")
        jmr.run({7: 0}, mapfn, progress=False)
        """,
    )
    assert "\nBadRow: row 7: too short\n\nMapError: mapfn raised BadRow('row 7: too short') for record key=7" in said
    ip.run_cell("try: jmr.run({7: 0}, mapfn, progress=False)\nexcept jmr.MapError as error: cause = error.__cause__")
    assert type(ip.user_ns["cause"]) is ip.user_ns["BadRow"]
    assert ip.user_ns["cause"].row == 7


def test_notes_of_the_users_are_kept(ip, capsys):
    said = shown(
        ip,
        capsys,
        """
        def mapfn(key, value):
            error = ValueError("odd")
            error.add_note("look into the third column")
            raise error
        jmr.run({1: 0}, mapfn, progress=False)
        """,
    )
    assert "ValueError: odd\nlook into the third column\n\nMapError: " in said


def test_the_frames_of_a_module_show_the_lines_of_its_file(ip, capsys, tmp_path, monkeypatch):
    (tmp_path / "halves_for_errors.py").write_text("def half(value):\n    return 1 / value\n")
    monkeypatch.syspath_prepend(tmp_path)
    said = shown(ip, capsys, "import halves_for_errors\njmr.run({1: 0}, lambda k, v: halves_for_errors.half(v))")
    assert f"File {tmp_path}/halves_for_errors.py:2, in half()" in said.replace(str(Path.home()), "~").replace(
        "~", str(Path.home())
    )
    assert "----> 2     return 1 / value\n                   ^^^^^^^^^\n" in said


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_recursion_is_shown_in_a_screenful(ip, capsys, engine):
    ip.user_ns["engine"] = engine
    said = shown(
        ip, capsys, "def deeper(n):\n    return deeper(n + 1)\njmr.run({1: 0}, lambda k, v: deeper(v), engine=engine)"
    )
    assert re.search(r"\[\.\.\. (more of the same|skipping similar frames: deeper)", said)
    assert said.count("\n") < 60
    assert "RecursionError: maximum recursion depth exceeded" in said


def test_a_recursion_of_two_is_cut_in_its_middle(ip, capsys):
    cell = "def ping(n):\n    return pong(n)\ndef pong(n):\n    return ping(n)\njmr.run({1: 0}, lambda k, v: ping(v))"
    assert shown(ip, capsys, cell).count("in ping") <= 20


def test_a_syntax_error_of_eval_is_told_in_words(ip, capsys):
    said = shown(ip, capsys, "jmr.run({1: 0}, lambda k, v: eval('1 +'), progress=False)")
    assert re.search(r"MapError: mapfn raised SyntaxError\('invalid syntax \(<string>, line 1\)'\) for record", said)
    assert "in <lambda>" in said


def test_a_call_that_cannot_be_shows_the_cell_alone(ip, capsys):
    said = shown(ip, capsys, "jmr.run({1: 0}, lambda key: 1, progress=False)")
    assert "TypeError: <lambda>() takes 1 positional argument but 2 were given\n\nMapError: mapfn raised" in said
    assert "\nmapfn is called as mapfn(key, value)." in said


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose", "Docs", "Minimal"])
def test_in_every_mode_the_record_has_a_line_of_its_own(ip, capsys, mode):
    ip.run_line_magic("xmode", mode)
    try:
        said = shown(ip, capsys, "jmr.run({1: 0}, lambda k, v: 1 / v, progress=False)")
        groups = shown(ip, capsys, "def f(k, v):\n    raise ExceptionGroup('g', [KeyError(v)])\njmr.run({1: 0}, f)")
    finally:
        ip.run_line_magic("xmode", "Context")
    assert re.search(r"^ZeroDivisionError: division by zero\n+MapError: mapfn raised", said, re.MULTILINE)
    assert re.search(r"^MapError: mapfn raised ExceptionGroup", groups, re.MULTILINE)


def test_what_cannot_be_pickled_is_told_once(ip, capsys):
    said = shown(ip, capsys, "import threading\nlock = threading.Lock()\njmr.run({1: 2}, lambda k, v: lock)")
    assert said.count("Traceback") == 1
    assert "NotPicklableError: mapfn -> lock cannot be sent to the workers" in said
    assert "----> 3 jmr.run" in said


def test_a_submitted_job_fails_in_the_cell_that_asks_as_often_as_it_asks(ip, capsys):
    ip.run_cell("job = jmr.submit({1: 0}, lambda k, v: 1 / v, progress=False)")
    for _ in range(2):
        said = shown(ip, capsys, "job.result()")
        assert "----> 1 job.result()" in said
        assert said.count("Cell In[") == 2


def test_awaiting_a_failed_job_adds_no_frame_of_asyncios() -> None:
    async def wait() -> None:
        await job

    job = jmr.submit({1: 0}, lambda k, v: 1 / v, progress=False, engine="inline")
    with pytest.raises(jmr.MapError) as caught:
        asyncio.run(wait())
    names = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert names[-3:] == ["wait", "__await__", "<lambda>"]


def test_columns_survive_the_way_back() -> None:
    result = jmr.run({1: 0}, lambda k, v: [(k, 2 + 1 / v)], on_error="skip", progress=False)
    lines = result.errors[0].traceback.splitlines()
    line = next(i for i, text in enumerate(lines) if "2 + 1 / v" in text)
    marks = lines[line + 1]
    assert lines[line][marks.index("~") : len(marks)] == "1 / v"


# Bad records


@pytest.mark.parametrize("engine", [None, "inline"])
def test_bad_records_are_a_line_each_and_say_where_in_which_cell(ip, capsys, engine):
    ip.user_ns["engine"] = engine
    ip.run_cell(
        "import json\n"
        "def mapfn(key, text):\n"
        "    yield key, json.loads(text)\n"
        'texts = {"a": "1", "b": "?" * 1000, "c" * 1000: "{"}\n'
        'result = jmr.run(texts, mapfn, on_error="skip", engine=engine, progress=False)',
        store_history=True,
    ).raise_error()
    n = len(ip.user_ns["In"]) - 1
    capsys.readouterr()
    ip.run_cell("result.errors")
    first, second = capsys.readouterr().out.partition(": ")[2].strip().splitlines()
    assert first == f"map key='b': JSONDecodeError('Expecting value: line 1 column 1 (char 0)') (Cell In[{n}], line 3)"
    assert re.fullmatch(rf"map key='c+\.\.\.: JSONDecodeError\(.*\) \(Cell In\[{n}\], line 3\)", second)
    assert len(second) < 200


@pytest.mark.slow
def test_a_record_that_ended_its_process_is_told_with_how_and_where(ip, capsys):
    ip.run_cell(
        "import ctypes\n"
        "def mapfn(key, value):\n"
        "    ctypes.string_at(value)\n"
        "try: jmr.run({7: 0}, mapfn, max_attempts=1, progress=False)\n"
        "except jmr.SlotDiedError as error: told = str(error)\n"
        "result = jmr.run({7: 0}, mapfn, max_attempts=1, on_error='skip', progress=False)",
        store_history=True,
    ).raise_error()
    n = len(ip.user_ns["In"]) - 1
    capsys.readouterr()
    ip.run_cell("result.errors")
    said = capsys.readouterr().out.partition(": ")[2].strip()
    told = ip.user_ns["told"].partition("\n")[0]
    assert re.search(rf"\(SIGSEGV; .*\), in string_at \(/.*\), called by mapfn \(Cell In\[{n}\], line 3\); peak", told)
    assert said.startswith("map key=7: SlotDiedError: mapfn ended its process once, at record key=7 (split map-0, ")
    assert ": killed by signal 11 (SIGSEGV; C code touched memory that is not its own), in string_at (" in said


def test_of_many_bad_records_twenty_are_shown_and_the_rest_is_counted(ip, capsys):
    many = BadRecords((BadRecord("map", n, n, ValueError("odd"), "Traceback...") for n in range(1000)), n_total=1001)
    ip.user_ns["many"] = many
    ip.run_cell("many")
    lines = capsys.readouterr().out.partition(": ")[2].strip().splitlines()
    assert lines == [*(f"map key={n}: ValueError('odd')" for n in range(20)), "... 981 more; .n_total counts all"]
    ip.run_cell("many[:0], type(many)(many[:20])")
    assert "more" not in capsys.readouterr().out


def test_a_bad_record_is_one_line_however_long_its_value_and_traceback(ip, capsys):
    ip.user_ns["bad"] = BadRecord("map", 7, "x" * 10**6, ValueError("odd\nduck"), "Traceback...\n" * 50)
    ip.run_cell("print(bad)")
    said = capsys.readouterr().out
    assert re.fullmatch(r"BadRecord\(phase='map', key=7, value='x+\.\.\.x+', error=ValueError\('odd.*duck'\)\)\n", said)
    assert len(said) < 300


@pytest.mark.parametrize("engine", [None, "inline"])
def test_the_traceback_of_a_bad_record_names_the_cell(ip, engine):
    ip.user_ns["engine"] = engine
    cell = "result = jmr.run({1: 0}, lambda k, v: 1 / v, on_error='skip', engine=engine, progress=False)"
    ip.run_cell(cell, store_history=True).raise_error()
    n = len(ip.user_ns["In"]) - 1
    (bad,) = ip.user_ns["result"].errors
    assert f"\n  Cell In[{n}], line 1, in <lambda>\n    result = jmr.run" in bad.traceback
    assert "File" not in bad.traceback


# Exceptions, taken apart and made again


class Locked(Exception):
    """Holds what cannot be pickled, and takes two arguments."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
        self.lock = _lock()


def _lock() -> object:
    import threading

    return threading.Lock()


class Forgetful(Exception):
    """Says what it cannot say any more once it has travelled."""

    def __init__(self, text: str, lock: object) -> None:
        super().__init__(text)
        self.lock = lock

    def __str__(self) -> str:
        return f"{self.args[0]} with {type(self.lock).__name__}"


def there_and_back(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return rebuild(raised_from(caught))


def test_attributes_that_cannot_be_pickled_are_left_out() -> None:
    error = Locked("shut", 7)
    error.add_note("a note")
    back = there_and_back(error)
    assert type(back) is Locked
    assert back.__notes__ == ["a note"]
    assert (str(back), back.code, hasattr(back, "lock")) == ("shut", 7, False)


def test_an_exception_that_would_say_something_else_is_stood_in_for() -> None:
    back = there_and_back(Forgetful("shut", _lock()))
    assert type(back) is jmr.RemoteError
    assert str(back) == "Forgetful('shut')"


def test_a_group_keeps_its_members_with_their_frames_and_causes() -> None:
    def fail(error: Exception, cause: Exception | None = None) -> Exception:
        try:
            raise error from cause
        except Exception as caught:
            return caught

    inner = ExceptionGroup("inner", [fail(ValueError("v"), KeyError("k"))])
    back = there_and_back(ExceptionGroup("outer", [fail(Locked("shut", 7)), inner]))
    assert isinstance(back, ExceptionGroup)
    locked, group = back.exceptions
    assert type(locked) is Locked
    assert [frame.name for frame in traceback.extract_tb(locked.__traceback__)] == ["fail"]
    assert isinstance(group, ExceptionGroup)
    assert isinstance(group.exceptions[0].__cause__, KeyError)


def raised_in(code: types.CodeType) -> ValueError:
    """What it raises, with its frame alone."""
    try:
        exec(code)
    except ValueError as error:
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError


@pytest.fixture
def odd(request) -> ValueError:
    """An exception of a frame as C code makes them, or generated code."""
    code = compile("\n\nraise ValueError('odd')", "odd.py", "exec")
    if request.param == "no line":
        return raised_in(code.replace(co_linetable=b""))
    error = raised_in(code)
    return error.with_traceback(types.TracebackType(None, error.__traceback__.tb_frame, request.param, 3))


@pytest.mark.parametrize(("odd", "line"), [("no line", 1), (-1, 3), (10**6, 3)], indirect=["odd"])
def test_a_frame_without_a_place_in_its_code_is_shown_and_travels(ip, odd, line) -> None:
    said = plain("\n".join(tracebacks.shown(odd, without_ours(odd.__traceback__))))
    assert f"File odd.py:{line}" in said or line == 1  # IPython cannot show it without a line
    assert said.endswith("ValueError: odd")
    back = rebuild(raised_from(odd))
    assert [(frame.filename, frame.lineno) for frame in traceback.extract_tb(back.__traceback__)] == [("odd.py", line)]


def test_a_long_recursion_is_a_short_message() -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    try:
        deeper(0)
    except RecursionError as error:
        raised = raised_from(error)
    assert len(raised.frames) > 100
    assert len(set(map(id, raised.frames))) < 10
    assert "Previous line repeated" in "".join(traceback.format_exception(rebuild(raised)))
