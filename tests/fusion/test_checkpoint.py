"""A run's files."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fusion.checkpoint import load_state, load_weights, save_state, save_weights, write_json
from preprocess.durable import write_aside
from preprocess.errors import UserError


def model(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def test_weights_come_back_bit_for_bit_buffers_included(tmp_path):
    one, other = model(), model()
    one(torch.randn(8, 3))  # moves batch norm's statistics
    save_weights(tmp_path / "w.safetensors", one)
    load_weights(tmp_path / "w.safetensors", other)
    stored = load_file(tmp_path / "w.safetensors")
    assert stored.keys() == one.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]) and torch.equal(value, stored[name])


def test_weights_that_are_not_there_are_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"best\.safetensors is not there"):
        load_weights(tmp_path / "best.safetensors", model())


@pytest.mark.parametrize("damage", ["empty", "cut", "rubbish"])
def test_damaged_weights_are_one_clear_line(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    save_weights(path, model())
    path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-20], "rubbish": b"rubbish " * 50}[damage])
    with pytest.raises(UserError, match=r"w\.safetensors is damaged") as caught:
        load_weights(path, model())
    assert "\n" not in str(caught.value)


def test_another_models_weights_are_one_clear_line(tmp_path):
    save_weights(tmp_path / "w.safetensors", model(4))
    with pytest.raises(UserError, match="holds the weights of another model") as caught:
        load_weights(tmp_path / "w.safetensors", model(5))
    assert "\n" not in str(caught.value)


def test_a_state_brings_the_random_numbers_back(tmp_path):
    torch.manual_seed(3)
    save_state(tmp_path / "state.pt", epoch=2, best=(0.5, -1.0))
    expected = torch.rand(5)
    state = load_state(tmp_path / "state.pt", torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)
    assert state["epoch"] == 2 and tuple(state["best"]) == (0.5, -1.0)


def test_a_state_that_is_not_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"state\.pt is not there"):
        load_state(tmp_path / "state.pt", torch.device("cpu"))


@pytest.mark.parametrize("damage", ["empty", "cut", "rubbish"])
def test_a_damaged_state_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "state.pt"
    save_state(path, epoch=2, model=model().state_dict())
    path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-300], "rubbish": b"rubbish " * 50}[damage])
    with pytest.raises(UserError, match=r"state\.pt is damaged") as caught:
        load_state(path, torch.device("cpu"))
    assert "\n" not in str(caught.value)


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
