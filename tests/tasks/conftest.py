"""A small trained run, and the store it was trained on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tristream
from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from preprocess.extract import extract
from preprocess.extraction.settings import ExtractSettings
from preprocess.store import Store
from preprocess.video.settings import PieceSettings
from streams.clip import ClipSettings
from tests.support.stores import BANDS, HEIGHT, Spec, make_store, three_bit
from tests.support.videos import drift, sound, tone, write_video
from train import train

TINY = Recipe(
    epochs=2,
    batch=8,
    clip=ClipSettings(frames=2, stride=2, size=32, audio_seconds=0.32),
    model=ModelSettings(width=2, feature=8),
)
CPU = Machine(workers=0, device="cpu")


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Store:
    """32 videos of eight classes; some lack flow or sound, and one is a copy of another."""
    specs = three_bit(30, frames=10)
    specs[3] = replace(specs[3], streams=("rgb", "audio"))
    specs[5] = replace(specs[5], streams=("rgb", "flow"))
    copy = replace(specs[0], path="000/copy.mp4", content=specs[0].path)
    only = Spec("001/only.mp4", label="001", bits=(0, 0, 1), frames=10, streams=("rgb",))
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", [*specs, copy, only])


@pytest.fixture(scope="session")
def run_folder(toy, tmp_path_factory) -> Path:
    return train(TrainSettings(data=toy.path, run=tmp_path_factory.mktemp("runs") / "toy", recipe=TINY, machine=CPU))


@pytest.fixture(scope="session")
def model(run_folder):
    return tristream.load(str(run_folder), device="cpu")


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Two clips, the two one after the other, and one without sound, in a folder; FFV1, so that nothing is lost."""
    folder = tmp_path_factory.mktemp("videos") / "videos"
    folder.mkdir()
    one, two = drift(24), drift(24, step=-2, seed=5)
    voice = np.concatenate([tone(0.96), 0.3 * tone(0.96)])
    write_video(folder / "one.mkv", one, track=sound(voice[: len(voice) // 2]), codec="ffv1")
    write_video(folder / "two.mkv", two, track=sound(voice[len(voice) // 2 :]), codec="ffv1")
    write_video(folder / "both.mkv", [*one, *two], track=sound(voice), codec="ffv1")
    write_video(folder / "mute.mkv", one, codec="ffv1")
    return folder


@pytest.fixture(scope="session")
def store(videos, tmp_path_factory):
    piece = PieceSettings(short_side=HEIGHT, mel_bands=BANDS)
    return extract(ExtractSettings(videos, tmp_path_factory.mktemp("store") / "s.h5", workers=1, store=piece))
