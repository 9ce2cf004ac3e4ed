"""The live view as HTML, from reports made by hand: what it says, and what moves."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jmr.progress.report import Report, SlotReport, State
from jmr.views.board import Board, failure, news
from jmr.views.pace import Pace
from jmr.views.phases import map_phase, shuffle_phase
from jmr.views.rows import notable, rows


def a_report(**counts: Any) -> Report:
    """A job that started at 0."""
    report = Report("words", started=0.0)
    for name, value in counts.items():
        setattr(report, name, value)
    return report


def a_slot(worker: str = "local", **counts: Any) -> SlotReport:
    slot = SlotReport(worker, doing="map-3", n_tasks=5, n_records=1000, map_seconds=2.0)
    for name, value in counts.items():
        setattr(slot, name, value)
    return slot


def text(html: str) -> str:
    """What is read, cell by cell."""
    return " | ".join(part for part in re.split(r"\s*<[^>]*>\s*", html) if part).replace(" | · | ", " · ")


def widths(html: str) -> list[tuple[str, str]]:
    """Where each bar that can be measured stands, and where it comes from."""
    return re.findall(r"width:([\d.]+)%;--jmr-from:([\d.]+)%", html)


# How fast, and how long still


def test_the_pace_is_the_mean_at_first():
    pace = Pace(began=10.0)
    pace.look(300, now=13.0)
    assert pace.per_second == pytest.approx(100)


def test_nothing_has_no_pace():
    pace = Pace(began=10.0)
    pace.look(5, now=10.0)
    pace.look(0, now=13.0)
    assert pace.per_second == 0.0


def test_the_pace_follows_slots_that_come():
    pace, done = Pace(began=0.0), 0
    for tenth in range(1, 1001):
        done += 1 if tenth <= 500 else 10
        pace.look(done, now=tenth / 10)
    assert done / 100 == 55
    assert 85 < pace.per_second < 100


def test_the_pace_of_lumps_is_their_mean_also_between_them():
    pace = Pace(began=0.0)
    for second in range(1, 401):
        pace.look(100 * (second // 20), now=second)
        assert pace.per_second == pytest.approx(5 if second >= 20 else 0)


def test_when_a_lump_is_late_the_pace_falls_as_if_it_came_now():
    pace = Pace(began=0.0)
    pace.look(100, now=10.0)
    assert pace.per_second == pytest.approx(10)
    pace.look(100, now=19.0)
    assert pace.per_second == pytest.approx(10)
    pace.look(100, now=1010.0)
    assert pace.per_second == pytest.approx(0.1, rel=0.01)


def test_what_is_left_of_map_follows_the_pace():
    report = a_report(n_records=500, n_records_total=1000)
    assert map_phase(report, 100.0).seconds_left == 100.0
    assert map_phase(report, 100.0, pace=50.0).seconds_left == 10.0
    assert str(map_phase(report, 100.0, pace=50.0)) == "500 / 1,000 records · 50 records/s · about 10 s left"


@pytest.mark.parametrize("pace", [0.0, 1e-9])
def test_when_nothing_moves_nobody_guesses(pace):
    assert map_phase(a_report(n_records=500, n_records_total=1000), 100.0, pace=pace).seconds_left is None


# Shuffle


def test_a_byte_is_half_way_when_map_has_written_it():
    report = a_report(n_records=500, n_records_total=1000, shuffled_bytes=4_000_000)
    phase = shuffle_phase(report, 10.0, pace=400_000)
    assert phase.fraction == 0.25
    assert phase.words == "4.00 MB written · 400 kB/s"


def test_a_byte_is_all_the_way_when_reduce_has_taken_it():
    report = a_report(n_records=1000, n_records_total=1000, shuffled_bytes=4_000_000, reduced_bytes=1_000_000)
    report.reduce_began = 9.0
    phase = shuffle_phase(report, 10.0, pace=1_000_000)
    assert phase.fraction == 0.625
    assert phase.words == "4.00 MB written, 1.00 MB read · 1.00 MB/s"


def test_bytes_that_are_taken_twice_count_once():
    """A reduce attempt that died took bytes too."""
    report = a_report(n_records=1, n_records_total=1, shuffled_bytes=10, reduced_bytes=15, reduce_began=9.0)
    assert shuffle_phase(report, 10.0).fraction == 1.0
    assert shuffle_phase(report, 10.0).words == "10 B written, 10 B read"


def test_shuffle_has_no_fraction_while_nobody_knows_how_much_map_will_write():
    assert shuffle_phase(a_report(n_records=5, shuffled_bytes=7), 10.0).fraction is None


def test_a_shuffle_of_nothing_is_done_when_map_is():
    report = a_report(n_records=1000, n_records_total=1000)
    assert shuffle_phase(report, 10.0).fraction == 0.5
    report.reduce_began = 9.0
    assert shuffle_phase(report, 10.0).fraction == 1.0


# The board


def board_at(report: Report, now: float) -> str:
    board = Board(report)
    board.look(now)
    return board.html(board.words())


def test_while_mapping_the_board_says_what_is_left_of_map():
    report = a_report(n_slots=2, n_records=250, n_records_total=1000, shuffled_bytes=5_000_000)
    assert text(board_at(report, 10.0)) == (
        "words | running | 2 slots · 10 s · about 30 s of map left"
        " | Map | 250 / 1,000 records · 25 records/s | Shuffle | 5.00 MB written · 500 kB/s | Reduce | after map"
    )


def test_while_reducing_the_board_says_what_is_left_of_the_job():
    report = a_report(n_slots=1, n_records=1000, n_records_total=1000, n_reduce_tasks=8, n_reduce_tasks_done=2)
    report.shuffled_bytes, report.reduced_bytes, report.reduce_began = 5_000_000, 1_000_000, 10.0
    assert text(board_at(report, 12.0)) == (
        "words | running | 1 slot · 12 s · about 6 s left"
        " | Map | 1,000 / 1,000 records · 100 records/s | Shuffle | 5.00 MB written, 1.00 MB read · 500 kB/s"
        " | Reduce | 2 / 8 tasks · 1 tasks/s"
    )


def test_a_source_without_a_length_has_bars_that_sweep_and_nothing_left():
    html = board_at(a_report(n_slots=2, n_records=250), 10.0)
    assert "left" not in text(html)
    assert html.count("jmr-sweep jmr-map") == html.count("jmr-sweep jmr-shuffle") == 1
    assert widths(html) == [("0.0", "0.0")]


def test_a_bar_starts_where_it_stood():
    report = a_report(n_records=100, n_records_total=1000)
    board = Board(report)
    board.look(1.0)
    words = board.words()
    assert widths(board.html(words))[0] == ("10.0", "10.0")
    report.n_records = 300
    board.look(1.25)
    assert widths(board.html(words))[0] == ("30.0", "10.0")


def test_when_nothing_has_changed_the_text_is_the_same():
    """Else it would be sent again, and what sweeps or pulses would start anew."""
    board = Board(a_report())
    board.look(1.0)
    first = board.html(board.words())
    board.look(1.25)
    assert board.html(board.words()) == first


def test_movements_without_an_end_go_on_where_they_were():
    board = Board(report := a_report(n_records=100))
    for now, then in ((1.5, "-1.50s"), (6.25, "-2.25s")):
        report.n_records += 1
        board.look(now)
        assert f"--jmr-then:{then}" in board.html(board.words())


def test_a_job_without_a_slot_says_what_it_waits_for():
    said = text(board_at(a_report(n_records=100, n_records_total=1000, is_waiting=True), 10.0))
    assert said.startswith("words | waiting for a worker to join | 10 s | Map")


def test_a_job_that_is_being_cancelled_says_so_until_it_has_ended():
    board = Board(report := a_report())
    assert "cancelling" in text(board.words(is_cancelled=True)[0])
    report.state = State.CANCELLED
    assert "cancelled" in text(board.words(is_cancelled=True)[0])


def test_a_screen_reader_hears_how_far_each_bar_is():
    html = board_at(a_report(n_records=250, n_records_total=1000), 10.0)
    assert re.findall(r"aria-label='(\w+)'.*?aria-valuenow='(\d+)'", html) == [
        ("map", "25"),
        ("shuffle", "12"),
        ("reduce", "0"),
    ]


def test_names_and_failures_are_escaped():
    report = a_report(name="<b>words</b>", n_failures=1, last_failure="<script>")
    report.slots = {"<i>/1": a_slot("<i>", doing="map-<u>")}
    html = board_at(report, 1.0) + failure(report) + rows(report.slots, 1.0)
    assert not re.search(r"<(b>words|script|i>/1|u>)", html)


def test_the_last_failure_is_told_and_how_many_there_were():
    assert failure(a_report()) == ""
    report = a_report(n_failures=1, last_failure="map-3 on local/1 ended with signal 9")
    assert text(failure(report)) == "1 attempt failed | last: | map-3 on local/1 ended with signal 9"
    report.n_failures = 1200
    assert text(failure(report)).startswith("1,200 attempts failed")


def test_what_has_come_up_since_the_job_began_is_told_while_it_runs():
    report = Report("words", ["source from an earlier cell"])
    assert news(report) == ""
    report.notes.append("map-3 took <long>, and was begun once more, on local/2")
    assert text(news(report)) == "map-3 took &lt;long&gt;, and was begun once more, on local/2"
    report.last_failure = "map-4 on local/1 was stopped"
    report.notes.append("map-4 on local/1 was stopped; it ran again")
    assert text(news(report)).startswith("map-3"), "the other stands above it"


# Rows


def test_few_slots_have_a_row_each():
    slots = {
        "local/1": a_slot(memory_bytes=53_211_000),
        "local/2": a_slot(doing="", n_tasks=0, map_seconds=0.0),
        "far/1": a_slot(doing="reduce-1", n_failures=2),
        "far/2": a_slot(is_gone=True, n_failures=1),
    }
    assert text(rows(slots, 1.0)) == (
        "Slot | Doing | Tasks | Records/s | Memory | Failed"
        " | local/1 | map-3 | 5 | 500 | 53.2 MB | –"
        " | local/2 | idle | 0 | – | – | –"
        " | far/1 | reduce-1 | 5 | – | – | 2"
        " | far/2 | lost | 5 | – | – | 1"
    )


def test_a_slot_that_is_long_at_a_task_says_for_how_long():
    slots = {"local/1": a_slot(since=10.0), "local/2": a_slot(since=10.0, doing=""), "local/3": a_slot(is_gone=True)}

    def doing(now: float) -> list[str]:
        return re.findall(r"jmr-dim'>(.*?)</td>", rows(slots, now))

    assert doing(11.9) == ["map-3", "idle", "lost"]
    assert doing(14.1) == ["map-3 · 4 s", "idle", "lost"]
    assert doing(210.0) == ["map-3 · 3 min 20 s", "idle", "lost"]


def test_the_speed_of_slots_is_that_of_those_that_map_now():
    slots = {f"far/{i}": a_slot("far") for i in range(9)}
    slots["far/1"].doing = "reduce-1"
    slots["far/2"].doing = ""
    slots["far/3"].is_gone = True
    html = rows(slots, 1.0)
    assert "| far | 45 | 3,000 | – | –" in text(html)
    assert "<th title='while mapping, on average'>Records/s</th>" in html


def test_no_slot_has_no_table():
    assert rows({}, 1.0) == ""


def test_many_slots_are_folded_to_their_hosts():
    slots = {f"{host}/{i}": a_slot(host, memory_bytes=1_000_000) for host in ("local", "far") for i in range(5)}
    html = rows(slots, 1.0)
    assert text(html) == (
        "10 mapping | Host | Slots | Tasks | Records/s | Memory | Failed"
        " | local | 25 | 2,500 | 5.00 MB | – | far | 25 | 2,500 | 5.00 MB | –"
    )
    assert html.count("<i class='jmr-chip jmr-map'></i>") == 10 + 1  # and one in the line that explains them


def test_a_hosts_memory_is_that_of_the_slots_that_it_still_has():
    slots = {f"local/{i}": a_slot(memory_bytes=1_000_000, is_gone=i < 3) for i in range(10)}
    assert "local | 50 | 3,500 | 7.00 MB" in text(rows(slots, 1.0))


def test_of_many_slots_the_lost_the_failing_and_the_slow_have_rows():
    slots = {f"local/{i}": a_slot() for i in range(20)}
    slots["local/3"].map_seconds = 4.0
    slots["local/5"].map_seconds = 8.0
    slots["local/7"].is_gone = True
    slots["local/9"].n_failures = 3
    slots["local/11"].n_failures = 1
    assert notable(slots) == ["local/7", "local/9", "local/11", "local/5"]
    assert "19 mapping · | 1 lost" in text(rows(slots, 1.0))


def test_when_all_is_well_nobody_is_named():
    slots = {f"local/{i}": a_slot() for i in range(20)}
    assert notable(slots) == []
    assert "slow" not in rows(slots, 1.0)


def test_many_hosts_are_folded_to_those_that_matter():
    slots = {f"h{i}/{j}": a_slot(f"h{i}") for i in range(50) for j in range(4)}
    slots["h31/2"].is_gone = True
    slots["h17/0"].n_failures = 1
    said = text(rows(slots, 1.0))
    assert [f"h{i} | 20" in said for i in (17, 31)] == [True, True]
    assert "45 more hosts | 180 | 900" in said
    assert len(re.findall(r"h\d+ \| 20", said)) == 5


def test_two_thousand_slots_are_few_bytes():
    slots = {f"h{i}/{j}": a_slot(f"h{i}", n_failures=1) for i in range(20) for j in range(100)}
    assert len(rows(slots, 1.0)) < 5_000


def test_the_head_says_how_many_tasks_an_earlier_run_has_done():
    report = a_report(n_slots=2, n_map_tasks=10, n_map_tasks_done=7, n_tasks_kept=5)
    assert "2 slots · 5 tasks kept · 10 s" in text(board_at(report, 10.0))
