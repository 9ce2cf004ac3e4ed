"""A short chaos run: three seeds, each about something else. `python -m tests.chaos` plays many, and longer ones."""

from __future__ import annotations

import pytest

from tests.chaos.play import play
from tests.chaos.script import KINDS, End, What, script_of

SECONDS = 5.0
SEEDS = [0, 23, 36]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_jobs_survive_what_is_done_to_processes_and_links(seed: int) -> None:
    play(seed, SECONDS)


def test_the_seeds_above_differ_in_what_they_are_about() -> None:
    assert {script_of(seed, SECONDS).end for seed in SEEDS} == set(End)


def test_a_hundred_seeds_do_everything_to_every_kind_of_job() -> None:
    scripts = [script_of(seed, SECONDS) for seed in range(100)]
    done = {(script.kind, deed.what) for script in scripts for deed in script.deeds}
    assert done == {(kind, what) for kind in KINDS for what in What}
    assert {(script.kind, script.end) for script in scripts} == {(kind, end) for kind in KINDS for end in End}
    assert {script.is_short_of_memory for script in scripts} == {True, False}
