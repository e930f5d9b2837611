"""python -m tasks.features: files that any program can read, whole at every moment."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from fusion.training.settings import TrainSettings
from preprocess.features_store import FeaturesStoreSettings, features_store
from tasks import features
from tasks.features import main
from tasks.model import Model, load
from tasks.settings import FeaturesSettings
from tests.support.commands import assert_one_line_error, command, environment
from tests.support.runs import Killed, run_here
from tests.tasks.conftest import CPU, TINY
from train import train

WINDOW = {"length": 0.32, "hop": 0.16}
OPTIONS = ("--length", 0.32, "--hop", 0.16, "--device", "cpu")


@pytest.fixture
def ask(run_folder, monkeypatch, capsys):
    """The command line within this process."""
    return lambda *arguments: run_here(monkeypatch, capsys, run_folder, *arguments, "--device", "cpu", main=main)


def settings(run_folder, *files, **more) -> FeaturesSettings:
    return FeaturesSettings(run=run_folder, videos=files, device="cpu", **WINDOW, **more)


def everything(path) -> dict[str, np.ndarray]:
    """Every dataset of a file, by its name."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None)
    return found


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(run_folder, videos, tmp_path_factory):
    """The features of all the videos, made at once."""
    out = tmp_path_factory.mktemp("features") / "all.h5"
    assert main(settings(run_folder, videos, out)) == 0
    return out


def test_plain_h5py_gives_the_windows_of_each_video(model, videos, undisturbed):
    with h5py.File(undisturbed, "r") as file:
        assert sorted(file["videos"]) == ["both.mkv", "mute.mkv", "one.mkv", "two.mkv"]
        assert (file.attrs["length"], file.attrs["hop"]) == model.spacing(**WINDOW) == (0.32, 0.16)
        assert file.attrs["streams"] == "rgb,flow,audio" and file.attrs["model"] == str(model.path)
        assert file["classes"].asstr()[:].tolist() == model.classes
        for name, video in file["videos"].items():
            parts = list(model.windows(videos / name, **WINDOW))
            np.testing.assert_array_equal(video["times"], torch.cat([part.times for part in parts]))
            for stream in model.streams:
                expected = torch.cat([part.features[stream] for part in parts])
                np.testing.assert_array_equal(video[stream], expected)
                np.testing.assert_array_equal(
                    video[f"present/{stream}"], torch.cat([part.present[stream] for part in parts])
                )
                np.testing.assert_array_equal(video[f"logits/{stream}"], torch.cat([p.logits[stream] for p in parts]))
                assert video[stream].dtype == np.float32 and video[stream].attrs["unit"]
            np.testing.assert_array_equal(video["fused"], torch.cat([part.fused for part in parts]))
            np.testing.assert_allclose(video["answer"], torch.cat([part.answer for part in parts]), atol=1e-6)
        assert file["videos/mute.mkv"].attrs["missing_audio"] == "no audio track"
        assert not file["videos/mute.mkv/present/audio"][:].any() and file["videos/mute.mkv/present/fused"][:].all()


def test_an_archive_holds_the_same_and_a_store_gives_what_its_videos_give(ask, store, videos, undisturbed, tmp_path):
    assert ask(videos, tmp_path / "f.npz", *OPTIONS[:4]).returncode == 0
    assert ask(store.path, tmp_path / "f.h5", *OPTIONS[:4]).returncode == 0
    expected = everything(undisturbed)
    with np.load(tmp_path / "f.npz") as archive:
        arrays = {f"videos/{name}": archive[name] for name in archive if name not in ("classes", "about")}
        about = json.loads(str(archive["about"]))
    assert about["hop"] == 0.16 and about["videos"]["mute.mkv"]["missing_audio"] == "no audio track"
    assert_same(arrays, {name: values for name, values in expected.items() if name != "classes"})
    stored = everything(tmp_path / "f.h5")
    assert stored.keys() == expected.keys()
    for name in stored:
        if name != "classes":
            np.testing.assert_allclose(stored[name], expected[name], atol=1e-5, err_msg=name)


