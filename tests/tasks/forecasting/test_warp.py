"""What flow moves on, and how it is mirrored in training."""

import numpy as np
import torch

from tasks.forecasting.forecaster import see
from tasks.forecasting.settings import ForecastRecipe
from tasks.forecasting.training import augmented
from tasks.forecasting.warp import mean_velocity, velocities, warp_on
from tests.support.videos import drift


def test_a_thing_goes_on_with_its_velocity_and_what_it_uncovers_keeps_the_last_frame():
    frames, motion = torch.zeros(1, 2, 1, 12, 16), torch.zeros(1, 2, 2, 12, 16)
    frames[:, 0, 0, 2:5, 1:4], frames[:, 1, 0, 3:6, 3:6] = 0.5, 0.5
    motion[:, 1, 0, 3:6, 3:6], motion[:, 1, 1, 3:6, 3:6] = 2, 1
    motion[:, 0] = motion[:, 1].roll((-1, -2), dims=(2, 3))
    moved, arrived = warp_on(frames, motion, steps=3)
    hidden = frames[0, 1, 0] > 0
    for step in (1, 2, 3):
        thing = torch.zeros(12, 16)
        thing[3 + step : 6 + step, 3 + 2 * step : 6 + 2 * step] = 0.5
        alone = (thing > 0) & ~hidden  # elsewhere it meets the background, or leaves a hole
        assert (moved[0, step - 1, 0][(thing == 0) & ~hidden] == 0).all()
        assert (moved[0, step - 1, 0][alone] == 0.25).all()  # the mean of the thing and of the background under it
        assert (arrived[0, step - 1, 0][hidden & (thing == 0)] == 0).all()
        assert (moved[0, step - 1, 0][hidden & (thing == 0)] == 0.5).all()


def test_a_camera_that_moves_evenly_shifts_the_whole_frame_to_any_fraction_of_a_pixel():
    ramp = torch.arange(16.0).expand(12, 16)
    frames, motion = ramp.expand(1, 3, 1, 12, 16), torch.zeros(1, 3, 2, 12, 16)
    motion[:, :, 0] = 0.75
    assert torch.allclose(mean_velocity(motion), motion[:, 0])
    moved, arrived = warp_on(frames, motion, steps=2)
    for step in (1, 2):
        inside = slice(3, 15)
        torch.testing.assert_close(moved[0, step - 1, 0, :, inside], ramp[:, inside] - 0.75 * step)
        assert (arrived[0, step - 1, 0, :, inside] == 1).all()


def test_tv_l1_moves_a_drifting_texture_to_where_it_will_be():
    pictures = np.stack([one.mean(axis=-1) for one in drift(8, step=1)]).astype(np.uint8)
    frames = torch.from_numpy(pictures).float().div(255)[None, :, None]
    motion = torch.from_numpy(velocities(pictures[:5]))[None]
    assert (motion[:, 0] == 0).all()
    moved, _ = warp_on(frames[:, :5], motion, steps=3)
    inside = (..., slice(6, -6), slice(8, -8))
    error = (moved - frames[:, 5:])[inside].square().mean()
    still = (frames[:, 4:5] - frames[:, 5:])[inside].square().mean()
    assert error < 0.1 * still


def test_the_warp_of_a_turned_window_is_the_turned_warp():
    rng, recipe = np.random.default_rng(0), ForecastRecipe(past=3, future=2, augment="all")
    frames = torch.from_numpy(rng.integers(0, 256, (2, 5, 1, 16, 16), dtype=np.uint8))
    motion = torch.from_numpy(rng.normal(0, 2, (2, 3, 2, 16, 16)).astype(np.float32))
    seen = see(frames, motion, recipe).moved
    for seed in range(8):
        turned = see(*augmented(frames, motion, recipe, np.random.default_rng(seed)), recipe).moved
        expected, _ = augmented(seen, motion, recipe, np.random.default_rng(seed))
        torch.testing.assert_close(turned, expected, atol=1e-4, rtol=1e-4)
