"""train.py with pretrained towers: --freeze, --lr-of, and features that are kept beside the store."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train as training
from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training import features
from fusion.training.settings import Machine, Recipe, TrainSettings
from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from streams.registry import STREAMS, subset_name
from streams.towers.image import SIDES
from tasks.model import load
from tasks.run import load_run
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import Spec, make_store, three_bit
from tests.support.torchvision_networks import needs_pretrained
from tests.test_train import interrupt
from train import train

CLIP = ClipSettings(frames=4, stride=3, size=32, audio_seconds=0.32)
NAME = "efficientnet_lite0"
TOWERS = ModelSettings(width=2, feature=8, towers=(f"rgb={NAME}", f"flow={NAME}"))
TINY = Recipe(epochs=1, batch=16, clip=CLIP, model=TOWERS, freeze="rgb,flow")
LACKING = [Spec("x/1.mp4", label="000", streams=("audio",)), Spec("x/2.mp4", label="001", streams=("rgb",))]
COPIES = [Spec(f"y/{number}.mp4", label="000", content="f" * 32) for number in (1, 2)]
SPECS = three_bit(16) + LACKING + COPIES
CPU = Machine(workers=0, device="cpu")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """Not enlarged to the hundreds of pixels that the weights expect: quicker."""
    monkeypatch.setitem(SIDES, NAME, 32)
    monkeypatch.setitem(SIDES, "efficientnet_lite1", 32)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "toy.h5", SPECS)


def settings_of(store, folder: Path, **changes) -> TrainSettings:
    return TrainSettings(data=store.path, run=folder, machine=CPU, **{"recipe": TINY} | changes)


def kept_files(store) -> list[Path]:
    return sorted(features.features_folder(store.path).glob("*.h5*"))


def weights_of(run: Path, part: str) -> dict[str, torch.Tensor]:
    """Without batch norm's counters."""
    found = load_file(run / "last.safetensors").items()
    return {name: value for name, value in found if name.startswith(part) and "num_batches" not in name}


@needs_pretrained
def test_frozen_towers_keep_their_weights_and_all_else_learns(store, tmp_path, capsys):
    run = train(settings_of(store, tmp_path / "run"))
    told = capsys.readouterr().out
    saved = json.loads((run / "settings.json").read_text())
    for report in saved["init"]:
        assert report["licence"] == "Apache-2.0" and report["sha256"] in told and len(report["sha256"]) == 64
    assert [report["stream"] for report in saved["init"]] == ["rgb", "flow"]
    other = train(settings_of(store, tmp_path / "other", seed=5))
    assert told.count("computed") == 2 and "computed" not in capsys.readouterr().out
    for stream in ("rgb", "flow"):
        here, there = (weights_of(one, f"encoders.{stream}.tower") for one in (run, other))
        torch.testing.assert_close(here, there, rtol=0, atol=0)
        here, there = (weights_of(one, f"encoders.{stream}.lstm") for one in (run, other))
        assert not any(torch.equal(here[name], there[name]) for name in here)
    load_run(run, device="cpu")


@needs_pretrained
@torch.no_grad()
@pytest.mark.parametrize("clip", [pytest.param(CLIP, marks=pytest.mark.slow), replace(CLIP, frames=2, segments=2)])
def test_kept_features_are_what_the_tower_gives_for_a_clip(store, tmp_path, clip):
    model = build_model(TOWERS, streams=("rgb", "flow"), classes=8, parameters=store.parameters).eval()
    for encoder in model.encoders.values():
        encoder.freeze()
    found, _ = features.kept_features(model, store, TINY, device=torch.device("cpu"), workers=0)
    shape = {"streams": ("rgb", "flow"), "classes": store.classes, "clip": clip}
    plain, kept = (training.ClipDataset(store, store.videos, hop=clip.stride, **shape) for _ in range(2))
    kept.streams.update(found)
    for row in range(len(store)):
        keys = [(row, view) for view in range(len(plain.starts(store.videos[row])))]
        clips, sequences = plain.__getitems__(keys), kept.__getitems__(keys)
        whole = (clips.starts % clip.stride == 0).all(
            dim=1
        )  # the last one ends with the video, between two kept pictures
        for name, encoder in model.encoders.items():
            assert torch.equal(clips.present[name], sequences.present[name])
            if clips.present[name].all():
                expected = encoder.tower(clips.inputs(training=False)[name])
                given = encoder.tower(sequences.inputs(training=True)[name])
                torch.testing.assert_close(given[whole], expected[whole], atol=2e-3, rtol=2e-3)


