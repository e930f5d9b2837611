"""Cropping, turning, scaling and flipping pictures and flow."""

import cv2
import numpy as np
import pytest
import torch

from streams import geometry
from streams.geometry import centre_crop, random_crop, turn_vectors, warp, warp_clip
from tests.support.cases import case

SHAPES = [(96, 96), (96, 128), (128, 96), (96, 300), (97, 131)]


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
    """A smooth picture that is known everywhere, not only at pixels; it changes by 0.35 a pixel at most."""
    return np.sin(x / 7) + np.cos(y / 9) + np.sin((x + 2 * y) / 11)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return pattern(x, y).astype(np.float32)


def places_in_window(matrix: np.ndarray, size: int) -> np.ndarray:
    """(size, size, 2): where in the window each pixel of the crop was taken from."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    return (np.stack([x, y], axis=-1) - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T


def corner(window) -> np.ndarray:
    """(2,): x and y of the window's first pixel."""
    return np.array([window[1].start, window[0].start])


def inside(places: np.ndarray, side: int, margin: float) -> np.ndarray:
    return ((places >= margin) & (places <= side - 1 - margin)).all(axis=-1)


def warp_one(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(H, W) → (size, size)"""
    frames = torch.from_numpy(np.ascontiguousarray(picture))[None, None].float()
    return warp(frames, torch.from_numpy(np.float32(matrix))[None], size)[0, 0].numpy()


def warp_flow(flow: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 2) pixels → (size, size, 2): its places and its vectors, as for a stream of flow."""
    maps = torch.from_numpy(np.float32(matrix))[None]
    fields = torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))[None]
    return turn_vectors(warp(fields, maps, size)[:, :, None], maps)[0, :, 0].numpy().transpose(1, 2, 0)


def by_opencv(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    return cv2.warpAffine(
        picture.astype(np.float32), matrix.astype(np.float64), (size, size), borderMode=cv2.BORDER_REFLECT_101
    )


def test_the_centre_crop_of_128_pixels_is_the_middle_112_untouched():
    for height, width in ((128, 128), (128, 228), (228, 128)):
        with case((height, width)):
            frame = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float32)
            matrix, window = centre_crop(height, width, 112)
            assert frame[window].shape == (128, 128)
            top, left = (height - 112) // 2, (width - 112) // 2
            np.testing.assert_allclose(
                warp_one(frame[window], matrix, 112), frame[top : top + 112, left : left + 112], atol=0.02
            )


def test_the_centre_crop_shows_seven_eighths_of_the_short_side_whatever_the_size():
    for height, width, size in ((96, 96, 32), (96, 128, 112), (128, 96, 160), (97, 131, 112)):
        with case((height, width, size)):
            matrix, window = centre_crop(height, width, size)
            places = places_in_window(matrix, size) + corner(window)
            side = min(height, width) * 7 / 8
            # corner pixels are half a pixel of the crop inside the edges of what is shown
            np.testing.assert_allclose(places[-1, -1] - places[0, 0], side - side / size, rtol=1e-5)
            np.testing.assert_allclose(
                (places[-1, -1] + places[0, 0]) / 2, [(width - 1) / 2, (height - 1) / 2], rtol=1e-5
            )


MAPS = {
    "as it is": [[1, 0, 0], [0, 1, 0]],
    "by parts of a pixel": [[1, 0, 0.3], [0, 1, -0.7]],
    "far over an edge": [[1, 0, 30], [0, 1, -25]],
    "flipped": [[-1, 0, 59], [0, 1, 0]],
    "turned": [[0.8, -0.6, 20], [0.6, 0.8, -15]],
    "larger": [[1.9, 0, -20], [0, 2.3, -40]],
    "smaller than the frame": [[0.5, 0, 15], [0, 0.5, 15]],
    "flipped, turned and stretched": [[-1.1, 0.4, 55], [0.3, 0.9, -5]],
}


def test_a_warp_is_opencvs_mirrored_edges_included():
    frame = smooth(60, 70)
    for kind, rows in MAPS.items():
        ours, theirs = (by(frame, np.array(rows, np.float64), 60) for by in (warp_one, by_opencv))
        np.testing.assert_allclose(ours, theirs, atol=2 * 0.35 / 32, err_msg=kind)  # OpenCV may round to 1/32 pixel


