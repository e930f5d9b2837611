"""The one call: windows of videos through a trained model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tristream
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.common.stopwatch import Stopwatch
from preprocess.video.decoded import Frame, Samples
from preprocess.video.decoder import Decoder
from preprocess.video.live import LiveVideo
from tests.support.stores import HEIGHT, make_store, three_bit
from tests.tasks.conftest import CPU, TINY
from train import train

STREAMS = ("rgb", "flow", "audio")
CLOSE = {"atol": 1e-6, "rtol": 1e-5}
WINDOW = {"length": 0.32, "hop": 0.16}  # eight frames each four


def test_a_home_folder_is_expanded_and_an_address_is_named(model, videos, monkeypatch):
    monkeypatch.setenv("HOME", str(videos.parent))
    assert model.predict("~/videos/one.mkv", views=1) == model.predict(videos / "one.mkv", views=1)
    for use in (model.predict, lambda source: next(model.windows(source)), tristream.load):
        with pytest.raises(UserError, match=r"https://a\.org/one\.mkv"):
            use("https://a.org/one.mkv")


def joined(windows) -> tristream.Windows:
    """All of them as one."""
    parts = list(windows)
    found = {}
    for name in ("rows", "times", "fused", "answer"):
        found[name] = torch.cat([getattr(part, name) for part in parts])
    for name in ("present", "sequences", "features", "logits", "towers"):
        found[name] = {key: torch.cat([getattr(part, name)[key] for part in parts]) for key in getattr(parts[0], name)}
    return replace(parts[0], videos=sum((part.videos for part in parts), ()), **found)


def assert_alike(one: tristream.Windows, other: tristream.Windows) -> None:
    torch.testing.assert_close(one.times, other.times, atol=0, rtol=0)
    torch.testing.assert_close((one.fused, one.answer), (other.fused, other.answer), **CLOSE)
    for name in ("present", "sequences", "features", "logits", "towers"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), **CLOSE)


@pytest.mark.parametrize("name", ["both.mkv", "mute.mkv"])
def test_a_raw_video_gives_what_its_store_gives(model, videos, store, name):
    raw = joined(model.windows(videos / name, **WINDOW))
    assert_alike(raw, joined(model.windows(store, video=name, **WINDOW)))
    assert_alike(raw, joined(model.windows(str(store.path), video=name, batch=3, **WINDOW)))
    assert raw.present["audio"].all() == (name == "both.mkv")
    asked, stored = model.predict(videos / name), model.predict(store, video=name)
    assert asked.classes == pytest.approx(stored.classes, abs=1e-6) and asked.missing == stored.missing


def test_times_and_shapes_are_those_that_were_asked_for(model, videos):
    windows = joined(model.windows(videos / "both.mkv", length=0.32, hop=0.2))
    expected = [[0.2 * k, 0.2 * k + 0.32] for k in range(9)]  # the ninth ends with the video, 1.92 s
    torch.testing.assert_close(windows.times, torch.tensor(expected, dtype=torch.float64))
    classes, feature = len(model.classes), TINY.model.feature
    for name in STREAMS:
        assert windows.features[name].shape == (9, feature) and windows.logits[name].shape == (9, classes)
        assert windows.sequences[name].shape[::2] == (9, feature)
        torch.testing.assert_close(windows.sequences[name].mean(dim=1), windows.features[name])
    assert windows.answer.shape == (9, classes) and windows.fused.shape == (9, 2 * feature)
    torch.testing.assert_close(windows.answer.sum(dim=1), torch.ones(9, dtype=torch.float64))
    tail = joined(model.windows(videos / "both.mkv", length=0.4, hop=0.28))
    torch.testing.assert_close(tail.times[-2:, 1], torch.tensor([1.8, 1.92], dtype=torch.float64))
    short = joined(model.windows(videos / "one.mkv", length=5.0))
    assert short.times.tolist() == [[0.0, 0.96]]


def test_windows_of_a_long_video_are_those_of_its_clips_where_they_coincide(model, videos):
    long = joined(model.windows(videos / "both.mkv", **WINDOW))
    for begin, name in ((0.0, "one.mkv"), (0.96, "two.mkv")):
        clip = joined(model.windows(videos / name, **WINDOW))
        inside = [k for k, (_, until) in enumerate(clip.times.tolist()) if until < 0.95]  # the last flow is the cut
        rows = [long.times[:, 0].sub(begin + clip.times[k, 0]).abs().argmin().item() for k in inside]
        for stream in ("rgb", "flow"):
            torch.testing.assert_close(long.features[stream][rows], clip.features[stream][inside], **CLOSE)
        heard = [k for k in inside if 0.1 < clip.times[k, 0] < 0.5]  # whose sound keeps clear of the clip's ends
        rows = [long.times[:, 0].sub(begin + clip.times[k, 0]).abs().argmin().item() for k in heard]
        torch.testing.assert_close(long.features["audio"][rows], clip.features["audio"][heard], atol=1e-3, rtol=1e-2)


def decoded(model, file):
    return Decoder(str(file), fps=25.0, short_side=model.parameters["short_side"], watch=Stopwatch())


@pytest.mark.parametrize("name", ["both.mkv", "mute.mkv"])
def test_decoded_chunks_give_what_the_file_gives_each_window_as_soon_as_it_is_there(model, videos, name):
    seen = []

    def items():
        for item in decoded(model, videos / name):
            seen.append(item)
            yield item

    live, begun = [], []
    for window in model.windows(items(), **WINDOW):
        live.append(window)
        begun.append(sum(item.count for item in seen if isinstance(item, Frame)) / 25)
    assert_alike(joined(live), joined(model.windows(videos / name, **WINDOW)))
    if name == "both.mkv":  # the last windows wait for the end; the others for their sound, and half a second at most
        waits = [at - window.times[0, 1].item() for at, window in zip(begun, live, strict=True)]
        assert max(waits) < 0.5


@pytest.mark.parametrize("shape", ["rgb=3x5x40", "rgb=2x1x32"])
def test_a_stream_with_clips_of_its_own_gives_the_same_from_a_store_and_from_decoded_chunks(
    model, videos, store, shape, monkeypatch
):
    monkeypatch.setattr("tasks.model.kept_streams", lambda *_: ["rgb"])  # also begins at whole strides
    recipe = model.settings.recipe
    recipe = replace(recipe, clip=replace(recipe.clip, clip_of=(shape,)))
    own = replace(model, settings=replace(model.settings, recipe=recipe))
    monkeypatch.setattr("tasks.model.kept_features", lambda *_, **__: ({}, []))
    for name in ("both.mkv", "one.mkv"):
        expected = joined(own.windows(store, video=name, **WINDOW))
        assert_alike(joined(own.windows(decoded(model, videos / name), **WINDOW)), expected)
    assert not torch.allclose(expected.logits["rgb"], joined(model.windows(store, video=name, **WINDOW)).logits["rgb"])


def test_sound_in_whole_patches_gives_the_same_from_a_store_and_from_decoded_chunks(model, videos, store, monkeypatch):
    monkeypatch.setattr("tasks.model.kept_streams", lambda *_: ["audio"])  # as of a frozen tower that takes patches
    monkeypatch.setattr("tasks.model.kept_features", lambda *_, **__: ({}, []))
    for name in ("both.mkv", "one.mkv"):
        expected = joined(model.windows(store, video=name, **WINDOW))
        assert expected.inputs is None and expected.towers["audio"].shape[1] == 12  # of 96 rows
        assert_alike(joined(model.windows(decoded(model, videos / name), **WINDOW)), expected)


def test_a_video_that_goes_on_is_held_only_as_far_as_the_next_windows_need(model, monkeypatch):
    held = []
    forget = LiveVideo.forget
    monkeypatch.setattr(LiveVideo, "forget", lambda live, **to: (forget(live, **to), held.append(kept(live))))

    def kept(live) -> int:
        return max(len(recent._entries) for recent in (live._rgb, live._flow, live._mel))

    rng = np.random.default_rng(0)
    picture = Frame(rng.integers(0, 255, (HEIGHT, 48, 3), np.uint8), count=1)
    noise = Samples(rng.uniform(-0.1, 0.1, 640).astype(np.float32))
    count = sum(
        len(window) for window in model.windows((item for _ in range(500) for item in (picture, noise)), **WINDOW)
    )
    assert count == (500 - 8) // 4 + 1
    assert max(held) < 150  # of 500 frames and 2,000 rows


def test_a_subset_is_asked_as_if_the_rest_were_not_there(model, videos):
    (windows,) = model.windows(videos / "one.mkv", **WINDOW)
    for subset, present in (("rgb,audio", ["rgb", "audio"]), (("flow",), ["flow"])):
        found = model.fuse(windows, subset)
        assert [name for name in STREAMS if found.present[name].any()] == present
        poisoned = {name: value if name in present else value * torch.nan for name, value in windows.features.items()}
        again = model.fuse(replace(windows, features=poisoned), subset)
        assert torch.equal(again.answer, found.answer) and found.answered.all()
    (mute,) = model.windows(videos / "mute.mkv", **WINDOW)
    deaf = model.fuse(mute, "audio")
    assert not deaf.answered.any() and not deaf.answer.any()


def test_gradients_are_those_of_a_small_change(model, videos):
    (windows,) = model.windows(videos / "one.mkv", length=0.16, hop=0.48, gradients=True)
    plain = next(model.windows(videos / "one.mkv", length=0.16, hop=0.48))
    torch.testing.assert_close(windows.answer.detach(), plain.answer, **CLOSE)
    assert not plain.fused.requires_grad and plain.inputs is None
    score = model.fuse(windows, STREAMS).answer[0, 0].log()
    inputs = list(windows.inputs.values())
    gradients = torch.autograd.grad(score, inputs)
    torch.manual_seed(0)
    for name, gradient in zip(windows.inputs, gradients, strict=True):
        direction = torch.randn_like(gradient)
        moved = []
        for step in (-1e-2, 1e-2):
            given = {
                key: value.detach() + (step * direction if key == name else 0) for key, value in windows.inputs.items()
            }
            with torch.no_grad():
                moved.append(model.network(given, windows.present).logits[0].log_softmax(dim=0)[0].item())
        expected = (gradient * direction).sum().item()
        assert (moved[1] - moved[0]) / 2e-2 == pytest.approx(expected, abs=2e-3, rel=0.1)


def test_a_folder_and_a_store_give_one_video_after_the_other(model, videos, store):
    for source in (videos, store.path):
        names = [name.rpartition("/")[2] for part in model.windows(source, length=0.96) for name in part.videos]
        assert names == ["both.mkv", "both.mkv", "mute.mkv", "one.mkv", "two.mkv"]


def test_one_file_of_weights_is_enough(model, run_folder, videos, tmp_path):
    alone = tmp_path / "moved.safetensors"
    alone.write_bytes((run_folder / "best.safetensors").read_bytes())
    other = tristream.load(alone, device="cpu")
    assert other.classes == model.classes and other.streams == model.streams
    assert other.predict(videos / "one.mkv").top(3) == model.predict(videos / "one.mkv").top(3)


def test_wrong_input_is_named(model, videos, store, tmp_path):
    def windows(*source, **settings):
        return list(model.windows(*source, **settings))

    (tmp_path / "empty").mkdir()
    for ask, named in (
        (lambda: tristream.load(tmp_path), tmp_path.name),
        (lambda: windows(videos / "one.mkv", length=0), "length"),
        (lambda: windows(videos / "one.mkv", hop=float("nan")), "hop"),
        (lambda: windows(videos / "gone.mkv"), "gone.mkv"),
        (lambda: windows(tmp_path / "gone.h5"), "gone.h5"),
        (lambda: windows(tmp_path / "empty"), "empty"),
        (lambda: windows(store, video="three"), "three"),
        (lambda: windows(videos / "one.mkv", video="one"), "one.mkv"),
        (lambda: model.predict(store), "4 videos"),
        (lambda: model.predict(videos), "several videos"),
        (lambda: model.predict(iter([])), "first picture"),
        (lambda: windows(iter([Frame(np.zeros((20, 30, 3), np.uint8), 1)])), "30×20"),
        (lambda: model.fuse(next(model.windows(videos / "one.mkv")), "smell"), "smell"),
    ):
        with pytest.raises(UserError, match=named):
            ask()
    other = make_store(tmp_path / "other.h5", three_bit(8), mel_bands=24)
    with pytest.raises(UserError, match="mel_bands 24"):
        windows(other)


def test_a_run_of_some_streams_says_which_it_lacks(toy, videos, tmp_path):
    recipe = replace(TINY, epochs=1)
    ears = tristream.load(
        train(TrainSettings(streams="audio", data=toy.path, run=tmp_path / "ears", recipe=recipe, machine=CPU)),
        device="cpu",
    )
    with pytest.raises(UserError, match="no audio track"):
        ears.predict(videos / "mute.mkv")
    with pytest.raises(UserError, match="rgb"):
        ears.fuse(next(ears.windows(videos / "one.mkv")), "rgb")
