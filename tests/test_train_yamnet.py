"""train.py with YAMNet as the tower for sound: from a file, frozen, with features that are kept beside the store."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.features import features_folder, kept_features, kept_streams
from fusion.training.settings import Machine, Recipe, TrainSettings
from fusion.training.transfer import sha256_of
from preprocess.common.errors import UserError
from preprocess.store.format import SILENCE
from streams.audio import Audio
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from tasks.model import load
from tests.support.stores import BANDS, Spec, make_store, three_bit
from tests.support.yamnet import random_tower, tensorflow_weights
from train import train

CLIP = ClipSettings(frames=4, stride=3, size=32, audio_seconds=1.6)
HEARD = ("rgb", "audio")
CPU = Machine(workers=0, device="cpu")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "yamnet.safetensors"
    save_file(tensorflow_weights(random_tower()), path, metadata={"license": "Apache-2.0"})
    return path


@pytest.fixture
def store(tmp_path):
    """Sound shorter than a window, longer, ending early, beginning late, and none."""
    rng = np.random.default_rng(0)

    def mel(frames: int) -> np.ndarray:
        return rng.normal(-5, 2, (4 * frames, BANDS)).astype(np.float16)

    def silent_but(rows: slice) -> np.ndarray:
        heard = mel(100)
        quiet = np.full_like(heard, SILENCE)
        quiet[rows] = heard[rows]
        return quiet

    early = {"covered": (0, 1.3), "mel": silent_but(slice(0, 130))}
    late = {"covered": (2.6, 4), "mel": silent_but(slice(260, 400))}
    odd = [Spec(f"000/{n}.mp4", label="000", frames=n, mel=mel(n), streams=HEARD) for n in (1, 23, 39, 40, 41, 100)]
    odd += [Spec("001/early.mp4", label="001", frames=100, streams=HEARD, **early)]
    odd += [Spec("001/late.mp4", label="001", frames=100, streams=HEARD, **late)]
    odd += [Spec("001/none.mp4", label="001", streams=("rgb",))]
    return make_store(tmp_path / "s.h5", three_bit(16, streams=HEARD) + odd)


def recipe_of(file, **changes) -> Recipe:
    model = ModelSettings(width=2, feature=8, towers=(f"audio=yamnet:{file}",))
    return replace(Recipe(epochs=1, batch=16, clip=CLIP, model=model, freeze="audio"), **changes)


def settings_of(store, run, recipe: Recipe, **changes) -> TrainSettings:
    return TrainSettings(data=store.path, run=run, streams="audio", recipe=recipe, machine=CPU, **changes)


def kept_files(store) -> list:
    return sorted(features_folder(store.path).glob("*.h5"))


def tower_of(run) -> dict[str, torch.Tensor]:
    """Without batch norm's counters."""
    found = load_file(run / "last.safetensors").items()
    return {name.partition(".layers.")[2]: value for name, value in found if ".layers." in name and "num" not in name}


