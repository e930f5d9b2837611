"""The blocks of docs/python.md, run from top to bottom in one namespace, on a small run, store and video."""

import re
from pathlib import Path

import pytest

from fusion.model import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from streams.clip import ClipSettings
from tests.support.stores import BITS, Spec, make_store
from tests.support.videos import drift, sound, tone, write_video
from train import train

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
CLASSES = ("Archery", "BandMarching", "BasketballDunk")
RECIPE = Recipe(
    epochs=1,
    batch=8,
    clip=ClipSettings(frames=4, stride=4, size=32, audio_seconds=0.64),
    model=ModelSettings(width=2, feature=8),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with all that the page needs."""
    monkeypatch.chdir(tmp_path)
    specs = [
        Spec(f"{name}/v_{name}_g{group:02d}_c01.mp4", label=name, bits=BITS[2 * row + 1], frames=30)
        for row, name in enumerate(CLASSES)
        for group in range(8, 14)
    ]
    make_store(tmp_path / "out.h5", specs)
    machine = Machine(workers=0, device="cpu")
    train(TrainSettings(data=Path("out.h5"), run=Path("runs/rgb+flow+audio"), recipe=RECIPE, machine=machine))
    write_video("new.mp4", drift(75), track=sound(tone(3.0), codec="aac"))
    return tmp_path


def test_the_blocks_of_the_page_run_in_order_and_what_they_assert_is_true(folder):
    text = PAGE.read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert len(blocks) >= 10
    names: dict = {}
    for block in blocks:
        above = text[: block.start(1)].count("\n")  # so that an error names the page's own line
        exec(compile("\n" * above + block[1], str(PAGE), "exec"), names)
