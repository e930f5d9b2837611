"""Clips of optical flow."""

import numpy as np
import pytest
import torch

from preprocess.store.codec import dequantise_flow
from preprocess.store.format import FLOW_BOUND, FLOW_STEPS, FLOW_ZERO
from streams.clip import ClipSettings
from streams.flow import KNEE, NOISE, squash
from streams.registry import STREAMS
from tests.support.reading import as_towers_see, read, whole
from tests.support.stores import HEIGHT, WIDTH, Spec, make_store

FLOW = STREAMS["flow"]
CLIP = ClipSettings(frames=4, stride=2, size=32)
STEP = FLOW_BOUND / FLOW_STEPS  # pixels a frame from one stored byte to the next


def field(*vectors: tuple[float, float], size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(T, H, W, 2): one vector for all pixels of each step."""
    return np.tile(np.float32(vectors)[:, None, None], (1, *size, 1))


def vectors(store, start: int, clip: ClipSettings = CLIP, rng=None) -> np.ndarray:
    """(T, H, W, 2): what the towers see, as pixels of the crop a frame."""
    return pixels(as_towers_see("flow", store, start, clip, rng), clip.size).transpose(1, 2, 3, 0)


def pixels(seen: np.ndarray, size: int) -> np.ndarray:
    """What `squash` made of pixels a frame, back."""
    return np.sinh(2 * seen.astype(np.float64)) * KNEE * size / 112


def store_of(tmp_path, flow: np.ndarray, *, rgb: np.ndarray | None = None):
    side = min(flow.shape[1:3])
    return make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=len(flow) + 1, flow=flow, rgb=rgb)], short_side=side)


def numbered(tmp_path, frames: int):
    """A video whose frame k has brightness 8 k, and whose flow from frame k to k + 1 is k steps of the store."""
    levels = np.tile(np.arange(0, 8 * frames, 8, dtype=np.uint8)[:, None, None, None], (1, HEIGHT, WIDTH, 3))
    return store_of(tmp_path, field(*[(0, k * STEP) for k in range(frames - 1)]), rgb=levels)


@pytest.mark.parametrize("rng", [None, 0])
def test_no_motion_is_exactly_zero_in_the_towers_input(tmp_path, rng):
    store = store_of(tmp_path, np.zeros((19, HEIGHT, WIDTH, 2), np.float32))
    assert (
        read("flow", store, 0, CLIP, None if rng is None else np.random.default_rng(rng))["fields"] == FLOW_ZERO
    ).all()
    assert not vectors(store, 0, rng=None if rng is None else np.random.default_rng(rng)).any()


def test_flow_comes_in_pixels_of_the_crop_a_frame(tmp_path):
    store = store_of(tmp_path, field(*[(3.0, -1.5)] * 19))
    zoom = 32 / (HEIGHT * 7 / 8)
    seen = as_towers_see("flow", store, 0, CLIP)
    assert seen.shape == (2, 4, 32, 32)
    np.testing.assert_allclose(pixels(seen, 32).mean(axis=(1, 2, 3)), [3.0 * zoom, -1.5 * zoom], atol=STEP)


def test_the_towers_see_the_stored_bytes_as_the_store_explains_them(tmp_path):
    flow = np.random.default_rng(0).normal(0, 4, (19, 32, 32, 2)).astype(np.float32)
    store = store_of(tmp_path, flow, rgb=np.zeros((20, 32, 32, 3), np.uint8))
    stored = store.frames(store.videos[0], "flow", [2, 4, 6, 8])
    clip = read("flow", store, 2, CLIP)
    np.testing.assert_array_equal(clip["fields"], stored)
    maps, fields = whole(32), torch.from_numpy(clip["fields"])[None]
    prepared = FLOW.prepare({"fields": fields, "map": maps}, CLIP, training=False)[0].numpy()
    np.testing.assert_allclose(pixels(prepared, 32), dequantise_flow(stored).transpose(1, 0, 2, 3), atol=1e-3)


def test_a_random_crop_that_is_flipped_negates_what_moves_sideways(tmp_path):
    store = store_of(tmp_path, field(*[(5.0, 0.0)] * 19))
    means = [vectors(store, 0, rng=np.random.default_rng(seed)).mean(axis=(0, 1, 2)) for seed in range(60)]
    sideways = np.array(means)[:, 0]
    assert 15 < (sideways < 0).sum() < 45  # half of sixty, five deviations to either side
    assert (np.abs(sideways) > 4).all()


@pytest.mark.parametrize("seed", range(2))
def test_a_steady_motion_stays_steady_when_augmented(tmp_path, seed):
    store = store_of(tmp_path, field(*[(2.0, 1.0)] * 19))
    seen = vectors(store, 0, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(seen, np.broadcast_to(seen[:1], seen.shape))


def test_noise_in_training_is_small_and_without_direction():
    torch.manual_seed(0)
    still = torch.full((8, 4, 2, 32, 32), FLOW_ZERO, dtype=torch.uint8)
    prepared = FLOW.prepare({"fields": still, "map": whole(32, 8)}, CLIP, training=True)
    deviation = pixels(prepared.numpy(), 32).std(axis=(1, 2, 3, 4))
    assert deviation.max() <= 1.1 * NOISE and deviation.max() > 0.3 * NOISE
    assert prepared.mean().abs() < 5e-3


def test_small_motions_are_seen_in_proportion_and_large_ones_by_their_logarithm():
    small, large = torch.tensor([0.01, 0.02, -0.02]), torch.tensor([8.0, 16.0, -16.0])
    torch.testing.assert_close(squash(small, 112), small / KNEE / 2, rtol=2e-3, atol=0)
    one, two, back = squash(large, 112)
    torch.testing.assert_close(two - one, torch.tensor(2.0).log() / 2, rtol=1e-3, atol=0)
    assert two == -back
    torch.testing.assert_close(squash(large, 112), squash(large / 2, 56))  # whatever the crop's size


@pytest.mark.parametrize(("frames", "stride", "start"), [(20, 2, 0), (20, 2, 12), (20, 1, 16), (6, 2, 0), (5, 3, 0)])
def test_each_flow_field_begins_at_the_picture_beside_it(tmp_path, frames, stride, start):
    """Also where the clip reaches the video's end, or begins again. The last frame has no flow: its neighbour's."""
    store = numbered(tmp_path, frames)
    clip = ClipSettings(frames=4, stride=stride, size=32)
    shown = read("rgb", store, start, clip)["frames"].mean(axis=(1, 2, 3)) / 8
    moving = vectors(store, start, clip)[..., 1].mean(axis=(1, 2)) * (HEIGHT * 7 / 8) / 32
    np.testing.assert_allclose(moving / STEP, np.minimum(np.rint(shown), frames - 2), atol=0.3)


def test_pictures_and_flow_of_a_middle_crop_lie_pixel_on_pixel(tmp_path):
    height, width = 48, 64
    where = np.zeros((height, width), bool)
    where[16:32, 24:48] = True  # whole JPEG blocks: no ringing
    rgb = np.tile(np.where(where, 220, 30).astype(np.uint8)[None, :, :, None], (20, 1, 1, 3))
    flow = np.tile(np.where(where, 6.0, 0.0).astype(np.float32)[None, :, :, None], (19, 1, 1, 2))
    store = store_of(tmp_path, flow, rgb=rgb)
    for size in (32, 42, 60):
        clip = ClipSettings(frames=4, stride=2, size=size)
        seen = (as_towers_see("rgb", store, 3, clip)[0] + 1) * 127.5
        moves = vectors(store, 3, clip)[..., 0]
        share_seen = (seen - 30) / 190
        share_moves = moves / (6.0 * size / 42)
        assert share_seen.max() > 0.9 and share_seen.min() < 0.1
        np.testing.assert_allclose(share_moves, share_seen, atol=0.06)
