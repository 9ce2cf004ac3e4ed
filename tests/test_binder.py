"""binder/ says what a notebook server on Binder needs: repo2docker makes a build of it, and its Python is one of ours.

That what it lists can be installed, and runs the notebooks, is a step of `tests/run`.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("repo2docker") is None, reason="the extra `test` is not installed")
def test_repo2docker_makes_a_build_that_installs_the_checkout(tmp_path):
    """With --no-build it needs no docker, and prints the Dockerfile."""
    for folder in ("binder", "jmr", "notebooks"):
        (tmp_path / folder).symlink_to(CHECKOUT / folder)
    (tmp_path / "pyproject.toml").symlink_to(CHECKOUT / "pyproject.toml")
    command = Path(sysconfig.get_path("scripts")) / "jupyter-repo2docker"
    options = ["--no-build", "--debug", "--user-id=1000", "--user-name=jovyan"]
    run = subprocess.run([command, *options, tmp_path], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    dockerfile = run.stdout + run.stderr
    assert "Building conda environment for python=3.13\n" in dockerfile
    copied = dockerfile.index("COPY --chown=1000:1000 src/ ${REPO_DIR}/\n")
    assert dockerfile.index('/bin/pip install --no-cache-dir -r "binder/requirements.txt"\n') > copied


def test_binder_s_python_is_one_that_jmr_is_made_for():
    version = re.fullmatch(r"python-(3\.\d+)\n", (CHECKOUT / "binder" / "runtime.txt").read_text())[1]
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]


def test_binder_installs_this_checkout_with_extras_that_there_are():
    (line,) = (CHECKOUT / "binder" / "requirements.txt").read_text().splitlines()
    extras = re.fullmatch(r"\.\[(.*)\]", line)[1].split(",")
    assert {"lab", "gallery"} <= set(extras) <= PROJECT["optional-dependencies"].keys()
