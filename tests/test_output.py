"""What workers print, warn and log: read, kept, shown."""

from __future__ import annotations

import ctypes
import io
import itertools
import logging
import os
import pickle
import re
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jmr
from jmr.engines import cluster as engine
from jmr.progress import outlet as outlets
from jmr.progress.log import _ENTRY_BYTES, Log
from jmr.progress.outlet import MOST_LINES, Outlet
from jmr.wire.messages import NOTICE, Printed
from jmr.worker.notices import Hearing, write_to
from jmr.worker.output import Allowance, OutputReader, mark, notice, read_notice
from tests.joiners import Command

#: (job, stream, text)
Piece = tuple[int, int, bytes]


def a_reader(shared: Allowance | None = None) -> OutputReader:
    return OutputReader("local/1", 1, shared or Allowance())


def pieces(printed: list[Printed]) -> list[Piece]:
    """What was passed on, text that follows text joined."""
    joined: list[Piece] = []
    for message in printed:
        (text,) = message.blobs
        assert isinstance(text, bytes)
        if joined and joined[-1][:2] == (message.job, message.stream) and message.stream != NOTICE:
            text = joined.pop()[2] + text
        joined.append((message.job, message.stream, text))
    return joined


def n_lines(printed: list[Printed]) -> int:
    """How many lines there were: those that were passed on, and those that were not."""
    return sum(text.count(b"\n") for _, stream, text in pieces(printed) if stream != NOTICE) + n_hidden(printed)


def n_hidden(printed: list[Printed]) -> int:
    return sum(message.n_hidden for message in printed)


# The supervisor's side


def test_lines_belong_to_the_job_that_was_marked() -> None:
    reader = a_reader()
    assert pieces(reader.feed(mark(1) + b"one\ntw", 0.0)) == [(1, 1, b"one\n")]
    told = pieces(reader.feed(b"o\nthree" + mark(2) + b"four\n", 0.0))
    assert told == [(1, 1, b"two\nthree\n"), (2, 1, b"four\n")]
    assert reader.flush() == []


def test_a_notice_is_taken_out_of_the_line_that_it_came_in() -> None:
    reader = a_reader()
    told = reader.feed(mark(1) + b"half " + notice("UserWarning: odd", "a.py", 3) + b"a line\n", 0.0)
    assert pieces(told) == [(1, NOTICE, b"1\x003\x00a.py\x00UserWarning: odd"), (1, 1, b"half a line\n")]


#: By a name, for what a failure shows.
SEGMENTS = {
    "line": b"one\n",
    "half": b"half",
    "end": b"\n",
    "bar": b"\r 10%\r 20%",
    "separator": b"\x1e",
    "half a mark": b"\x1ejmr",
    "garbage": b"\xff\x00",
    "crlf": b"crlf\r\n",
    "return": b"\r",
    "long": b"x" * 70_000,
    "mark": mark(2),
    "notice": notice("odd"),
    "warning": notice("duck", "a.py", 2),
}


@pytest.mark.slow
@given(st.lists(st.sampled_from(list(SEGMENTS)), max_size=12), st.lists(st.integers(0, 200_000), max_size=12))
def test_it_does_not_matter_where_reads_cut_what_was_printed(names: list[str], cuts: list[int]) -> None:
    data = b"".join(map(SEGMENTS.__getitem__, names))
    in_one = a_reader()
    expected = in_one.feed(data, 0.0) + in_one.flush()
    reader = a_reader()
    told = []
    for start, end in itertools.pairwise(sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})):
        told += reader.feed(data[start:end], 0.0)
    told += reader.flush()
    assert pieces(told) == pieces(expected)


