"""Answers over time, and each stream's share in them."""

import numpy as np
import pytest
import torch

from tasks.shapley import shares
from tasks.timeline import timelines

WINDOW = {"length": 0.32, "hop": 0.16}


def test_a_timeline_holds_the_windows_of_one_video_each(model, store, videos):
    found = list(timelines(model, store, **WINDOW))
    assert [one.video for one in found] == ["both.mkv", "mute.mkv", "one.mkv", "two.mkv"]
    for one in found:
        windows = list(model.windows(videos / one.video, **WINDOW))
        np.testing.assert_array_equal(one.times, torch.cat([part.times for part in windows]))
        np.testing.assert_allclose(one.answer, torch.cat([part.answer for part in windows]), atol=1e-6)
        alone = torch.cat([model.fuse(part, ["flow"]).answer for part in windows])
        np.testing.assert_allclose(one.streams["flow"], alone, atol=1e-6)
        assert one.seconds == pytest.approx(len(one.times) and one.times[-1, 1])


def test_shares_add_up_to_the_likeliest_class_and_an_absent_stream_has_none(model, store):
    for one in timelines(model, store, **WINDOW):
        total = sum(one.shares.values())
        np.testing.assert_allclose(total, one.answer.max(axis=1) - 1 / len(one.classes), atol=1e-9)
        for name, there in one.present.items():
            assert (one.shares[name][~there] == 0).all()


def test_a_subset_of_the_streams_answers_without_the_others(model, store):
    (one,) = timelines(model, store, video="one.mkv", streams=("rgb",), **WINDOW)
    assert list(one.streams) == ["rgb"]
    np.testing.assert_array_equal(one.answer, one.streams["rgb"])


def test_the_shares_of_a_known_game_are_its_shapley_values():
    """Two streams; each alone gives the class 0.5 and 0.25, both together 1."""
    answers = {
        frozenset({"rgb"}): torch.tensor([[0.5, 0.5]]),
        frozenset({"flow"}): torch.tensor([[0.25, 0.75]]),
        frozenset({"rgb", "flow"}): torch.tensor([[1.0, 0.0]]),
    }
    found = shares({names: answer.double() for names, answer in answers.items()}, torch.tensor([0]), ("rgb", "flow"))
    assert {name: share.item() for name, share in found.items()} == {"rgb": 0.375, "flow": 0.125}
