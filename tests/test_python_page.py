"""The Python of docs/python.md and of the README, run from top to bottom on a small run, store and video."""

import re
from pathlib import Path

import pytest

from fusion.model import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from streams.clip import ClipSettings
from tests.support.stores import BITS, Spec, make_store
from tests.support.videos import drift, sound, tone, write_video
from train import train

ROOT = Path(__file__).parent.parent
CLASSES = ("Archery", "BandMarching", "BasketballDunk")
RECIPE = Recipe(
    epochs=1,
    batch=8,
    clip=ClipSettings(frames=4, stride=4, size=32, audio_seconds=0.64),
    model=ModelSettings(width=2, feature=8),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to work in, with all that the pages need."""
    folder = tmp_path_factory.mktemp("work")
    specs = [
        Spec(f"{name}/v_{name}_g{group:02d}_c01.mp4", label=name, bits=BITS[2 * row + 1], frames=30)
        for row, name in enumerate(CLASSES)
        for group in range(8, 14)
    ]
    store = make_store(folder / "out.h5", specs)
    machine = Machine(workers=0, device="cpu")
    train(TrainSettings(data=store.path, run=folder / "runs/rgb+flow+audio", recipe=RECIPE, machine=machine))
    write_video(folder / "new.mp4", drift(75), track=sound(tone(3.0), codec="aac"))
    return folder


@pytest.mark.parametrize(("page", "least"), [("docs/python.md", 10), ("README.md", 1)])
def test_the_blocks_of_a_page_run_in_order_and_what_they_assert_is_true(folder, page, least, monkeypatch):
    monkeypatch.chdir(folder)
    text = (ROOT / page).read_text()
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert len(blocks) >= least
    names: dict = {}
    for block in blocks:
        above = text[: block.start(1)].count("\n")  # so that an error names the page's own line
        exec(compile("\n" * above + block[1], page, "exec"), names)