def test_a_mark_or_a_notice_cut_in_half_is_still_one() -> None:
    said = notice("odd duck", "a.py", 3)
    whole = b"a" * 5_000 + mark(7) + b"b\n" + said
    for cut in range(5_000, len(whole)):
        reader = a_reader()
        told = pieces(reader.feed(whole[:cut], 0.0) + reader.feed(whole[cut:], 0.0) + reader.flush())
        assert told == [(0, 1, b"a" * 5_000 + b"\n"), (7, 1, b"b\n"), (7, NOTICE, said.partition(b"\n")[2])]


@pytest.mark.parametrize(
    "garbage", [b"\x1ejmr:\x1e\n", b"\x1ejmr!12\x1e\nshort", b"\x1ejmr:12x", b"\x1e\x1e", b"\x1ejmr!9"]
)
def test_what_only_looks_like_a_mark_is_text(garbage: bytes) -> None:
    reader = a_reader()
    told = pieces(reader.feed(mark(1) + garbage, 0.0) + reader.flush())
    assert told == [(1, 1, garbage.removesuffix(b"\n") + b"\n")]


def test_of_a_progress_bar_the_last_state_is_a_line() -> None:
    reader = a_reader()
    told = reader.feed(b"\r  0%|   |", 0.0)
    for _ in range(10_000):
        told += reader.feed(b"\r 50%|## |", 0.0)
    assert told == []
    told = reader.feed(b"\r100%|###|\nnext\r\na\rb\n", 0.0)
    assert pieces(told) == [(0, 1, b"100%|###|\nnext\nb\n")]


def test_a_line_that_is_too_long_is_cut_and_is_one_line() -> None:
    reader = a_reader()
    told = []
    for _ in range(100):
        told += reader.feed(b"x" * 50_000, 0.0)
    told += reader.feed(b"yz\nnext\n", 0.0)
    assert pieces(told) == [(0, 1, b"x" * 65_536 + b" ... (4934466 bytes more)\nnext\n")]


def test_a_flood_gets_a_burst_and_then_a_rate_and_the_rest_is_counted() -> None:
    reader = a_reader(Allowance(10_240, 1024))
    line = b"x" * 1023 + b"\n"
    told = reader.feed(line * 100, 0.0)
    assert pieces(told) == [(0, 1, line * 74)]  # 64 of its own, 10 that it shares
    (rest,) = reader.flush()
    assert (n_hidden(told), rest.n_hidden, rest.blobs) == (0, 26, [b""])
    assert pieces(reader.feed(line * 100, 1.0)) == [(0, 1, line * 17)]
    (later,) = reader.feed(line, 2.0)
    assert (later.n_hidden, later.blobs) == (83, [line])


