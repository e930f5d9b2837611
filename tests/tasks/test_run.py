"""Reading a run, and which videos it may be judged on."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from tasks.run import check_store, choose_videos, chosen_on, load_run
from tests.support.stores import Spec, make_store, three_bit
from tests.tasks.conftest import CPU, TINY
from train import train


@pytest.mark.parametrize("weights", ["best", "last"])
def test_a_run_comes_back_with_its_weights_classes_and_streams(run_folder, toy, weights):
    run = load_run(run_folder, weights=weights, device="cpu")
    assert run.model.classes == toy.classes and run.model.streams == ("rgb", "flow", "audio")
    assert not run.model.network.training
    stored = load_file(run_folder / f"{weights}.safetensors")
    state = run.model.network.state_dict()
    assert state.keys() == stored.keys() and all(torch.equal(state[key], stored[key]) for key in state)


def test_a_folder_that_is_no_run_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{folder.name} is no run"):
            load_run(folder, device="cpu")


def test_unknown_weights_are_named(run_folder):
    with pytest.raises(UserError, match="unknown weights 'middle': known are best, last"):
        load_run(run_folder, weights="middle", device="cpu")


@pytest.mark.parametrize("damage", [b"", b"rubbish"])
def test_damaged_weights_are_named(run_folder, tmp_path, damage):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "best.safetensors").write_bytes(damage)
    with pytest.raises(UserError, match=r"best\.safetensors is damaged.*other weights"):
        load_run(folder, device="cpu")
    load_run(folder, weights="last", device="cpu")


@pytest.mark.parametrize("missing", ["settings", "classes", "parameters"])
def test_settings_that_lack_something_are_named(run_folder, tmp_path, missing):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    saved = json.loads((folder / "settings.json").read_text())
    del saved[missing]
    (folder / "settings.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"settings\.json is not what"):
        load_run(folder, device="cpu")


def test_the_store_that_a_run_was_trained_on_fits_it(run_folder, toy):
    check_store(load_run(run_folder, device="cpu"), toy)


def test_a_store_of_fewer_classes_in_another_order_fits(run_folder, tmp_path):
    store = make_store(tmp_path / "s.h5", [Spec("b.mp4", label="101"), Spec("a.mp4", label="111")])
    check_store(load_run(run_folder, device="cpu"), store)


def test_classes_that_the_run_does_not_know_are_named(run_folder, tmp_path):
    store = make_store(tmp_path / "s.h5", [*three_bit(8), Spec("b.mp4", label="dancing")])
    with pytest.raises(UserError, match=r"classes that .* does not know: dancing; the run knows 000, 001"):
        check_store(load_run(run_folder, device="cpu"), store)


@pytest.mark.parametrize(("name", "value"), [("mel_bands", 24), ("fps", 10.0)])
def test_a_store_of_other_parameters_is_named_with_the_option_to_extract_it_with(run_folder, tmp_path, name, value):
    store = make_store(tmp_path / "s.h5", three_bit(8), **{name: value})
    run = load_run(run_folder, device="cpu")
    option = f"--{name.replace('_', '-')} {run.model.parameters[name]}"
    with pytest.raises(UserError, match=f"{name} {value}.*{option}"):
        check_store(run, store)


def test_a_run_is_never_judged_on_a_video_that_it_was_trained_on_nor_on_a_copy(run_folder, toy):
    run = load_run(run_folder, device="cpu")
    seen = {video.content for video in toy.videos if video.path in run.split.train}
    for which in ("auto", "val"):
        chosen, says = choose_videos(run, toy, which)
        assert chosen and not {video.content for video in chosen} & seen
        assert {video.path for video in chosen} == set(run.split.val)
        assert says.startswith(f"{len(chosen)} ") and f"{len(run.split.train)} " in says and "left out" in says


def test_a_trained_video_is_known_again_in_another_store_under_another_name(run_folder, toy, tmp_path):
    run = load_run(run_folder, device="cpu")
    content = run.split.train_content[0]
    specs = [Spec("new/1.mp4", label="000", content=content), Spec("new/2.mp4", label="000", content="unseen")]
    chosen, _ = choose_videos(run, make_store(tmp_path / "s.h5", specs), "auto")
    assert [video.path for video in chosen] == ["new/2.mp4"]


def test_the_videos_that_the_best_weights_were_chosen_on_are_known_by_what_they_hold(run_folder, toy, tmp_path):
    best, last = (load_run(run_folder, weights=weights, device="cpu") for weights in ("best", "last"))
    videos, _ = choose_videos(best, toy, "val")
    assert chosen_on(best, videos) == len(videos) > 0 and chosen_on(last, videos) == 0
    specs = [
        Spec("copy.mp4", label="000", content=videos[0].content),
        Spec(videos[1].path, label="000", content="another under this name"),
    ]
    others = make_store(tmp_path / "s.h5", specs).videos
    assert chosen_on(best, others) == 1


def test_test_videos_are_taken_where_there_are_some_and_videos_without_a_label_never(run_folder, tmp_path):
    run = load_run(run_folder, device="cpu")
    specs = [replace(spec, split=("test", "val")[k % 2]) for k, spec in enumerate(three_bit(8, prefix="new"))]
    store = make_store(tmp_path / "s.h5", [*specs, Spec("odd.mp4", split="test")])
    for which in ("auto", "test"):
        chosen, says = choose_videos(run, store, which)
        assert {video.split for video in chosen} == {"test"} and len(chosen) == 4
        assert "4 test videos" in says


def test_without_videos_to_judge_on_it_says_so(run_folder, toy):
    run = load_run(run_folder, device="cpu")
    with pytest.raises(UserError, match="no labelled test videos"):
        choose_videos(run, toy, "test")
    with pytest.raises(UserError, match="unknown split 'all': use auto, test or val"):
        choose_videos(run, toy, "all")


@pytest.mark.parametrize("head", ["concat", "stacked"])
def test_of_videos_that_its_head_was_fitted_on_it_is_said(toy, tmp_path, head):
    recipe = replace(TINY, epochs=1, model=replace(TINY.model, head=head))
    run = load_run(train(TrainSettings(data=toy.path, run=tmp_path / "run", recipe=recipe, machine=CPU)))
    chosen, says = choose_videos(run, toy, "val")
    assert (f"the head was fitted on {len(chosen)} of them" in says) == (head == "stacked")