def test_a_random_crop_is_opencvs_of_the_same_window():
    for height, width in SHAPES:
        with case((height, width)):
            frame, rng, mirrored = smooth(height, width), np.random.default_rng(1), 0
            for _ in range(20):
                matrix, window = random_crop(height, width, 64, rng)
                ours, theirs = (crop(frame[window], matrix, 64) for crop in (warp_one, by_opencv))
                np.testing.assert_allclose(ours, theirs, atol=2 * 0.35 / 32)
                mirrored += not inside(places_in_window(matrix, 64), min(height, width), 0).all()
            assert mirrored > 2


def test_one_pixel_beyond_the_edge_is_the_last_but_one():
    """Mirrored about the last pixel, which is not shown twice."""
    row = np.arange(8.0)[None].repeat(8, axis=0)
    shifted = warp_one(row, np.array([[1.0, 0, 3], [0, 1, 0]]), 8)
    np.testing.assert_allclose(shifted[0], [3, 2, 1, 0, 1, 2, 3, 4], atol=1e-5)


def test_a_crop_of_a_linear_picture_is_linear_at_the_places_it_was_taken_from():
    for height, width in SHAPES:
        with case((height, width)):
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            matrix, window = random_crop(height, width, 40, np.random.default_rng(5))
            places = places_in_window(matrix, 40)
            here = inside(places, min(height, width), 1)
            assert here.mean() > 0.7
            cropped = warp_one((2 * x + 3 * y)[window], matrix, 40)
            np.testing.assert_allclose(cropped[here], ((places + corner(window)) @ [2, 3])[here], atol=0.01)


def test_random_crops_are_as_large_and_as_upright_as_promised_and_half_are_flipped():
    rng = np.random.default_rng(0)
    sides, turns, flips, corners = [], [], [], []
    for _ in range(400):
        matrix, window = random_crop(96, 160, 64, rng)
        linear = matrix[:, :2].astype(np.float64)
        sides.append(64 / np.sqrt(abs(np.linalg.det(linear))) / 96)
        flips.append(np.linalg.det(linear) < 0)
        turns.append(np.rad2deg(np.arctan(linear[1, 0] / linear[1, 1])))
        places = places_in_window(matrix, 64)[[0, 0, -1, -1], [0, -1, 0, -1]]
        corners.append(places + corner(window))
    assert min(sides) + 1e-6 >= 0.65 and min(sides) < 0.68 and 0.97 < max(sides) <= 1.0 + 1e-6
    assert 6 < np.max(np.abs(turns)) <= 8.001
    assert 0.4 < np.mean(flips) < 0.6
    # a crop may lean over the edge as far as the rotation and the aspect take it, and reaches every side
    corners = np.concatenate(corners) / [160, 96]
    assert corners.min() > -0.15 and corners.max() < 1.15
    assert (corners.min(axis=0) < 0.05).all() and (corners.max(axis=0) > 0.95).all()


def test_a_random_crop_may_be_asked_to_show_less():
    rng = np.random.default_rng(0)
    matrices = [random_crop(96, 160, 64, rng, least=0.3)[0][:, :2] for _ in range(400)]
    sides = [64 / np.sqrt(abs(np.linalg.det(matrix.astype(np.float64)))) / 96 for matrix in matrices]
    assert 0.3 - 1e-6 <= min(sides) < 0.33 and 0.97 < max(sides) <= 1.0 + 1e-6


def test_a_crop_may_be_asked_not_to_be_mirrored_and_to_show_all_of_the_short_side():
    rng = np.random.default_rng(0)
    assert all(random_crop(96, 128, 64, rng, flip=False).map[0, 0] > 0 for _ in range(20))
    matrix, window = centre_crop(96, 128, 96, share=1.0)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-5)
    assert window[1] == slice(16, 112)


