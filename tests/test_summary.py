"""What stays of a job: the card and its picture from hand-made reports, and what is left of them after cleaning."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import bleach
import nbformat
import pytest
from bleach.css_sanitizer import CSSSanitizer
from IPython.lib.pretty import pretty

import jmr
from jmr.progress.report import Report, State
from jmr.result import Attempt, BadRecord, BadRecords, Result
from jmr.views.drawing import COLOURS, WIDTH, draw
from jmr.views.final import final_html, final_text
from jmr.views.summary import Summary, bundle, line
from jmr.views.timeline import bars, by_kind, groups, merged, shares, sorted_slots, ticks

HOSTILE = "<script>alert('&')</script>\"<img src=x onerror=alert(1)>"


def an_attempt(slot: str, task: str, started: float, ended: float, outcome: str = "done", **more: Any) -> Attempt:
    return Attempt(slot, task, 1, started, ended, outcome, **more)


def a_report(seconds: float = 6.1, **counts: Any) -> Report:
    report = Report("wordcount", state=State.DONE, started=100.0, ended=100.0 + seconds, n_slots=2)
    report.n_records, report.n_pairs, report.n_keys = 1204, 70_000, 53_211
    for name, value in counts.items():
        setattr(report, name, value)
    return report


def many_attempts(slots: list[str], n: int, seed: int = 1) -> list[Attempt]:
    """In order of their ends; every slot is always busy, and one attempt in fifty fails."""
    rng, free = random.Random(seed), dict.fromkeys(slots, 0.0)
    attempts = []
    for number in range(n):
        slot = slots[number % len(slots)]
        ended = free[slot] + rng.uniform(0.5, 1.5)
        phase = "map" if number < n * 0.9 else "reduce"
        outcome = "died" if rng.random() < 0.02 else "done"
        attempts.append(an_attempt(slot, f"{phase}-{number}", free[slot], ended, outcome))
        free[slot] = ended + rng.uniform(0, 0.3)
    return sorted(attempts, key=lambda attempt: attempt.ended)


class Read(HTMLParser):
    """The words, table cells and images of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.words.append(" " if tag in {"div", "td", "th", "table"} else "")
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self._in_cell = True
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._in_cell:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def svg_in(html: str) -> ET.Element:
    (image,) = Read(html).images
    kind, _, encoded = (image["src"] or "").partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ET.fromstring(base64.b64decode(encoded))


def paths(svg: str | ET.Element) -> dict[str, ET.Element]:
    """By colour."""
    root = ET.fromstring(svg) if isinstance(svg, str) else svg
    found = root.findall("{http://www.w3.org/2000/svg}path")
    return {path.get("fill") or path.get("stroke") or "": path for path in found if "opacity" not in str(path.attrib)}


# Geometry


def test_attempts_are_bars_of_their_kind_in_their_slot():
    attempts = [
        an_attempt("local/1", "map-0", 0.0, 1.0),
        an_attempt("local/2", "map-1", 0.5, 1.5, "died"),
        an_attempt("local/2", "map-1", 1.5, 2.0, backup=True),
        an_attempt("local/1", "reduce-0", 2.0, 4.0),
        an_attempt("local/2", "reduce-1", 2.0, 4.0, "stopped"),
    ]
    assert bars(by_kind(attempts), scale=10.0, least=3) == {
        "map": {"local/1": [[0, 10]]},
        "failed": {"local/2": [[5, 15]]},
        "backup": {"local/2": [[15, 20]]},
        "reduce": {"local/1": [[20, 40]]},
        "stopped": {"local/2": [[20, 40]]},
    }


@pytest.mark.parametrize("outcome", ["raised", "died", "lost", "refused"])
def test_whatever_gave_no_answer_is_a_failure(outcome):
    assert list(bars(by_kind([an_attempt("local/1", "reduce-0", 0, 1, outcome)]), 1.0, 1)) == ["failed"]


