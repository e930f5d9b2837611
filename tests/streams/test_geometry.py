"""Cropping, turning, scaling and flipping pictures and flow."""

import cv2
import numpy as np
import pytest

from streams.geometry import centre_crop, random_crop, warp, warp_flow


def flow_field(kind: str, height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32: an analytic field around the middle of the frame."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    fields = {
        "shift": (np.full_like(x, 2.5), np.full_like(x, -1.5)),
        "rotation": (-0.05 * y, 0.05 * x),
        "zoom": (0.04 * x, 0.04 * y),
        "shear": (0.05 * y, np.zeros_like(y)),
    }
    return np.stack(fields[kind], axis=-1)


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture that is known everywhere, not only at pixels."""
    return np.sin(x / 7) + np.cos(y / 9) + np.sin((x + 2 * y) / 11)


def places_in_frame(matrix: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 2): where in the frame each pixel of the crop was taken from."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    return (np.stack([x, y], axis=-1) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def inside(places: np.ndarray, height: int, width: int, margin: float) -> np.ndarray:
    x, y = places[..., 0], places[..., 1]
    return (x >= margin) & (x <= width - 1 - margin) & (y >= margin) & (y <= height - 1 - margin)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (128, 228), (228, 128)])
def test_the_centre_crop_of_128_pixels_is_the_middle_112_untouched(height, width):
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    cropped = warp(frames, centre_crop(height, width, 112), 112)
    top, left = (height - 112) // 2, (width - 112) // 2
    np.testing.assert_array_equal(cropped, frames[:, top : top + 112, left : left + 112])


@pytest.mark.parametrize("size", [32, 112, 160])
def test_the_centre_crop_shows_seven_eighths_of_the_short_side_whatever_the_size(size):
    places = places_in_frame(centre_crop(96, 128, size), size)
    side = 96 * 7 / 8
    # corner pixels are half a pixel of the crop inside the edges of what is shown
    np.testing.assert_allclose(places[-1, -1] - places[0, 0], side - side / size)
    np.testing.assert_allclose((places[-1, -1] + places[0, 0]) / 2, [(128 - 1) / 2, (96 - 1) / 2])


def test_a_crop_of_a_linear_picture_is_linear_at_the_places_it_was_taken_from():
    height, width, size = 60, 80, 40
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = (2 * x + 3 * y)[None, :, :, None]
    matrix = random_crop(height, width, size, np.random.default_rng(5))
    places = places_in_frame(matrix, size)
    here = inside(places, height, width, 1)
    assert here.mean() > 0.7
    cropped = warp(np.repeat(picture, 2, axis=3), matrix, size)[0, ..., 0]
    # OpenCV may round places to 1/32 of a pixel
    np.testing.assert_allclose(cropped[here], (places @ [2, 3])[here], atol=5 / 32)


def test_random_crops_are_as_large_and_as_upright_as_promised_and_half_are_flipped():
    rng = np.random.default_rng(0)
    sides, turns, flips, corners = [], [], [], []
    for _ in range(400):
        matrix = random_crop(96, 160, 64, rng)
        linear = matrix[:, :2]
        sides.append(64 / np.sqrt(abs(np.linalg.det(linear))) / 96)
        flips.append(np.linalg.det(linear) < 0)
        turns.append(np.rad2deg(np.arctan(linear[1, 0] / linear[1, 1])))
        corners.append(places_in_frame(matrix, 64)[[0, 0, -1, -1], [0, -1, 0, -1]])
    assert 0.65 <= min(sides) < 0.68 and 0.97 < max(sides) <= 1.0
    assert 6 < np.max(np.abs(turns)) <= 8.001
    assert 0.4 < np.mean(flips) < 0.6
    # a crop may lean over the edge as far as the rotation and the aspect take it, and reaches every side
    corners = np.concatenate(corners) / [160, 96]
    assert corners.min() > -0.15 and corners.max() < 1.15
    assert (corners.min(axis=0) < 0.05).all() and (corners.max(axis=0) > 0.95).all()


def test_the_same_generator_draws_the_same_crop():
    one, other = (random_crop(96, 128, 64, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, random_crop(96, 128, 64, np.random.default_rng(4)))


def test_every_frame_of_a_clip_goes_through_the_same_map():
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    warped = warp(np.stack([frame] * 5), random_crop(48, 64, 32, np.random.default_rng(1)), 32)
    for other in warped[1:]:
        np.testing.assert_array_equal(other, warped[0])


def test_a_flip_mirrors_flow_and_negates_x_exactly():
    flow = np.random.default_rng(0).normal(0, 3, (3, 40, 40, 2)).astype(np.float32)
    flip = np.array([[-1.0, 0, 39], [0, 1, 0]])
    np.testing.assert_array_equal(warp_flow(flow, flip, 40), flow[:, :, ::-1] * np.float32([-1, 1]))


def test_a_zoom_makes_motion_faster_by_its_factor():
    flow = np.full((1, 32, 32, 2), [1.5, -0.5], np.float32)
    zoom = np.array([[3.0, 0, -30], [0, 2, -20]])
    np.testing.assert_array_equal(warp_flow(flow, zoom, 32), np.broadcast_to(np.float32([4.5, -1.0]), flow.shape))


def test_a_quarter_turn_turns_the_vectors():
    flow = np.random.default_rng(0).normal(0, 3, (1, 32, 32, 2)).astype(np.float32)
    quarter = np.array([[0.0, -1, 31], [1, 0, 0]])  # what pointed right points down
    turned = np.rot90(flow, -1, axes=(1, 2))
    np.testing.assert_array_equal(warp_flow(flow, quarter, 32), np.stack([-turned[..., 1], turned[..., 0]], axis=-1))


@pytest.mark.parametrize("seed", range(4))
def test_no_motion_stays_no_motion_in_every_crop(seed):
    matrix = random_crop(48, 64, 32, np.random.default_rng(seed))
    assert not warp_flow(np.zeros((2, 48, 64, 2), np.float32), matrix, 32).any()


@pytest.mark.parametrize("kind", ["shift", "rotation", "zoom", "shear"])
@pytest.mark.parametrize("seed", range(4))
def test_flow_of_a_crop_takes_the_crop_of_one_frame_to_the_crop_of_the_next(kind, seed):
    height, width, size = 96, 128, 80
    flow = flow_field(kind, height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    after = pattern(x, y)
    before = pattern(x + flow[..., 0], y + flow[..., 1])  # what stands at p moves to p + flow(p)
    matrix = random_crop(height, width, size, np.random.default_rng(seed))
    frames = warp(np.stack([before, after])[..., None].repeat(2, axis=3), matrix, size)[..., 0]
    moved = warp_flow(flow[None], matrix, size)[0]
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    target_x, target_y = x + moved[..., 0], y + moved[..., 1]
    followed = cv2.remap(frames[1], target_x, target_y, cv2.INTER_LINEAR)
    here = inside(places_in_frame(matrix, size), height, width, 6)
    here &= (target_x > 1) & (target_x < size - 2) & (target_y > 1) & (target_y < size - 2)
    assert here.mean() > 0.5
    np.testing.assert_allclose(followed[here], frames[0][here], atol=0.03)
    assert np.abs(frames[1] - frames[0])[here].max() > 0.2  # and something did move