@pytest.mark.slow
@needs_pretrained
def test_judging_makes_kept_features_and_then_reads_no_picture_and_answers_as_without(store, tmp_path, monkeypatch):
    recipe = replace(TINY, clip=replace(CLIP, clip_of=("rgb=3x5x40",)))
    model = load(train(settings_of(store, tmp_path / "run", recipe=recipe)), device="cpu")
    specs = [Spec(f"{frames}.mp4", label="000", frames=frames) for frames in (4, 14, 33)]
    other = make_store(tmp_path / "other.h5", specs, seed=1)
    plain = list(model.clips(other, other.videos, views=3))
    assert kept_files(other) == []
    subsets = [("rgb",), ("flow",), ("rgb", "flow", "audio")]
    made = model.answers(other, other.videos, subsets, views=3)
    assert len(kept_files(other)) == 2

    def no_picture(*_):
        raise AssertionError("a picture was read")

    monkeypatch.setattr(type(STREAMS["rgb"]), "read", no_picture)
    monkeypatch.setattr(type(STREAMS["flow"]), "read", no_picture)
    again = model.answers(other, other.videos, subsets, views=3)
    kept = list(model.clips(other, other.videos, views=3))
    assert len(plain) == len(kept) == 1 and len(plain[0].answer) > 5
    torch.testing.assert_close(kept[0].answer, plain[0].answer, atol=1e-3, rtol=0)
    torch.testing.assert_close(kept[0].towers, plain[0].towers, atol=2e-3, rtol=2e-3)
    for subset in map(subset_name, subsets):
        torch.testing.assert_close(made.probabilities(subset), again.probabilities(subset), atol=0, rtol=0)


@pytest.mark.slow
@needs_pretrained
def test_a_run_killed_while_features_are_computed_leaves_none_and_the_next_makes_them(store, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(features.WholeVideos, "counts", killed)
        with pytest.raises(Killed):
            train(settings_of(store, tmp_path / "run"))
    assert kept_files(store) == [] and not (tmp_path / "run").exists()
    train(settings_of(store, tmp_path / "run"))
    assert len(kept_files(store)) == 2


@pytest.mark.slow
@needs_pretrained
def test_other_pictures_weights_or_videos_have_features_of_their_own(store, tmp_path):
    rgb = replace(TINY, freeze="rgb", model=replace(TOWERS, towers=(f"rgb={NAME}",)))
    one = settings_of(store, tmp_path / "0", streams="rgb", recipe=rgb)
    recipes = [rgb, replace(rgb, clip=replace(CLIP, size=40)), replace(rgb, clip=replace(CLIP, stride=2))]
    tower = replace(rgb.model, towers=("rgb=efficientnet_lite1",))
    for number, recipe in enumerate([*recipes, replace(rgb, model=tower), replace(rgb, clip=replace(CLIP, frames=2))]):
        train(replace(one, recipe=recipe, run=tmp_path / str(number)))
        assert len(kept_files(store)) == min(number + 1, 4)  # clips of other lengths share them
    make_store(store.path, [replace(video, split="train" if video.bits[0] else "val") for video in SPECS])
    train(replace(one, run=tmp_path / "split"))
    assert len(kept_files(store)) == 4  # the same videos, divided otherwise
    make_store(store.path, three_bit(24))
    train(replace(one, run=tmp_path / "more"))
    assert len(kept_files(store)) == 5


@needs_pretrained
def test_a_damaged_file_of_features_is_one_line(store, tmp_path):
    train(settings_of(store, tmp_path / "run"))
    path = kept_files(store)[0]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=path.name):
        train(settings_of(store, tmp_path / "again"))