def test_an_attempt_that_took_no_time_can_still_be_seen():
    assert bars(by_kind([an_attempt("local/1", "map-0", 2.0, 2.0)]), 1.0, 3) == {"map": {"local/1": [[2, 3]]}}


def test_narrow_neighbours_merge_and_gaps_stay():
    narrow = [an_attempt("local/1", f"map-{n}", n / 10, (n + 1) / 10) for n in [*range(50), *range(80, 100)]]
    assert bars(by_kind(narrow), scale=10.0, least=3) == {"map": {"local/1": [[0, 50], [80, 100]]}}


def test_wide_neighbours_stay_two_until_they_are_merged():
    wide = bars(by_kind([an_attempt("a/1", f"map-{n}", n, n + 1) for n in range(3)]), scale=10.0, least=3)
    assert wide["map"]["a/1"] == [[0, 10], [10, 20], [20, 30]]
    assert merged(wide, 11)["map"]["a/1"] == [[0, 30]]


def test_failures_between_successes_narrower_than_a_column_are_one_bar_of_each():
    outcomes = ["done", "died"]
    attempts = [an_attempt("a/1", "map-0", n / 1000, (n + 1) / 1000, outcomes[n % 2]) for n in range(10_000)]
    drawn = bars(by_kind(attempts), scale=70.0, least=3)
    assert {kind: lanes["a/1"] for kind, lanes in drawn.items()} == {"map": [[0, 700]], "failed": [[0, 700]]}


def test_shares_count_busy_slots_step_by_step():
    attempts = [
        an_attempt("a/1", "map-0", 0.0, 2.5),
        an_attempt("a/2", "map-1", 1.5, 2.0),
        an_attempt("a/2", "reduce-0", 3.0, 4.0),
    ]
    (lane,) = shares(by_kind(attempts), [["a/1", "a/2"]], seconds=4.0, n_steps=4)
    assert (lane.name, lane.n_slots) == ("a", 2)
    assert lane.busy["map"] == [1.0, 1.5, 0.5, 0.0]
    assert lane.busy["reduce"] == [0.0, 0.0, 0.0, 1.0]
    assert lane.coarser().busy["map"] == [1.25, 0.25]


def test_no_time_is_lost_in_shares():
    slots = [f"h{host}/{n}" for host in range(1, 6) for n in range(40)]
    attempts = many_attempts(slots, 2_000)
    end = attempts[-1].ended
    lanes = shares(by_kind(attempts), groups(slots, 24), end, 128)
    busy = sum(sum(steps) for lane in lanes for steps in lane.busy.values()) * end / 128
    assert busy == pytest.approx(sum(attempt.ended - attempt.started for attempt in attempts))


def test_lanes_are_named_after_what_is_in_them():
    slots = [*(f"local/{n}" for n in range(1, 41)), "h2/1", "h2/2"]
    named = [lane.name for lane in shares({}, groups(slots, 3), 1.0, 2)]
    assert named == ["local/1–14", "local/15–28", "local/29–40", "h2"]
    hosts = shares({}, groups([f"h{n}/1" for n in range(1, 7)], 3), 1.0, 2)
    assert [lane.name for lane in hosts] == ["h1 – h2", "h3 – h4", "h5 – h6"]
    assert hosts[0].joined(hosts[1]).name == "h1 – h4"


def test_slots_are_in_the_order_that_a_reader_expects():
    assert sorted_slots({"b/1", "local/2", "local/10", "a10/1", "a9/1"}) == [
        "local/2",
        "local/10",
        "a9/1",
        "a10/1",
        "b/1",
    ]


@pytest.mark.parametrize("seconds", [0.005, 0.02, 0.31, 1.0, 7.3, 59.0, 61.0, 200.0, 3599.0, 10_800.0, 90_000.0, 1e7])
def test_the_axis_has_a_few_round_marks(seconds):
    marks = ticks(seconds)
    assert 3 <= len(marks) <= 9
    assert marks[0] == (0, "0")
    assert marks[-1][0] <= seconds * 1.0001
    assert len({said for _, said in marks}) == len(marks)


