"""What every stream promises, and how streams are named."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from streams.geometry import clip_crop
from streams.registry import STREAMS, parse_streams, subset_name, subsets
from streams.towers import TOWERS
from tests.support.cases import case
from tests.support.reading import read, stack
from tests.support.stores import Spec, make_store
from tests.support.torchvision_networks import installed

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
each_stream = pytest.mark.parametrize("name", STREAMS)


@each_stream
def test_a_stream_that_a_video_lacks_is_read_as_nothing(tmp_path, name):
    others = tuple(other for other in STREAMS if other != name)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", streams=others)])
    assert read(name, store, 0, CLIP) is None
    assert read(name, store, 0, CLIP, np.random.default_rng(0)) is None
    for other in others:
        assert read(other, store, 0, CLIP) is not None


@each_stream
def test_a_clip_fills_all_of_its_place(tmp_path, name):
    """What was there before does not matter."""
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    stream, clips = STREAMS[name], []
    for before in (0, 77):
        into = {
            key: np.full(shape, before, kind) for key, (shape, kind) in stream.shapes(store.parameters, CLIP).items()
        }
        assert stream.read(store, store.videos[0], (3,), CLIP, clip_crop(store.videos[0], CLIP, None), into)
        clips.append(into)
    for part in clips[0]:
        np.testing.assert_array_equal(clips[0][part], clips[1][part])


@each_stream
@pytest.mark.parametrize("frames", [2, 7])
def test_clips_have_one_shape_however_short_the_video(tmp_path, name, frames):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=frames)])
    assert read(name, store, 0, CLIP, np.random.default_rng(0)) is not None
    assert read(name, store, 0, CLIP) is not None


@pytest.mark.slow
@each_stream
def test_a_prepared_batch_fits_each_of_the_streams_towers(tmp_path, name):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    stream = STREAMS[name]
    batch = stack(*(read(name, store, start, CLIP) for start in (0, 5)))
    for training in (False, True):
        with case(training):
            before = {part: values.clone() for part, values in batch.items()}
            prepared = stream.prepare(batch, CLIP, training=training)
            assert all(torch.equal(batch[part], before[part]) for part in batch)  # what is in the batch stays as it is
            assert prepared.dtype == torch.float32 and prepared.isfinite().all()
            assert prepared.shape[1] == stream.channels(store.parameters)
            assert stream.towers and set(stream.towers) <= set(TOWERS)
            for tower in installed(stream.towers):
                sequence = TOWERS[tower](channels=prepared.shape[1], width=4)(prepared)
                assert sequence.ndim == 3 and len(sequence) == 2


@each_stream
def test_preparing_draws_random_numbers_in_training_alone_other_ones_for_each_clip_and_none_is_needed(tmp_path, name):
    """A batch without a clip is what one of several processes has where the last batch of an epoch is small."""
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    stream, clip = STREAMS[name], read(name, store, 0, CLIP)
    batch = stack(clip)
    state = torch.get_rng_state()
    first, second = (stream.prepare(batch, CLIP, training=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    drawn = [stream.prepare(batch, CLIP, training=True) for _ in range(2)]
    assert not torch.equal(*drawn)
    torch.manual_seed(5)
    again = stream.prepare(batch, CLIP, training=True)
    torch.manual_seed(5)
    assert torch.equal(stream.prepare(batch, CLIP, training=True), again)
    one, other = stream.prepare(stack(clip, clip), CLIP, training=True)
    assert not torch.equal(one, other)
    for training in (False, True):
        nothing = stream.prepare({part: values[:0] for part, values in batch.items()}, CLIP, training=training)
        assert nothing.shape == (0, *first.shape[1:])


def test_streams_are_named_in_any_order_and_kept_in_one():
    assert parse_streams("audio, rgb") == ("rgb", "audio")
    assert parse_streams("flow+rgb") == ("rgb", "flow")
    assert parse_streams(",".join(STREAMS)) == tuple(STREAMS)


def test_streams_that_cannot_be_meant_are_named():
    for text, name in (("rgb,smell", "smell"), ("rgb,rgb", "rgb"), ("", "stream"), (" , ", "stream")):
        with pytest.raises(UserError, match=name):
            parse_streams(text)


def test_subsets_are_all_there_are_each_once_single_streams_first():
    found = subsets(tuple(STREAMS))
    expected = {
        chosen
        for keep in itertools.product((False, True), repeat=len(STREAMS))
        if any(keep)
        for chosen in [tuple(name for name, kept in zip(STREAMS, keep, strict=True) if kept)]
    }
    assert len(found) == len(expected) and set(found) == expected
    assert [len(subset) for subset in found] == sorted(len(subset) for subset in found)
    assert [parse_streams(subset_name(subset)) for subset in found] == found


@pytest.mark.parametrize("name", ["rgb", "flow"])
def test_random_crops_show_at_least_as_much_of_the_short_side_as_asked_for(tmp_path, name):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    for least in (0.2, 1.0):
        with case(least):
            rng, clip = np.random.default_rng(0), replace(CLIP, least_crop=least)
            maps = np.stack([read(name, store, 0, clip, rng)["map"][:, :2] for _ in range(50)]).astype(np.float64)
            shown = clip.size / np.sqrt(abs(np.linalg.det(maps))) / store.parameters["short_side"]
            assert least - 1e-6 <= shown.min() <= min(least + 0.1, 1 + 1e-6) and 0.95 < shown.max() <= 1 + 1e-6