@pytest.mark.slow
@needs_pretrained
def test_a_resumed_run_is_as_frozen_as_before_and_ends_with_the_same_weights(store, tmp_path):
    recipe = replace(TINY, epochs=2, lr_of=("audio=1e-5",))
    whole = train(settings_of(store, tmp_path / "whole", recipe=recipe))
    interrupt(settings_of(store, tmp_path / "run", recipe=recipe), training, "validate", at=2)
    train(TrainSettings(run=tmp_path / "run", resume=True, machine=CPU))
    torch.testing.assert_close(weights_of(tmp_path / "run", ""), weights_of(whole, ""), rtol=0, atol=0)


@pytest.mark.slow
@needs_pretrained
def test_a_tower_that_is_not_frozen_learns_from_augmented_pictures_at_its_own_rate(store, tmp_path):
    slow = replace(TINY, freeze="", lr_of=(f"rgb={1e-30}",), weight_decay=0.0)
    run = train(settings_of(store, tmp_path / "run", recipe=slow))
    assert kept_files(store) == []
    start = train(settings_of(store, tmp_path / "start"))
    rgb, flow = (
        [torch.equal(weights_of(run, part)[key], value) for key, value in weights_of(start, part).items()]
        for part in ("encoders.rgb.tower", "encoders.flow.tower")
    )
    assert all(rgb) and not all(flow)


@pytest.mark.slow
@needs_pretrained
def test_without_keeping_a_frozen_tower_reads_pictures(store, tmp_path):
    run = train(settings_of(store, tmp_path / "run", recipe=replace(TINY, keep_features=False)))
    assert not features.features_folder(store.path).exists()
    frozen = weights_of(train(settings_of(store, tmp_path / "kept")), "encoders.rgb.tower")
    torch.testing.assert_close(weights_of(run, "encoders.rgb.tower"), frozen, rtol=0, atol=0)


@pytest.mark.slow
def test_a_tower_of_an_earlier_run_can_be_frozen(store, tmp_path):
    plain = replace(TINY, freeze="", model=replace(TOWERS, towers=()))
    first = train(settings_of(store, tmp_path / "first", recipe=plain))
    recipe = replace(plain, freeze="audio", norm_clips=8)
    second = train(settings_of(store, tmp_path / "second", recipe=recipe, init=(str(first),)))
    frozen, before = (weights_of(run, "encoders.audio.tower") for run in (second, first))  # of one epoch: best is last
    torch.testing.assert_close(frozen, before, rtol=0, atol=0)
    assert kept_files(store) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--freeze", "smell"], "smell"),
        (["--freeze", "rgb"], "--init rgb="),
        (["--streams", "rgb", "--freeze", "flow"], "flow"),
        (["--lr-of", "smell=1e-4"], "smell"),
        (["--lr-of", "rgb=fast"], "rgb=fast"),
        (["--lr-of", "rgb=-1"], "rgb=-1"),
        (["--lr-of", "rgb=1e-4", "rgb=1e-5"], "twice"),
        (["--lr-of", "rgb=1e-4", "--freeze", "rgb"], "--freeze rgb"),
        pytest.param(
            ["--towers", f"rgb={NAME}", "--freeze", "rgb", "--cutmix", "1"], "--cutmix", marks=needs_pretrained
        ),
    ],
)
def test_what_cannot_be_frozen_or_learn_at_that_rate_is_one_line(store, tmp_path, monkeypatch, capsys, given, says):
    command = ["--data", store.path, "--run", tmp_path / "run", "--width", 2, "--size", 32, *given]
    assert_one_line_error(run_here(monkeypatch, capsys, *command, main=training.main), says)
    assert not (tmp_path / "run").exists()