def test_marks_are_said_in_the_largest_unit_that_fits():
    def said(seconds: float) -> str:
        return ticks(seconds)[-1][1]

    assert [said(0.005), said(0.3), said(1.0), said(7.3), said(100.0), said(10_800.0)] == [
        "5 ms",
        "300 ms",
        "1.0 s",
        "7 s",
        "1 min 40",
        "3 h",
    ]


# The drawing


def test_a_bar_is_a_stroke_that_leaves_a_column_free_and_a_failure_is_never_narrow():
    attempts = [
        an_attempt("local/1", "map-0", 0.0, 2.5),
        an_attempt("local/1", "map-1", 2.5, 5.0),
        an_attempt("local/1", "map-2", 5.0, 5.0, "died"),
    ]
    drawn = paths(draw(attempts, 10.0, 99_999).svg)
    left = 10 + round(7.2 * len("local/1"))
    quarter, half = (WIDTH - left - 30) // 4, (WIDTH - left - 30) // 2
    assert drawn[COLOURS["map"]].get("d") == f"M{left} 16h{quarter - 1}m1 0h{half - quarter - 1}"
    assert (drawn[COLOURS["failed"]].get("d") or "").endswith("h3")


def test_the_drawing_says_what_occurs_and_nothing_else():
    drawing = draw([an_attempt("local/1", "map-0", 0, 1), an_attempt("local/1", "reduce-0", 1, 2)], 2.0, 9_999)
    assert drawing.counts == {"map": 1, "reduce": 1}
    assert drawing.n_folded == 1
    assert sorted(paths(drawing.svg)) == sorted([COLOURS["map"], COLOURS["reduce"]])


def test_sixty_four_slots_have_a_lane_each_and_more_share():
    assert draw(many_attempts([f"a/{n}" for n in range(64)], 640), 15.0, 17_000).n_folded == 1
    folded = draw(many_attempts([f"h{host}/{n}" for host in range(8) for n in range(25)], 2_000), 15.0, 17_000)
    assert folded.n_folded == 25
    assert [text.text for text in ET.fromstring(folded.svg).iter("{http://www.w3.org/2000/svg}text")][-8:] == [
        f"h{host}" for host in range(8)
    ]


@pytest.mark.parametrize("limit", [17_000, 9_000, 5_000])
@pytest.mark.parametrize("n_slots", [60, 200])
def test_a_drawing_becomes_coarser_until_it_fits(limit, n_slots):
    attempts = many_attempts([f"a/{n}" for n in range(n_slots)], 8_000)
    assert len(draw(attempts, 0.0, limit).svg) <= limit


def test_two_hosts_whose_long_names_end_alike_have_a_lane_each():
    slots = [f"{rack}-of-a-host-with-a-very-long-name.example/1" for rack in ("one", "two")]
    drawn = draw([an_attempt(slot, "map-0", 0, 1) for slot in slots], 1.0, 9_999)
    assert (paths(drawn.svg)[COLOURS["map"]].get("d") or "").count("M") == 2
    assert set(re.findall(r"M\d+ (\d+)h", paths(drawn.svg)[COLOURS["map"]].get("d") or "")) == {"16", "42"}


@pytest.mark.slow
def test_a_million_attempts_are_drawn():
    attempts = many_attempts([f"local/{n}" for n in range(24)], 100_000) * 10
    drawing = draw(attempts, 0.0, 17_000)
    assert sum(drawing.counts.values()) == 1_000_000
    assert len(drawing.svg) <= 17_000


# The card


