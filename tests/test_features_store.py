"""python -m preprocess.features_store: features that others extracted become a store like any other."""

import csv
from dataclasses import replace
from itertools import combinations

import h5py
import numpy as np
import pytest
import torch

import tristream
from fusion.training.run import check_parameters
from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.features_store import FeaturesStoreSettings, features_store, main
from preprocess.merge import merge
from streams.given import blended
from streams.towers import create_tower
from tasks.ablate import ablate
from tasks.settings import AblateSettings
from tests.support.cases import case
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import make_store, three_bit
from tests.support.videos import drift, write_video
from tests.tasks.conftest import CPU, TINY
from train import TrainSettings, train

BITS = {"audio": 0, "smell": 1, "text": 2}  # the bit of the class that each stream tells
SIZES = {"audio": 5, "smell": 3, "text": 4}


@pytest.fixture(scope="session")
def given(tmp_path_factory):
    """120 samples of eight classes, a bit a stream; a name of a built-in stream, one of two rows, and one absent."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 8, 120)
    arrays = {"name": np.array([f"s{k:03d}" for k in range(120)])}
    for stream, bit in BITS.items():
        rows = 2 if stream == "text" else 1
        told = 2.0 * (classes >> bit & 1)[:, None, None] - 1
        arrays[stream] = (told + 0.3 * rng.normal(size=(120, rows, SIZES[stream]))).astype(np.float32)
    arrays["smell"] = arrays["smell"][:, 0]
    arrays["smell"][7] = np.nan
    folder = tmp_path_factory.mktemp("given")
    np.savez(folder / "feats.npz", **arrays)
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "label", "group"])
        table.writerows(
            [name, f"{number:03b}", f"g{k // 4}"]
            for k, (name, number) in enumerate(zip(arrays["name"], classes, strict=True))
        )
    store = features_store(FeaturesStoreSettings(folder / "feats.npz", folder / "labels.csv", folder / "out.h5"))
    return folder, arrays, classes, store


def test_plain_hdf5_has_the_rows_and_the_store_says_what_is_missing(given):
    folder, arrays, classes, store = given
    assert store.parameters["given"] == SIZES and list(store.kinds) == ["audio", "smell", "text"]
    assert [video.path for video in store.videos] == arrays["name"].tolist()
    assert [video.label for video in store.videos] == [f"{number:03b}" for number in classes]
    with h5py.File(folder / "out.h5") as file:
        for row in (0, 7, 119):
            group = file["videos"][store.videos[row].content]
            np.testing.assert_array_equal(group["text/data"], arrays["text"][row])
            assert ("smell" in group) == (row != 7)
    assert store.videos[7].why == {"smell": "not given"}
    np.testing.assert_array_equal(
        store.given(store.videos[3], "text", np.array([0.0, 0.49, 0.5])), arrays["text"][3][[0, 0, 1]]
    )
    assert not list(check(store.path))


@pytest.mark.slow
def test_training_and_ablation_find_what_each_stream_tells(given, tmp_path):
    """Ceilings are known: 1 / 4 with one stream, 1 / 2 with two, all with three."""
    _, _, _, store = given
    recipe = replace(TINY, epochs=12, lr=1e-2, clip=replace(TINY.clip, frames=2, stride=1))
    settings = AblateSettings(
        data=store.path, streams="audio,smell,text", out=tmp_path / "a", recipe=recipe, machine=CPU
    )
    top1 = {name: np.mean(points) for name, points in ablate(settings).top1["trained"].items()}
    assert top1["audio+smell+text"] > 0.8
    assert all(top1[name] <= 0.4 for name in BITS)
    assert all(top1["+".join(pair)] <= 0.65 for pair in combinations(BITS, 2))


def test_a_model_answers_about_a_store_without_labels_and_refuses_videos(given, tmp_path):
    folder, _, classes, store = given
    recipe = replace(TINY, epochs=12, lr=1e-2, clip=replace(TINY.clip, frames=2, stride=1))
    run = train(TrainSettings(data=store.path, streams="text,smell", run=tmp_path / "run", recipe=recipe, machine=CPU))
    model = tristream.load(run, device="cpu")
    bare = features_store(FeaturesStoreSettings(folder / "feats.npz", "-", tmp_path / "bare.h5"))
    found = model.predict(bare, video="s003")
    assert found.top(1)[0][0][:2] == f"{classes[3]:03b}"[:2]  # the third bit is told by sound
    assert {**found.missing} == {} and set(found.streams) == {"smell", "text"}
    assert set(model.predict(bare, video="s007").missing) == {"smell"}
    with pytest.raises(UserError, match="features_store"):
        model.predict(write_video(tmp_path / "one.mkv", drift(3), codec="ffv1"))


def test_what_learned_from_videos_refuses_features_and_stores_of_one_kind_merge(given, tmp_path):
    folder, _, _, store = given
    with pytest.raises(UserError, match="features that were given"):
        check_parameters(store, make_store(tmp_path / "videos.h5", three_bit(2)).parameters)
    for half, names in (("a", slice(0, 60)), ("b", slice(60, None))):
        with np.load(folder / "feats.npz") as file:
            np.savez(tmp_path / f"{half}.npz", **{name: file[name][names] for name in file.files})
        features_store(FeaturesStoreSettings(tmp_path / f"{half}.npz", "-", tmp_path / f"{half}.h5"))
    both = merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "both.h5")
    assert [video.content for video in both.videos] == [video.content for video in store.videos]
    assert not list(check(both.path))


def test_arrays_named_by_video_and_stream_are_taken_as_features_writes_them(tmp_path):
    arrays = {"a/one.mp4/rgb": np.ones((3, 4), np.float32), "b.mp4/rgb": np.ones((1, 4), np.float32)}
    arrays |= {"b.mp4/flow": np.ones(2, np.float32), "a/one.mp4/times": np.ones((3, 2))}
    np.savez(tmp_path / "f.npz", **arrays)
    store = features_store(FeaturesStoreSettings(tmp_path / "f.npz", "-", tmp_path / "out.h5"))
    assert store.parameters["given"] == {"flow": 2, "rgb": 4}
    assert {video.path: (video.frames, video.streams["flow"]) for video in store.videos} == {
        "a/one.mp4": (3, False),
        "b.mp4": (1, True),
    }


@pytest.fixture
def reviews(tmp_path):
    """Five samples of two groups, x in the order b, c, a and y in that of the names; c lacks its sound."""
    arrays = {"name": list("abcde"), "review": list("xxxyy"), "place": [2, 0, 1, 0, 1]}
    arrays["text"] = np.arange(5, dtype=np.float32)[:, None]
    arrays["sound"] = np.array([[0], [1], [np.nan], [3], [4]], np.float32)
    np.savez(tmp_path / "f.npz", **arrays)
    (tmp_path / "l.csv").write_text("name,label\na,1\nb,1\nc,2\nd,2\ne,1\n")
    return tmp_path


@pytest.mark.parametrize("labels", ["l.csv", "-"])
def test_context_is_the_neighbours_in_order_and_of_no_other_group(reviews, labels):
    table = reviews / labels if labels != "-" else "-"
    context = {"names": "name", "group": "review", "order": "place", "context": 1}
    store = features_store(FeaturesStoreSettings(reviews / "f.npz", table, reviews / "o.h5", **context))
    found = {
        stream: {
            video.path: store.given(video, stream, np.arange(3) / 3)[:, 0].tolist()
            for video in store.videos
            if video.streams[stream]
        }
        for stream in ("text", "sound")
    }
    assert found["text"] == {"a": [2, 0, 0], "b": [1, 1, 2], "c": [1, 2, 0], "d": [3, 3, 4], "e": [3, 4, 4]}
    assert found["sound"] == {"a": [0, 0, 0], "b": [1, 1, 1], "d": [3, 3, 4], "e": [3, 4, 4]}
    assert [video.group for video in store.videos] == list("xxxyy")


def test_standardised_features_have_no_mean_and_unit_deviation_in_each_group(reviews):
    options = {"names": "name", "group": "review", "standardise": True}
    store = features_store(FeaturesStoreSettings(reviews / "f.npz", "-", reviews / "o.h5", **options))
    found = {video.path: store.given(video, "text", np.zeros(1)).item() for video in store.videos}
    apart = np.sqrt(1.5)  # of 0, 1 and 2 from their mean, in standard deviations
    assert found == pytest.approx({"a": -apart, "b": 0, "c": apart, "d": -1, "e": 1})


def test_the_middle_tower_tells_a_sample_from_its_neighbours_and_not_these_from_each_other():
    torch.manual_seed(0)
    tower, rows = create_tower("middle", channels=3, width=2).eval(), torch.randn(4, 3, 5)
    found = tower(rows)
    assert found.shape == (4, 1, tower.features)
    torch.testing.assert_close(tower(rows[:, :, [4, 1, 2, 0, 3]]), found)
    assert not torch.allclose(tower(rows[:, :, [0, 2, 1, 3, 4]]), found)
    torch.testing.assert_close(tower(rows[:, :, 2:3]), tower(rows[:, :, 2:3].expand(-1, -1, 5)))


def test_blended_rows_hold_the_asked_share_of_another_clip_and_absent_ones_are_left_alone():
    rows = torch.eye(64)[:, None].repeat(1, 500, 1)  # (B, T, D): clip k is one in feature k
    rows[5] = torch.nan
    there = torch.tensor([k for k in range(64) if k != 5])
    for share in (0.2, 0.5, 0.9):
        torch.manual_seed(0)
        found = blended(rows, there, share)
        own = found[there].gather(2, there[:, None, None].expand(-1, 500, 1))
        torch.testing.assert_close(found[there].sum(dim=2), torch.ones(63, 500))
        assert abs(1 - own.mean() - share * (62 / 63)) < 0.01  # one in 63 is blended with itself
        assert (1 - own).max() <= min(1, 2 * share) + 1e-6
        assert found[5].isnan().all()


def test_a_blended_stream_is_trusted_less(given, tmp_path):
    """Text tells a bit of the label for sure; where all of it is another clip's, nothing can be learned from it."""
    _, _, classes, store = given
    told = {}
    for blend in ((), ("text=1.0",)):
        clip = replace(TINY.clip, frames=2, stride=1, blend=blend)
        recipe = replace(TINY, epochs=12, lr=1e-2, clip=clip)
        run = train(
            TrainSettings(data=store.path, streams="text", run=tmp_path / f"{blend}", recipe=recipe, machine=CPU)
        )
        answers = tristream.load(run, device="cpu", weights="last").answers(store, store.videos, [("text",)], views=1)
        best = answers.probabilities("text").argmax(dim=1).numpy()  # text tells the first of the class's three bits
        told[blend] = np.mean(best >> 2 == classes >> 2)
    assert told[()] > 0.95 and told["text=1.0",] < 0.75


