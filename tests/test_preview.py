"""Look before you run: what a preview gives, what it leaves alone, what it says and draws."""

from __future__ import annotations

import base64
import itertools
import math
import re
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jmr
from jmr.engines import cluster as engines_cluster
from jmr.engines import weight
from jmr.session import preview as home
from jmr.session.preview import Preview
from tests.shells import ipython
from tests.test_properties import exactly, sources

TEXTS = {"Hamlet": "to be or not to be", "Macbeth": "to bed to bed", "Caesar": "et tu Brute"}


def mapfn(title: Any, text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        yield word, 1


def reducefn(word: Any, ones: list[int]) -> int:
    return sum(ones)


def html_of(seen: Preview) -> str:
    return seen._repr_mimebundle_()["text/html"]


def drawing_of(seen: Preview) -> ET.Element:
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html_of(seen))
    return ET.fromstring(base64.b64decode(data))


def elements(seen: Preview, tag: str) -> list[ET.Element]:
    return drawing_of(seen).findall("{http://www.w3.org/2000/svg}" + tag)


def ribbons(seen: Preview) -> list[ET.Element]:
    return [path for path in elements(seen, "path") if path.get("stroke-width") == "5"]


def words_in(seen: Preview) -> list[str]:
    return [text.text or "" for text in elements(seen, "text")]


def facts(seen: Preview) -> dict[str, str]:
    return dict(re.findall(r"^(pairs per record|types|pickled|whole source|time)  +(.*)$", repr(seen), re.MULTILINE))


# What it gives


def test_records_become_pairs_and_pairs_meet_in_groups_and_groups_become_results():
    seen = jmr.preview(TEXTS, mapfn, reducefn)
    assert seen.records == list(TEXTS.items())
    assert seen.pairs[1] == [("to", 1), ("bed", 1), ("to", 1), ("bed", 1)]
    assert list(seen.groups.items())[:2] == [("to", [1, 1, 1, 1]), ("be", [1, 1])]
    assert seen.combined is None
    assert exactly(seen.results) == exactly(jmr.run(TEXTS, mapfn, reducefn, engine="inline"))
    assert (seen.n_records, seen.warnings) == (3, [])


def test_combinefn_folds_each_group_before_it_is_reduced():
    seen = jmr.preview(TEXTS, mapfn, lambda word, sums: [len(sums), *sums], combinefn=reducefn)
    assert seen.groups["to"] == [1, 1, 1, 1]
    assert seen.combined is not None
    assert seen.combined["to"] == 4
    assert seen.results["to"] == [1, 4]
    assert seen.warnings == []
    assert seen.shuffled_bytes < seen.pair_bytes


def test_only_the_first_records_are_run():
    seen = jmr.preview({number: number for number in range(1_000)}, lambda key, value: [(key % 2, value)], n=3)
    assert seen.groups == {0: [0, 2], 1: [1]}
    assert seen.n_records == 1_000