def test_the_card_says_how_it_ended_what_went_in_and_what_came_out():
    report = a_report(
        n_combined_pairs=9_000,
        shuffled_bytes=148_800_000,
        n_map_tasks_done=3,
        n_reduce_tasks_done=1,
        peak_bytes=92_000_000,
        timeline=[an_attempt("local/1", "map-0", 0, 1)] * 5,
        sample=[("'the'", "4"), ("'cat'", "1")],
        notes=["source from an earlier cell"],
    )
    read = Read(final_html(report, 0.0))
    assert read.text.startswith("✓ wordcount done in 6.10 s on 2 slots")
    assert read.rows == [
        ["records in", "pairs", "after combine", "shuffled", "keys out"],
        ["1,204", "70,000", "9,000", "149 MB", "53,211"],
        ["tasks", "attempts", "peak memory"],
        ["4", "5", "92.0 MB"],
        ["key", "value"],
        ["'the'", "4"],
        ["'cat'", "1"],
    ]
    assert "■ map 5" in read.text
    assert "Result: a dict of 53,211 keys, the first 2" in read.text
    assert read.text.endswith("source from an earlier cell")


def test_the_text_has_the_counts_in_a_second_line():
    report = a_report(n_map_tasks_done=3, shuffled_bytes=1_204)
    assert bundle(report, 0.0)["text/plain"] == (
        "wordcount: 1,204 records -> 53,211 keys in 6.10 s on 2 slots\n"
        "1,204 records in, 70,000 pairs, 1.20 kB shuffled, 53,211 keys out, 3 tasks"
    )


def test_one_of_a_kind_is_not_plural():
    timeline = [an_attempt("local/1", "map-0", 0, 1)]
    report = a_report(n_records=1, n_pairs=1, n_keys=1, n_map_tasks_done=1, timeline=timeline, n_slots=1)
    assert final_text(report, 0.0) == (
        "wordcount: 1 record -> 1 key in 6.10 s on 1 slot\n1 record in, 1 pair, 1 key out, 1 task, 1 attempt"
    )


def test_pairs_after_combine_are_told_only_where_something_was_combined():
    assert "combine" not in final_text(a_report(n_combined_pairs=70_000), 0.0)
    assert "9 after combine" in final_text(a_report(n_combined_pairs=9), 0.0)


def test_a_failed_jobs_card_says_why_in_both():
    report = a_report(state=State.FAILED, error="MapError: mapfn raised ValueError('odd duck')", n_keys=0)
    shown = bundle(report, 0.0)
    assert Read(shown["text/html"]).text.startswith(
        "✕ wordcount failed after 6.10 s on 2 slots MapError: mapfn raised ValueError('odd duck') records in"
    )
    assert shown["text/plain"].splitlines()[1] == "MapError: mapfn raised ValueError('odd duck')"
    assert "keys" not in Read(shown["text/html"]).text


def test_tasks_that_never_began_are_not_counted():
    report = a_report(state=State.CANCELLED, n_map_tasks=70, n_map_tasks_done=66)
    report.timeline = [an_attempt("local/1", f"map-{n}", n, n + 1) for n in range(68)]
    assert ["66", "68"] in Read(final_html(report, 0.0)).rows
    assert "66 tasks, 68 attempts" in final_text(report, 0.0)


def test_a_cancelled_jobs_card_shows_what_was_stopped():
    report = a_report(state=State.CANCELLED, timeline=[an_attempt("local/1", "map-0", 0, 1, "stopped")])
    read = Read(final_html(report, 0.0))
    assert read.text.startswith("■ wordcount cancelled after 6.10 s")
    assert "■ stopped 1" in read.text


def test_what_a_reader_should_do_something_about_is_said():
    barren = Read(final_html(a_report(n_pairs=0, n_keys=0), 0.0)).text
    assert barren.endswith("mapfn emitted nothing: is a yield missing?")
    lossy = a_report(n_skipped=3, n_failures=2, last_failure="map-3 on local/1 ended: killed by signal 9 (SIGKILL)")
    assert Read(final_html(lossy, 0.0)).text.endswith(
        "3 skipped: see the result's .errors "
        "2 attempts failed; the last: map-3 on local/1 ended: killed by signal 9 (SIGKILL)"
    )


