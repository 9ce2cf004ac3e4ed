"""The notebooks run from top to bottom, as `jupyter execute` runs them, in a process and a kernel of their own.

What they say is compared with what is known: of data that do not change, or of the same count as a plain loop, here.
"""

from __future__ import annotations

import ast
import base64
import functools
import json
import math
import os
import re
import shutil
import struct
import subprocess
import sysconfig
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

from tests.test_kernel import kernel_environment

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED = {"lab": "matplotlib", "gallery": "palmerpenguins", "arrow": "pyarrow", "test": "nbclient"}
for extra, package in NEEDED.items():
    if find_spec(package) is None:
        pytest.skip(f"the extra `{extra}` is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
Notebook = dict[str, Any]


def notebook_parameter(path: Path) -> Any:
    """The quickstart runs on every Python; the gallery is marked, and so are engines: some may leave them out."""
    marks = {"quickstart": [], "engines": [pytest.mark.gallery, pytest.mark.engines]}
    return pytest.param(path, id=path.stem, marks=marks.get(path.stem, [pytest.mark.gallery]))


def of(*names: str) -> pytest.MarkDecorator:
    """For tests that are about some notebooks only."""
    parameters = [notebook_parameter(CHECKOUT / "notebooks" / f"{name}.ipynb") for name in names]
    return pytest.mark.parametrize("executed", parameters, indirect=True)


def with_solutions(notebook: Notebook) -> Notebook:
    """Make cells of the solutions that are folded away in the text, each after its exercise."""
    cells = []
    for cell in notebook["cells"]:
        cells.append(cell)
        for code in re.findall(r"```python\n(.*?)```", "".join(cell["source"]), re.DOTALL):
            cells.append(nbformat.v4.new_code_cell(code, id=f"{cell['id']}-solution"))
    return notebook | {"cells": cells}


def without(packages: tuple[str, ...], notebook: Notebook) -> Notebook:
    """Make them missing, by a cell at the beginning."""
    code = f"import sys\nsys.modules.update(dict.fromkeys({packages}))"
    return notebook | {"cells": [nbformat.v4.new_code_cell(code, id="without"), *notebook["cells"]]}


@pytest.fixture(scope="module")
def execute(tmp_path_factory) -> Callable[..., Notebook]:
    """Execute a notebook, once."""

    @functools.cache
    def run(path: Path, *missing: str) -> Notebook:
        folder = tmp_path_factory.mktemp(path.stem)
        notebook = folder / path.name
        notebook.write_text(json.dumps(without(missing, with_solutions(json.loads(path.read_text())))))
        run = subprocess.run(
            [Path(sysconfig.get_path("scripts")) / "jupyter-execute", "--inplace", "--allow-errors", notebook],
            env=os.environ | kernel_environment(folder),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(notebook.read_text())

    return run


@pytest.fixture(params=[notebook_parameter(path) for path in NOTEBOOKS])
def executed(request, execute) -> Notebook:
    """A notebook with its outputs."""
    return execute(request.param)


def outputs(notebook: Notebook, cell_id: str | None = None) -> list[dict[str, Any]]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell_id in (None, cell["id"])]
    assert cells
    return [output for cell in cells for output in cell["outputs"]]


def printed(notebook: Notebook, cell_id: str) -> str:
    return "".join("".join(output["text"]) for output in outputs(notebook, cell_id) if output.get("name") == "stdout")


def value(notebook: Notebook, cell_id: str) -> str:
    (result,) = [output for output in outputs(notebook, cell_id) if output["output_type"] == "execute_result"]
    return "".join(result["data"]["text/plain"])


def numbers(text: str) -> list[float]:
    """Every number in a text."""
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?", text)]


def modules(pattern: str) -> list[Path]:
    """Those of the standard library."""
    others = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    return [path for path in sorted(STDLIB.glob(pattern)) if others.isdisjoint(path.parts)]


def picture_sizes(notebook: Notebook) -> list[tuple[int, int]]:
    """Width and height of each picture that the notebook drew, from the PNG's own header."""
    pictures = [output["data"]["image/png"] for output in outputs(notebook) if "image/png" in output.get("data", {})]
    return [struct.unpack(">II", base64.b64decode(picture)[16:24]) for picture in pictures]


def test_no_cell_fails(executed):
    failures = ["\n".join(output["traceback"]) for output in outputs(executed) if output["output_type"] == "error"]
    assert not failures, failures[0]


def test_each_draws_a_picture_that_fills_the_page(executed):
    assert max(picture_sizes(executed)) >= (900, 350)


def test_only_progress_goes_to_stderr(executed):
    said = "".join("".join(output["text"]) for output in outputs(executed) if output.get("name") == "stderr")
    assert [line for line in said.splitlines() if not re.search(r": (map|reduce) ", line)] == []


@of("quickstart")
class TestQuickstart:
    def test_triangular_numbers_come_out_in_order(self, executed):
        assert printed(executed, "triangular").splitlines()[:10] == [f"{n} {n * (n + 1) // 2}" for n in range(10)]
        assert value(executed, "triangular-look") == "(4950, 166650)"

    def test_it_counts_over_a_million_words(self, executed):
        n_words, n_different = re.match(r"([\d,]+) words, ([\d,]+) of them", printed(executed, "words-look")).groups()
        assert int(n_words.replace(",", "")) > 1_000_000
        assert int(n_different.replace(",", "")) > 10_000

    def test_the_index_puts_the_heaviest_user_first(self, executed):
        uses = re.findall(r"\((\d+), '([^']+)'\)", value(executed, "index-look"))
        assert {"sched.py", "asyncio/queues.py"} <= {path for _, path in uses}
        assert [int(n_uses) for n_uses, _ in uses] == sorted((int(n_uses) for n_uses, _ in uses), reverse=True)

    def test_plain_calls_answer_as_the_magic_does(self, executed):
        assert "zipfile" in value(executed, "run")
        assert "zipimport.py" in value(executed, "inline")
        assert value(executed, "errors") == "[]"


@of("wordcount")
class TestWordCount:
    def test_it_counts_what_a_loop_counts(self, executed):
        from pydoc_data.topics import topics

        counts = Counter(word for text in topics.values() for word in re.findall(r"[a-z]{2,}", text.lower()))
        assert numbers(printed(executed, "count-look")) == [counts.total(), len(counts)]
        assert value(executed, "count-look").startswith(f"[{counts.most_common(1)[0]}")

    def test_a_combiner_saves_bytes_and_changes_nothing(self, executed):
        (_, bytes_without), (_, bytes_with) = map(numbers, printed(executed, "combiner-look").splitlines())
        assert bytes_with < 0.8 * bytes_without
        assert value(executed, "combiner-look") == "True"

    def test_search_finds_the_topic_that_a_reader_would_want(self, executed):
        first = dict(re.findall(r"^(.*\S) {2,}(\S+)(?:,|$)", printed(executed, "search"), re.MULTILINE))
        assert first["leave a loop early"] == "break"
        assert first["how do I await a coroutine"] == "await"

    def test_a_phrase_is_found_where_its_words_follow_one_another(self, executed):
        assert "'with'" in value(executed, "phrase")


@of("kmeans")
class TestKMeans:
    def test_the_kinds_are_those_that_are_known(self, executed):
        assert printed(executed, "loop").endswith("kinds of [133, 123, 86] penguins\n")
        assert "{'Gentoo': 123}" in printed(executed, "species")
        assert "314 of 342 penguins (92%)" in printed(executed, "species")

    def test_more_kinds_leave_less_to_explain(self, executed):
        spread = numbers(value(executed, "how-many"))[1::2]
        assert spread[0] == 4 * 342
        assert spread[2] == 379
        assert spread == sorted(spread, reverse=True)


@of("pagerank")
class TestPageRank:
    def test_the_ranks_add_up_to_one(self, executed):
        n_turns, total = numbers(printed(executed, "turns"))
        assert 10 < n_turns < 60
        assert math.isclose(total, 1, abs_tol=1e-9)

    def test_they_are_those_of_a_power_iteration(self, executed):
        (difference,) = numbers(printed(executed, "check"))
        assert difference < 1e-12

    def test_python_rests_on_sys(self, executed):
        assert re.match(r" +1\. sys ", printed(executed, "best"))


@of("join")
class TestJoin:
    def test_every_flight_is_there_once_and_meets_its_weather(self, executed):
        assert numbers(printed(executed, "join-look")) == [336_776, 335_220, 6_737]

    def test_a_plain_loop_joins_as_many(self, executed):
        assert value(executed, "plain") == "True"

    def test_airlines_have_their_names(self, executed):
        assert re.match(r"United Air Lines Inc\. +58,665 flights", printed(executed, "small"))


@of("montecarlo")
class TestMonteCarlo:
    def test_pi_is_within_its_error_bars(self, executed):
        _, pi, error, _ = numbers(printed(executed, "pi-look"))
        assert 0 < error < 0.001
        assert abs(pi - math.pi) < 4 * error

    def test_seeds_make_the_answer_independent_of_the_slots(self, executed):
        assert value(executed, "seed") == "True"

    def test_stones_let_water_through_above_the_edge_only(self, executed):
        shares = numbers(value(executed, "pour-look"))[1::2]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)