def test_only_the_streams_that_are_named_are_used_and_towers_come_on_demand(ask, model, videos, tmp_path):
    out = tmp_path / "f.h5"
    assert ask(videos / "one.mkv", out, "--streams", "audio,rgb", "--towers", *OPTIONS[:4]).returncode == 0
    parts = [model.fuse(part, "rgb,audio") for part in model.windows(videos / "one.mkv", **WINDOW)]
    with h5py.File(out, "r") as file:
        video = file["videos/one.mkv"]
        assert "flow" not in video and file.attrs["streams"] == "rgb,audio"
        np.testing.assert_array_equal(video["fused"], torch.cat([part.fused for part in parts]))
        towers = torch.cat([part.towers["rgb"].mean(dim=1) for part in parts])
        np.testing.assert_allclose(video["towers/rgb"], towers, atol=1e-6)


def test_a_run_without_a_classifier_gives_its_streams_alone(toy, videos, tmp_path):
    recipe = replace(TINY, epochs=1, pretrain="contrast", clip=replace(TINY.clip, frames=4))
    folder = train(TrainSettings(streams="rgb,audio", data=toy.path, run=tmp_path / "p", recipe=recipe, machine=CPU))
    assert main(settings(folder, videos / "one.mkv", tmp_path / "f.h5")) == 0
    parts = list(load(folder, device="cpu").windows(videos / "one.mkv", **WINDOW))
    with h5py.File(tmp_path / "f.h5", "r") as file:
        video = file["videos/one.mkv"]
        assert sorted(video) == ["audio", "present", "rgb", "times"] and len(file["classes"]) == 0
        np.testing.assert_array_equal(video["rgb"], torch.cat([part.features["rgb"] for part in parts]))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_stopped_within_a_video_it_goes_on_after_the_last_complete_one(
    run_folder, videos, undisturbed, tmp_path, monkeypatch, suffix
):
    out, windows, asked = tmp_path / f"f{suffix}", Model.windows, []
    left = 2

    def dying(model: Model, source, **shape):
        asked.append(shape["video"])
        for part in windows(model, source, **shape):
            yield part
            if len(asked) > left:
                raise Killed

    monkeypatch.setattr(Model, "windows", dying)
    with pytest.raises(Killed):
        main(settings(run_folder, videos, out))
    assert not out.exists() and asked == ["both.mkv", "mute.mkv", "one.mkv"]
    left, asked = 99, []
    assert main(settings(run_folder, videos, out)) == 0
    assert asked == ["one.mkv", "two.mkv"] and os.listdir(tmp_path) == [out.name]
    if suffix == ".h5":
        assert_same(everything(out), everything(undisturbed))
        asked = []
        assert main(settings(run_folder, videos, out)) == 0
        assert asked == []


