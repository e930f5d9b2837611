"""Files of sound alone: speech and music, as videos without pictures."""

import h5py
import numpy as np
import pytest

from preprocess.check import check
from preprocess.common.errors import UserError
from preprocess.extract import extract
from preprocess.extraction.settings import ExtractSettings
from preprocess.show import draw
from preprocess.video.limits import Limits
from preprocess.video.log_mel import log_mel
from preprocess.video.settings import PieceSettings
from tests.support.videos import drift, sound, tone, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    samples = np.random.default_rng(0).uniform(-0.4, 0.4, 21_000).astype(np.float32)
    write_video(folder / "noise.mkv", [], track=sound(samples))
    write_video(folder / "silence.mkv", [], track=sound(np.zeros(16_000)))
    write_video(folder / "late.mkv", [], track=sound(tone(0.5), start=2.0))
    write_video(folder / "seen.mkv", drift(10), track=sound(tone(0.4)), codec="ffv1")
    return folder, samples


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    settings = PieceSettings(short_side=36, limits=Limits(sound_only=True))
    return extract(ExtractSettings(folder[0], tmp_path_factory.mktemp("store") / "out.h5", store=settings))


def test_its_log_mel_is_that_of_the_sound_and_it_has_no_pictures(folder, store):
    noise = store.find("noise.mkv")
    assert noise.streams == {"rgb": False, "flow": False, "audio": True}
    assert noise.why == {"rgb": "only sound", "flow": "only sound"}
    assert noise.seconds == pytest.approx(round(21_000 / 16_000 * 25) / 25)
    rows = round(noise.seconds * 100)
    np.testing.assert_allclose(store.mel(noise, 0, rows), log_mel(folder[1])[:rows], atol=0.02)
    with h5py.File(store.path) as file:
        assert set(file["videos"][noise.content]) == {"audio"}
    assert not list(check(store.path))


def test_it_begins_with_its_first_sample_and_silence_is_no_sound(store):
    assert store.find("late.mkv").seconds == pytest.approx(0.5, abs=0.05)
    assert store.find("silence.mkv").why["audio"] == "silent"


def test_a_video_is_as_without_the_option(folder, store, tmp_path):
    plain = extract(ExtractSettings(folder[0], tmp_path / "out.h5", store=PieceSettings(short_side=36)))
    assert [video.path for video in plain.videos] == ["seen.mkv"]
    assert all("--sound-only" in one.reason for one in plain.rejected) and len(plain.rejected) == 3
    one, other = plain.videos[0], store.find("seen.mkv")
    assert (one.frames, one.bytes, one.sound) == (other.frames, other.bytes, other.sound)


def test_a_picture_of_it_is_refused_with_the_reason(store, tmp_path):
    with pytest.raises(UserError, match=r"noise\.mkv has no rgb: only sound"):
        draw(store, store.find("noise.mkv"), tmp_path / "a.png")
