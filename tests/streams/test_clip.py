"""Which windows of a video clips are cut from."""

import numpy as np
import pytest

from preprocess.store.index import Video
from streams.clip import ClipSettings, random_start, steps, view_starts

CLIP = ClipSettings(frames=16, stride=2)


def video(frames: int) -> Video:
    return Video(
        path="v.mp4",
        label=None,
        group=None,
        split=None,
        seconds=frames / 25,
        frames=frames,
        height=36,
        width=48,
        content="",
        damaged=0,
        streams={"rgb": True, "flow": True, "audio": True},
    )


def test_random_clips_start_at_every_place_where_a_whole_one_fits_and_nowhere_else():
    rng = np.random.default_rng(0)
    starts = {random_start(video(CLIP.span + 5), CLIP, rng) for _ in range(300)}
    assert starts == set(range(6))


@pytest.mark.parametrize("frames", [1, 5, CLIP.span])
def test_a_video_not_longer_than_a_clip_has_one_start_and_one_view(frames):
    rng = np.random.default_rng(0)
    assert {random_start(video(frames), CLIP, rng) for _ in range(50)} == {0}
    assert view_starts(video(frames), CLIP, 5) == [0]


def test_one_view_is_the_middle_of_the_video():
    (start,) = view_starts(video(200), CLIP, 1)
    assert start + CLIP.span / 2 == 100


@pytest.mark.parametrize("views", [2, 3, 5, 10])
def test_views_are_spread_evenly_and_alike_seen_from_either_end(views):
    frames = 1000
    starts = view_starts(video(frames), CLIP, views)
    assert len(starts) == views
    assert min(starts) >= 0 and max(starts) + CLIP.span <= frames
    gaps = np.diff(starts)
    assert gaps.max() - gaps.min() <= 1
    mirrored = [frames - CLIP.span - start for start in reversed(starts)]
    assert np.abs(np.subtract(starts, mirrored)).max() <= 1


def test_a_video_a_little_longer_than_a_clip_has_no_two_views_alike():
    starts = view_starts(video(CLIP.span + 2), CLIP, 10)
    assert starts == [0, 1, 2]


def test_steps_are_a_stride_apart_and_begin_again_beyond_the_end():
    assert steps(3, ClipSettings(frames=4, stride=3), 100).tolist() == [3, 6, 9, 12]
    assert steps(0, ClipSettings(frames=5, stride=2), 6).tolist() == [0, 2, 4, 0, 2]
    assert steps(0, ClipSettings(frames=3, stride=2), 1).tolist() == [0, 0, 0]