def test_the_window_is_a_square_of_the_short_side_that_holds_the_crop(monkeypatch):
    monkeypatch.setattr(geometry, "TURN", 0.0)
    monkeypatch.setattr(geometry, "STRETCH", 1.0)  # turned and stretched, a crop's corners may lean over
    for height, width in ((96, 96), (97, 131), (36, 640), (640, 36)):
        with case((height, width)):
            rng, short, size = np.random.default_rng(0), min(height, width), 64
            for number in range(200):
                matrix, window = random_crop(height, width, size, rng) if number else centre_crop(height, width, size)
                for part, length in zip(window, (height, width), strict=True):
                    assert part.start >= 0 and part.stop <= length and part.stop - part.start == short
                places = places_in_window(matrix, size)
                beyond = 1 - short / size / 2 + 1e-3  # a window begins at a whole pixel, its crop anywhere
                assert places.min() >= -max(0.5, beyond) and places.max() <= short - 1 + max(0.5, beyond)


def test_turned_and_stretched_little_of_a_crop_leans_over_its_window():
    for height, width in ((96, 96), (128, 96), (36, 640)):
        with case((height, width)):
            rng = np.random.default_rng(0)
            shares = []
            for _ in range(201):
                matrix, _ = random_crop(height, width, 64, rng)
                shares.append(inside(places_in_window(matrix, 64), min(height, width), -0.5).mean())
            assert np.mean(shares) > 0.96 and min(shares) > 0.75


def test_the_same_generator_draws_the_same_crop():
    (one, at), (other, there) = (random_crop(96, 128, 64, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert at == there
    assert not np.array_equal(one, random_crop(96, 128, 64, np.random.default_rng(4))[0])


def test_every_frame_of_a_clip_goes_through_its_own_clips_map():
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 3, 48, 48), dtype=np.uint8).repeat(5, axis=1)
    maps = np.stack([random_crop(48, 64, 32, np.random.default_rng(seed))[0] for seed in range(3)])
    warped = warp_clip(torch.from_numpy(frames), torch.from_numpy(maps), 32).numpy()
    assert warped.shape == (3, 3, 5, 32, 32) and warped.dtype == np.float32
    for row in range(3):
        for channel in range(3):
            expected = warp_one(frames[row, 0, channel].astype(np.float32), maps[row], 32)
            for step in range(5):
                np.testing.assert_allclose(warped[row, channel, step], expected, atol=1e-3)


def test_the_map_is_not_rounded_in_mixed_precision():
    """Preparing is outside of autocast: eight bits of mantissa do not tell pixels apart."""
    from fusion.answers import predict_videos
    from fusion.model import build_model
    from fusion.settings import ModelSettings
    from streams.batch import Batch
    from streams.clip import ClipSettings

    clip = ClipSettings(frames=1, size=112)
    picture = torch.arange(128, dtype=torch.uint8).expand(1, 1, 128, 128)[..., None].expand(-1, -1, -1, -1, 3)
    maps = torch.from_numpy(random_crop(128, 128, 112, np.random.default_rng(0))[0])[None]
    here, row = torch.tensor([True]), torch.tensor([0])
    batch = Batch(
        {"rgb": {"frames": picture.contiguous(), "map": maps}}, {"rgb": here}, {"rgb": row}, row, row, row, clip
    )
    seen = []
    model = build_model(ModelSettings(width=2, feature=4), streams=("rgb",), classes=2, parameters={})
    model.encoders["rgb"].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with pytest.MonkeyPatch.context() as patch:
        predict_videos(model, [batch], [("rgb",)], videos=1, classes=2, device=torch.device("cpu"))
        patch.setattr("fusion.answers.mixed_precision", lambda _: torch.autocast("cpu", torch.bfloat16))
        predict_videos(model, [batch], [("rgb",)], videos=1, classes=2, device=torch.device("cpu"))
    exact, mixed = seen
    assert torch.equal(exact, mixed)


def test_a_flip_mirrors_flow_and_negates_x():
    flow = np.random.default_rng(0).normal(0, 3, (40, 40, 2)).astype(np.float32)
    flip = np.array([[-1.0, 0, 39], [0, 1, 0]])
    np.testing.assert_allclose(warp_flow(flow, flip, 40), flow[:, ::-1] * np.float32([-1, 1]), atol=1e-4)


