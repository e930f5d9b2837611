"""A small trained run, and the store it was trained on."""

from dataclasses import replace
from pathlib import Path

import pytest

from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from preprocess.store import Store
from streams.clip import ClipSettings
from tests.support.stores import Spec, make_store, three_bit
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