def test_killed_while_it_adds_to_a_file_the_file_is_as_before(run_folder, videos, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "f.h5"
    main(settings(run_folder, videos / "one.mkv", out))
    before = out.read_bytes()
    with monkeypatch.context() as patch:

        def killed(*_):
            raise Killed

        patch.setattr("tasks.feature_file.replace", killed)
        with pytest.raises(Killed):
            main(settings(run_folder, videos, out))
    assert out.read_bytes() == before
    assert main(settings(run_folder, videos, out)) == 0
    assert_same(everything(out), everything(undisturbed))


@pytest.mark.slow
def test_a_real_kill_leaves_no_half_of_a_file(run_folder, videos, undisturbed, tmp_path):
    out = tmp_path / "f.h5"
    arguments = command("tasks.features", run_folder, videos, out, *OPTIONS)
    for least in (1, 3):
        process = subprocess.Popen(arguments, env=environment(), start_new_session=True)
        while process.poll() is None and len(list(tmp_path.glob("f.h5.parts/*.h5"))) < least:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not out.exists() or everything(out)
    assert subprocess.run(arguments, env=environment(), timeout=170).returncode == 0
    assert_same(everything(out), everything(undisturbed))


def test_a_video_that_has_changed_is_made_again_and_others_are_added(run_folder, videos, tmp_path):
    out, file = tmp_path / "f.h5", tmp_path / "one.mkv"
    file.write_bytes((videos / "one.mkv").read_bytes())
    main(settings(run_folder, file, videos / "mute.mkv", out))
    file.write_bytes((videos / "two.mkv").read_bytes())
    main(settings(run_folder, file, out))
    with h5py.File(out, "r") as found:
        assert sorted(found["videos"]) == ["mute.mkv", "one.mkv"]
        main(settings(run_folder, videos / "two.mkv", tmp_path / "other.h5"))
        with h5py.File(tmp_path / "other.h5", "r") as other:
            np.testing.assert_array_equal(found["videos/one.mkv/rgb"], other["videos/two.mkv/rgb"])


def test_a_bad_video_is_named_and_the_others_are_done(ask, videos, tmp_path):
    (tmp_path / "text.mp4").write_text("dear diary\n" * 50)
    out = tmp_path / "f.h5"
    result = ask(tmp_path / "text.mp4", tmp_path / "gone.mp4", videos / "one.mkv", out)
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and len(lines) == 2
    assert "text.mp4" in lines[0] and "gone.mp4" in lines[1]
    with h5py.File(out, "r") as file:
        assert list(file["videos"]) == ["one.mkv"]
    assert ask(tmp_path / "text.mp4", tmp_path / "none.h5").returncode == 1
    assert sorted(os.listdir(tmp_path)) == ["f.h5", "text.mp4"]


def test_wrong_input_is_one_line_before_the_work(ask, undisturbed, store, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "add_video", lambda *_, **__: pytest.fail("it has begun"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("dear diary\n")
    (tmp_path / "one.mkv").write_bytes(b"")
    for arguments, says in [
        ((videos, undisturbed, "--length", 0.32, "--hop", 0.32), "hop"),
        ((videos, undisturbed, *OPTIONS[:4], "--streams", "rgb"), "streams"),
        ((videos, store.path), str(store.path)),
        ((videos, tmp_path / "text.h5"), "text.h5"),
        ((videos, tmp_path / "f.csv"), ".csv"),
        ((videos, tmp_path / "none" / "f.h5"), "none"),
        ((videos, tmp_path / "f.h5", "--hop", 0), "hop"),
        ((videos, tmp_path / "f.h5", "--streams", "smell"), "smell"),
        ((tmp_path / "empty", tmp_path / "f.h5"), "empty"),
        ((videos / "one.mkv", tmp_path / "one.mkv", tmp_path / "f.h5"), "one.mkv"),
        ((videos, tmp_path / "f.h5", "--video", "one"), "--video"),
        ((tmp_path / "f.h5",), "new.h5"),
    ]:
        assert_one_line_error(ask(*arguments), says)
    assert sorted(os.listdir(tmp_path)) == ["empty", "one.mkv", "text.h5"]


@pytest.mark.parametrize("name", ["f.h5", "f.npz"])
def test_features_come_back_as_a_store_without_what_is_absent(model, run_folder, store, tmp_path, name):
    main(settings(run_folder, store.path, tmp_path / name))
    made = features_store(FeaturesStoreSettings(tmp_path / name, "-", tmp_path / "made.h5"))
    assert {*made.kinds} == {*model.streams}
    for video in made.videos:
        parts = list(model.windows(store, video=video.path, **WINDOW))
        for stream in model.streams:
            there = torch.cat([part.present[stream] for part in parts])
            assert video.streams[stream] == bool(there.any())
            if there.all():
                rows = made.given(video, stream, np.arange(video.frames) / video.frames)
                torch.testing.assert_close(torch.from_numpy(rows), torch.cat([one.features[stream] for one in parts]))
    assert not all(video.streams["audio"] for video in made.videos)
