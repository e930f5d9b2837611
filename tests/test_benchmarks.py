"""Whoever has a GPU, or a quiet machine, for an hour shall find no trivial mistake in what measures there."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from tests.support.commands import ROOT, environment
from tests.support.stores import make_store, three_bit
from tests.support.videos import drift, write_video
from train import train


def test_every_benchmark_can_be_imported():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "benchmarks").rglob("*.py")]
    assert len(names) > 8
    for name in names:
        if not name.endswith("__"):  # what is run, not imported
            import_module(name)


def run(module: str, *arguments: object) -> dict:
    """The JSON that a benchmark prints last."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_without_videos_the_loader_is_measured_alone(tmp_path):
    store = make_store(tmp_path / "s.h5", three_bit(8, frames=40))
    report = run("loader", "--store", store.path, "--turns", 1, "--clips", 32)
    assert report["clips_per_s"] > 0 and report["one_worker"]["by_the_clock"] > 0
    assert report["ways"] == {"peers": "skipped: no videos"} and "ratio_torchcodec" not in report


@pytest.mark.slow
def test_ours_is_compared_with_decoders_of_the_very_videos(tmp_path):
    pytest.importorskip("decord")
    specs = three_bit(4, frames=40)
    for spec in specs:
        (tmp_path / spec.path).parent.mkdir(exist_ok=True)
        write_video(tmp_path / spec.path, drift(40, size=(64, 64)))  # decord fails at widths like 48
    store = make_store(tmp_path / "s.h5", specs)
    report = run("loader", "--store", store.path, "--videos", tmp_path, "--turns", 1, "--clips", 32)
    assert report["ratio_decord"] > 0 and report["ways"]["decord"] == "get_batch"


@pytest.mark.slow
def test_a_training_step_is_measured_on_the_cpu():
    report = run("train_step", "--tiny", "--quick", "--turns", 1, "--batch", 2, "--threads", 1)
    assert report["sides"]["ours"]["ratio"] == 1.0


@pytest.mark.slow
def test_systems_are_trained_and_counted(tmp_path):
    store = make_store(tmp_path / "s.h5", three_bit(16, frames=40))
    few = ("--systems", "cnn+gru", "rgb+flow, convolution", "--size", 32, "--minutes", 1e-6, "--turns", 1)
    report = run("systems", store.path, *few)
    one, both = report["systems"]["cnn+gru"], report["systems"]["rgb+flow, convolution"]
    assert 0 < one["gmacs"] < both["gmacs"] and one["epochs"] == 1 and 0 <= one["top1"][0] <= 1


@pytest.mark.slow
def test_long_videos_go_through_the_commands(tmp_path):
    store = make_store(tmp_path / "s.h5", three_bit(16, frames=40))
    machine, recipe = Machine(workers=0, device="cpu"), Recipe(epochs=1, model=ModelSettings(width=2, feature=8))
    folder = train(TrainSettings(data=store.path, run=tmp_path / "run", recipe=recipe, machine=machine))
    report = run("long", folder, "--minutes", 0.25, 0.5)
    assert report.keys() == {"features", "timeline"}
    for rows in report.values():
        assert rows["0.5 min"]["video_seconds"] == 30 and rows["memory_ratio"] > 0


@pytest.mark.slow
def test_the_benchmark_of_gpus_runs_without_one(tmp_path):
    report = run("gpu", "--tiny", "--out", tmp_path)
    assert report["training"] and report["loop"] and report["asking"] and report["reading"]
    written = next(tmp_path.glob("gpu-*-tiny.json"))
    assert json.loads(written.read_text()) == report
    assert "| training |" in written.with_suffix(".md").read_text()


@pytest.mark.slow
def test_live_video_is_measured_with_its_stalls_and_at_each_size():
    report = run("live", "--minutes", 0.15, "--size", "96x64", "--sizes", "128x96", "--seconds", 3)
    assert report["stalls"] >= 2 and report["delay"]["total"]["p50"] > 0 and report["sizes"]["128x96"]["answers"] > 0
    assert set(report["back_to_normal_after_s"]) == {"stall 1", "stall 2", "sound gone", "sound back"}
