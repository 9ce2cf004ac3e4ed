"""A checkpoint's journal, ledger and directory: what is written is read, what is damaged is noticed, who may use it."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmr.checkpoint.files import copy_output, is_whole, read_blob, write_blob
from jmr.checkpoint.folder import Folder, contents, remove
from jmr.checkpoint.journal import (
    Blob,
    Cut,
    Ended,
    Entry,
    Header,
    Journal,
    KeptClass,
    KeptMap,
    KeptResult,
    Run,
    line_of,
    read_journal,
    write_journal,
)
from jmr.checkpoint.ledger import Ledger, key_of
from jmr.checkpoint.opened import Checkpoint
from jmr.cli import main
from jmr.coordinator.mail import JobDone, JobStopped, Mail, PartitionReady, PoisonSetAside, SplitDone
from jmr.engines.scribe import Notes, Scribe
from jmr.errors import ArgumentValueError
from jmr.wire.messages import MapDone

DONE = {"n_records": 1, "lengths": [3, 0, 2], "crcs": [1, 0, 2]}
ENTRIES: list[Entry] = [
    Header(1, "3.13"),
    Run(1, "wörter", 12.5, 8, "mapping"),
    KeptClass("__main__", "Point", "digest", "identity"),
    Cut(1),
    KeptMap("key", "run-1/map-0-1", DONE),
    KeptMap("other", "run-1/map-1-1", DONE, Blob("run-1/failures-map-1", 3, 4)),
    KeptMap("third", "run-1/map-2-1", DONE, classes=("identity",)),
    KeptResult("key", (0, 2), Blob("run-1/reduce-0", 5, 6), classes=("identity", "another")),
    Ended(),
]


def checkpoint(path: Path, said: list[str] | None = None) -> Checkpoint:
    return Checkpoint(str(path), (said if said is not None else []).append)


def map_done(path: str | None, lengths: list[int], output: bytes = b"", failures: bytes = b"", **rest: Any) -> MapDone:
    usual = {"crcs": [], "n_failures": bool(failures), "unstable": False, "kept_split": False, **rest}
    counts = {
        "n_records": 1,
        "n_pairs": 1,
        "n_combined_pairs": 1,
        "seconds": 0.1,
        "flush_seconds": 0.0,
        "peak_bytes": 0,
    }
    return MapDone(**{**counts, **usual}, path=path, lengths=lengths, blobs=[failures, output])


def split_done(index: int, left: MapDone) -> SplitDone:
    return SplitDone(1, 1, None, False, 1, 0.1, 0.0, index, left)


# The journal.


def test_a_journal_is_read_as_it_was_written() -> None:
    assert read_journal(b"".join(map(line_of, ENTRIES))) == (ENTRIES, 0)


@given(st.data())
def test_a_damaged_byte_costs_a_line_or_two_and_no_other_is_doubted(data: st.DataObject) -> None:
    lines = [line_of(entry) for entry in ENTRIES]
    content = bytearray(b"".join(lines))
    where = data.draw(st.integers(0, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    entries, n_bad = read_journal(bytes(content))
    damaged = next(index for index in range(len(lines)) if where < sum(map(len, lines[: index + 1])))
    lost = {damaged} if where < sum(map(len, lines[: damaged + 1])) - 1 else {damaged, damaged + 1}
    assert entries == [entry for index, entry in enumerate(ENTRIES) if index not in lost]
    assert n_bad >= 1


@given(st.integers(0, len(b"".join(map(line_of, ENTRIES)))))
def test_a_torn_line_is_the_only_one_lost(n_bytes: int) -> None:
    content = b"".join(map(line_of, ENTRIES))[:n_bytes]
    entries, n_bad = read_journal(content)
    assert entries == ENTRIES[: content.count(b"\n")]
    assert n_bad == (not content.endswith(b"\n") and n_bytes > 0)


def test_a_line_that_could_not_be_written_does_not_spoil_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "journal"
    write_journal(str(path), ENTRIES[:1])
    journal = Journal(str(path))
    write = os.write

    def torn(descriptor: int, line: bytes) -> int:
        if len(line) < 10:
            raise OSError("full")
        return write(descriptor, line[: len(line) - 5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", torn)
        with pytest.raises(OSError, match="full"):
            journal.append(Cut(1))
    journal.append(Cut(2))
    journal.close()
    assert read_journal(path.read_bytes()) == ([ENTRIES[0], Cut(2)], 1)


def test_a_journal_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "journal"
    write_journal(str(path), ENTRIES)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_journal(str(path), ENTRIES[:1])
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    assert path.read_bytes() == before


# The ledger.


def test_a_run_that_was_cut_short_leaves_the_cuts_beyond_it_to_the_one_before() -> None:
    run = Run(1, "", 0.0, 8, "m")
    ledger = Ledger([run, Cut(10), Cut(20), Cut(30), run, Cut(10), Cut(15), run])
    found, position = [], 0
    while (end := ledger.next_cut(position)) is not None:
        found.append(end)
        position = end
    assert found == [10, 15, 20, 30]


def test_other_map_tasks_are_cut_anew_and_the_former_ones_as_before() -> None:
    run, other = Run(1, "", 0.0, 8, "m"), Run(2, "", 0.0, 8, "other")
    assert Ledger([run, Cut(10), other]).next_cut(0) is None
    assert Ledger([run, Cut(10), other, Cut(3), run]).next_cut(0) == 10


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_keys_are_the_same_where_all_parts_are(some: list[str], others: list[str]) -> None:
    assert (key_of(*some) == key_of(*others)) is (some == others)


# Files.


def test_an_output_is_whole_until_a_byte_of_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"onetwo")
    crcs = copy_output(str(tmp_path), "run-1/map-0", str(tmp_path / "source"), [3, 0, 3])
    copy = tmp_path / "run-1" / "map-0"
    assert copy.read_bytes() == b"onetwo"
    assert copy.stat().st_mode & 0o077 == 0
    assert is_whole(str(copy), [3, 0, 3], crcs)
    assert not is_whole(str(copy), [3, 0, 3], [])
    for damaged in (b"onetwO", b"onetw", b"onetwoo", b""):
        copy.write_bytes(damaged)
        assert not is_whole(str(copy), [3, 0, 3], crcs)
    copy.unlink()
    assert not is_whole(str(copy), [3, 0, 3], crcs)


def test_a_blob_is_what_was_written_or_nothing(tmp_path: Path) -> None:
    blob = write_blob(str(tmp_path), "run-1/reduce-0", [b"one", b"two"])
    assert read_blob(str(tmp_path), blob) == b"onetwo"
    (tmp_path / blob.path).write_bytes(b"onetwO")
    assert read_blob(str(tmp_path), blob) is None


def test_a_file_that_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"one")
    with pytest.raises(OSError, match="shorter"):
        copy_output(str(tmp_path), "run-1/map-0", str(tmp_path / "source"), [3, 3])
    assert list((tmp_path / "run-1").iterdir()) == []


# The directory.


def test_a_new_directory_is_made_and_nobody_else_may_enter(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "kept"))
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700
    folder.close()


def test_an_empty_directory_is_taken_and_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Folder(str(tmp_path)).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    Folder(str(tmp_path)).close()


def test_a_directory_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ArgumentValueError, match="is no checkpoint, and not empty: name a new directory"):
        Folder(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(ArgumentValueError, match=r"others can write to .* can run any code: chmod 700 it"):
        Folder(str(tmp_path))


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ArgumentValueError, match=r"belongs to .*: what a checkpoint keeps can run any code"):
        Folder(str(tmp_path))


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = Folder("~/kept")
    folder.close()
    assert (folder.name, folder.path) == ("~/kept", str(tmp_path / "kept"))


def test_a_file_and_a_directory_without_a_parent_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentValueError, match="is a file: name a directory"):
        Folder(str(tmp_path / "file"))
    with pytest.raises(ArgumentValueError, match=r"cannot be made: there is no directory '/.*/no'; make it first$"):
        Folder(str(tmp_path / "no" / "such"))


def test_a_journal_that_cannot_be_read_is_refused_and_the_directory_let_go(tmp_path: Path) -> None:
    checkpoint(tmp_path).close()
    (tmp_path / "journal").mkdir()
    with pytest.raises(ArgumentValueError, match=r"cannot be read: .*Is a directory"):
        checkpoint(tmp_path)
    Folder(str(tmp_path)).close()


def test_two_jobs_of_one_process_cannot_share_a_directory(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with pytest.raises(ArgumentValueError, match="is in use, by another job of this very process: two jobs cannot"):
        Folder(str(tmp_path))
    folder.close()
    Folder(str(tmp_path)).close()


@pytest.mark.slow
def test_two_processes_cannot_share_a_directory_and_a_dead_one_lets_go(tmp_path: Path) -> None:
    program = (
        "import sys; from jmr.checkpoint.folder import Folder; f = Folder(sys.argv[1]); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(ArgumentValueError, match=rf"is in use, by process {other.pid}: two jobs"):
            Folder(str(tmp_path))
        assert contents(str(tmp_path))[2] == f"process {other.pid}"
        with pytest.raises(ArgumentValueError, match="is in use"):
            remove(str(tmp_path))
        other.kill()
        other.wait()
    Folder(str(tmp_path)).close()


def test_a_forked_child_does_not_keep_the_directory(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    (ready, says_ready), (waits, ends) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(ends)
        os.write(says_ready, b"1")
        os.read(waits, 1)  # until the test has seen what it came for
        os._exit(0)
    try:
        assert os.read(ready, 1) == b"1"
        folder.close()
        Folder(str(tmp_path)).close()
    finally:
        for descriptor in (ready, says_ready, waits, ends):
            os.close(descriptor)
        os.waitpid(child, 0)


# What is kept.


def test_what_one_run_keeps_the_next_one_finds(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 2, "mapping")
    first.cut(5)
    first.keep_map("inline", 0, {"lengths": [2, 1]}, [b"ab", b"c"], b"")
    (tmp_path / "elsewhere").write_bytes(b"def")
    first.keep_map("elsewhere", 1, {"lengths": [2, 1]}, str(tmp_path / "elsewhere"), b"bad")
    (Path(first.directory) / "map-2-1").write_bytes(b"gh")
    first.keep_map("in place", 2, {"lengths": [2, 0], "crcs": [0x5FBF56A3, 0]}, f"{first.directory}/map-2-1", b"")
    first.keep_result("all", 0, [0], b"result", b"")
    first.close()

    second = checkpoint(tmp_path)
    second.begin("words", 2, "mapping")
    assert second.ledger.next_cut(0) == 5
    kept, failures = second.kept_map("inline", skips=False) or pytest.fail("it is not there")
    assert (Path(kept.path).read_bytes(), failures) == (b"abc", b"")
    assert second.kept_map("elsewhere", skips=False) is None
    kept, failures = second.kept_map("elsewhere", skips=True) or pytest.fail("it is not there")
    assert (Path(kept.path).read_bytes(), failures) == (b"def", b"bad")
    assert second.kept_map("in place", skips=False) is None  # its checksum is not that
    ((result, blob, _),) = second.kept_results("all", skips=False)
    assert (result.partitions, blob) == ((0,), b"result")
    second.close()


def test_the_end_leaves_what_the_result_rests_on_and_nothing_else(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 1, "mapping")
    for index, key in enumerate(("used", "unused")):
        first.keep_map(key, index, {"lengths": [1]}, [b"a"], b"")
    first.close()
    second = checkpoint(tmp_path)
    second.begin("words", 1, "mapping")
    assert second.kept_map("used", skips=False)
    second.keep_map("new", 1, {"lengths": [1]}, [b"b"], b"bad")
    second.finish()
    second.close()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"journal", "lock", "run-1/map-0", "run-2/map-1", "run-2/failures-map-1"}
    ledger = checkpoint(tmp_path).ledger
    assert (set(ledger.maps), ledger.has_ended) == ({"used", "new"}, True)


def test_what_has_a_class_in_it_that_this_process_does_not_have_is_done_again(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 1, "mapping")
    first.keep_class(ENTRIES[2])
    first.classes = ("identity",)
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    first.keep_result("key", 0, [0], b"result", b"")
    first.close()
    for known, is_there in (({"identity", "more"}, True), ({"more"}, False)):
        said: list[str] = []
        again = checkpoint(tmp_path, said)
        again.begin("words", 1, "mapping")
        again.known = frozenset(known)
        assert (again.kept_map("key", skips=False) is not None) is is_there
        assert bool(list(again.kept_results("key", skips=False))) is is_there
        told = "some of the checkpoint has the class Point in it, as it was then, and is done again"
        assert set(said) == (set() if is_there else {told})
        again.close()


def test_the_end_forgets_classes_that_nothing_has_in_it(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 1, "mapping")
    for identity in ("old", "new"):
        first.keep_class(KeptClass("__main__", "Point", "digest", identity))
    first.classes = ("new",)
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    first.finish()
    first.close()
    assert set(checkpoint(tmp_path).ledger.classes) == {"new"}


def test_another_format_or_python_is_told_and_everything_done_again(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 1, "mapping")
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    first.close()
    journal = tmp_path / "journal"
    entries, _ = read_journal(journal.read_bytes())
    for header, told in (
        (Header(1, "2.7"), "the checkpoint is of Python 2.7: everything is done again"),
        (Header(99, "3.13"), "the checkpoint has format 99, not 1: everything is done again"),
        (None, "the checkpoint has lost the first line of its journal: everything is done again"),
    ):
        write_journal(str(journal), ([header] if header else []) + entries[1:])
        said: list[str] = []
        again = checkpoint(tmp_path, said)
        again.begin("words", 1, "mapping")
        assert said == [told]
        assert again.kept_map("key", skips=False) is None
        again.close()
        assert read_journal(journal.read_bytes())[0][0] == entries[0]


def test_a_run_writes_no_file_of_an_earlier_one_even_if_the_journal_is_lost(tmp_path: Path) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 1, "mapping")
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    first.close()
    (tmp_path / "journal").unlink()
    second = checkpoint(tmp_path)
    second.begin("words", 1, "mapping")
    assert second.directory == str(tmp_path / "run-2")
    second.close()


# The scribe.


class Kept:
    """A scribe, and what has become of its mail."""

    def __init__(self, path: Path) -> None:
        self.notes: list[str] = []
        self.outbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self.checkpoint = checkpoint(path)
        self.checkpoint.begin("words", 1, "mapping")
        self.scribe = Scribe(self.checkpoint, self.outbox, Notes(self.notes))
        self.scribe.keys += ["first", "second"]
        self.scribe.result_key = "result"
        self.scribe.start()

    def __call__(self, *mail: Mail) -> list[Mail]:
        for each in mail:
            self.scribe.inbox.put(each)
        self.scribe.close()
        self.checkpoint.close()
        return [self.outbox.get_nowait() for _ in range(self.outbox.qsize())]


def test_every_mail_is_handed_on_in_order_and_what_tasks_left_is_kept(tmp_path: Path) -> None:
    mail: list[Mail] = [
        split_done(0, map_done(None, [3], b"abc")),
        split_done(1, map_done(None, [3], b"def", b"failures")),
        PartitionReady(b"result", 0, [0], 0, b""),
        JobStopped(),
        JobDone([]),
    ]
    assert Kept(tmp_path)(*mail) == mail
    ledger = checkpoint(tmp_path).ledger
    assert (set(ledger.maps), set(ledger.results)) == ({"first", "second"}, {"result"})


def test_an_output_without_a_record_that_was_poison_is_not_kept_nor_any_result(tmp_path: Path) -> None:
    poison: Any = object()
    Kept(tmp_path)(
        PoisonSetAside((0, 1), poison),
        split_done(0, map_done(None, [3], b"abc")),
        split_done(1, map_done(None, [3], b"def")),
        PartitionReady(b"result", 0, [0], 0, b""),
    )
    ledger = checkpoint(tmp_path).ledger
    assert (set(ledger.maps), set(ledger.results)) == ({"first"}, set())


def test_a_result_without_a_group_that_was_poison_is_not_kept_but_others_are(tmp_path: Path) -> None:
    poison: Any = object()
    results = [PartitionReady(b"result", index, [index], 0, b"") for index in range(2)]
    Kept(tmp_path)(PoisonSetAside((1, 1), poison), *results)
    assert set(checkpoint(tmp_path).ledger.results["result"]) == {(0,)}


def test_what_cannot_be_kept_is_counted_and_the_job_goes_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    mail = [split_done(0, map_done(None, [3], b"abc")), split_done(1, map_done("/no/such", [3], crcs=[0]))]
    mail.append(split_done(1, map_done("/no/such", [3], crcs=[0])))
    assert kept(*mail) == mail
    (note,) = kept.notes
    assert note == f"2 outputs could not be kept in {tmp_path}: No such file or directory"


def test_a_note_changes_in_its_place_whoever_else_says_something() -> None:
    class Interrupted(list[str]):
        """Somebody else says something just before."""

        def append(self, text: str) -> None:
            super().append("from the loop")
            super().append(text)

    said = Interrupted()
    notes = Notes(said)
    for about, text in (("kept", "1 kept"), ("lost", "1 lost"), ("kept", "2 kept"), ("lost", "2 lost")):
        notes.put(about, text)
    assert said == ["from the loop", "2 kept", "from the loop", "2 lost"]


# The command.


def test_the_command_tells_what_a_checkpoint_holds_and_removes_it(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "kept"
    first = checkpoint(path)
    assert main(["checkpoint", "ls", str(path)]) == 0
    assert capsys.readouterr().out.endswith("  job       none has begun\n")
    first.begin("words", 8, "mapping")
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    assert main(["checkpoint", "ls", str(path)]) == 0
    told = capsys.readouterr().out
    expected = (
        rf"{path}\n  job       words, run 1 of 20..-..-.. ..:..: in use by another job of this very process\n"
        r"  map       1 output kept, in 8 partitions\n  reduce    0 results kept\n  size      1 B\n"
    )
    assert re.fullmatch(expected, told), told
    assert main(["checkpoint", "rm", str(path)]) == 1
    assert "is in use" in capsys.readouterr().err
    first.close()
    assert main(["checkpoint", "ls", str(path)]) == 0
    assert ": not finished\n" in capsys.readouterr().out
    assert main(["checkpoint", "rm", str(path)]) == 0
    assert not path.exists()


def test_the_command_leaves_alone_what_is_no_checkpoint(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "thesis.tex").touch()
    for command in ("ls", "rm"):
        assert main(["checkpoint", command, str(tmp_path)]) == 1
        assert capsys.readouterr().err == f"jmr: {tmp_path} is no checkpoint\n"
    assert (tmp_path / "thesis.tex").exists()


def test_the_command_removes_what_jobs_made_and_nothing_else(tmp_path: Path, capsys: Any) -> None:
    first = checkpoint(tmp_path)
    first.begin("words", 8, "mapping")
    first.keep_map("key", 0, {"lengths": [1]}, [b"a"], b"")
    (tmp_path / "run-1" / "mine").touch()
    first.close()
    assert main(["checkpoint", "rm", str(tmp_path)]) == 0
    assert capsys.readouterr().err == f"jmr: {tmp_path} stays: something else is in it\n"
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["run-1", "run-1/mine"]
