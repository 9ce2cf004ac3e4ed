"""The notebooks run from top to bottom, as `jupyter execute` runs them, in a process and a kernel of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.test_kernel import kernel_environment

pytest.importorskip("nbclient", reason="the extra `test` is not installed")
pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parent.parent
NOTEBOOKS = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request, tmp_path_factory) -> dict[str, Any]:
    """A notebook with its outputs."""
    folder = tmp_path_factory.mktemp(request.param.stem)
    notebook = Path(shutil.copy(request.param, folder))
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


def outputs(notebook: dict[str, Any], cell_id: str | None = None) -> list[dict[str, Any]]:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell_id in (None, cell["id"])]
    assert cells
    return [output for cell in cells for output in cell["outputs"]]


def printed(notebook: dict[str, Any], cell_id: str) -> str:
    return "".join("".join(output["text"]) for output in outputs(notebook, cell_id) if output.get("name") == "stdout")


def value(notebook: dict[str, Any], cell_id: str) -> str:
    (result,) = [output for output in outputs(notebook, cell_id) if output["output_type"] == "execute_result"]
    return "".join(result["data"]["text/plain"])


def test_no_cell_fails(executed):
    failures = ["\n".join(output["traceback"]) for output in outputs(executed) if output["output_type"] == "error"]
    assert not failures, failures[0]


@pytest.mark.parametrize("executed", [CHECKOUT / "notebooks" / "quickstart.ipynb"], indirect=True, ids=["quickstart"])
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

    def test_it_draws_a_picture(self, executed):
        assert [output for output in outputs(executed, "plot") if "image/png" in output.get("data", {})]

    def test_plain_calls_answer_as_the_magic_does(self, executed):
        assert "zipfile" in value(executed, "run")
        assert "zipimport.py" in value(executed, "inline")
        assert value(executed, "errors") == "[]"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