@pytest.mark.slow
@given(sources, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_preview_of_all_records_has_the_answer_of_inline(source: list[Any], combines: bool) -> None:
    def emits(_: Any, pairs: list[tuple[Any, int]]) -> list[tuple[Any, int]]:
        return pairs

    def total(key: Any, values: list[int]) -> int:
        return sum(values)

    def folds(key: Any, values: list[int]) -> Any:
        return (repr(key), values)

    combinefn = total if combines else None
    for fold in (folds, None):
        seen = jmr.preview(source, emits, fold, combinefn=combinefn, n=25)
        inline = jmr.run(source, emits, fold, combinefn=combinefn, engine="inline")
        assert exactly(seen.results) == exactly(inline)
        assert seen.pairs == [pairs for _, pairs in source]
        assert sum(map(len, seen.groups.values())) == sum(map(len, seen.pairs))
        assert list(map(repr, seen.groups)) == list(map(repr, inline))
        if source:
            assert len(ribbons(seen)) == sum(len(record.pairs) for record in seen._told.flow.records)


def test_all_nans_meet_in_one_group():
    seen = jmr.preview({1: 1, 2: 2}, lambda key, value: [(float("nan"), value)], lambda key, values: sum(values))
    assert list(seen.groups.values()) == [[1, 2]]
    assert list(seen.results.values()) == [3]


def test_lists_of_two_pass_for_pairs_and_a_generators_items_become_a_list():
    seen = jmr.preview({1: 2}, lambda key, value: [[key, value]], lambda key, values: (value for value in values))
    assert seen.pairs == [[(1, 2)]]
    assert seen.results == {1: [2]}


def test_arrays_travel_and_are_drawn():
    seen = jmr.preview({1: np.arange(3.0)}, lambda key, array: [(key, array)], lambda key, arrays: sum(arrays))
    assert seen.results[1].tolist() == [0.0, 1.0, 2.0]
    assert "array([0., 1., 2.])" in repr(seen)
    assert facts(seen)["types"] == "keys int; values ndarray"


def test_final_is_checked_and_not_called():
    assert jmr.preview({1: 1}, lambda key, value: [(key, value)], final=lambda key, value: 1 / 0).results == {1: [1]}
    with pytest.raises(jmr.ArgumentTypeError, match="final must be a function"):
        jmr.preview({1: 1}, mapfn, final=3)  # type: ignore[arg-type]


# What it leaves alone


def test_a_lazy_source_loads_no_more_than_it_is_asked_for():
    class Endless:
        def __init__(self) -> None:
            self.loaded: list[int] = []

        def __iter__(self) -> Iterator[int]:
            return itertools.count()

        def __getitem__(self, key: int) -> str:
            self.loaded.append(key)
            return f"text {key}"

    source = Endless()
    seen = jmr.preview(source, mapfn, reducefn, n=4)
    assert source.loaded == [0, 1, 2, 3]
    assert seen.n_records is None
    assert "the first 4 records ->" in repr(seen)
    assert facts(seen)["whole source"] == "how many records it has, only reading it can tell"


def test_an_iterator_is_refused_unread_and_the_advice_works():
    source: Any = iter(TEXTS.items())
    with pytest.raises(jmr.ArgumentTypeError, match=r"dict_itemiterator\), which can be read only once") as refused:
        jmr.preview(source, mapfn, reducefn, n=2)
    advice = re.findall(r"head = .*", str(refused.value))[0].replace("...", "mapfn, reducefn")
    namespace = {"itertools": itertools, "jmr": jmr, "mapfn": mapfn, "reducefn": reducefn, "source": source}
    exec(advice, namespace)
    assert namespace["head"] == list(TEXTS.items())[:2]
    assert list(namespace["source"]) == list(TEXTS.items())


def test_user_code_works_on_copies():
    source = {1: [3, 1, 2]}

    def sorts(key: int, values: list[int]) -> Iterator[tuple[int, list[int]]]:
        values.sort()
        yield key, values

    def empties(key: int, values: list[list[int]]) -> int:
        values[0].clear()
        values.clear()
        return 0

    seen = jmr.preview(source, sorts, empties)
    assert source == {1: [3, 1, 2]}
    assert seen.records == [(1, [3, 1, 2])]
    assert seen.groups == {1: [[1, 2, 3]]}


def test_nothing_is_started(monkeypatch):
    monkeypatch.setattr(engines_cluster, "_default", None)
    monkeypatch.setattr(engines_cluster.Cluster, "__init__", lambda *args, **options: pytest.fail("a cluster"))
    seen = jmr.preview(dict.fromkeys(range(9), ""), mapfn, workers=3)
    assert seen.estimate is not None
    assert seen.estimate.n_slots == 3
    assert jmr.preview(dict.fromkeys(range(9), ""), mapfn, workers=0).estimate.n_slots == 1


# Mistakes


def raises(key: Any, value: Any) -> Any:
    raise LookupError("odd duck")


MISTAKES: list[Callable[[], dict[str, Any]]] = [
    lambda: {"mapfn": raises},
    lambda: {"mapfn": lambda key: []},
    lambda: {"mapfn": lambda key, value: "ab"},
    lambda: {"mapfn": lambda key, value: ["ab"]},
    lambda: {"mapfn": lambda key, value: {"a": 1}},
    lambda: {"mapfn": lambda key, value: 1},
    lambda: {"mapfn": lambda key, value: [(1, 2, 3)]},
    lambda: {"mapfn": lambda key, value: [([], 1)]},
    lambda: {"mapfn": lambda key, value: [(object(), 1)]},
    lambda: {"reducefn": raises},
    lambda: {"reducefn": lambda key: 1},
    lambda: {"combinefn": raises},
    lambda: {"combinefn": lambda key, values: (value for value in values)},
    lambda: {"source": 3},
    lambda: {"source": "text"},
    lambda: {"source": ["abc"]},
    lambda: {"mapfn": 3},
    lambda: {"workers": -1},
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_as_inline_tells_it(mistake: Callable[[], dict[str, Any]]) -> None:
    parts = {"source": TEXTS, "mapfn": mapfn, "reducefn": reducefn} | mistake()
    with pytest.raises(jmr.JmrError) as told:
        jmr.preview(**parts)
    with pytest.raises(jmr.JmrError) as expected:
        jmr.run(engine="inline", **parts)
    assert type(told.value) is type(expected.value)
    assert without_address(str(told.value)) == without_address(str(expected.value).replace("(inline)", "(preview)"))
    assert repr(told.value.__cause__) == repr(expected.value.__cause__)


def without_address(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)


def test_an_error_shows_the_users_frames_and_none_of_ours():
    with pytest.raises(jmr.MapError) as told:
        jmr.preview(TEXTS, raises)
    frames = [frame.name for frame in told.traceback]
    assert frames == ["test_an_error_shows_the_users_frames_and_none_of_ours", "raises"]
    assert "for record key='Hamlet' (preview)" in str(told.value)


def test_an_interrupt_of_user_code_is_no_error_of_it():
    def interrupted(key: Any, value: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jmr.preview(TEXTS, interrupted)


def test_what_the_source_raises_comes_out_unchanged():
    class Broken(dict[int, int]):
        def __getitem__(self, key: int) -> int:
            raise ZeroDivisionError("no such page")

        def items(self) -> Any:
            return ((key, self[key]) for key in self)

    with pytest.raises(ZeroDivisionError, match="no such page"):
        jmr.preview(Broken({1: 1}), mapfn)


def test_what_cannot_be_sent_to_a_slot_is_refused():
    lock = threading.Lock()

    def locks(key: Any, value: Any) -> Any:
        with lock:
            yield key, value

    with pytest.raises(jmr.NotPicklableError, match="mapfn -> lock cannot be sent to the workers"):
        jmr.preview(TEXTS, locks)
    with pytest.raises(jmr.NotPicklableError, match="record key=1 cannot be sent to the workers"):
        jmr.preview({1: lock}, mapfn)
    with pytest.raises(jmr.NotPicklableError, match=r"emitted a value for key 'a' that cannot be sent on") as told:
        jmr.preview({1: 1, 2: 2}, lambda key, value: [("a", threading.Lock() if key == 2 else 1)])
    assert "Seen for record key=2 (preview)" in str(told.value)
    with pytest.raises(jmr.NotPicklableError, match="reducefn returned a result that cannot be sent back"):
        jmr.preview({1: 1}, lambda key, value: [(key, value)], lambda key, values: threading.Lock())


@pytest.mark.parametrize(
    ("n", "error", "words"),
    [
        (0, jmr.ArgumentValueError, "n must be from 1 to 1,000, not 0"),
        (1_001, jmr.ArgumentValueError, "n must be from 1 to 1,000, not 1001"),
        ("5", jmr.ArgumentTypeError, "n must be a whole number"),
    ],
)
def test_n_is_checked(n, error, words):
    with pytest.raises(error, match=words):
        jmr.preview(TEXTS, mapfn, n=n)


# Warnings


def test_a_mapfn_that_emits_nothing_is_told():
    def forgets(title: str, text: str) -> None:
        for word in text.split():
            word, 1

    seen = jmr.preview(TEXTS, forgets, reducefn)
    assert seen.warnings == ["mapfn emitted nothing: is a yield missing?"]
    assert words_in(seen).count("emits nothing") == 3
    assert "⚠ mapfn emitted nothing" in html_of(seen)
    assert "! mapfn emitted nothing" in repr(seen)


def test_a_mapfn_that_emits_for_some_records_is_not_told():
    assert jmr.preview({1: "", 2: "a"}, mapfn).warnings == []


def test_keys_that_cannot_be_divided_among_slots_are_told():
    (warning,) = jmr.preview({1: range(3)}, lambda key, value: [(value, 1), ("a", 2)]).warnings
    assert warning.startswith("Keys of type range cannot be divided among slots: one slot will reduce them all.")


def test_functions_that_capture_much_are_told_as_the_job_itself_would_warn_of_them(cluster, monkeypatch):
    monkeypatch.setattr(weight, "_told", {})
    large = bytes(11_000_000)

    def mapfn(key: int, value: int) -> list[tuple[int, int]]:
        return [(key, large[value])]

    (warning,) = jmr.preview({1: 1}, mapfn).warnings
    assert warning.startswith("mapfn -> large is 11.0 MB: captured by the job's functions, so it is pickled again")
    with pytest.warns(UserWarning, match=f"^{re.escape(warning)}$"):
        jmr.run({1: 1}, mapfn, progress=False)


def a_combinefn_that_counts(key: Any, values: list[Any]) -> int:
    return len(values)


def a_combinefn_that_averages(key: Any, values: list[Any]) -> float:
    return sum(values) / len(values)


def numbers(key: Any, value: int) -> list[tuple[str, int]]:
    return [("x", value)]


def test_a_combinefn_that_does_not_leave_its_own_results_alone_is_told():
    (warning,) = jmr.preview({1: 4, 2: 5, 3: 6}, numbers, reducefn, combinefn=a_combinefn_that_counts).warnings
    assert warning.startswith("combinefn makes 3 of the values of 'x', and then 1 of that alone.")


def test_a_combinefn_for_which_it_matters_what_is_folded_first_is_told():
    (warning,) = jmr.preview({1: 4, 2: 6, 3: 11}, numbers, reducefn, combinefn=a_combinefn_that_averages).warnings
    assert warning.startswith("combinefn makes 7.0 of the values of 'x' all at once, but 8.0 if it folds two parts")


@pytest.mark.parametrize(
    "combinefn",
    [
        lambda key, values: sum(values) * 1.0,
        lambda key, values: max(values),
        lambda key, values: values[0],
        lambda key, values: math.nan,
        lambda key, values: sum(map(Counter, [{"a": 1}]), Counter()),
    ],
)
def test_a_good_combinefn_is_not_told(combinefn):
    source = {number: 0.1 * number for number in range(1, 8)}
    assert jmr.preview(source, numbers, None, combinefn=combinefn, n=7).warnings == []


# The estimate


class Clock:
    """Time passes only where a function says so."""

    now = 0.0

    @classmethod
    def read(cls) -> float:
        return cls.now


def slow_mapfn(key: int, value: int) -> Iterator[tuple[int, int]]:
    Clock.now += 20.0 if key == 0 else 2.0
    yield key % 2, value
    Clock.now += 1.0
    yield key % 2, value


def slow_reducefn(key: int, values: list[int]) -> Iterator[int]:
    Clock.now += 1.0
    yield sum(values)


def test_the_estimate_scales_what_calls_took_but_for_the_first_which_may_load_things(monkeypatch):
    monkeypatch.setattr(home, "clock", Clock.read)
    source = {number: number for number in range(1_000)}
    seen = jmr.preview(source, slow_mapfn, slow_reducefn, workers=2, n=4)
    assert seen.seconds == 4 * 3.0 + 2 * 1.0
    assert seen.estimate is not None
    assert (seen.estimate.n_records, seen.estimate.n_pairs, seen.estimate.n_slots) == (1_000, 2_000, 2)
    assert (seen.estimate.core_seconds, seen.estimate.slot_seconds) == (3_500.0, 1_750.0)
    assert seen.estimate.shuffled_bytes == 250 * seen.shuffled_bytes
    assert facts(seen)["time"] == "about 1 h on one core, about 30 min on 2 slots"
    assert facts(seen)["whole source"].startswith("1,000 records -> about 2,000 pairs; up to ")


def test_a_source_shown_as_a_whole_needs_no_estimate():
    seen = jmr.preview(TEXTS, mapfn, reducefn)
    assert seen.estimate is not None
    assert seen.estimate.n_pairs == 13
    assert facts(seen).keys() == {"pairs per record", "types", "pickled"}


def test_slots_of_the_cluster_inside_whose_block_it_is_are_counted(cluster):
    seen = jmr.preview(dict.fromkeys(range(9), ""), mapfn)
    assert seen.estimate is not None
    assert seen.estimate.n_slots == cluster.n_slots == 2


def test_an_empty_source_is_told():
    seen = jmr.preview({}, mapfn, reducefn)
    assert (seen.records, seen.results, seen.estimate) == ([], {}, None)
    assert repr(seen) == "Preview: the source has no records"
    assert "the source has no records" in html_of(seen)


# Text


def test_the_text_is_aligned():
    seen = jmr.preview(TEXTS, mapfn, reducefn)
    assert repr(seen).split("\npickled")[0] == (
        "Preview: all 3 records -> 13 pairs -> 8 groups -> 8 results\n"
        "\n"
        "  record     its value             pairs that mapfn emits\n"
        "  'Hamlet'   'to be or not to be'  'to': 1   'be': 1   'or': 1   'not': 1   'to': 1   'be': 1\n"
        "  'Macbeth'  'to bed to bed'       'to': 1   'bed': 1   'to': 1   'bed': 1\n"
        "  'Caesar'   'et tu Brute'         'et': 1   'tu': 1   'Brute': 1\n"
        "\n"
        "  group    its values    result\n"
        "  'to'     [1, 1, 1, 1]  4\n"
        "  'be'     [1, 1]        2\n"
        "  'or'     [1]           1\n"
        "  'not'    [1]           1\n"
        "  'bed'    [1, 1]        2\n"
        "  'et'     [1]           1\n"
        "  'tu'     [1]           1\n"
        "  'Brute'  [1]           1\n"
        "\n"
        "pairs per record  4.3 on average, 6 at most\n"
        "types             keys str; values int"
    )


def test_an_arrow_in_the_users_own_text_stays():
    assert "'a → b'" in repr(jmr.preview({1: "a → b"}, lambda key, value: [(key, value)]))


def test_the_job_has_the_name_of_its_mapfn():
    def index(key: int, value: int) -> list[tuple[int, int]]:
        return [(key, value)]

    assert repr(jmr.preview({1: 1}, index)).startswith("Preview of index: 1 record -> 1 pair -> 1 group -> 1 result\n")


def test_no_line_of_text_is_longer_than_a_terminal_is_wide():
    seen = jmr.preview(LARGE["long"][0], LARGE["long"][1], n=50)
    assert max(map(len, repr(seen).split("\n\n")[1].splitlines())) <= 108
    assert "… 1 more" in repr(seen)


# The picture


def test_each_pair_has_a_ribbon_to_its_group_and_each_group_its_colour():
    seen = jmr.preview(TEXTS, mapfn, reducefn)
    colours = [ribbon.get("stroke") for ribbon in ribbons(seen)]
    assert len(colours) == 13
    assert list(Counter(colours).values()) == [4, 2, 1, 1, 2, 1, 1, 1]
    assert words_in(seen)[:7] == ["mapfn", "group by key", "reducefn", "3 records", "13 pairs", "8 groups", "8 results"]


def test_the_picture_says_what_combinefn_makes():
    words = words_in(jmr.preview(TEXTS, mapfn, reducefn, combinefn=reducefn))
    assert {"combinefn", "8 combined"} <= set(words)


def test_the_picture_names_no_reducefn_where_there_is_none():
    assert "reducefn" not in words_in(jmr.preview(TEXTS, mapfn))


LARGE: dict[str, tuple[Any, Any]] = {
    "long": ({f"key {i} " * 40: "word " * 100 for i in range(30)}, lambda k, v: [(k, v), (v, k)]),
    "many pairs": (dict.fromkeys(range(3), "x"), lambda k, v: [(i % 300, (k, i)) for i in range(1_000)]),
    "many records": (dict.fromkeys(range(50), "x"), lambda k, v: [(k, v)]),
    "one key": ({i: "x" * i for i in range(50)}, lambda k, v: [("k", v)] * 3),
    "some nothing": (dict.fromkeys(range(9), "x"), lambda k, v: [(k, v)] * (k % 3)),
}


@pytest.mark.parametrize("combinefn", [None, lambda key, values: values[0]])
@pytest.mark.parametrize("name", LARGE)
def test_every_box_and_word_stands_inside_the_picture(name: str, combinefn: Any) -> None:
    seen = jmr.preview(*LARGE[name], combinefn=combinefn, n=50)
    width, height = (float(drawing_of(seen).get(side, "")) for side in ("width", "height"))
    assert width <= 830
    assert height < 1_000
    for box in elements(seen, "rect"):
        x, y, box_width, box_height = (float(box.get(each, "")) for each in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + box_width <= width + 0.1
        assert y + box_height <= height + 0.1
    for text in elements(seen, "text"):
        assert float(text.get("y", "")) <= height
        if text.get("text-anchor") is None:
            assert float(text.get("x", "")) + 7.25 * len(text.text or "") <= width + 1


def test_what_is_not_shown_is_counted():
    words = words_in(jmr.preview(*LARGE["many pairs"]))
    assert "… 994 more" in words
    assert "… 294 more" in words
    assert words_in(jmr.preview(*LARGE["many records"], n=50)).count("… 42 more") == 2
    assert len(html_of(jmr.preview(*LARGE["many pairs"]))) < 40_000


class Hostile:
    """Has a repr that would end the document, and characters that no XML may hold."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hostile) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __repr__(self) -> str:
        return "</svg><script>alert(1)</script>\x00\x1b[31m\ud800\u202e'\"&"


def test_hostile_text_is_text():
    seen = jmr.preview({"</td><script>": Hostile()}, lambda key, value: [(key, value), (value, key)])
    shown = html_of(seen)
    assert "<script" not in shown
    assert "</svg>" not in shown
    assert "</td><script>" in "".join(words_in(seen))
    assert r"</svg><script>alert(1)</script>\x00\x1b[31m\ud800\u202e'" in repr(seen)
    assert not set("\x00\x1b\ud800\u202e") & set(shown + repr(seen) + "".join(words_in(seen)))


def test_the_card_survives_an_untrusted_notebook():
    shown = html_of(jmr.preview(TEXTS, mapfn, reducefn))
    assert not re.findall(r"<style|class=|onclick|<svg|<script|<tbody", shown)
    assert re.findall(
        r'<img alt="all 3 records → 13 pairs → 8 groups → 8 results\. &#x27;to&#x27;: \[1, 1, 1, 1\]', shown
    )
    for cell in ("&#x27;Hamlet&#x27;", "[1, 1, 1, 1]"):
        assert f">{cell}</code></td>" in shown


def test_ipython_shows_the_card():
    with ipython() as shell:
        shown, _ = shell.display_formatter.format(jmr.preview(TEXTS, mapfn, reducefn))
    assert shown.keys() == {"text/html", "text/plain"}
    assert shown["text/plain"].startswith("Preview: all 3 records")