def test_a_failure_that_a_note_tells_of_is_told_once():
    stop = "map-3 on local/1 was stopped at 9 GB: it was full"
    report = a_report(n_failures=1, last_failure=stop, notes=[f"{stop}; it ran again"])
    assert Read(final_html(report, 0.0)).text.count(stop) == 1
    report.n_failures = 2
    assert f"2 attempts failed; the last: {stop}" in Read(final_html(report, 0.0)).text


def test_a_job_without_attempts_has_no_picture():
    assert not Read(final_html(a_report(), 0.0)).images


def test_only_a_short_job_leaves_no_more_than_its_line():
    assert "<table" not in bundle(a_report(0.299), 0.0)["text/html"]
    assert "<table" in bundle(a_report(0.301), 0.0)["text/html"]


def test_where_no_card_can_be_made_the_line_stays_and_says_why(monkeypatch):
    def fail(report: Report, now: float) -> str:
        raise ValueError("<no card>")

    monkeypatch.setattr("jmr.views.final.final_html", fail)
    report = a_report(notes=["source from an earlier cell"])
    shown = bundle(report, 0.0)
    why = "(source from an earlier cell; no card: ValueError: <no card>)"
    assert shown["text/plain"] == f"wordcount: 1,204 records -> 53,211 keys in 6.10 s on 2 slots {why}"
    assert shown["text/html"].startswith("<div")
    assert "&lt;no card&gt;" in shown["text/html"]
    assert report.notes == ["source from an earlier cell"]


# Hostile words, and cleaning


def hostile_report() -> Report:
    slot = f"{HOSTILE}/1"
    return a_report(
        name=HOSTILE,
        state=State.FAILED,
        error=HOSTILE,
        notes=[HOSTILE],
        n_failures=2,
        last_failure=HOSTILE,
        sample=[(HOSTILE, HOSTILE)],
        timeline=[an_attempt(slot, "map-0", 0, 1)],
    )


def test_hostile_words_stay_words():
    html = final_html(hostile_report(), 0.0)
    read = Read(html)
    assert read.tags == {"div", "b", "code", "table", "tr", "th", "td", "img", "span", "details", "summary"}
    assert not [name for name in read.attributes if name.startswith("on")]
    assert read.text.count("<script>") == 6
    assert {element.tag.partition("}")[2] for element in svg_in(html).iter()} <= {"svg", "style", "path", "g", "text"}


ODD = "od\udc80d\ud83e"


@pytest.mark.parametrize("seconds", [0.1, 6.1])
def test_half_a_character_keeps_no_job_from_being_shown_and_stored(seconds):
    report = hostile_report()
    report.ended = report.started + seconds
    report.name = report.error = report.last_failure = ODD
    report.notes, report.sample = [ODD], [(ODD, ODD)]
    report.timeline.append(an_attempt(f"{ODD}/1", "map-1", 0, 1))
    for shown in (bundle(report, 0.0), Summary(report)._repr_mimebundle_()):
        json.dumps(shown, ensure_ascii=False).encode()
        assert Read(shown["text/html"]).text.count(r"od\udc80d\ud83e") >= 2
        assert r"od\udc80d\ud83e" in shown["text/plain"]


def test_an_error_with_half_a_character_in_it_is_told():
    class Odd(jmr.JmrError):
        pass

    def source() -> Any:
        raise Odd(ODD)
        yield

    with pytest.raises(Odd):
        jmr.run(source(), doubled, engine="inline", progress=False)
    json.dumps(jmr.last._repr_mimebundle_(), ensure_ascii=False).encode()
    assert r"od\udc80d\ud83e" in repr(jmr.last)


def _closed(html: str) -> str:
    """HTML as XML: what HTML leaves open is closed, and entities that only HTML knows are spelled out."""
    html = html.replace("&ensp;", " ").replace("&emsp;", " ").replace("<details open>", "<details>")
    return re.sub(r"(<img [^>]*)>", r"\1/>", html)


def test_the_card_is_well_formed():
    ET.fromstring(_closed(final_html(hostile_report(), 0.0)))
    ET.fromstring(_closed(final_html(a_report(timeline=many_attempts(["a/1"], 9), notes=["n"]), 0.0)))


