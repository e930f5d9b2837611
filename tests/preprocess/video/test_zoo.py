"""Real files that are rare. What is right of each was written down from the file itself: see the folder's README."""

import av
import numpy as np
import pytest

from preprocess.video.limits import Unusable
from tests.support.decoding import decode, open_decoder

ENCRYPTED = ("wmv_drm.wmv", "fairplay-head.m4v", "sample_fragmented_clearkey.mp4")
SECONDS = {
    "0000.mp4": 3.2,
    "bc7af0616c4ae99144c8600e7b39beea.gif": 10.3,
    "echo-hereweare-first8s.webm": 8.0,
    "hflip_isom-avc1.mp4": 1.0,
    "no_timescale.mp4": 6.04,
    "oneminute.avi": 56.6,
    "op-partial.mp4": 0.375,
    "sample-with-large-length.avi": 1.93,
    "sample_missing_stsd.mp4": 1.0,
    "sample_rotate_and_reflect.mp4": 1.0,
    "test_res_change.h264": 3.2,
    "version1.mp4": 1.0,
}


@pytest.fixture(scope="module")
def zoo(shared_data):
    """A function that decodes one of the files, once."""
    known = {}

    def find(name: str):
        if name not in known:
            known[name] = decode(shared_data(f"zoo/{name}"), short_side=64)
        return known[name]

    return find


def test_every_file_of_the_folder_has_an_expectation(shared_data):
    found = {path.name for path in shared_data("zoo").iterdir() if path.suffix not in (".md", ".csv")}
    assert found == {*SECONDS, *ENCRYPTED}


@pytest.mark.parametrize("name", SECONDS)
def test_a_file_is_as_long_as_its_pictures(zoo, name):
    decoder = zoo(name).decoder
    assert decoder.seconds == pytest.approx(SECONDS[name], abs=0.03)
    assert not decoder.truncated


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_file_is_rejected_as_such(shared_data, name):
    with pytest.raises(Unusable, match=r"^encrypted: "):
        list(open_decoder(shared_data(f"zoo/{name}")))


@pytest.mark.parametrize(
    ("name", "turn"),
    {
        "hflip_isom-avc1.mp4": np.fliplr,
        "sample_rotate_and_reflect.mp4": lambda raw: raw.swapaxes(0, 1),
    }.items(),
)
def test_the_picture_is_shown_as_its_matrix_says(zoo, shared_data, name, turn):
    with av.open(str(shared_data(f"zoo/{name}"))) as file:
        raw = next(file.decode(video=0))
    ours = zoo(name).frames[0].astype(float)
    height, width = ours.shape[:2] if name != "sample_rotate_and_reflect.mp4" else ours.shape[1::-1]
    expected = turn(raw.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray())
    assert np.abs(ours - expected).mean() < 2


def test_a_matrix_of_zeros_says_nothing(zoo):
    decoded = zoo("no_timescale.mp4")
    assert decoded.decoder.source["rotation"] == 0
    assert decoded.frames.shape[1:3] == (64, 85)


def test_sound_whose_timestamps_stray_and_come_back_is_whole(zoo, shared_data):
    """Against the decoder's own samples one behind the other, resampled by FFmpeg."""
    with av.open(str(shared_data("zoo/echo-hereweare-first8s.webm"))) as file:
        mixer = av.AudioResampler(format="flt", layout="stereo", rate=16_000)
        parts = []
        for frame in file.decode(audio=0):
            frame.pts = None
            parts += [out.to_ndarray().reshape(-1, 2).mean(axis=1) for out in mixer.resample(frame)]
    expected = np.concatenate(parts)
    ours = zoo("echo-hereweare-first8s.webm").samples
    begin = int(np.flatnonzero(ours)[0])
    lag = max(
        range(-400, 400), key=lambda k: float(ours[begin + 8000 : begin + 40_000] @ expected[8000 + k : 40_000 + k])
    )
    seconds = slice(begin + 8000, min(len(ours), begin + len(expected) - 500))
    theirs = expected[8000 + lag : 8000 + lag + seconds.stop - seconds.start]
    assert np.quantile(np.abs(ours[seconds][: len(theirs)] - theirs), 0.999) < 0.02  # peaks are clipped once or twice


def test_sound_behind_an_absurd_rate_is_heard_and_one_of_an_unknown_codec_is_called_so(zoo):
    loud = zoo("sample-with-large-length.avi")
    assert loud.decoder.audio_absent is None
    assert np.abs(loud.samples).max() == pytest.approx(0.023, abs=0.005)
    assert any("timestamps" in note for note in loud.decoder.notes)
    assert zoo("sample_missing_stsd.mp4").decoder.audio_absent == "unknown codec"
