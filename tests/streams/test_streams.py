"""What every stream promises, and how streams are named."""

import itertools

import numpy as np
import pytest
import torch

from preprocess.errors import UserError
from streams import STREAMS, parse_streams, subset_name, subsets
from streams.clip import ClipSettings
from streams.towers import TOWERS
from tests.stores import Spec, make_store

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
each_stream = pytest.mark.parametrize("name", STREAMS)


@each_stream
def test_a_stream_that_a_video_lacks_is_read_as_nothing(tmp_path, name):
    others = tuple(other for other in STREAMS if other != name)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", streams=others)])
    assert STREAMS[name].read(store, store.videos[0], 0, CLIP, None) is None
    assert STREAMS[name].read(store, store.videos[0], 0, CLIP, np.random.default_rng(0)) is None
    for other in others:
        assert STREAMS[other].read(store, store.videos[0], 0, CLIP, None) is not None


@each_stream
def test_what_stands_for_an_absent_clip_is_shaped_like_a_real_one(tmp_path, name):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    clip = STREAMS[name].read(store, store.videos[0], 0, CLIP, None)
    empty = STREAMS[name].empty(store, CLIP)
    assert clip.shape == empty.shape and clip.dtype == empty.dtype


@each_stream
@pytest.mark.parametrize("frames", [2, 3, 7, 30])
def test_clips_have_one_shape_however_short_the_video(tmp_path, name, frames):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=frames)])
    stream = STREAMS[name]
    clip = stream.read(store, store.videos[0], 0, CLIP, np.random.default_rng(0))
    assert clip.shape == stream.empty(store, CLIP).shape


@each_stream
@pytest.mark.parametrize("training", [False, True])
def test_a_prepared_batch_fits_each_of_the_streams_towers(tmp_path, name, training):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    stream = STREAMS[name]
    batch = torch.from_numpy(np.stack([stream.read(store, store.videos[0], start, CLIP, None) for start in (0, 5)]))
    before = batch.clone()
    prepared = stream.prepare(batch, training=training)
    assert torch.equal(batch, before)  # what is in the batch stays as it is
    assert prepared.dtype == torch.float32 and prepared.isfinite().all()
    assert prepared.shape[1] == stream.channels(store.parameters)
    assert stream.towers and set(stream.towers) <= set(TOWERS)
    for tower in stream.towers:
        sequence = TOWERS[tower](channels=prepared.shape[1], width=4)(prepared)
        assert sequence.ndim == 3 and len(sequence) == 2


@each_stream
def test_without_training_preparing_draws_no_random_numbers_and_in_training_it_does(tmp_path, name):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    stream = STREAMS[name]
    batch = torch.from_numpy(stream.read(store, store.videos[0], 0, CLIP, None)[None])
    first, second = (stream.prepare(batch, training=False) for _ in range(2))
    assert torch.equal(first, second)
    drawn = [stream.prepare(batch, training=True) for _ in range(2)]
    assert not torch.equal(*drawn)
    torch.manual_seed(5)
    again = stream.prepare(batch, training=True)
    torch.manual_seed(5)
    assert torch.equal(stream.prepare(batch, training=True), again)


@each_stream
def test_clips_of_one_batch_are_augmented_each_in_its_own_way(tmp_path, name):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4")])
    clip = torch.from_numpy(STREAMS[name].read(store, store.videos[0], 0, CLIP, None))
    first, second = STREAMS[name].prepare(torch.stack([clip, clip]), training=True)
    assert not torch.equal(first, second)


def test_streams_are_named_in_any_order_and_kept_in_one():
    assert parse_streams("audio, rgb") == ("rgb", "audio")
    assert parse_streams("flow+rgb") == ("rgb", "flow")
    assert parse_streams(",".join(STREAMS)) == tuple(STREAMS)


def test_an_unknown_stream_is_named_beside_the_known_ones():
    with pytest.raises(UserError, match="unknown stream 'smell'.*" + ", ".join(STREAMS)):
        parse_streams("rgb,smell")


def test_a_stream_named_twice_is_an_error():
    with pytest.raises(UserError, match="rgb is named twice"):
        parse_streams("rgb,rgb")


@pytest.mark.parametrize("text", ["", " , "])
def test_naming_no_stream_is_an_error(text):
    with pytest.raises(UserError, match="no stream named"):
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
