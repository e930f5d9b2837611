"""Clips of sound."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from preprocess.store.format import MEL_RATE, SILENCE
from streams.audio import GAIN, KNOTS, MASKS, SPREAD
from streams.clip import ClipSettings
from streams.registry import STREAMS
from tests.support.reading import read
from tests.support.stores import BANDS, FPS, Spec, make_store

AUDIO = STREAMS["audio"]
CLIP = ClipSettings(frames=16, stride=2, audio_seconds=2.56)


def click_store(tmp_path, *, frames: int, at: float, **spec):
    """A silent video with one loud row of log-mel `at` seconds."""
    mel = np.full((frames * 4, BANDS), SILENCE)
    mel[round(at * MEL_RATE)] = 3.0
    return make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=frames, mel=mel, **spec)])


def mel_of(store, start: int) -> np.ndarray:
    return read("audio", store, start, CLIP)["mel"]


def prepare(mel: torch.Tensor, *, training: bool, clip: ClipSettings = CLIP) -> torch.Tensor:
    return AUDIO.prepare({"mel": mel}, clip, training=training)


def added(bands: int, **settings: float) -> torch.Tensor:
    """(400, bands, 50): what training adds to clips, in nepers of power, without gain and masks."""
    torch.manual_seed(0)
    mel, clip = torch.randn(400, bands, 50), replace(CLIP, spec_mask=0.0, **settings)
    change = (prepare(mel, training=True, clip=clip) - prepare(mel, training=False, clip=clip)) * SPREAD
    return change - change.mean(dim=(1, 2), keepdim=True)


def click_column(clip: np.ndarray) -> int:
    (columns,) = np.nonzero(clip[0] > 0)
    assert len(columns) == 1
    return int(columns[0])


@pytest.mark.parametrize("start", [40, 77])
def test_the_window_has_the_same_middle_as_the_pictures(tmp_path, start):
    middle = (start + CLIP.span / 2) / FPS  # seconds
    store = click_store(tmp_path, frames=250, at=middle)
    clip = mel_of(store, start)
    assert clip.shape == (BANDS, 256) and clip.dtype == np.float32
    assert click_column(clip) == 128


@pytest.mark.parametrize("at", [1.2, 2.34])
def test_a_click_lands_at_its_own_time(tmp_path, at):
    store = click_store(tmp_path, frames=250, at=at)
    start = 45
    clip = mel_of(store, start)
    first = (start + CLIP.span / 2) / FPS - CLIP.audio_seconds / 2
    assert click_column(clip) == round((at - first) * MEL_RATE)


def test_at_the_start_and_the_end_the_window_stays_inside_the_video(tmp_path):
    store = click_store(tmp_path, frames=250, at=0.5)
    assert click_column(mel_of(store, 0)) == 50
    other = tmp_path / "end"
    other.mkdir()
    store = click_store(other, frames=250, at=9.5)
    assert click_column(mel_of(store, 250 - CLIP.span)) == 256 - 50


@pytest.mark.parametrize("frames", [1, 30, 63])
def test_a_shorter_video_stands_in_the_middle_of_silence(tmp_path, frames):
    mel = np.full((frames * 4, BANDS), 2.0)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=frames, mel=mel, streams=("rgb", "audio"))])
    clip = mel_of(store, 0)
    heard = np.nonzero(clip[0] > 0)[0]
    assert len(heard) == frames * 4 and (np.diff(heard) == 1).all()
    assert abs(heard[0] - (255 - heard[-1])) <= 1
    np.testing.assert_allclose(np.delete(clip, heard, axis=1), SILENCE, rtol=1e-3)


@pytest.mark.parametrize("frames", [1, 30, 63])
def test_a_shorter_video_can_repeat_instead_with_its_middle_where_it_was(tmp_path, frames):
    total = frames * 4
    rows = np.random.default_rng(0).normal(-5, 2, (total, BANDS)).astype(np.float16)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=frames, mel=rows, streams=("rgb", "audio"))])
    repeated = read("audio", store, 0, replace(CLIP, repeat_sound=True))["mel"]
    np.testing.assert_array_equal(repeated[:, total:], repeated[:, :-total])
    begin = (256 - total) // 2
    np.testing.assert_array_equal(repeated[:, begin : begin + total], rows.T.astype(np.float32))
    np.testing.assert_array_equal(mel_of(store, 0)[:, begin : begin + total], rows.T.astype(np.float32))


def test_the_whole_video_is_heard_where_it_is_as_long_as_the_window(tmp_path):
    rows = np.random.default_rng(0).normal(-5, 2, (256, BANDS)).astype(np.float16)
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=64, mel=rows)])
    np.testing.assert_array_equal(mel_of(store, 20), rows.T.astype(np.float32))


@pytest.mark.parametrize(
    ("covered", "there"),
    [
        ((0.0, 10.0), True),
        ((0.0, 3.0), False),  # ended before the window of 3.52 s to 6.08 s
        ((6.1, 10.0), False),  # begins after it
        ((0.0, 4.0), True),
        ((6.0, 10.0), True),
    ],
)
def test_sound_is_absent_where_the_track_covers_nothing_of_the_window(tmp_path, covered, there):
    store = make_store(tmp_path / "s.h5", [Spec("v.mp4", frames=250, covered=covered)])
    assert (read("audio", store, 104, CLIP) is not None) == there


def test_everyday_sound_has_about_zero_mean_and_unit_variance():
    mel = torch.from_numpy(np.random.default_rng(0).normal(-6, 4, (4, BANDS, 256)).astype(np.float32))
    prepared = prepare(mel, training=False)
    assert prepared.mean().abs() < 0.05 and (prepared.std() - 1).abs() < 0.05
    assert (prepare(mel + 1, training=False) > prepared).all()


def test_training_makes_a_clip_louder_or_quieter_as_a_whole_and_hides_stretches():
    torch.manual_seed(0)
    mel = torch.randn(64, BANDS, 100)
    plain = prepare(mel, training=False)
    drawn = prepare(mel, training=True)
    hidden = drawn == 0
    gain = torch.where(hidden, torch.nan, drawn - plain).flatten(1).nanmedian(dim=1).values
    torch.testing.assert_close(drawn, torch.where(hidden, 0.0, plain + gain[:, None, None]))
    assert gain.abs().max() <= GAIN / SPREAD + 1e-6 and gain.std() > 0.3 * GAIN / SPREAD
    # what is hidden is whole rows and whole columns, no more of them than the longest masks make
    columns, bands = hidden.all(dim=1), hidden.all(dim=2)
    assert torch.equal(hidden, columns[:, None, :] | bands[:, :, None])
    assert columns.sum(dim=1).max() <= MASKS * (CLIP.spec_mask * 100 + 1)
    assert bands.sum(dim=1).max() <= MASKS * (CLIP.spec_mask * BANDS + 1)
    assert 0.1 < hidden.float().mean() < 0.5


@pytest.mark.parametrize("dim", [1, 2])
def test_each_end_of_a_clip_is_hidden_now_and_then(dim):
    torch.manual_seed(0)
    hidden = (prepare(torch.randn(400, BANDS, 40), training=True) == 0).all(dim=3 - dim)
    assert hidden[:, 0].any() and hidden[:, -1].any()


def test_a_longer_mask_hides_more_and_none_hides_nothing():
    torch.manual_seed(0)
    mel = torch.randn(200, BANDS, 50)
    shares = [
        (prepare(mel, training=True, clip=replace(CLIP, spec_mask=longest)) == 0).float().mean()
        for longest in (0.0, 0.1, 0.5)
    ]
    assert shares[0] == 0 and 0.1 < shares[1] < 0.25 and 0.55 < shares[2] < 0.75


def test_a_tilted_clip_passes_its_bands_along_a_random_line_all_the_time():
    step = 8  # bands from one knot to the next
    tilt = added(step * (KNOTS - 1) + 1, spec_tilt=1.5)
    torch.testing.assert_close(tilt, tilt[:, :, :1].expand_as(tilt), rtol=0, atol=1e-5)
    line = tilt[:, :, 0].numpy()
    knots = line[:, ::step]
    even = np.stack([np.interp(np.arange(line.shape[1]), np.arange(KNOTS) * step, one) for one in knots])
    np.testing.assert_allclose(line, even, atol=1e-5)
    # a gain is taken away with the mean, which leaves what differs from knot to knot
    apart = np.diff(knots)[:, ::2]
    assert apart.std() == pytest.approx(1.5 * 2**0.5, rel=0.05)
    assert kstest(apart.ravel(), "norm", (0, 1.5 * 2**0.5)).pvalue > 0.01


def test_the_noise_of_a_clip_is_as_strong_as_promised_or_weaker_and_new_at_every_place():
    noise = added(40, spec_noise=2.0)
    strength = noise.std(dim=(1, 2))
    assert kstest(strength / 2.0, "uniform").pvalue > 0.01
    white = (noise / strength[:, None, None]).numpy()
    assert abs((white[:, 1:] * white[:, :-1]).mean()) < 0.01 and abs((white[:, :, 1:] * white[:, :, :-1]).mean()) < 0.01


def test_without_tilt_and_noise_nothing_but_the_gain_is_added():
    assert added(BANDS).abs().max() < 1e-5


def test_a_clip_that_is_judged_is_neither_masked_nor_tilted_nor_noisy():
    mel = torch.randn(4, BANDS, 50)
    much = replace(CLIP, spec_mask=0.9, spec_tilt=1.6, spec_noise=2.0)
    torch.testing.assert_close(prepare(mel, training=False, clip=much), prepare(mel, training=False), rtol=0, atol=0)
