"""Kernels with a checkpoint, killed with -9: another one does what is left, and no more."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from jmr.checkpoint.journal import Ended, KeptMap, KeptResult
from tests.checkpoints import entries
from tests.killing import BEFORE, N_RECORDS, N_SLOTS, Kernel, killed_at, seconds_of_a_run

pytestmark = pytest.mark.slow

ALL = dict.fromkeys(map(str, range(N_RECORDS)), 1)
#: A slot ends its kernel at record 5, when all before are kept and the other one is at record 6, and goes no further.
AT_RECORD_5 = """
def before_map(key):
    if key < 5 or not os.path.exists(KERNEL):
        return
    from pathlib import Path
    from jmr.checkpoint.journal import KeptMap
    while key > 5 or len(entries(Path(KEPT), KeptMap)) < 5 or "6" not in Path(CALLS).read_text().split():
        os.sched_yield()
    os.kill(int(open(KERNEL).read()), 9)
    while True:
        os.sched_yield()
def before_reduce(key): pass
"""
#: A slot ends its kernel in a reduce task, when one result is kept. The slot that begins first goes on until then, and
#: the other one waits in its first task, so that not all can be reduced before any is kept.
IN_THE_REDUCE = """
def before_map(key): pass
def before_reduce(key):
    from pathlib import Path
    from jmr.checkpoint.journal import KeptResult
    if not os.path.exists(KERNEL):
        return
    try:
        os.symlink(str(os.getpid()), KERNEL + ".first")
    except FileExistsError:
        pass
    while os.readlink(KERNEL + ".first") != str(os.getpid()) and not entries(Path(KEPT), KeptResult):
        os.sched_yield()
    if entries(Path(KEPT), KeptResult):
        os.kill(int(open(KERNEL).read()), 9)
        while True:
            os.sched_yield()
"""
#: A kernel ends in the midst of the seventh line that it adds to the journal.
IN_A_LINE = """
import types
import jmr.checkpoint.journal as journal
n_written = 0
def write(descriptor, line):
    global n_written
    n_written += 1
    if n_written < 7:
        return os.write(descriptor, line)
    os.write(descriptor, line[: len(line) // 2])
    os.kill(os.getpid(), 9)
journal.os = types.SimpleNamespace(**vars(os) | {"write": write})
"""
#: A kernel ends when it is about to put the short journal in the place of the long one.
BEFORE_THE_SHORT_JOURNAL = """
import types
import jmr.checkpoint.journal as journal
n_replaced = 0
def replace(new, path):
    global n_replaced
    n_replaced += 1
    if n_replaced == 2:
        os.kill(os.getpid(), 9)
    os.replace(new, path)
journal.os = types.SimpleNamespace(**vars(os) | {"replace": replace})
"""
#: A kernel ends when its journal is short already, and the files are there that it does not name any more.
BEFORE_THE_FILES_ARE_REMOVED = """
import jmr.checkpoint.opened as opened
opened.Folder.keep_only = lambda self, paths: os.kill(os.getpid(), 9)
"""


def killed(directory: Path, before: str = BEFORE, sabotage: str = "") -> Kernel:
    kernel = Kernel(directory, 1, before, sabotage)
    assert kernel.said()[0] == -signal.SIGKILL
    return kernel


def finished(directory: Path, before: str = BEFORE) -> Kernel:
    kernel = Kernel(directory, 2, before)
    code, said = kernel.said()
    assert code == 0, said
    assert said.endswith("equal\n"), said
    return kernel


def test_a_kernel_that_is_killed_while_it_maps_leaves_what_is_mapped(tmp_path: Path) -> None:
    first = killed(tmp_path, AT_RECORD_5)
    assert first.calls.take() == {str(key): 1 for key in range(7)}
    assert len(entries(first.kept, KeptMap)) == 5
    assert finished(tmp_path, AT_RECORD_5).calls.take() == {str(key): 1 for key in range(5, N_RECORDS)}


def test_a_kernel_that_is_killed_in_the_reduce_leaves_what_is_reduced(tmp_path: Path) -> None:
    first = killed(tmp_path, IN_THE_REDUCE)
    assert first.calls.take() == ALL
    kept = [result.partitions for result in entries(first.kept, KeptResult)]
    first.reduced.take()
    second = finished(tmp_path, IN_THE_REDUCE)
    assert not second.calls.take()
    assert 1 <= len(kept) < 4
    results = entries(second.kept, KeptResult)
    assert len(results) == 4
    assert {result.partitions for result in results if result.blob.path.startswith("run-1/")} == set(kept)


def test_a_kernel_that_is_killed_in_the_midst_of_a_line_leaves_the_lines_before(tmp_path: Path) -> None:
    first = killed(tmp_path, sabotage=IN_A_LINE)
    assert not (first.kept / "journal").read_bytes().endswith(b"\n")
    kept = len(entries(first.kept, KeptMap))
    first.calls.take()
    assert len(finished(tmp_path).calls.take()) == N_RECORDS - kept


@pytest.mark.parametrize("sabotage", [BEFORE_THE_SHORT_JOURNAL, BEFORE_THE_FILES_ARE_REMOVED])
def test_a_kernel_that_is_killed_while_it_tidies_up_leaves_everything(tmp_path: Path, sabotage: str) -> None:
    first = killed(tmp_path, sabotage=sabotage)
    assert first.calls.take() == ALL
    first.reduced.take()
    second = finished(tmp_path)
    assert (second.calls.take(), second.reduced.take()) == ({}, {})
    assert entries(second.kept, Ended)
    named = {kept.path for kept in entries(second.kept, KeptMap)}
    named |= {kept.blob.path for kept in entries(second.kept, KeptResult)} | {"journal", "lock"}
    assert {str(path.relative_to(second.kept)) for path in second.kept.rglob("*") if path.is_file()} == named


def test_a_kernel_that_is_killed_twice_goes_on_from_both(tmp_path: Path) -> None:
    killed(tmp_path, AT_RECORD_5)
    first = killed(tmp_path, AT_RECORD_5, sabotage=IN_A_LINE)
    n_kept = len({kept.key for kept in entries(first.kept, KeptMap)})
    first.calls.take()
    assert len(finished(tmp_path, AT_RECORD_5).calls.take()) == N_RECORDS - n_kept


def test_kernels_that_are_killed_at_random_moments(tmp_path: Path) -> None:
    """More of them: python -m tests.killing."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    (tmp_path / "longest").mkdir()
    longest = seconds_of_a_run(tmp_path / "longest")
    for number in range(3):
        directory = tmp_path / str(number)
        directory.mkdir()
        before, after = killed_at(moments.uniform(0.0, longest), directory)
        assert before.keys() | after.keys() == ALL.keys()
        assert (before + after).total() <= N_RECORDS + N_SLOTS
