"""Where the runs of an ablation lie."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from fusion.model import build_model
from fusion.training.settings import TrainSettings
from streams.registry import parse_streams
from streams.split import split_videos
from tasks.ablation import runs
from tasks.ablation.runs import run_folder, trained_run
from tests.support.cases import case
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "s.h5", three_bit(24))


def test_all_that_decides_what_a_run_learns_changes_its_folder_and_nothing_else_does(store, tmp_path):
    settings = TrainSettings(streams="rgb,audio", data=store.path, recipe=TINY)
    split = split_videos(store.videos, seed=0)

    def folder(store=store, split=split, **changes):
        return run_folder(tmp_path, store, split, replace(settings, **changes))

    plain = folder()
    assert plain.name.startswith("rgb+audio-seed0-") and plain.parent == tmp_path
    other = make_store(tmp_path / "other.h5", three_bit(24), seed=1)
    others = [
        folder(streams="rgb"),
        folder(seed=1),
        folder(store=other),
        folder(split=split_videos(store.videos, seed=1)),
        folder(recipe=replace(TINY, epochs=3)),
        folder(recipe=replace(TINY, clip=replace(TINY.clip, stride=1))),
        folder(recipe=replace(TINY, model=replace(TINY.model, dropout=0.1))),
    ]
    assert len({plain, *others}) == 1 + len(others)
    assert folder(machine=CPU, data=tmp_path / "elsewhere.h5", run=tmp_path, resume=True) == plain


def test_a_run_is_made_without_what_is_said_of_other_streams(store, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(runs, "train", lambda settings: given.append(settings) or settings.run)
    split = split_videos(store.videos, seed=0)
    towers = ("rgb=r2plus1d", "flow=conv3d", "odd")
    for model in (replace(TINY.model, towers=towers), replace(TINY.model, towers=("rgb=r2plus1d", "odd"))):
        recipe = replace(TINY, model=model, freeze="flow,audio", lr_of=("flow=1e-4", "rgb=1e-5"))
        trained_run(tmp_path, store, split, streams=("rgb", "audio"), seed=0, init=(), recipe=recipe, machine=CPU)
    assert given[0].recipe.model.towers == ("rgb=r2plus1d", "odd")
    assert (given[0].recipe.freeze, given[0].recipe.lr_of) == ("audio", ("rgb=1e-5",))
    assert given[0].run == given[1].run and not given[0].resume


def learned(folder, store, streams: str, *, seed: int = 0) -> str:
    """A run's folder with new weights."""
    torch.manual_seed(seed)
    shape = {"classes": len(store.classes), "parameters": store.parameters}
    folder.mkdir()
    model = build_model(TINY.model, streams=parse_streams(streams), **shape)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "best.safetensors")
    return str(folder)


def test_a_run_that_starts_from_files_is_told_by_what_they_hold_for_its_streams(store, tmp_path):
    split = split_videos(store.videos, seed=0)

    def folder(*init: str):
        settings = TrainSettings(streams="rgb,audio", data=store.path, recipe=TINY, init=init)
        return run_folder(tmp_path, store, split, settings)

    one = learned(tmp_path / "one", store, "rgb,flow,audio")
    moved = shutil.copytree(one, tmp_path / "moved")
    both = folder(one)
    assert both == folder(str(moved)) == folder(f"audio={one}", f"rgb={moved / 'best.safetensors'}")
    other = learned(tmp_path / "other", store, "rgb,audio", seed=1)
    different = [folder(), folder(f"rgb={one}"), folder(other), folder(one, f"rgb={other}"), folder("rgb=kinetics")]
    assert len({both, *different}) == 1 + len(different)
    shutil.copy(tmp_path / "other" / "best.safetensors", moved)
    assert folder(str(moved)) == folder(other)


def test_a_run_starts_from_what_is_for_its_streams(store, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(runs, "train", lambda settings: given.append(settings) or settings.run)
    monkeypatch.chdir(tmp_path)
    learned(tmp_path / "both", store, "rgb,flow")
    learned(tmp_path / "other", store, "flow")
    split, init = split_videos(store.videos, seed=0), ("both", "flow=other")
    for streams, taken in (
        ("rgb", ["both"]),
        ("flow", ["flow=other"]),
        ("audio", []),
        ("rgb,audio", ["both"]),
        ("rgb,flow", ["both", "flow=other"]),
    ):
        with case((streams, taken)):
            named = {"streams": parse_streams(streams), "seed": 0, "recipe": TINY, "machine": CPU}
            folder = trained_run(tmp_path, store, split, init=init, **named)
            assert list(given[0].init) == taken
            assert (folder == trained_run(tmp_path, store, split, init=(), **named)) == (not taken)
            given.clear()