def test_a_zoom_makes_motion_faster_by_its_factor():
    flow = np.full((32, 32, 2), [1.5, -0.5], np.float32)
    zoom = np.array([[3.0, 0, -30], [0, 2, -20]])
    expected = np.broadcast_to(np.float32([4.5, -1.0]), flow.shape)
    np.testing.assert_allclose(warp_flow(flow, zoom, 32), expected, rtol=1e-6)


def test_a_quarter_turn_turns_the_vectors():
    flow = np.random.default_rng(0).normal(0, 3, (32, 32, 2)).astype(np.float32)
    quarter = np.array([[0.0, -1, 31], [1, 0, 0]])  # what pointed right points down
    turned = np.rot90(flow, -1)
    expected = np.stack([-turned[..., 1], turned[..., 0]], axis=-1)
    np.testing.assert_allclose(warp_flow(flow, quarter, 32), expected, atol=1e-4)


def test_no_motion_stays_no_motion_in_every_crop():
    rng = np.random.default_rng(0)
    for _ in range(4):
        matrix, _ = random_crop(48, 64, 32, rng)
        assert not warp_flow(np.zeros((48, 48, 2), np.float32), matrix, 32).any()


def test_flow_of_a_crop_takes_the_crop_of_one_frame_to_the_crop_of_the_next():
    for kind, seed in (("shift", 0), ("rotation", 1), ("zoom", 2), ("shear", 3), ("zoom", 0)):
        with case((kind, seed)):
            height, width, size = 96, 128, 80
            flow = flow_field(kind, height, width)
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            after = pattern(x, y)
            before = pattern(x + flow[..., 0], y + flow[..., 1])  # what stands at p moves to p + flow(p)
            matrix, window = random_crop(height, width, size, np.random.default_rng(seed))
            first, second = (warp_one(picture[window], matrix, size) for picture in (before, after))
            moved = warp_flow(flow[window], matrix, size)
            y, x = np.mgrid[0:size, 0:size].astype(np.float32)
            target_x, target_y = x + moved[..., 0], y + moved[..., 1]
            followed = cv2.remap(second, target_x, target_y, cv2.INTER_LINEAR)
            here = inside(places_in_window(matrix, size), height, 6)
            here &= (target_x > 1) & (target_x < size - 2) & (target_y > 1) & (target_y < size - 2)
            assert here.mean() > 0.5
            np.testing.assert_allclose(followed[here], first[here], atol=0.03)
            assert np.abs(second - first)[here].max() > 0.2  # and something did move


def shrunk(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """(H, W) → (size, size), as a stream's clip of one frame."""
    frames = torch.from_numpy(np.ascontiguousarray(picture))[None, None, None]
    return warp_clip(frames, torch.from_numpy(np.float32(matrix))[None], size)[0, 0, 0].numpy()


def test_a_shrunk_crop_is_opencvs_finer_one_averaged_over_areas():
    for size in (24, 40, 56, 84, 112):
        with case(size):
            frame, rng = smooth(128, 128), np.random.default_rng(0)
            for _ in range(5):
                matrix, _ = random_crop(128, 128, size, rng)
                fine = max(1, round(112 / size))
                # to pixels' edges and back: the larger crop's own
                shifted = matrix + np.array([[0, 0, 0.5], [0, 0, 0.5]])
                larger = by_opencv(frame, fine * shifted - np.array([[0, 0, 0.5], [0, 0, 0.5]]), fine * size)
                expected = cv2.resize(larger, (size, size), interpolation=cv2.INTER_AREA)
                np.testing.assert_allclose(shrunk(frame, matrix, size), expected, atol=2 * 0.35 / 32)


def test_detail_that_a_shrunk_crop_cannot_hold_does_not_become_false_detail():
    """Noise, of which most is finer than the crop's pixels, against OpenCV's average over areas."""
    noise = np.random.default_rng(0).normal(size=(128, 128)).astype(np.float32)
    matrix, _ = centre_crop(128, 128, 64)
    expected = cv2.resize(noise[8:-8, 8:-8], (64, 64), interpolation=cv2.INTER_AREA)
    ours, single = (np.abs(method(noise, matrix, 64) - expected).mean() for method in (shrunk, warp_one))
    assert ours < 0.6 * single
