"""train.py --init, and torchvision's towers in training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train as training
from fusion.settings import ModelSettings
from fusion.training.checkpoint import Checkpoints
from fusion.training.run import read_settings
from fusion.training.settings import Machine, Recipe, TrainSettings
from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from tasks.run import load_run
from tests.support.commands import assert_one_line_error, run
from tests.support.runs import run_here
from tests.support.stores import Spec, make_store, three_bit
from tests.support.torchvision_networks import BORROWED, needs_torchvision, network
from tests.test_train import interrupt
from train import train

CLIP = ClipSettings(frames=2, stride=2, size=32, audio_seconds=0.32)
TINY = Recipe(epochs=1, batch=16, clip=CLIP, model=ModelSettings(width=2, feature=8))
CPU = Machine(workers=0, device="cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("audio",)), Spec("x/2.mp4", label="001", streams=("rgb",))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(24) + lacking)


@pytest.fixture(scope="module")
def earlier(store, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "earlier"
    return train(TrainSettings(streams="rgb,audio", data=store.path, run=folder, seed=3, recipe=TINY, machine=CPU))


def settings_of(store, folder: Path, *init: str, **changes) -> TrainSettings:
    return TrainSettings(data=store.path, run=folder, init=init, machine=CPU, **{"recipe": TINY} | changes)


def test_a_run_tells_and_keeps_what_it_was_started_from(store, earlier, tmp_path, capsys):
    frozen = replace(TINY, lr=1e-30, weight_decay=0.0)
    folder = train(settings_of(store, tmp_path / "run", str(earlier), f"flow={earlier}", recipe=frozen))
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("init ")]
    assert [line.split()[1] for line in told] == ["rgb", "audio", "flow"]
    settings, saved = read_settings(folder)
    assert settings.init == (str(earlier), f"flow={earlier}")
    reports = {report["stream"]: report for report in saved["init"]}
    assert all(str(earlier / "best.safetensors") in report["source"] for report in reports.values())
    assert (reports["rgb"]["inflated"], reports["flow"]["inflated"]) == (0, 1)
    assert [reports[name]["head"] for name in ("rgb", "flow", "audio")] == [2, 0, 2]
    before, after = load_file(earlier / "best.safetensors"), load_file(folder / "last.safetensors")
    for name in before:
        if name.startswith(("encoders.", "auxiliary.")) and "running" not in name and "num_batches" not in name:
            assert torch.equal(before[name], after[name]), name
    load_run(folder, device="cpu")


def test_a_resumed_run_loads_nothing_again_and_does_not_miss_the_file(store, earlier, tmp_path, capsys):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((earlier / "best.safetensors").read_bytes())
    settings = settings_of(store, tmp_path / "run", str(copy), recipe=replace(TINY, epochs=2))
    interrupt(settings, training, "validate", at=2)
    copy.unlink()
    said = json.loads((settings.run / "settings.json").read_text())
    capsys.readouterr()
    train(TrainSettings(run=settings.run, resume=True, machine=CPU))
    assert "init " not in capsys.readouterr().out
    assert json.loads((settings.run / "settings.json").read_text()) == said and said["init"]
    assert Checkpoints(settings.run, keep=1).load()["epoch"] == 2
    with pytest.raises(UserError, match="--init"):
        train(TrainSettings(run=settings.run, resume=True, init=("other.pt",), machine=CPU))


def test_the_command_line_answers_a_wrong_init_with_one_line_and_leaves_no_folder(
    store, earlier, tmp_path, monkeypatch, capsys
):
    small = ["--data", store.path, "--run", tmp_path / "run", "--width", 2, "--feature", 8, "--streams", "rgb,flow"]
    (tmp_path / "w.pt").write_bytes(b"rubbish " * 99)
    for init, says in (
        ([tmp_path / "none"], str(tmp_path / "none")),
        ([f"smell={earlier}"], "smell"),
        ([f"rgb={tmp_path / 'w.pt'}"], "w.pt"),
        ([earlier, "--width", 4], "--width"),
    ):
        result = run_here(monkeypatch, capsys, *small, "--init", *init, main=training.main)
        assert_one_line_error(result, says)
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
@needs_torchvision
def test_without_a_network_kinetics_is_one_line(store, tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    small = ["--data", store.path, "--run", tmp_path / "run", "--streams", "rgb", "--towers", "rgb=s3d"]
    result = run("train", *small, "--init", "rgb=kinetics", cwd=tmp_path)
    assert_one_line_error(result, "s3d-", ".pth")


@pytest.mark.slow
@needs_torchvision
@pytest.mark.parametrize("name", BORROWED)
def test_a_tower_of_torchvision_is_trained_from_its_file(store, tmp_path, name):
    """Also where a batch lacks the stream, or has one clip of it."""
    torch.save(network(name).state_dict(), tmp_path / "w.pth")
    model = replace(TINY.model, towers=(f"rgb={name}", f"flow={name}"))
    init = (f"rgb={tmp_path / 'w.pth'}", f"flow={tmp_path / 'w.pth'}")
    folder = train(settings_of(store, tmp_path / "run", *init, recipe=replace(TINY, batch=7, model=model)))
    (row,) = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 0 < row["loss"] < 20 and 0 <= row["val_top1"] <= 1
    run = load_run(folder, device="cpu")
    assert run.model.network.encoders["rgb"].tower.name == run.model.network.encoders["flow"].tower.name == name
