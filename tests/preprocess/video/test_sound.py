"""Decoded audio of any format becomes one unbroken mono signal at 16 kHz; SciPy and librosa are the oracles."""

import tracemalloc
from fractions import Fraction
from math import gcd

import av
import librosa
import numpy as np
import pytest
from scipy.signal import resample_poly

from preprocess.video.sound import MonoTrack
from tests.support.cases import case
from tests.support.videos import tone

LAYOUTS = {"mono": 1, "stereo": 2, "5.1": 6}


def audio_frame(samples: np.ndarray, *, rate: int, time: float | None, layout: str = "mono", form: str = "fltp"):
    """samples: (C, N) float → a frame as a decoder gives it."""
    kinds = {"fltp": (np.float32, 1), "s16p": (np.int16, 32767), "flt": (np.float32, 1), "s16": (np.int16, 32767)}
    kind, full = kinds[form]
    array = (np.atleast_2d(samples) * full).astype(kind)
    if not form.endswith("p"):
        array = array.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), format=form, layout=layout)
    frame.sample_rate = rate
    frame.time_base = Fraction(1, 1_000_000)
    frame.pts = None if time is None else round(time * 1_000_000)
    return frame


def listen(frames) -> tuple[np.ndarray, MonoTrack]:
    """All that a track gives for these frames."""
    mono = MonoTrack()
    out = []
    for frame in frames:
        out += mono.push(frame)
    out += mono.finish()
    parts = [np.zeros(part, np.float32) if isinstance(part, int) else part for part in (0, *out)]
    return np.concatenate(parts), mono


def in_packets(samples: np.ndarray, *, rate: int, start: float = 0.0, size: int = 1024, **settings):
    samples = np.atleast_2d(samples)
    for begin in range(0, samples.shape[1], size):
        yield audio_frame(samples[:, begin : begin + size], rate=rate, time=start + begin / rate, **settings)


def band_limited(rate: int, seconds: float = 1.5) -> np.ndarray:
    """Tones that every rate can carry, so that resamplers differ only in their flaws."""
    return sum(tone(seconds, rate=rate, frequency=f, level=0.15) for f in (180, 523, 1200, 2900))


