"""Clips of pictures."""

from collections import Counter
from dataclasses import replace
from itertools import permutations

import cv2
import numpy as np
import pytest
import torch

from streams.clip import ClipSettings
from streams.registry import STREAMS
from tests.support.reading import as_towers_see, read, whole
from tests.support.stores import HEIGHT, WIDTH, Spec, make_store

RGB = STREAMS["rgb"]
CLIP = ClipSettings(frames=4, stride=2, size=32)
CLIP_OF_8 = replace(CLIP, size=8)


def prepare(frames: torch.Tensor, *, training: bool) -> torch.Tensor:
    """frames: (B, T, 32, 32, 3) uint8, shown as they are."""
    return RGB.prepare({"frames": frames, "map": whole(32, len(frames))}, CLIP, training=training)


@pytest.fixture
def numbered(tmp_path):
    """A video whose frame k has brightness 10 k."""
    levels = (10 * np.arange(20)).astype(np.uint8)
    return make_store(
        tmp_path / "s.h5", [Spec("v.mp4", rgb=np.tile(levels[:, None, None, None], (1, HEIGHT, WIDTH, 3)))]
    )


def test_a_clip_holds_every_stride_th_frame_from_its_start(numbered):
    clip = read("rgb", numbered, 5, CLIP)
    assert clip["frames"].shape == (4, HEIGHT, HEIGHT, 3) and clip["frames"].dtype == np.uint8
    np.testing.assert_allclose(clip["frames"].mean(axis=(1, 2, 3)), [50, 70, 90, 110], atol=1)
    seen = as_towers_see("rgb", numbered, 5, CLIP)
    assert seen.shape == (3, 4, 32, 32)
    np.testing.assert_allclose((seen.mean(axis=(0, 2, 3)) + 1) * 127.5, [50, 70, 90, 110], atol=1)


def test_a_short_video_begins_again(numbered):
    clip = read("rgb", numbered, 0, ClipSettings(frames=12, stride=2, size=32))
    np.testing.assert_allclose(clip["frames"].mean(axis=(1, 2, 3)), [*range(0, 200, 20), 0, 20], atol=1)


@pytest.mark.parametrize("seed", range(2))
def test_a_still_video_stays_still_when_augmented(tmp_path, seed):
    still = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", rgb=np.stack([still] * 20))])
    seen = as_towers_see("rgb", store, 0, CLIP, np.random.default_rng(seed))
    np.testing.assert_array_equal(seen, np.broadcast_to(seen[:, :1], seen.shape))
    assert seen.std() > 0.1


def test_bytes_become_minus_one_to_one():
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 4, 32, 32, 3)
    prepared = prepare(batch, training=False)
    assert prepared.shape == (1, 3, 4, 32, 32)
    torch.testing.assert_close(prepared[0, :, 1, 5, 7], torch.tensor([-1.0, -0.6, 1.0]), atol=1e-4, rtol=0)


def test_pictures_keep_their_place_in_time_and_space():
    batch = torch.zeros(2, 4, 32, 32, 3, dtype=torch.uint8)
    batch[1, 2, 20, 7, 0] = 255
    prepared = prepare(batch, training=False)
    assert (prepared > 0.99).nonzero().tolist() == [[1, 0, 2, 20, 7]]


def test_saturation_leaves_grey_grey_and_contrast_leaves_the_mean(monkeypatch):
    monkeypatch.setattr("streams.rgb.NOISE", 0.0)
    torch.manual_seed(0)
    levels = torch.linspace(80, 170, 32).to(torch.uint8)  # no value leaves the range
    batch = levels[None, None, None, :, None].expand(6, 2, 32, 32, 3).contiguous()
    plain, prepared = (prepare(batch, training=training) for training in (False, True))
    torch.testing.assert_close(prepared[:, 0], prepared[:, 1], atol=1e-4, rtol=0)
    torch.testing.assert_close(prepared[:, 0], prepared[:, 2], atol=1e-4, rtol=0)
    change = prepared.mean(dim=(1, 2, 3, 4)) - plain.mean(dim=(1, 2, 3, 4))  # of the brightness alone
    assert change.abs().max() <= 0.3 and change.std() > 0.03
    contrast = (prepared - change[:, None, None, None, None]).std(dim=(1, 2, 3, 4)) / plain.std(dim=(1, 2, 3, 4))
    assert (contrast > 0.69).all() and (contrast < 1.31).all() and contrast.std() > 0.05