def test_the_picture_has_a_natural_size():
    svg = svg_in(final_html(hostile_report(), 0.0))
    assert svg.get("width") == str(WIDTH)
    assert svg.get("viewBox") == f"0 0 {WIDTH} {svg.get('height')}"


def full_report() -> Report:
    return a_report(
        timeline=many_attempts(["local/1", "local/2"], 20),
        sample=[("'the'", "4")],
        peak_bytes=92_000_000,
        n_map_tasks_done=18,
    )


def test_an_untrusted_notebook_keeps_the_picture_and_the_style():
    """JupyterLab's sanitizer: no style sheet, no script, no drawing in line; data images and inline styles stay."""
    html = final_html(full_report(), 0.0)
    cleaned = bleach.clean(
        html,
        tags={"div", "b", "code", "table", "tbody", "tr", "th", "td", "img", "span", "details", "summary"},
        attributes={"*": ["style"], "img": ["alt", "src", "width"], "details": ["open"]},
        protocols=["data", "https"],
        css_sanitizer=CSSSanitizer(),
        strip=True,
    )
    assert Read(cleaned).text == Read(html).text
    assert svg_in(cleaned).get("width") == str(WIDTH)


def test_a_web_site_that_drops_styles_and_data_leaves_numbers_in_tables_and_the_pictures_words():
    """GitHub's cleaning."""
    cleaned = bleach.clean(
        final_html(full_report(), 0.0),
        tags={"div", "b", "code", "table", "tbody", "tr", "th", "td", "img", "span", "details", "summary"},
        attributes={"img": ["alt", "src", "width"], "details": ["open"]},
        protocols=["http", "https"],
        strip=True,
    )
    read = Read(cleaned)
    assert [image["alt"] for image in read.images] == [
        "Timeline of 20 attempts (17 map, 2 reduce, 1 failed) on 2 slots in 6.10 s"
    ]
    assert not read.images[0].get("src")
    assert ["tasks", "attempts", "peak memory"] in read.rows
    assert ["18", "20", "92.0 MB"] in read.rows
    assert ["'the'", "4"] in read.rows


# Size


@pytest.mark.parametrize("n_slots", [2, 64, 200])
def test_a_saved_job_takes_less_than_thirty_kilobytes(n_slots):
    report = a_report(
        name="n" * 500,
        timeline=many_attempts([f"h{n % 9}/{n}" for n in range(n_slots)], 20_000),
        sample=[('"<&>' * 15, '"<&>' * 20)] * 8,
        notes=["é" * 1_000] * 3,
        last_failure="x" * 1_000,
        n_failures=9,
        error="<" * 1_000,
    )
    output = nbformat.v4.new_output("display_data", data=bundle(report, 0.0))
    cell = nbformat.v4.new_code_cell(id="c", outputs=[output])
    assert len(nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode()) < 30_000


# Summary


def test_a_summary_shows_the_card_of_a_short_job_too():
    summary = Summary(a_report(0.004))
    shown = summary._repr_mimebundle_(include=None, exclude=None)
    assert Read(shown["text/html"]).rows[0][0] == "records in"
    assert shown["text/plain"] == repr(summary)
    assert repr(summary).splitlines()[0] == line(a_report(0.004), 0.0)


def doubled(key: str, value: int) -> list[tuple[str, int]]:
    return [(key, 2 * value)]


def test_a_result_keeps_its_summary_when_it_is_pickled_and_copied():
    result = jmr.run({"a": 1}, doubled, engine="inline", progress=False)
    assert repr(result.summary).startswith("doubled: 1 record -> 1 key in ")
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
        assert again == result
        assert repr(again.summary) == repr(result.summary)
        assert again.summary._repr_mimebundle_() == result.summary._repr_mimebundle_()


def test_a_result_made_by_hand_has_no_summary():
    assert Result({"a": 1}).summary is None


