"""A training machine may lack what only extraction needs, and what is an extra."""

import subprocess
import sys

from tests.support.commands import ROOT, environment
from tests.support.stores import make_store, three_bit

BLOCK = """
import sys
BLOCKED = ("av", "librosa", "cv2", "torchvision", "timm")
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED or name.startswith(tuple(f"{blocked}." for blocked in BLOCKED)):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Block())
"""


def run_without(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCK + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170)


def test_the_block_blocks():
    for name in ("av", "librosa", "cv2", "torchvision", "timm"):
        assert "is not on this machine" in run_without(f"import {name}").stderr


def test_training_needs_neither_pyav_nor_librosa_nor_opencv_nor_torchvision(tmp_path):
    store = make_store(tmp_path / "s.h5", three_bit(24))
    code = """
import train
from fusion.training.settings import Machine, ModelSettings, Recipe, TrainSettings
from pathlib import Path
from streams.clip import ClipSettings
clip = ClipSettings(frames=2, stride=2, size=32, audio_seconds=0.32)
recipe = Recipe(epochs=1, clip=clip, model=ModelSettings(width=2, feature=4))
data, run = map(Path, sys.argv[1:])
train.train(TrainSettings(data=data, run=run, recipe=recipe, machine=Machine(workers=0)))
"""
    result = run_without(code, store.path, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_importing_the_rooms_prints_nothing_and_writes_nothing(tmp_path):
    code = "import os; os.chdir(sys.argv[1]); import streams, fusion.model, fusion.training.log, train, tasks.run"
    result = run_without(code, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