def test_another_slots_flood_leaves_a_slot_what_it_always_has() -> None:
    shared = Allowance(10_240, 1024)
    line = b"x" * 1023 + b"\n"
    flooded, quiet = a_reader(shared), a_reader(shared)
    flooded.feed(line * 1000, 0.0)
    assert pieces(quiet.feed(line * 64, 0.0)) == [(0, 1, line * 64)]


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 90)), max_size=20), st.integers(0, 50_000))
def test_what_is_passed_on_and_what_is_counted_make_up_all_lines(floods: list[tuple[int, int]], burst: int) -> None:
    reader = a_reader(Allowance(burst, burst // 10))
    told, n_printed = [], 0
    for second, (n, width) in enumerate(floods):
        told += reader.feed((b"x" * width + b"\n") * n, float(second))
        n_printed += n
    assert n_lines(told + reader.flush()) == n_printed


def test_notices_are_part_of_a_flood() -> None:
    reader = a_reader(Allowance(0, 0))
    told = reader.feed(b"".join(notice(f"record {i}") for i in range(100_000)), 0.0) + reader.flush()
    assert sum(message.stream == NOTICE for message in told) + n_hidden(told) == 100_000
    assert n_hidden(told) > 90_000


def test_a_notice_fits_into_one_write_to_a_pipe() -> None:
    said = notice("\N{SNOWMAN}" * 10_000, "a.py", 3)
    assert len(said) <= 4096
    text, path, line, n = read_notice(said.partition(b"\n")[2])
    assert text.startswith("\N{SNOWMAN}")
    assert text.endswith(" ...")
    assert (path, line, n) == ("a.py", 3, 1)


# The log


def test_the_log_keeps_the_first_and_the_last_and_counts_what_lay_between() -> None:
    log = Log(most_bytes=8 * (9 + _ENTRY_BYTES))
    for i in range(100):
        log.add("local/1", 1, b"line %03d\n" % i)
    assert log.n_hidden == 92
    lines = log.text().splitlines()
    assert lines[:4] == [f"[local/1] line {i:03d}" for i in range(4)]
    assert lines[4] == "... 92 lines are not kept ..."
    assert lines[5:] == [f"[local/1] line {i:03d}" for i in range(96, 100)]


def test_a_log_of_very_many_short_messages_takes_no_more_memory_than_it_may() -> None:
    tracemalloc.start()
    try:
        log = Log(most_bytes=1 << 20)
        for i in range(20_000):
            log.add(f"local/{i % 8}", 1, b"%d\n" % i)
        n_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.9 < n_bytes / (1 << 20) < 1.1


def test_the_log_says_what_a_worker_did_not_pass_on_and_where() -> None:
    log = Log()
    log.add("local/1", 1, b"a\n")
    log.add("local/2", 1, b"b\n", n_hidden=1234)
    log.add("local/2", 1, b"", n_hidden=5)
    assert log.n_hidden == 1239
    assert (
        log.text() == "[local/1] a\n[local/2] ... 1,234 more lines ...\n[local/2] b\n[local/2] ... 5 more lines ...\n"
    )


def test_the_log_survives_pickling_and_goes_on() -> None:
    log = Log()
    log.add("local/1", 2, b"a\xff\n")
    log.add_notice("local/1", "UserWarning: odd")
    copy = pickle.loads(pickle.dumps(log))
    assert not copy.add_notice("local/2", "UserWarning: odd", 2)
    assert copy.text() == "[local/1] a\\xff\n[local/1] UserWarning: odd (2 more like this)\n"
    assert log.text() == "[local/1] a\\xff\n[local/1] UserWarning: odd\n"


def test_a_log_of_endlessly_different_notices_stays_bounded() -> None:
    log = Log(most_bytes=1000)
    for i in range(5_000):
        assert log.add_notice("local/1", f"record {i}")
    assert len(log.text()) < 3000
    assert len(log._notices) == 1_000


# The cell


class Cell(io.StringIO):
    """Remembers each write, and may be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.came = threading.Event()

    def write(self, text: str) -> int:
        self.writes.append(text)
        self.came.set()
        return super().write(text)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """Stands at stdout and at stderr."""
    cell = Cell()
    monkeypatch.setattr(outlets, "sys", type("sys", (), {"stdout": cell, "stderr": cell}))
    return cell


def test_a_label_and_its_line_are_one_write(cell: Cell) -> None:
    outlet = Outlet(Log())
    outlet.put("local/1", 1, b"one\ntwo\n")
    outlet.put("local/2", 2, b"three\n")
    outlet.close()
    assert cell.writes == ["[local/1] one\n[local/1] two\n", "[local/2] three\n"]


def test_what_is_shown_and_what_is_said_make_up_all_lines(cell: Cell) -> None:
    outlet = Outlet(Log())
    for _ in range(30):
        outlet.put("local/1", 1, b"line\n" * 100)
    outlet.close()
    *shown, said = cell.getvalue().splitlines()
    assert len(shown) == MOST_LINES
    assert said == "2,000 more lines: jmr.last.log()"


def test_nobody_is_sent_to_the_log_for_lines_that_it_does_not_have(cell: Cell) -> None:
    log = Log(most_bytes=24 * (500 + _ENTRY_BYTES))
    outlet = Outlet(log)
    for _ in range(30):
        outlet.put("local/1", 1, b"line\n" * 100, n_hidden=1)
    outlet.close()
    said = cell.getvalue().splitlines()[-1]
    assert said == "2,030 more lines: jmr.last.log() has all but 630"
    assert log.text().count("] line\n") == 3_030 - 630


def test_lines_that_are_nowhere_are_counted(cell: Cell) -> None:
    outlet = Outlet(Log())
    outlet.put("local/1", 1, b"line\n", n_hidden=1)
    outlet.close()
    assert cell.getvalue().splitlines() == ["[local/1] line", "1 more line: too many to keep"]


def test_few_lines_that_are_very_long_are_a_flood_as_well(cell: Cell) -> None:
    outlet = Outlet(Log())
    outlet.put("local/1", 1, (b"x" * 50_000 + b"\n") * 30)
    outlet.put("local/1", 1, b"short\n")
    outlet.close()
    *shown, said = cell.getvalue().splitlines()
    assert all(line.endswith("x ...") for line in shown)
    assert len(cell.getvalue()) < outlets.MOST_BYTES + 1000
    assert said == f"{31 - len(shown)} more lines: jmr.last.log()"


def test_a_warning_is_seen_although_a_flood_came_before_it(cell: Cell) -> None:
    outlet = Outlet(Log())
    outlet.put("local/1", 1, b"line\n" * 5_000)
    outlet.put_notice("local/2", "WARNING:root:odd duck", "", 0, 1)
    outlet.close()
    assert "[local/2] WARNING:root:odd duck\n" in cell.writes


def test_a_warning_is_shown_once_with_the_users_line(cell: Cell, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import warnings\n\nwarnings.warn('odd')\n")
    outlet = Outlet(Log())
    for name in ("local/1", "local/2"):
        outlet.put_notice(name, "UserWarning: odd", str(path), 3, 1)
    outlet.close()
    assert cell.writes == [f"[local/1] {path}:3: UserWarning: odd\n[local/1]   warnings.warn('odd')\n"]


def test_whoever_reads_slowly_keeps_nobody_waiting(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def write(text: str) -> int:
        assert go.wait(10)
        return Cell.write(cell, text)

    monkeypatch.setattr(cell, "write", write)
    outlet = Outlet(Log())
    for _ in range(20):
        outlet.put("local/1", 1, b"line\n" * 500)
    assert cell.writes == []
    go.set()
    outlet.close()
    assert cell.getvalue().endswith("\n9,000 more lines: jmr.last.log()\n")


def test_a_progress_line_that_cannot_be_taken_away_costs_no_more_than_what_was_printed_there(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        cell.came.set()
        raise RuntimeError("no terminal any more")

    outlet = Outlet(Log())
    with monkeypatch.context() as patch:
        patch.setattr(outlets, "aside", broken)
        outlet.put("local/1", 1, b"one\n")
        assert cell.came.wait(10)
    outlet.put("local/1", 1, b"two\n")
    outlet.close()
    assert cell.writes == ["[local/1] two\n"]


def refused_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_where_no_thread_can_be_started_all_is_shown_at_the_end(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = Outlet(Log())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused_start)
        outlet.put("local/1", 1, b"one\n")
        outlet.put("local/1", 1, b"two\n")
        assert cell.writes == []
        outlet.close()
    assert cell.writes == ["[local/1] one\n", "[local/1] two\n"]


def test_a_thread_that_cannot_be_started_is_tried_again(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = Outlet(Log())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused_start)
        outlet.put("local/1", 1, b"one\n")
    outlet.put("local/1", 1, b"two\n")
    assert cell.came.wait(10)
    outlet.close()
    assert cell.writes == ["[local/1] one\n", "[local/1] two\n"]


def test_the_first_lines_wait_until_the_jobs_view_is_there(cell: Cell) -> None:
    seen: list[list[str]] = []

    def awaits_view() -> bool:
        seen.append(cell.writes.copy())
        return len(seen) < 4

    outlet = Outlet(Log(), awaits_view, clock=lambda: 0.0)
    outlet.put("local/1", 1, b"one\n")
    assert cell.came.wait(10)
    outlet.put("local/1", 1, b"two\n")
    outlet.close()
    assert seen == [[]] * 4
    assert cell.writes == ["[local/1] one\n", "[local/1] two\n"]


def test_a_view_that_never_comes_holds_nothing_for_long(cell: Cell) -> None:
    outlet = Outlet(Log(), lambda: True, clock=itertools.count(0.0, 0.2).__next__)
    outlet.put("local/1", 1, b"one\n")
    assert cell.came.wait(10)
    outlet.close()


def test_when_the_job_has_ended_its_lines_wait_for_no_view(cell: Cell) -> None:
    outlet = Outlet(Log(), lambda: True, clock=lambda: 0.0)
    outlet.put("local/1", 1, b"one\n")
    outlet.close()
    assert cell.writes == ["[local/1] one\n"]


def test_a_job_that_prints_nothing_has_no_thread(cell: Cell) -> None:
    before = threading.active_count()
    outlet = Outlet(Log())
    assert threading.active_count() == before
    outlet.close()
    assert cell.writes == []


def test_what_comes_too_late_is_in_the_log_alone(cell: Cell) -> None:
    log = Log()
    outlet = Outlet(log)
    outlet.close()
    outlet.put("local/1", 1, b"late\n")
    assert (cell.writes, log.text()) == ([], "[local/1] late\n")


# With slots


def submit(mapfn: Callable[[Any, Any], Any], n_records: int = 1, **options: Any) -> jmr.Job:
    return jmr.submit({i: i for i in range(n_records)}, mapfn, **({"workers": 2, "progress": False} | options))


def test_lines_are_seen_while_the_source_keeps_the_caller_busy(cell: Cell) -> None:
    def source() -> Iterator[tuple[int, int]]:
        yield 0, 0
        assert cell.came.wait(20), "nothing is shown before the next record"
        yield 1, 1

    def mapfn(key: int, value: int) -> None:
        print("record", key)

    jmr.run(source(), mapfn, workers=2, progress=False)
    assert "] record 0\n" in cell.getvalue()


@pytest.mark.slow
def test_a_flood_costs_neither_the_result_nor_memory_and_every_line_is_accounted_for(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        for number in range(200_000):
            print("line", number, "x" * 200)
        return [(key, value)]

    job = submit(mapfn, workers=1)
    assert job.result() == {0: [0]}
    *shown, said = capfd.readouterr().out.splitlines()
    assert 0 < len(shown) <= MOST_LINES
    assert shown[-1].split(maxsplit=2)[1:] == ["line", f"{len(shown) - 1} {'x' * 200}"]
    lines = job.log().splitlines()
    hidden = [int(n.replace(",", "")) for n in re.findall(r"\.\.\. ([\d,]+) (?:more )?lines ", job.log())]
    assert said == f"{200_000 - len(shown):,} more lines: job.log() has all but {sum(hidden):,}"
    assert len(lines) - len(hidden) + sum(hidden) == 200_000
    assert len(job.log()) < 9 << 20


def test_whatever_bytes_come_whole_lines_are_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        for percent in range(0, 101, 10):  # as tqdm does
            print(f"\r{percent:3}%|", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        os.write(1, b"\x00\x80\xfe garbage\n")
        ctypes.CDLL(None).printf(b"from C\n")
        os.system("echo from a child; printf half")
        os.write(1, b" and half\n")
        os.write(1, b"y" * 300_000)
        os.write(1, b"\nend")

    with jmr.Cluster(workers=1):  # no other test's flood counts
        submit(mapfn, workers=1).result()
    out, err = capfd.readouterr()
    assert re.fullmatch(r"\[local/\d\] 100%\|\n", err)
    lines = [line.split("] ", 1)[1] for line in out.splitlines()]
    assert {"\x00\\x80\\xfe garbage", "from C", "from a child", "half and half", "end"} <= set(lines)
    assert ["y" * 4096 + " ..."] == [line for line in lines if line.startswith("y")]


def test_what_a_slot_printed_amid_a_line_when_it_died_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        os.write(2, b"whole\nha")
        warnings.warn("no more", stacklevel=1)
        os.write(2, b"lf")
        os.kill(os.getpid(), 9)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        job = submit(mapfn, max_attempts=1)
        with pytest.raises(jmr.SlotDiedError):
            job.result()
    err = re.sub(r"\[local/\d\] ", "", capfd.readouterr().err)
    assert err.startswith("whole\n")
    assert err.endswith("half\n")
    assert "UserWarning: no more\n" in err


def test_two_jobs_at_once_have_a_log_each(capfd: pytest.CaptureFixture[str]) -> None:
    def printing(word: str) -> Callable[[Any, Any], Any]:
        def mapfn(key: Any, value: Any) -> Any:
            print(word, key)

        return mapfn

    jobs = [submit(printing(word), 200) for word in ("one", "two")]
    for job, word in zip(jobs, ("one", "two"), strict=True):
        job.result()
        lines = [line.split("] ")[1] for line in job.log().splitlines()]
        assert sorted(lines) == sorted(f"{word} {key}" for key in range(200))
    assert len(capfd.readouterr().out.splitlines()) == 400


def test_inline_user_code_prints_itself_and_the_log_is_empty(capfd: pytest.CaptureFixture[str]) -> None:
    job = submit(lambda key, value: print("here"), engine="inline", workers=None)
    job.result()
    assert capfd.readouterr().out == "here\n"
    assert job.log() == ""


@pytest.mark.slow
def test_workers_that_joined_print_warn_and_log_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        print("record", key)
        warnings.warn("odd duck", stacklevel=1)
        logging.getLogger("mine").error("not %s", "good")

    monkeypatch.setenv("HOME", str(tmp_path))
    with warnings.catch_warnings(), jmr.Cluster(workers=0, listen="127.0.0.1:0") as cluster:
        warnings.simplefilter("default")
        with Command(cluster.address, "--slots", 2, "--once"):
            job = submit(mapfn, 20, workers=0)
            job.result()
    out, err = capfd.readouterr()
    assert sorted(line for line in job.log().splitlines() if "] record" in line) == sorted(out.splitlines())
    assert {line.split("] ")[1] for line in out.splitlines()} == {f"record {key}" for key in range(20)}
    assert all(re.match(r"\[[^/]+/[12]\] ", line) for line in out.splitlines())
    assert (err.count("UserWarning: odd duck"), err.count("ERROR:mine:not good")) == (1, 1)


# Warnings and logging


@pytest.fixture
def heard() -> Iterator[None]:
    """Warnings are to be heard, rather than fail what warns, as they do in tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


def warn(key: Any, value: Any) -> Any:
    warnings.warn("odd duck", stacklevel=1)
    return [(key, value)]


@pytest.mark.slow
def test_a_warning_is_shown_once_for_all_slots_and_records(heard: None, capfd: pytest.CaptureFixture[str]) -> None:
    warnings.simplefilter("always")
    job = submit(warn, 1_000)
    assert len(job.result()) == 1_000
    line = warn.__code__.co_firstlineno + 1
    place = rf"\[local/(\d)\] {re.escape(__file__)}:{line}: UserWarning: odd duck"
    quoted = re.escape('warnings.warn("odd duck", stacklevel=1)')
    assert re.fullmatch(rf"{place}\n\[local/\1\]   {quoted}\n", capfd.readouterr().err)
    assert re.fullmatch(rf"{place} \(999 more like this\)\n", job.log())


def test_a_mapfn_that_blames_its_caller_blames_no_file_of_ours(heard: None, capfd: pytest.CaptureFixture[str]) -> None:
    submit(lambda key, value: warnings.warn("odd duck", stacklevel=2), 20).result()
    assert re.fullmatch(r"\[local/\d\] UserWarning: odd duck\n", capfd.readouterr().err)


def test_the_next_job_is_warned_again(heard: None, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        submit(warn, 10).result()
        assert "odd duck" in capfd.readouterr().err


def test_who_ignores_warnings_here_hears_none_from_workers(heard: None, capfd: pytest.CaptureFixture[str]) -> None:
    for silence in (
        lambda: warnings.simplefilter("ignore"),
        lambda: warnings.filterwarnings("ignore", "odd", UserWarning),
        lambda: warnings.filterwarnings("ignore", module=re.escape(__name__)),
    ):
        with warnings.catch_warnings():
            silence()
            job = submit(warn, 10)
            job.result()
            assert (capfd.readouterr().err, job.log()) == ("", "")


@pytest.mark.parametrize("engine", [None, "inline"])
def test_a_warning_that_is_an_error_here_is_one_there(heard: None, engine: Any) -> None:
    warnings.simplefilter("error")
    with pytest.raises(jmr.MapError, match=r"mapfn raised UserWarning\('odd duck'\)") as caught:
        submit(warn, engine=engine, workers=None).result()
    assert type(caught.value.__cause__) is UserWarning


def test_a_warning_that_was_for_this_process_when_it_imported_a_module_fails_no_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: None, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old_fashioned.py").write_text(
        "import warnings\nwarnings.warn('old')\ndef double(x):\n    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="old"):
        import old_fashioned  # type: ignore[import-not-found]
    warnings.simplefilter("error")
    job = submit(lambda key, value: [(key, old_fashioned.double(21))])
    assert job.result() == {0: [42]}
    assert job.log() == ""


def test_user_code_that_catches_warnings_gets_them(heard: None) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("mine", stacklevel=1)
        return [(key, str(caught[0].message))]

    job = submit(mapfn)
    assert (job.result(), job.log()) == ({0: ["mine"]}, "")


def test_filters_are_the_same_there_in_every_part() -> None:
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.filterwarnings("error", "od+", DeprecationWarning, r"mine\.", 7)
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filters.append(("default", None, UserWarning, "__main__", 0))  # type: ignore[attr-defined, arg-type]
        warnings.filters.append(("ignore", None, (UserWarning,), None, 0))  # type: ignore[attr-defined]
        here = list(warnings.filters)
        hearing: Hearing = pickle.loads(pickle.dumps(Hearing.here()))
        warnings.resetwarnings()
        hearing.take_on()
        there = list(warnings.filters)
    assert there[0][0] == "ignore"
    assert there[:2] == here[:2]
    (action, message, category, module, line) = there[2]
    assert (action, message, category, line) == ("default", None, UserWarning, 0)
    assert module is not None
    assert module.match("__main__")
    assert not module.match("__main__2")
    assert len(there) == 3


def log_records(key: Any, value: Any) -> None:
    logger = logging.getLogger("mine")
    for level in ("debug", "info", "warning"):
        getattr(logger, level)("a %s", level)


@pytest.fixture
def root_level() -> Iterator[Callable[[int], None]]:
    before = logging.root.level
    yield logging.root.setLevel
    logging.root.setLevel(before)
    logging.disable(logging.NOTSET)


def test_log_records_are_shown_once_at_the_level_that_is_wanted_here(
    root_level: Callable[[int], None], capfd: pytest.CaptureFixture[str]
) -> None:
    job = submit(log_records, 100)
    job.result()
    assert re.fullmatch(r"\[local/\d\] WARNING:mine:a warning\n", capfd.readouterr().err)
    assert re.fullmatch(r"\[local/\d\] WARNING:mine:a warning \(99 more like this\)\n", job.log())
    root_level(logging.INFO)
    submit(log_records, 100).result()
    assert sorted(re.findall(r"\w+:mine:.*", capfd.readouterr().err)) == ["INFO:mine:a info", "WARNING:mine:a warning"]
    logging.disable(logging.INFO)
    submit(log_records, 100).result()
    assert re.findall(r"\w+:mine:.*", capfd.readouterr().err) == ["WARNING:mine:a warning"]


def test_user_code_that_configures_logging_has_what_it_configured(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        logging.basicConfig(format="%(name)s says %(message)s", level=logging.DEBUG, stream=sys.stdout)
        logging.getLogger("mine").debug("hello")

    with jmr.Cluster(workers=1):
        for _ in range(2):
            submit(mapfn, 2, workers=1).result()
            assert re.fullmatch(r"(\[local/1\] mine says hello\n){2}", capfd.readouterr().out)


def test_a_record_whose_arguments_do_not_fit_is_explained_as_python_does(capfd: pytest.CaptureFixture[str]) -> None:
    submit(lambda key, value: logging.getLogger("mine").error("%d", "x")).result()
    err = capfd.readouterr().err
    assert "--- Logging error ---" in err
    assert all(line.startswith("[local/") for line in err.splitlines())


def test_a_record_with_a_traceback_is_one_notice_of_several_lines(capfd: pytest.CaptureFixture[str]) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("it failed")

    submit(mapfn, 20).result()
    lines = [line.split("] ", 1)[1] for line in capfd.readouterr().err.splitlines()]
    assert (lines[0], lines[-1]) == ("ERROR:root:it failed", "ZeroDivisionError: division by zero")
    assert lines.count("ERROR:root:it failed") == 1


def test_a_notice_goes_to_no_file_that_took_the_pipes_place(tmp_path: Path) -> None:
    read, pipe = os.pipe()
    write = write_to(pipe)
    write(b"heard")
    assert os.read(read, 99) == b"heard"
    mine = os.open(tmp_path / "mine", os.O_WRONLY | os.O_CREAT)
    os.dup2(mine, pipe)
    write(b"not heard")
    for descriptor in (read, pipe, mine):
        os.close(descriptor)
    write(b"not heard")
    assert (tmp_path / "mine").read_bytes() == b""


def test_a_slot_that_closed_every_descriptor_still_warns_nobody_and_answers(heard: None) -> None:
    def mapfn(key: Any, value: Any) -> Any:
        os.closerange(1, 3)
        warnings.warn("odd", stacklevel=1)
        return [(key, value)]

    assert submit(mapfn, 2).result() == {0: [0], 1: [1]}
    assert engine.default_cluster() is not None


def test_a_job_does_not_wait_for_somebody_who_reads_nothing(monkeypatch):
    """Python would wait for ever in `print` as well, but the job's result is there already."""
    monkeypatch.setattr(outlets, "_LAST_LINES", 0.05)
    let_go = threading.Event()

    class Blocked(io.StringIO):
        def write(self, text: str) -> int:
            let_go.wait()
            return len(text)

    monkeypatch.setattr(sys, "stdout", Blocked())
    outlet = Outlet(Log())
    outlet.put("local/1", 1, b"odd duck\n")
    outlet.close()
    assert outlet._thread is not None
    assert outlet._thread.is_alive()
    let_go.set()


def test_no_pipe_is_read_for_the_line_of_a_warning(tmp_path, capsys):
    os.mkfifo(tmp_path / "code.py")
    outlet = Outlet(Log())
    outlet.put_notice("local/1", "UserWarning: odd duck", str(tmp_path / "code.py"), 3, 1)
    outlet.close()
    assert capsys.readouterr().err == f"[local/1] {tmp_path}/code.py:3: UserWarning: odd duck\n"