def test_colour_changes_alike_in_all_frames_and_pixels_of_a_clip_but_for_noise():
    torch.manual_seed(0)
    batch = torch.tensor([120, 100, 140], dtype=torch.uint8).expand(6, 4, 32, 32, 3)
    prepared = prepare(batch, training=True)
    means = prepared.mean(dim=(3, 4))  # (B, 3, T)
    deviation = prepared.std(dim=(3, 4))
    assert ((means - means.mean(dim=2, keepdim=True)).abs() < 0.01).all()  # 1,024 pixels of noise up to 0.04
    assert (deviation < 0.05).all()
    assert means.mean(dim=2).std(dim=0).min() > 0.02


def test_augmented_pictures_stay_within_range_and_near_the_originals():
    torch.manual_seed(0)
    batch = torch.randint(0, 256, (16, 2, 32, 32, 3), dtype=torch.uint8)
    prepared = prepare(batch, training=True)
    assert prepared.min() >= -1 and prepared.max() <= 1
    original = prepare(batch, training=False)
    for clip, other in zip(prepared, original, strict=True):
        assert torch.corrcoef(torch.stack([clip.flatten(), other.flatten()]))[0, 1] > 0.8


def test_a_still_clip_stays_still_in_the_towers_input():
    torch.manual_seed(0)
    picture = torch.randint(0, 256, (4, 1, 32, 32, 3), dtype=torch.uint8)
    prepared = prepare(picture.expand(-1, 6, -1, -1, -1).contiguous(), training=True)
    assert torch.equal(prepared, prepared[:, :, :1].expand_as(prepared))


@pytest.mark.parametrize(("height", "width"), [(40, 40), (64, 40), (40, 55)])
def test_the_towers_see_what_opencv_cuts_out_of_the_whole_frame(tmp_path, height, width):
    """The window that a clip travels as is no other than the frame itself."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (20, 5, 5, 3)).astype(np.uint8)
    pictures = np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse])
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", rgb=pictures)], short_side=40)
    frames = store.frames(store.videos[0], "rgb", [3, 5, 7, 9])
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, 32 / 35)
    matrix[:, 2] += (31 / 2 - (width - 1) / 2, 31 / 2 - (height - 1) / 2)
    expected = np.stack([cv2.warpAffine(frame.astype(np.float32), matrix, (32, 32)) for frame in frames])
    seen = as_towers_see("rgb", store, 3, CLIP).transpose(1, 2, 3, 0)
    np.testing.assert_allclose((seen + 1) * 127.5, expected, atol=2.5)  # OpenCV may round places to 1/32 of a pixel


def test_a_quarter_of_the_clips_lose_their_colours_and_a_quarter_have_them_in_another_order(monkeypatch):
    monkeypatch.setattr("streams.rgb._jitter", lambda rgb: rgb)
    torch.manual_seed(0)
    colours = torch.tensor([40, 100, 220], dtype=torch.uint8).expand(2000, 1, 8, 8, 3).contiguous()
    clips = {"frames": colours, "map": whole(8, 2000)}
    clip = replace(CLIP_OF_8, recolour=0.25)
    assert torch.equal(RGB.prepare(clips, clip, training=False), RGB.prepare(clips, CLIP_OF_8, training=True))
    seen = RGB.prepare(clips, clip, training=True)
    torch.testing.assert_close(seen, seen[..., :1, :1].expand_as(seen))  # alike in the whole clip
    levels = ((seen[:, :, 0, 0, 0] + 1) * 127.5).round().int()
    kinds = Counter(tuple(row) for row in levels.tolist())
    grey = round(0.299 * 40 + 0.587 * 100 + 0.114 * 220)
    assert set(kinds) == {(grey,) * 3, *permutations((40, 100, 220))}
    assert kinds[grey, grey, grey] == pytest.approx(500, abs=80)
    for order in permutations((40, 100, 220)):
        usual = order == (40, 100, 220)
        assert kinds[order] == pytest.approx(2000 * 0.75 * (0.25 / 6 + 0.75 * usual), abs=80 if usual else 35)