def test_jmr_last_is_the_summary_of_whatever_ended_last():
    result = jmr.run({"a": 1}, doubled, engine="inline", progress=False, name="first")
    assert str(jmr.last) == str(result.summary)

    def failing(key: str, value: int) -> None:
        raise ValueError("odd duck")

    def interrupted(key: str, value: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(jmr.MapError):
        jmr.run({"a": 1}, failing, engine="inline", progress=False, name="second")
    assert repr(jmr.last).startswith("second: failed after ")
    assert "odd duck" in repr(jmr.last).splitlines()[1]
    with pytest.raises(KeyboardInterrupt):
        jmr.run({"a": 1}, interrupted, engine="inline", progress=False, name="third")
    assert repr(jmr.last).startswith("third: cancelled after ")
    assert "last" in dir(jmr)


@pytest.mark.slow
def test_before_the_first_job_there_is_no_last_one_and_nothing_is_imported_to_say_so():
    code = "import jmr, sys; assert jmr.last is None; print(*[m for m in sys.modules if m.startswith('jmr')])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["jmr"]


# The result as IPython shows it


def test_a_small_result_shows_as_the_dict_that_it_is():
    for items in ({"a": 2, "b": 1}, {}, dict.fromkeys(range(20), "word " * 9), {"deep": {"of": [1, (2, 3)]}}):
        assert pretty(Result(items)) == pretty(dict(items))
        assert repr(Result(items)) == repr(items)


def test_a_big_result_does_not_flood_the_cell():
    lines = pretty(Result({n: n * n for n in range(53_221)})).splitlines()
    assert lines[0] == "{0: 0,"
    assert lines[29:] == [" 29: 841,", " ... 53,191 more keys}"]


def test_long_values_are_cut_and_short_ones_are_not():
    shown = pretty(Result({"few": list(range(40)), "many": list(range(10**6)), "text": "x" * 10**6}))
    few, many, text = shown.splitlines()
    assert few == f"{{'few': {list(range(40))},"
    assert many.startswith(" 'many': [0, 1, 2, ")
    assert many.endswith("...,")
    assert text.startswith(" 'text': 'xxx")
    assert text.endswith("xxx'}")
    assert max(map(len, (many, text))) < 230


def test_a_result_inside_itself_ends():
    result = Result()
    result["me"] = result
    assert "{...}" in pretty(result)


def test_a_summary_has_what_the_functions_printed(cluster):
    result = jmr.run({1: 1}, lambda key, value: print("odd duck"), progress=False)
    assert re.fullmatch(r"\[local/[12]\] odd duck\n", result.summary.log())
    assert jmr.last.log() == result.summary.log()
    assert copy.copy(result).summary.log() == copy.deepcopy(result).summary.log() == jmr.last.log()


def test_a_result_is_pickled_without_what_was_printed_and_with_all_else():
    report = a_report(timeline=[an_attempt("local/1", "map-0", 0, 1)], n_skipped=1)
    errors = BadRecords([BadRecord("map", "odd", "duck", ValueError("odd duck"), "Traceback")])
    report.log.add("local/1", 1, b"x" * 60_000 + b"\n")
    result = Result({"a": 1}, errors=errors, timeline=report.timeline, summary=Summary(report))
    pickled = pickle.dumps(result)
    assert len(pickled) < 5_000
    again = pickle.loads(pickled)
    assert (again.summary.log(), len(result.summary.log())) == ("", 60_011)
    assert again.summary._repr_mimebundle_() == result.summary._repr_mimebundle_()
    assert (again.timeline, [bad.key for bad in again.errors]) == (result.timeline, ["odd"])


def test_the_last_summary_holds_no_records():
    result = jmr.run({1: 0, 2: 1}, lambda k, v: [(k, 1 / v)], engine="inline", on_error="skip", progress=False)
    assert [bad.key for bad in result.errors] == [1]
    assert "1 skipped" in str(jmr.last)
    assert b"ZeroDivisionError" not in pickle.dumps(jmr.last)