@of("teaching")
class TestTeaching:
    def test_loop_by_hand_and_job_agree(self, executed):
        assert value(executed, "by-hand") == "True"
        assert value(executed, "run") == "(True, True)"

    def test_the_preview_is_drawn(self, executed):
        (preview,) = outputs(executed, "preview")
        assert preview["data"]["text/html"]
        assert "26 pairs -> 19 groups" in value(executed, "preview")

    def test_the_primes_are_as_many_as_there_are(self, executed):
        last_digits = numbers(value(executed, "work-look"))
        assert sum(last_digits[1::2]) == 33_860

    def test_the_summary_comes_back(self, executed):
        assert re.search(r"100 records -> 6 keys", value(executed, "summary"))
        assert re.search(r"100 records -> 6 keys", value(executed, "death-last"))

    def test_a_combiner_saves_most_of_the_bytes(self, executed):
        (n_pairs, bytes_without), (_, bytes_with) = map(numbers, printed(executed, "combiner").splitlines())
        assert n_pairs == 33_860
        assert bytes_with < bytes_without / 3
        assert value(executed, "combiner") == "True"

    def test_a_mean_as_a_combiner_is_warned_of(self, executed):
        assert "the answer would depend on how the work is cut" in value(executed, "wrong")
        assert value(executed, "wrong-look") == "(5.4, 5.5)"

    def test_neither_partitions_nor_order_nor_a_death_change_the_answer(self, executed):
        for cell in ("partitions", "stragglers", "death"):
            assert value(executed, cell) == "True"

    def test_the_solutions_of_the_exercises_are_right(self, executed):
        assert re.search(r"'humpty' +\[1, 2, 4\]", value(executed, "exercise-index-solution"))
        assert value(executed, "exercise-mean-solution") == "True"

    def test_one_attempt_dies_and_every_record_counts_once(self, executed):
        assert re.fullmatch(r"\[\('map-\d+', 1, 'died'\)\]\n", printed(executed, "death"))


