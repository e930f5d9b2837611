"""Windows of a model that was trained on clips of segments."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tristream
from fusion.training.settings import TrainSettings
from preprocess.extract import extract
from preprocess.extraction.settings import ExtractSettings
from preprocess.video.settings import PieceSettings
from tests.support.stores import BANDS, HEIGHT
from tests.support.videos import drift, sound, tone, write_video
from tests.tasks.conftest import CPU, TINY
from tests.tasks.test_windows import assert_alike, decoded, joined
from train import train

RECIPE = replace(TINY, mixup=0.2, cutmix=1.0, norm_clips=8, accumulate=2, clip=replace(TINY.clip, segments=3))
SPAN = TINY.clip.span / 25  # seconds of a segment


@pytest.fixture(scope="module")
def model(toy, tmp_path_factory):
    settings = TrainSettings(data=toy.path, run=tmp_path_factory.mktemp("runs") / "run", recipe=RECIPE, machine=CPU)
    return tristream.load(train(settings), device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 36 frames and of 8, which are fewer than three segments have."""
    folder = tmp_path_factory.mktemp("videos") / "videos"
    folder.mkdir()
    for name, frames in (("long.mkv", 36), ("short.mkv", 8)):
        voice = tone(frames / 25)
        voice *= np.linspace(0.2, 1, len(voice), dtype=np.float32)
        write_video(folder / name, drift(frames), track=sound(voice), codec="ffv1")
    return folder


@pytest.fixture(scope="module")
def store(videos, tmp_path_factory):
    piece = PieceSettings(short_side=HEIGHT, mel_bands=BANDS)
    return extract(ExtractSettings(videos, tmp_path_factory.mktemp("store") / "s.h5", workers=1, store=piece))


@pytest.mark.parametrize("window", [{}, {"length": 0.8, "hop": 0.2}])
@pytest.mark.parametrize("name", ["long.mkv", "short.mkv"])
def test_a_raw_video_and_decoded_chunks_give_what_the_store_gives(model, videos, store, name, window):
    stored = joined(model.windows(store, video=name, **window))
    assert_alike(joined(model.windows(videos / name, **window)), stored)
    assert_alike(joined(model.windows(decoded(model, videos / name), **window)), stored)
    asked = model.predict(videos / name)
    assert asked.classes == pytest.approx(model.predict(store, video=name).classes, abs=1e-6)


@pytest.mark.parametrize("shape", ["rgb=3x5x40", "rgb=2x1x32"])
@pytest.mark.parametrize("name", ["long.mkv", "short.mkv"])
def test_a_store_and_decoded_chunks_agree_where_a_stream_has_clips_of_its_own(
    model, videos, store, name, shape, monkeypatch
):
    plain = joined(model.windows(store, video=name))
    clip = replace(model.clip, clip_of=(shape,))
    own = replace(model, settings=replace(model.settings, recipe=replace(model.settings.recipe, clip=clip)))
    for whole_strides in ([], ["rgb"]):
        monkeypatch.setattr("tasks.model.kept_streams", lambda *_, names=whole_strides: names)
        monkeypatch.setattr("tasks.model.kept_features", lambda *_, **__: ({}, []))
        for window in ({}, {"length": 0.8, "hop": 0.2}):
            stored = joined(own.windows(store, video=name, **window))
            assert_alike(joined(own.windows(decoded(own, videos / name), **window)), stored)
    stored = joined(own.windows(store, video=name))
    torch.testing.assert_close(stored.logits["flow"], plain.logits["flow"], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(stored.logits["rgb"], plain.logits["rgb"])


def test_a_window_is_as_long_as_its_segments_or_as_asked_for_and_they_are_spread_over_it(model, videos):
    assert model.seconds == pytest.approx(3 * SPAN)
    usual = joined(model.windows(videos / "long.mkv"))
    expected = [[k * 3 * SPAN, (k + 1) * 3 * SPAN] for k in range(3)]  # 36 frames: three times three of four
    torch.testing.assert_close(usual.times, torch.tensor(expected, dtype=torch.float64))
    (whole,) = model.windows(videos / "long.mkv", length=36 / 25)
    assert whole.times.tolist() == [[4 / 25, 32 / 25]]  # in the middles of three parts of twelve frames
    view = model.predict(videos / "long.mkv", views=1)
    assert view.classes == pytest.approx(dict(zip(model.classes, whole.answer[0].tolist(), strict=True)), abs=1e-6)


def test_a_window_equals_its_segments_through_the_tower_one_by_one(model, store):
    network, windows = model.network, joined(model.windows(store, video="long.mkv", gradients=True))
    inputs = torch.cat([part.inputs["flow"] for part in model.windows(store, video="long.mkv", gradients=True)])
    assert inputs.shape[2] == 3 * TINY.clip.frames
    encoder = network.encoders["flow"]
    alone = torch.cat([encoder.tower(part) for part in inputs.chunk(3, dim=2)], dim=1)
    torch.testing.assert_close(windows.sequences["flow"], encoder.lstm(alone)[0], atol=1e-5, rtol=1e-5)
