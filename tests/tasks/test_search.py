"""What a search is refused for before it begins."""

import sys
from dataclasses import replace

import pytest

from preprocess.errors import UserError
from tasks.search import TuneSettings
from tasks.tune import tune
from tests.tasks.conftest import CPU, TINY

pytest.importorskip("optuna")


@pytest.fixture
def settings(toy):
    return TuneSettings(data=toy.path, streams="rgb,audio", trials=3, recipe=TINY, machine=CPU)


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ("colour", "known are lr, weight_decay"),
        ("dropout=0:1.5", "--dropout must be"),
        ("lr=1e-5:1e-4", "--lr 0.001, where the search starts, is not in lr=1e-05:0.0001"),
        ("batch=16,32", "--batch 8, where the search starts"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_words(settings, tmp_path, search, says):
    with pytest.raises(UserError, match=says):
        tune(replace(settings, out=tmp_path / "t", search=(search,)))
    assert not (tmp_path / "t").exists()


def test_without_optuna_one_line_says_what_to_install(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'tristream\[tune\]'"):
        tune(replace(settings, out=tmp_path / "t"))


def test_torchrun_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--parallel N"):
        tune(replace(settings, out=tmp_path / "t"))