@of("engines")
class TestEngines:
    def test_every_engine_gives_the_same_as_a_loop(self, executed):
        if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
            pytest.skip("Java is missing")
        names = ("jmr's own", "Executor", "Dask", "Ray", "Spark")
        assert ast.literal_eval(value(executed, "same")) == dict.fromkeys(names, True)

    def test_what_it_counts_is_what_a_loop_counts(self, executed):
        nodes = [node for path in modules("*.py") for node in ast.walk(ast.parse(path.read_bytes()))]
        attributes = Counter(node.attr for node in nodes if isinstance(node, ast.Attribute))
        counts = attributes + Counter(node.id for node in nodes if isinstance(node, ast.Name))
        assert printed(executed, "slots").startswith(f"jmr's own: {len(counts):,} names in ")
        assert printed(executed, "most").split()[:2] == [f"{counts['self']:,}", "self"]


@pytest.mark.gallery
def test_engines_that_are_missing_are_left_out_with_a_sentence(execute):
    executed = execute(CHECKOUT / "notebooks" / "engines.ipynb", "distributed", "ray", "pyspark")
    test_no_cell_fails(executed)
    for cell, name in {"dask": "Dask", "ray": "Ray", "spark": "Spark"}.items():
        said = printed(executed, cell)
        assert said.startswith(f'{name} is left out: engine="{cell}" needs ')
        assert f'pip install "jmr[{cell}]"' in said
    assert ast.literal_eval(value(executed, "same")) == {"jmr's own": True, "Executor": True}
    test_each_draws_a_picture_that_fills_the_page(executed)


@of("files")
class TestFiles:
    def test_it_finds_the_imports_that_a_loop_finds(self, executed):
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in modules("**/*.py")]
        statement = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)
        imports = Counter(module for text in texts for module in statement.findall(text))
        n_lines = sum(text.count("\n") + (not text.endswith("\n") and text != "") for text in texts)
        said = printed(executed, "imports-look")
        assert numbers(said)[:3] == [n_lines, imports.total(), len(imports)]
        assert f"\n{imports['sys']:5}  sys\n" in said

    def test_a_docstring_over_many_lines_is_found_in_a_whole_file(self, executed):
        assert "words  re/__init__.py\n" in printed(executed, "whole-look")

    def test_compressed_copies_count_as_plain_ones_do(self, executed):
        assert value(executed, "packed") == "True"

    def test_a_broken_file_is_named_and_set_aside_by_itself(self, executed):
        assert re.match(r"'.*events\.py\.gz' cannot be read: its gzip data are damaged", printed(executed, "bad"))
        assert re.fullmatch(r"read key='.*events\.py\.gz': SourceError: .*", value(executed, "skip"))
        text = (STDLIB / "asyncio" / "events.py").read_text()
        assert numbers(printed(executed, "skip"))[0] == len(re.findall(r"^(?:import|from) \w", text, re.MULTILINE))

    def test_the_delays_are_those_that_are_known(self, executed):
        assert re.search(r"\bUS +19873 +3\.8 ", value(executed, "carriers-look"))
        assert re.search(r"\bEV +51356 +20\.0 ", value(executed, "carriers-look"))

    def test_batches_agree_with_rows(self, executed):
        assert value(executed, "batches") == "True"

    def test_what_is_written_is_read_again(self, executed):
        assert {"key", "value"} == json.loads(printed(executed, "out")).keys()
        assert len(ast.literal_eval(value(executed, "out"))) == 4
        worst = ast.literal_eval(value(executed, "again"))
        assert (len(worst), worst["UA"], worst["HA"]) == (15, 19, 10)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_has_an_id_that_says_what_it_is(path):
    ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_to_other_notebooks_lead_there(path):
    text = "".join(line for cell in json.loads(path.read_text())["cells"] for line in cell["source"])
    assert [name for name in re.findall(r"\]\((?!https?:)([^)]+)\)", text) if not (path.parent / name).exists()] == []
