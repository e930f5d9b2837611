"""A run that was killed, and run again, ends as one that nobody disturbed; kills.py shows it at length."""

import shutil
from dataclasses import replace

import pytest

from tests.robustness.boundaries import CASES, boundary_kills
from tests.robustness.kills import RECIPE, figures, random_kills

pytestmark = pytest.mark.slow


def test_after_kills_at_random_times_the_store_is_byte_for_byte_the_same(tmp_path):
    found = random_kills(tmp_path, runs=3, seed=1, recipe=replace(RECIPE, clips=7))
    assert [trial.faults for trial in found] == [[]] * 3
    assert figures(found)["redone_at_most"] <= 2  # a video for each worker


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler")
@pytest.mark.parametrize(
    ("cases", "only", "limit"),
    [(CASES, (), 12), (("grown", "merge"), ("rename", "unlink", "rmdir"), 20)],
    ids=["any call", "names"],
)
def test_after_kills_at_the_boundaries_of_calls_the_store_is_byte_for_byte_the_same(tmp_path, cases, only, limit):
    found = boundary_kills(tmp_path, limit=limit, seed=1, cases=cases, only=only)
    assert found["runs"] == found["identical"] == limit
    assert found["killed"] >= 0.8 * limit  # a run may need fewer calls than the one that they were counted in