WRONG = {
    "no file": ({}, "name,label\na,1\n", {}, "there is no file"),
    "no names": ({"text": np.ones((2, 3))}, "name,label\na,1\n", {}, "--names"),
    "twice": ({"name": ["a", "a"], "text": np.ones((2, 3))}, "name,label\na,1\n", {"names": "name"}, "twice"),
    "no features": ({"name": ["a", "b"], "text": np.ones(2)}, "name,label\na,1\n", {}, "no array with a row"),
    "unknown stream": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\n", {"streams": ("gaze",)}, "gaze"),
    "bad name": ({"name": ["a"], "my text": np.ones((1, 3))}, "name,label\na,1\n", {}, "my text"),
    "all absent": ({"name": ["a"], "text": np.full((1, 3), np.nan)}, "name,label\na,1\n", {}, "no features at all"),
    "no label": ({"name": ["a", "b"], "text": np.ones((2, 3))}, "name,label\na,1\n", {}, "does not name b"),
    "lost": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\nz,1\n", {}, "z"),
    "columns": ({"name": ["a"], "text": np.ones((1, 3))}, "file,class\na,1\n", {}, "name,label"),
    "split": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label,split\na,1,exam\n", {}, "exam"),
    "no group": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\n", {"context": 2}, "group"),
    "order": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\n", {"order": "when"}, "when"),
    "no order": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label,group\na,1,x\n", {"context": 2}, "--order"),
    "standardise": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\n", {"standardise": True}, "group"),
    "wrong group": ({"name": ["a"], "text": np.ones((1, 3))}, "name,label\na,1\n", {"group": "text"}, "'text'"),
}