def test_resampling_is_scipys():
    for rate in (8000, 11_025, 44_100, 48_000, 96_000):
        with case(rate):
            samples = band_limited(rate)
            ours, _ = listen(in_packets(samples, rate=rate))
            common = gcd(rate, 16_000)
            expected = resample_poly(samples.astype(np.float64), 16_000 // common, rate // common)
            assert abs(len(ours) - len(samples) * 16_000 / rate) <= 1
            inner = slice(400, len(expected) - 400)  # the ends differ: each filter starts from its own idea of before
            np.testing.assert_allclose(ours[: len(expected)][inner], expected[inner], atol=0.01)


def test_sound_at_16_khz_passes_unchanged():
    samples = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    np.testing.assert_allclose(listen(in_packets(samples, rate=16_000))[0], samples, atol=1e-6)


def test_every_sample_format_sounds_alike():
    for layout in LAYOUTS:
        with case(layout):
            samples = np.stack([tone(0.5, frequency=300 + 200 * c, level=0.1) for c in range(LAYOUTS[layout])])
            expected, _ = listen(in_packets(samples, rate=16_000, layout=layout))
            for form in ("flt", "s16", "s16p"):
                ours, _ = listen(in_packets(samples, rate=16_000, form=form, layout=layout))
                np.testing.assert_allclose(ours, expected, atol=3e-4)


def test_stereo_becomes_the_mean_of_its_channels():
    samples = np.stack([tone(0.5, frequency=440, level=0.6), tone(0.5, frequency=700, level=0.3)])
    ours, _ = listen(in_packets(samples, rate=16_000, layout="stereo"))
    np.testing.assert_allclose(ours, librosa.to_mono(samples), atol=1e-5)


def test_mixing_never_leaves_full_scale():
    for layout in ("stereo", "5.1"):
        with case(layout):
            loud = np.stack([tone(0.5, level=0.99)] * LAYOUTS[layout])
            ours, _ = listen(in_packets(loud, rate=16_000, layout=layout))
            assert 0.4 < np.abs(ours).max() <= 1.0


def test_every_full_channel_of_surround_sound_is_heard():
    for channel in (0, 1, 2, 4, 5):
        samples = np.zeros((6, 8000), np.float32)
        samples[channel] = tone(0.5)
        ours, _ = listen(in_packets(samples, rate=16_000, layout="5.1"))
        assert np.abs(ours).max() > 0.02


def test_a_gap_between_timestamps_becomes_silence_of_its_length():
    for rate, gap in ((16_000, 0.1), (44_100, 1.7)):
        with case((rate, gap)):
            before, after = tone(0.5, rate=rate), tone(0.5, rate=rate)
            frames = [*in_packets(before, rate=rate), *in_packets(after, rate=rate, start=0.5 + gap)]
            ours, _ = listen(frames)
            assert len(ours) == pytest.approx((1 + gap) * 16_000, abs=2)
            loud = np.flatnonzero(np.abs(ours) > 0.05)
            middle = ours[round(0.51 * 16_000) : round((0.49 + gap) * 16_000)]
            assert np.abs(middle).max() < 0.01
            assert (loud[0] / 16_000, loud[-1] / 16_000) == pytest.approx((0.0, 1 + gap), abs=0.002)


def test_an_overlap_is_cut_so_that_later_sound_keeps_its_time():
    first, second = np.full(8000, 0.25, np.float32), np.full(8000, -0.5, np.float32)
    frames = [audio_frame(first, rate=16_000, time=0.0), audio_frame(second, rate=16_000, time=0.3)]
    ours, _ = listen(frames)
    assert len(ours) == round(0.8 * 16_000)
    np.testing.assert_allclose(ours[:8000], 0.25, atol=1e-6)
    np.testing.assert_allclose(ours[8000:], -0.5, atol=1e-6)


def test_a_packet_that_repeats_earlier_time_wholly_is_passed_over():
    signal = tone(1.0)
    frames = list(in_packets(signal, rate=16_000))
    frames.insert(8, audio_frame(np.full(1024, 0.9, np.float32), rate=16_000, time=0.1))
    np.testing.assert_allclose(listen(frames)[0], signal, atol=1e-6)


def test_jitter_of_a_few_milliseconds_changes_nothing():
    signal = tone(2.0)
    rng = np.random.default_rng(0)
    frames = [
        audio_frame(signal[b : b + 1024], rate=16_000, time=b / 16_000 + (rng.uniform(-0.009, 0.009) if b else 0.0))
        for b in range(0, len(signal), 1024)
    ]
    np.testing.assert_allclose(listen(frames)[0], signal, atol=1e-6)


def test_a_slow_drift_of_timestamps_is_followed():
    """A recorder whose clock runs slow: each packet of 64 ms is stamped 66 ms after the one before."""
    frames = [audio_frame(np.full(1024, 0.5, np.float32), rate=16_000, time=0.066 * k) for k in range(100)]
    ours, _ = listen(frames)
    assert len(ours) / 16_000 == pytest.approx(6.6, abs=0.025)


def test_frames_without_timestamps_follow_one_another():
    signal = tone(1.0)
    frames = [audio_frame(signal[b : b + 1000], rate=16_000, time=None) for b in range(0, 16_000, 1000)]
    ours, mono = listen(frames)
    np.testing.assert_allclose(ours, signal, atol=1e-6)
    assert mono.start == 0.0


def test_the_start_is_the_first_timestamp():
    for start in (-0.023, 0.0, 1.5):
        assert listen(in_packets(tone(0.2), rate=16_000, start=start))[1].start == pytest.approx(start, abs=1e-6)


def test_a_broken_timestamp_far_ahead_changes_nothing():
    signal = tone(3.0)
    frames = list(in_packets(signal, rate=16_000, size=1000))
    frames[5] = audio_frame(signal[5000:6000], rate=16_000, time=90_000.0)
    np.testing.assert_allclose(listen(frames)[0], signal, atol=1e-6)


def test_timestamps_that_stray_and_come_back_change_nothing():
    for jitter in (0.03, 0.05):
        with case(jitter):
            signal = tone(6.0, rate=48_000)
            rng = np.random.default_rng(0)
            frames = [
                audio_frame(
                    signal[b : b + 960], rate=48_000, time=b / 48_000 + (rng.uniform(-jitter, jitter) if b else 0.0)
                )
                for b in range(0, len(signal), 960)
            ]
            ours, _ = listen(frames)
            expected, _ = listen(in_packets(signal, rate=48_000, size=960))
            np.testing.assert_array_equal(ours, expected)


def test_a_gap_is_found_among_timestamps_that_stray():
    signal = tone(6.0)
    rng = np.random.default_rng(1)
    frames = [
        audio_frame(signal[b : b + 320], rate=16_000, time=b / 16_000 + (b >= 48_000) * 0.7 + rng.uniform(-0.03, 0.03))
        for b in range(0, len(signal), 320)
    ]
    ours, _ = listen(frames)
    assert len(ours) / 16_000 == pytest.approx(6.7, abs=0.06)
    quiet = np.flatnonzero(np.abs(ours) < 0.01)
    silence = max(np.split(quiet, np.flatnonzero(np.diff(quiet) > 40) + 1), key=len)
    assert (silence[0] / 16_000, silence[-1] / 16_000) == pytest.approx((3.0, 3.7), abs=0.06)


def test_timestamps_at_an_absurd_rate_are_ignored():
    """Each packet of 64 ms is stamped 0.6 ms after the one before, as by a header that gives a wrong rate."""
    signal = tone(3.0)
    frames = [audio_frame(signal[b : b + 1024], rate=16_000, time=b / 1.6e6) for b in range(0, len(signal), 1024)]
    ours, mono = listen(frames)
    np.testing.assert_allclose(ours, signal, atol=1e-6)
    assert any("timestamps" in note for note in mono.notes)


def test_of_channels_in_opposite_phase_one_is_heard():
    for gain in (1.0, 0.95):
        with case(gain):
            left = tone(2.0)
            left[:8000] = 0
            ours, mono = listen(in_packets(np.stack([left, -gain * left]), rate=16_000, layout="stereo"))
            np.testing.assert_allclose(ours, left, atol=1e-5)
            assert mono.notes


def test_ordinary_stereo_is_never_taken_for_opposite_phase():
    rng = np.random.default_rng(0)
    wide = rng.uniform(-0.5, 0.5, (2, 16_000)).astype(np.float32)  # independent channels
    faint = 0.004 * np.stack([wide[0], -wide[0]])  # as codecs make of silence
    for samples in (wide, faint, np.stack([wide[0], np.zeros(16_000)])):
        ours, mono = listen(in_packets(samples, rate=16_000, layout="stereo"))
        np.testing.assert_allclose(ours, samples.mean(axis=0), atol=1e-6)
        assert not mono.notes


def test_a_broadcast_may_change_its_layout_and_rate_midway():
    stereo = np.stack([tone(0.5, rate=48_000, frequency=400)] * 2)
    surround = np.zeros((6, 22_050), np.float32)
    surround[2] = tone(0.5, rate=44_100, frequency=400)
    frames = [
        *in_packets(stereo, rate=48_000, layout="stereo"),
        *in_packets(surround, rate=44_100, start=0.5, layout="5.1"),
    ]
    ours, _ = listen(frames)
    assert len(ours) == pytest.approx(16_000, abs=3)
    for half in (ours[1000:7000], ours[9000:15_000]):
        spectrum = np.abs(np.fft.rfft(half * np.hanning(len(half))))
        assert spectrum.argmax() * 16_000 / len(half) == pytest.approx(400, abs=3)


def test_samples_that_are_no_numbers_do_not_spread():
    """Float PCM can hold anything; one bad sample must not cost the video its sound."""
    samples = tone(1.0)
    samples[[3000, 5000, 7000]] = np.nan, np.inf, -np.inf
    ours, _ = listen(in_packets(samples, rate=16_000))
    assert np.isfinite(ours).all()
    assert np.abs(ours).max() <= 1.0


def test_no_sound_at_all_gives_nothing():
    ours, mono = listen([])
    assert len(ours) == 0
    assert mono.start is None


def test_every_channel_of_many_is_heard():
    """PyAV reads beyond the end of a frame that has more than seven channels in planes."""
    for channels in (7, 8, 24):
        with case(channels):
            samples = np.zeros((channels, 8000), np.float32)
            samples[-1] = tone(0.5, level=0.9)
            layout = {7: "6.1", 8: "7.1"}.get(channels, f"{channels} channels")
            for form in ("fltp", "s16") if channels <= 7 else ("s16",):
                ours, _ = listen([audio_frame(samples, rate=16_000, time=0.0, layout=layout, form=form)])
                np.testing.assert_allclose(ours, samples[-1] / channels, atol=1e-4)


def test_the_silence_of_a_long_gap_is_what_the_resampler_would_have_made_of_it():
    for rate, gap in ((8000, 61.3), (44_100, 2.5), (48_000, 61.3)):
        with case((rate, gap)):
            before, after = tone(0.5, rate=rate), tone(0.5, rate=rate, frequency=700)
            whole = np.concatenate([before, np.zeros(round(gap * rate), np.float32), after])
            expected, _ = listen(in_packets(whole, rate=rate))
            ours, _ = listen([*in_packets(before, rate=rate), *in_packets(after, rate=rate, start=0.5 + gap)])
            np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_a_gap_of_hours_at_the_highest_rate_takes_no_memory():
    """As samples it would be 55 GB."""
    rate = 768_000
    frames = [audio_frame(np.zeros(8192), rate=rate, time=time) for time in (0.0, 18_000.0)]
    mono = MonoTrack()
    tracemalloc.start()
    try:
        parts = [part for frame in frames for part in mono.push(frame)] + [*mono.finish()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    made = sum(part if isinstance(part, int) else len(part) for part in parts)
    assert made == pytest.approx(18_000 * 16_000, abs=500)
    assert peak < 30_000_000
