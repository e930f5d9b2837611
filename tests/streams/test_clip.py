"""Which windows of a video clips are cut from."""

from dataclasses import replace

import numpy as np

from preprocess.store.index import Video
from streams.clip import ClipSettings, HopStarts, random_starts, steps, view_starts
from tests.support.cases import case

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
    starts = {random_starts(video(CLIP.span + 5), CLIP, rng) for _ in range(300)}
    assert starts == {(start,) for start in range(6)}


def test_a_video_not_longer_than_a_clip_has_one_start_and_one_view():
    for frames in (1, 5, CLIP.span):
        with case(frames):
            rng = np.random.default_rng(0)
            assert {random_starts(video(frames), CLIP, rng) for _ in range(50)} == {(0,)}
            assert view_starts(video(frames), CLIP, 5) == [(0,)]


def test_one_view_is_the_middle_of_the_video():
    ((start,),) = view_starts(video(200), CLIP, 1)
    assert start + CLIP.span / 2 == 100


def test_views_are_spread_evenly_and_alike_seen_from_either_end():
    for views in (2, 3, 5, 10):
        with case(views):
            frames = 1000
            starts = [start for (start,) in view_starts(video(frames), CLIP, views)]
            assert len(starts) == views
            assert min(starts) >= 0 and max(starts) + CLIP.span <= frames
            gaps = np.diff(starts)
            assert gaps.max() - gaps.min() <= 1
            mirrored = [frames - CLIP.span - start for start in reversed(starts)]
            assert np.abs(np.subtract(starts, mirrored)).max() <= 1


def test_a_video_a_little_longer_than_a_clip_has_no_two_views_alike():
    starts = view_starts(video(CLIP.span + 2), CLIP, 10)
    assert starts == [(0,), (1,), (2,)]


def test_steps_are_a_stride_apart_and_begin_again_beyond_the_end():
    assert steps(3, ClipSettings(frames=4, stride=3), 100).tolist() == [3, 6, 9, 12]
    assert steps(0, ClipSettings(frames=5, stride=2), 6).tolist() == [0, 2, 4, 0, 2]
    assert steps(0, ClipSettings(frames=3, stride=2), 1).tolist() == [0, 0, 0]


def test_a_clip_of_one_segment_draws_what_a_clip_always_drew():
    """Otherwise runs of earlier releases would go on with other clips."""
    for frames in (7, CLIP.span, 500, 501):
        with case(frames):
            room = max(0, frames - CLIP.span)
            for seed in range(20):
                ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
                assert random_starts(video(frames), CLIP, ours) == (int(theirs.integers(0, room + 1)),)
                assert ours.bit_generator.state == theirs.bit_generator.state
            assert view_starts(video(frames), CLIP, 3) == sorted({(round(room * (k + 0.5) / 3),) for k in range(3)})


def test_each_segment_lies_anywhere_in_its_part_of_the_video_and_nowhere_else():
    clip, rng = ClipSettings(frames=4, stride=2, segments=3), np.random.default_rng(0)
    drawn = np.array([random_starts(video(40), clip, rng) for _ in range(2000)])
    for segment, (begin, end) in enumerate([(0, 13), (13, 26), (26, 40)]):  # 40 frames in three parts
        assert set(drawn[:, segment].tolist()) == set(range(begin, end - clip.span + 1))
    assert np.abs(np.corrcoef(drawn.T) - np.eye(3)).max() < 0.1  # each by itself


def test_a_view_has_a_segment_in_every_part_and_views_move_them_all_together():
    for views in (1, 4):
        with case(views):
            clip = ClipSettings(frames=4, stride=2, segments=5)
            starts = np.array(view_starts(video(200), clip, views))
            assert starts.shape == (views, 5)
            middles = (starts + clip.span / 2).mean(axis=0)
            np.testing.assert_allclose(middles, [20, 60, 100, 140, 180], atol=0.5)
            assert (np.diff(starts, axis=1) == 40).all()


def test_the_segments_of_a_video_shorter_than_they_are_overlap_and_are_spread_over_it():
    for frames in (1, 7, 8, 20, 31):
        with case(frames):
            clip, rng = ClipSettings(frames=4, stride=2, segments=4), np.random.default_rng(0)
            room = max(0, frames - clip.span)
            for starts in [random_starts(video(frames), clip, rng), *view_starts(video(frames), clip, 3)]:
                assert len(starts) == 4 and list(starts) == sorted(starts) and 0 <= starts[0] <= starts[-1] <= room
            if frames == 20:
                assert view_starts(video(frames), clip, 1) == [(0, 3, 8, 12)]
            assert list(HopStarts(video(frames), clip, 3, clip.length)) == view_starts(video(frames), clip, 1)


def test_windows_hold_segments_that_follow_each_other_or_are_spread_evenly_where_a_window_is_longer():
    clip = ClipSettings(frames=2, stride=2, segments=3)
    assert list(HopStarts(video(30), clip, 10, clip.length)) == [(0, 4, 8), (10, 14, 18), (18, 22, 26)]
    assert list(HopStarts(video(30), clip, 10, 24)) == [(2, 10, 18), (8, 16, 24)]
    assert list(HopStarts(video(30), replace(clip, segments=1), 15, 4)) == [(0,), (15,), (26,)]
