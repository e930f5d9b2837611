"""python -m tasks.voice_features: what a voice sounds like, in numbers."""

import numpy as np
import pytest

from preprocess.extraction.given import read_samples
from preprocess.video.log_mel import SAMPLE_RATE
from tasks.probe import voice
from tasks.probe.voice import voice_features
from tasks.voice_features import VoiceSettings, main, voice_file
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.videos import drift, sound, tone, write_video


def spoken(hertz: np.ndarray, *, level: float = 0.3, tilt: float = 1.0) -> np.ndarray:
    """A voiced sound with this pitch at each sample, whose harmonics fall with `tilt`, in syllables of 0.2 s."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    waves = sum(np.sin(k * phase) / k**tilt for k in range(1, 12))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 5 * np.arange(len(hertz)) / SAMPLE_RATE)
    return (level * syllables * waves / np.abs(waves).max()).astype(np.float32)


def test_pitch_follows_a_voice_and_noise_has_none():
    hertz = np.linspace(110, 240, 2 * SAMPLE_RATE)
    found, periodic = voice._pitch(voice._power(spoken(hertz)))
    np.testing.assert_allclose(found[5:-5], hertz[::160][5:-4], rtol=0.01)
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    assert np.median(periodic) > 0.9 and np.median(voice._pitch(voice._power(noise))[1]) < voice.VOICED


def test_cepstra_are_the_cosine_transform_of_librosas_mel_bands():
    librosa = pytest.importorskip("librosa")
    power = voice._power(spoken(np.linspace(110, 240, SAMPLE_RATE)))
    shape = {"n_mels": voice.BANDS, "fmin": 20.0, "htk": True, "norm": None}
    mel = librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE, **shape)
    wanted = librosa.feature.mfcc(S=10 * np.log10(mel + voice.FLOOR), n_mfcc=voice.CEPSTRA + 1)[1:]
    np.testing.assert_allclose(voice._cepstra(power), wanted, atol=0.01)


def test_a_voice_is_told_by_its_pitch_and_its_timbre_and_not_by_the_distance_to_the_microphone():
    low, high = (np.full(2 * SAMPLE_RATE, hertz, float) for hertz in (120, 180))
    one = voice_features(spoken(low))
    assert {name: len(values) for name, values in one.items()} == {
        "prosody": 41,
        "timbre": 313,
        "quality": 45,
        "rhythm": 52,
    }
    assert all(np.isfinite(values).all() for values in one.values())
    raised = voice_features(spoken(high))["prosody"][0] - one["prosody"][0]  # semitones
    assert raised == pytest.approx(12 * np.log2(180 / 120), abs=0.3)
    sharp = voice_features(spoken(low, tilt=0.5))
    away = {name: np.abs(sharp[name] - one[name]).max() for name in one}
    far = voice_features(spoken(low, level=0.03))
    for name, values in one.items():
        np.testing.assert_allclose(far[name], values, atol=0.05 * max(1.0, away[name]), rtol=0.02)
    assert away["timbre"] > 3  # decibels


def test_every_file_that_can_be_used_has_a_row_with_its_speaker(tmp_path, capsys):
    for name in ("03/a.mkv", "08/b.mkv", "08/mute.mkv"):
        (tmp_path / "speech" / name).parent.mkdir(parents=True, exist_ok=True)
        track = None if "mute" in name else sound(spoken(np.full(SAMPLE_RATE, 150.0)))
        write_video(tmp_path / "speech" / name, drift(25), track=track, codec="ffv1")
    (tmp_path / "speech" / "08" / "no.wav").write_text("no sound")
    assert voice_file(VoiceSettings(tmp_path / "speech", tmp_path / "v.npz", speaker="^([^/]+)/")) == 1
    said = capsys.readouterr().err
    assert "mute.mkv" in said and "no.wav" in said
    samples = read_samples(tmp_path / "v.npz", names="name", group="speaker")
    assert [(one.name, one.group) for one in samples] == [("03/a", "03"), ("08/b", "08")]
    wanted = voice_features(spoken(np.full(SAMPLE_RATE, 150.0)))
    np.testing.assert_allclose(samples[0].streams["prosody"][0], wanted["prosody"], atol=0.3)


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    for folder, heard in (("voice", tone(0.5)), ("quiet", np.zeros(8000, np.float32))):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "a.mkv", drift(12), track=sound(heard), codec="ffv1")
    wrong = {"none": [], "voice": ["--speaker", "^[0-9]+"], "quiet": []}
    for folder, options in wrong.items():
        result = run_here(monkeypatch, capsys, tmp_path / folder, tmp_path / "v.npz", *options, main=main)
        result.stderr = result.stderr.strip().splitlines()[-1]  # after the files that were passed over
        assert_one_line_error(result, *options[:1], folder if not options else "a")
        assert not list(tmp_path.glob("v.npz*"))
