"""--clip-of: a stream whose clips have another shape around the same centre."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocess.common.errors import UserError
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from tests.support.cases import case
from tests.support.stores import Spec, make_store

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32, clip_of=("rgb=3x5x40",))
STREAMS = ("rgb", "flow", "audio")


@pytest.fixture
def store(tmp_path):
    lengths = {"long": 60, "short": 9}
    return make_store(tmp_path / "s.h5", [Spec(f"{name}.mp4", frames=count) for name, count in lengths.items()])


def dataset(store, clip, *, streams=STREAMS, **more) -> ClipDataset:
    return ClipDataset(store, store.videos, streams=streams, classes=store.classes, clip=clip, **more)


def test_its_clips_are_those_of_a_run_of_that_shape_from_a_frame_with_the_same_centre(store):
    both, plain = dataset(store, CLIP, hop=1), dataset(store, CLIP.of("flow"), streams=("flow", "audio"), hop=1)
    own = dataset(store, CLIP.of("rgb"), streams=("rgb",), hop=1)
    assert CLIP.of("rgb") == ClipSettings(frames=3, stride=5, size=40, audio_seconds=0.32)
    for row, video in enumerate(store.videos):
        room = max(0, video.frames - 15)
        for view, (start,) in enumerate(both.starts(video)):
            batch, beside = both.__getitems__([(row, view)]), plain.__getitems__([(row, view)])
            begin = min(max(0, int(np.floor(start + 8 / 2 - 15 / 2))), room)
            alone = own.__getitems__([(row, begin)])
            assert int(alone.starts) == begin and int(batch.starts) == start
            given = batch.inputs(training=False)
            assert given["rgb"].shape == (1, 3, 3, 40, 40) and given["flow"].shape == (1, 2, 4, 32, 32)
            torch.testing.assert_close(given["rgb"], alone.inputs(training=False)["rgb"], atol=1e-5, rtol=0)
            for name, values in beside.inputs(training=False).items():
                assert torch.equal(given[name], values)


def test_each_segment_has_its_own_clip_around_its_own_centre(store):
    clip = replace(CLIP, segments=3)
    own = dataset(store, CLIP.of("rgb"), streams=("rgb",), hop=1)
    for view in range(2):
        batch = dataset(store, clip, views=2).__getitems__([(0, view)])
        parts = batch.inputs(training=False)["rgb"].chunk(3, dim=2)
        for start, part in zip(batch.starts[0].tolist(), parts, strict=True):
            begin = min(max(0, int(np.floor(start + 8 / 2 - 15 / 2))), store.videos[0].frames - 15)
            alone = own.__getitems__([(0, begin)]).inputs(training=False)["rgb"]
            torch.testing.assert_close(part, alone, atol=1e-5, rtol=0)


def test_a_training_clip_shows_the_same_part_of_the_frames_in_either_size(store):
    double = ClipSettings(frames=4, stride=2, size=32, clip_of=("rgb=4x2x64",))
    large, small = (
        dataset(store, clip, streams=("rgb",), seed=3).__getitems__([(0, 1)]) for clip in (double, double.of("flow"))
    )
    for corner in ([0.0, 0.0], [20.0, 7.0]):  # a pixel's centre x lies at 2 x + 1/2 in twice the size
        at = {}
        for name, batch in (("large", large), ("small", small)):
            maps = batch.clips["rgb"]["map"][0]
            at[name] = maps[:, :2] @ torch.tensor(corner) + maps[:, 2]
        torch.testing.assert_close(at["large"], 2 * at["small"] + 0.5, atol=1e-4, rtol=0)
    assert torch.equal(large.clips["rgb"]["frames"], small.clips["rgb"]["frames"])


def test_a_longer_window_reaches_as_far_beyond_the_others_as_before():
    longer = CLIP.with_frames(14)  # 28 frames, 20 more
    assert longer.frames == 14 and longer.of("rgb").span == CLIP.of("rgb").span + 20
    assert ClipSettings().with_frames(5) == ClipSettings(frames=5)


def test_what_is_no_shape_is_named():
    for text in ("rgb", "rgb=8", "rgb=8x16", "rgb=8x0x64", "rgb=8x16x16", "rgb=axbxc"):
        with case(text), pytest.raises(UserError, match=text):
            ClipSettings(clip_of=(text,)).of("rgb")