def test_wrong_input_is_named_and_leaves_nothing(tmp_path):
    for wrong, (arrays, table, more, says) in WRONG.items():
        folder = tmp_path / wrong
        folder.mkdir()
        if arrays:
            np.savez(folder / "f.npz", **arrays)
        (folder / "l.csv").write_text(table)
        before = {*folder.iterdir()}
        with case(wrong):
            with pytest.raises(UserError, match=says):
                features_store(FeaturesStoreSettings(folder / "f.npz", folder / "l.csv", folder / "o.h5", **more))
            assert {*folder.iterdir()} == before


def test_a_wrong_blend_is_named(given, tmp_path):
    _, _, _, store = given
    for blend in ("smell=0.5", "text=2", "text=0.5 text=0.5", "text"):
        with case(blend):
            recipe = replace(TINY, clip=replace(TINY.clip, blend=tuple(blend.split())))
            with pytest.raises(UserError, match="--blend"):
                train(TrainSettings(data=store.path, streams="text", run=tmp_path / "run", recipe=recipe, machine=CPU))
            assert not (tmp_path / "run").exists()


def test_the_command_line_says_how_to_train_and_answers_wrong_input_with_one_line(given, tmp_path, monkeypatch, capsys):
    folder, *_ = given
    paths = str(folder / "feats.npz"), str(folder / "labels.csv")
    result = run_here(monkeypatch, capsys, *paths, str(tmp_path / "o.h5"), main=main)
    assert result.returncode == 0 and "--streams audio,smell,text --frames 2" in result.stdout
    assert_one_line_error(
        run_here(monkeypatch, capsys, *paths, str(tmp_path / "o.h5"), main=main), "o.h5", "--overwrite"
    )
