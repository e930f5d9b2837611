"""Log-mel, held against librosa."""

import librosa
import numpy as np
import pytest

from preprocess.store.format import MEL_FLOOR, SILENCE, frame_count
from preprocess.video.log_mel import HOP, SAMPLE_RATE, LogMel, log_mel

HALF_ULP = 2.0**-8  # float16's rounding at magnitudes from 8 to 16, where log-mel lies


def oracle(samples: np.ndarray, bands: int) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=16_000,
        n_fft=1024,
        win_length=400,
        hop_length=160,
        pad_mode="constant",
        n_mels=bands,
        power=2.0,
    )
    return np.log(power.T + 1e-6)


def signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    sweep = np.sin(2 * np.pi * (100 * time + 1900 * time**2))
    impulse = np.zeros(SAMPLE_RATE)
    impulse[5000] = 1.0
    return {
        "noise": 0.1 * rng.normal(size=20_000),
        "sweep": 0.5 * sweep,
        "impulse": impulse,
        "full scale": np.sign(np.sin(2 * np.pi * 440 * time)),
        "quiet": 1e-4 * rng.normal(size=16_000),
    }


@pytest.mark.parametrize("bands", [40, 64, 128])
def test_log_mel_is_librosas(bands):
    for name, signal in signals().items():
        samples = signal.astype(np.float32)
        ours = log_mel(samples, bands=bands).astype(np.float64)
        expected = oracle(samples, bands)
        assert ours.shape == expected.shape == (1 + len(samples) // HOP, bands)
        np.testing.assert_allclose(ours, expected, atol=HALF_ULP + 2e-3, err_msg=name)


@pytest.mark.filterwarnings("ignore:n_fft=1024 is too large")
def test_a_sound_of_any_length_has_a_row_every_ten_milliseconds():
    for length in (0, 1, 159, 160, 161, 512, 513, 4000):
        samples = np.random.default_rng(length).normal(size=length).astype(np.float32)
        ours = log_mel(samples)
        assert ours.shape == (1 + length // 160, 64)
        assert ours.dtype == np.float16
        if length:
            np.testing.assert_allclose(ours, oracle(samples, 64), atol=HALF_ULP + 2e-3)


def test_chunks_of_any_size_give_what_the_whole_signal_gives():
    rng = np.random.default_rng(0)
    samples = (0.2 * rng.normal(size=30_000)).astype(np.float32)
    mel = LogMel()
    rows, at = [], 0
    while at < len(samples):
        size = int(rng.choice([1, 7, 160, 400, 1024, 5000]))
        rows.append(mel.push(samples[at : at + size]))
        at += size
    rows.append(mel.finish())
    np.testing.assert_allclose(np.concatenate(rows), log_mel(samples), atol=HALF_ULP)


def test_silence_is_the_floor_in_every_band():
    rows = log_mel(np.zeros(3200, np.float32))
    assert np.log(MEL_FLOOR) == SILENCE
    np.testing.assert_array_equal(rows, np.float16(SILENCE))


def test_a_click_is_loudest_in_the_row_of_its_own_time():
    for at in (3200, 8000, 15_000):
        samples = np.zeros(SAMPLE_RATE, np.float32)
        samples[at] = 1.0
        assert log_mel(samples).astype(np.float32).sum(axis=1).argmax() == round(at / HOP)


def test_a_tone_is_loudest_in_the_band_of_its_own_pitch():
    centres = librosa.mel_frequencies(n_mels=66, fmin=0, fmax=8000)[1:-1]
    for band in (5, 20, 40, 60):
        time = np.arange(8000) / SAMPLE_RATE
        rows = log_mel(np.sin(2 * np.pi * centres[band] * time).astype(np.float32))
        assert rows[25].argmax() == band


def test_there_are_as_many_rows_as_the_video_has_hundredths_of_a_second():
    for frames, fps in ((1, 25), (1000, 25), (7, 30), (90_000, 25)):
        assert frame_count(frames / fps) == round(100 * frames / fps)
        assert 1 + round(frames / fps * SAMPLE_RATE) // HOP >= frame_count(frames / fps)