def test_a_run_starts_from_the_file_says_so_keeps_features_and_needs_the_file_no_more(store, file, tmp_path, capsys):
    run = train(settings_of(store, tmp_path / "run", recipe_of(file)))
    told = capsys.readouterr().out
    (report,) = json.loads((run / "settings.json").read_text())["init"]
    assert report["licence"] == "Apache-2.0" and report["sha256"] == sha256_of(file)
    assert str(file) in told and report["sha256"] in told and "computed" in told
    weights = random_tower().layers.state_dict()
    torch.testing.assert_close(tower_of(run), {name: weights[name] for name in tower_of(run)}, rtol=0, atol=0)
    train(settings_of(store, tmp_path / "other", recipe_of(file, clip=replace(CLIP, audio_seconds=2.4, stride=2))))
    assert "computed" not in capsys.readouterr().out and len(kept_files(store)) == 1
    file.unlink()
    model = load(run, device="cpu")
    (windows,) = model.windows(store, video="000/100.mp4", length=0.48, hop=3.0)
    assert windows.towers["audio"].shape[2] == 1024
    third = train(settings_of(store, tmp_path / "third", recipe_of(file), init=(f"audio={run}",)))
    assert "computed" not in capsys.readouterr().out
    torch.testing.assert_close(tower_of(third), tower_of(run), rtol=0, atol=0)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "clip", [CLIP, replace(CLIP, segments=2, audio_seconds=0.32), replace(CLIP, audio_seconds=3.9)]
)
def test_kept_features_are_what_the_tower_gives_for_a_clip(store, file, clip):
    recipe = recipe_of(file, clip=clip)
    shape = {"streams": ("audio",), "classes": 8, "parameters": store.parameters, "segments": clip.segments}
    model = build_model(recipe.model, **shape).eval()
    encoder = model.encoders["audio"]
    encoder.tower.layers.load_state_dict(random_tower().layers.state_dict())
    encoder.freeze()
    found, _ = kept_features(model, store, recipe, device=torch.device("cpu"), workers=0)
    shape = {"streams": ("audio",), "classes": store.classes, "clip": clip, "whole_strides": ["audio"], "hop": 5}
    plain, kept = (ClipDataset(store, store.videos, **shape) for _ in range(2))
    raw = ClipDataset(store, store.videos, **shape | {"whole_strides": []})  # as in training
    kept.streams.update(found)
    raw.streams.update(found)
    compared = 0
    for row in range(len(store)):
        keys = [(row, view) for view in range(len(plain.starts(store.videos[row])))]
        clips, sequences, others = (one.__getitems__(keys) for one in (plain, kept, raw))
        there = clips.present["audio"]
        assert torch.equal(there, sequences.present["audio"]) and torch.equal(there, others.present["audio"])
        if there.any():
            expected = encoder(clips.inputs(training=False)["audio"]).tower[there]
            for one in (sequences, others):
                given = encoder(one.inputs(training=True)["audio"]).tower[there]
                torch.testing.assert_close(given, expected, atol=3e-3, rtol=3e-3)
            compared += len(expected)
    assert compared > 50 and expected.std() > 0.05


@pytest.mark.slow
def test_judging_reads_kept_features_and_no_sound_and_answers_as_without(store, file, tmp_path, monkeypatch):
    model = load(train(settings_of(store, tmp_path / "run", recipe_of(file))), device="cpu")
    other = make_store(tmp_path / "other.h5", [Spec(f"{n}.mp4", label="000", frames=n) for n in (4, 33, 90)], seed=1)
    plain = list(model.clips(other, other.videos, views=3))
    model.answers(other, other.videos, [("audio",)], views=3)
    assert len(kept_files(other)) == 1
    monkeypatch.setattr(Audio, "read", None)
    kept = list(model.clips(other, other.videos, views=3))
    assert len(plain[0].answer) > 5
    torch.testing.assert_close(kept[0].answer, plain[0].answer, atol=1e-3, rtol=0)
    torch.testing.assert_close(kept[0].towers, plain[0].towers, atol=3e-3, rtol=3e-3)


@pytest.mark.slow
def test_a_tower_that_is_fine_tuned_learns_at_its_own_rate_and_keeps_the_statistics(store, file, tmp_path):
    start = random_tower().layers.state_dict()
    runs = {}
    for rate in ("1e-30", "1e-3"):
        recipe = recipe_of(file, freeze="", lr_of=(f"audio={rate}",), weight_decay=0.0)
        runs[rate] = tower_of(train(settings_of(store, tmp_path / rate, recipe)))
    assert kept_files(store) == []
    for rate, weights in runs.items():
        same = {name: torch.equal(value, start[name]) for name, value in weights.items()}
        assert all(same[name] for name in same if "running" in name)
        assert all(same[name] == (rate == "1e-30") for name in same if "conv.weight" in name)


def test_sound_that_repeats_is_not_kept(store, file):
    recipe = recipe_of(file, clip=replace(CLIP, repeat_sound=True))
    model = build_model(recipe.model, streams=("audio",), classes=8, parameters=store.parameters)
    model.encoders["audio"].freeze()
    assert kept_streams(model, recipe_of(file)) == ["audio"] and kept_streams(model, recipe) == []


def test_a_file_that_does_not_fit_ends_the_run_before_it_begins(store, file, tmp_path):
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "layer5/" not in name}, file)
    with pytest.raises(UserError, match=r"yamnet\.safetensors.*layer5\.depthwise_conv"):
        train(settings_of(store, tmp_path / "run", recipe_of(file)))
    assert not (tmp_path / "run").exists()
