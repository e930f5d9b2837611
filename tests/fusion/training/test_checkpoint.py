"""A run's files."""

import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.checkpoint import Checkpoints
from fusion.training.run import About, load_model, save_weights, write_json
from fusion.training.settings import Recipe, TrainSettings
from preprocess.common.errors import UserError
from preprocess.common.files import write_aside


def model(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


PARAMETERS = {"fps": 25.0, "mel_bands": 16, "short_side": 32}
RECIPE = Recipe(model=ModelSettings(width=2, feature=4, towers=("rgb=r2plus1d",)))
ABOUT = About("tristream 9", TrainSettings(streams="rgb,audio", recipe=RECIPE), ["a", "b", "c"], PARAMETERS)


def network(width: int = 2):
    settings = replace(RECIPE.model, width=width)
    return build_model(settings, streams=("rgb", "audio"), classes=3, parameters=PARAMETERS)


def test_one_file_of_weights_is_enough_to_load_the_model_bit_for_bit(tmp_path):
    path, one = tmp_path / "w.safetensors", network()
    for name, values in one.state_dict().items():
        if "running" in name:
            values.uniform_(0.5, 2.0)
    save_weights(path, one, ABOUT)
    other, about = load_model(path)
    assert about == ABOUT
    stored = load_file(path)
    assert stored.keys() == one.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]) and torch.equal(value, stored[name])
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "rubbish", "undescribed", "another"])
def test_weights_that_cannot_be_loaded_are_one_line_that_names_the_file(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    save_weights(path, network(3 if damage == "another" else 2), ABOUT)
    if damage == "gone":
        path.unlink()
    elif damage == "undescribed":
        save_file(load_file(path), path)
    elif damage != "another":
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-20], "rubbish": b"rubbish " * 50}[damage])
    with pytest.raises(UserError, match=r"w\.safetensors") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def state(step: int) -> dict:
    torch.manual_seed(step)
    weights = model().state_dict()
    return {"epoch": step, "loss": step / 3, "best": (0.5, -1.0), "model": weights, "clips": 7 * step}


def assert_state(found: dict, step: int) -> None:
    expected = state(step)
    weights, wanted = found.pop("model"), expected.pop("model")
    assert found == expected
    assert weights.keys() == wanted.keys() and all(torch.equal(weights[name], wanted[name]) for name in wanted)


def test_the_newest_state_comes_back_and_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.files() == []
    for step in (1, 5, 30, 1000):
        checkpoints.save(step, state(step))
        assert_state(Checkpoints(tmp_path, keep=2).load(), step)
    assert [path.name for path in checkpoints.files()] == ["step-000001000.pt", "step-000000030.pt"]
    assert len(list(checkpoints.folder.iterdir())) == 2


def test_what_a_killed_process_left_half_written_is_passed_over_and_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.save(1, state(1))
    (checkpoints.folder / "step-000000002.pt.part").write_bytes(b"half a")
    assert_state(checkpoints.load(), 1)
    checkpoints.save(3, state(3))
    assert [path.name for path in sorted(checkpoints.folder.iterdir())] == ["step-000000001.pt", "step-000000003.pt"]


def flip(path, where: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(where * (len(data) - 1))] ^= 0x40
    path.write_bytes(data)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "another file": lambda path: torch.save({"model": print}, path),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path, capsys, damage):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, state(step))
    newest, middle, oldest = checkpoints.files()
    DAMAGES[damage](newest)
    assert_state(checkpoints.load(), 2)
    (line,) = capsys.readouterr().out.splitlines()
    assert str(newest) in line and "damaged" in line
    DAMAGES[damage](middle)
    assert_state(checkpoints.load(), 1)
    DAMAGES[damage](oldest)
    with pytest.raises(UserError, match="checkpoints") as caught:
        checkpoints.load()
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path, capsys):
    """PyTorch itself does not look at the sums that it writes."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    newest = checkpoints.files()[0]
    whole, noticed = newest.read_bytes(), 0
    for place in range(100):
        flip(newest, place / 99)
        found = checkpoints.load()
        noticed += found["epoch"] == 1
        assert_state(found, found["epoch"])
        newest.write_bytes(whole)
    assert noticed > 25


def test_a_run_without_a_checkpoint_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="--resume"):
        Checkpoints(tmp_path, keep=2).load()


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"top1": 0.5})

    def fail(part):
        part.write_text("half a rep")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk"):
        write_aside(path, fail)
    assert json.loads(path.read_text()) == {"top1": 0.5}
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]
