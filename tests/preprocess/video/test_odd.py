"""Real files of many containers, codecs and faults. What is expected of each was written down from the file itself:
its frames counted and their times read with PyAV, frame by frame, whatever its header says."""

from dataclasses import dataclass

import av
import cv2
import numpy as np
import pytest

from preprocess.video.decoder import Unusable
from tests.support.decoding import decode, open_decoder


@dataclass(frozen=True)
class Used:
    """What is true of a file that can be used."""

    seconds: float  # from its first frame to the end of its last
    width: int  # of the frames with their pixels square, upright and the shorter side 32 pixels
    height: int
    sound: float | str  # seconds within the pictures' time, or why there is none
    rotation: int = 0


USED = {
    "01_avi_mpeg4_mp3_ucf.avi": Used(5.24, 43, 32, 5.2),  # 131 frames at 25 fps
    "03_mp4_h264_aac_vggsound.mp4": Used(10.0, 43, 32, 10.0),  # 300 frames at 30 fps
    "05_webm_vp8_vorbis.webm": Used(30.0, 57, 32, 30.0),  # 720 frames at 24 fps, no duration in the header
    "07_mp4_phone_rot90.mp4": Used(1.3, 32, 57, "silent", -90),  # 39 frames of 33 ms; the track is all zeros
    "09_canon_mjpeg_pcm.AVI": Used(2.6, 43, 32, 2.6),  # 78 frames at 30 fps
    "11_mts_interlaced_ac3.mts": Used(0.52, 57, 32, 0.52),  # 13 frames, the first at 1.04 s; sound from there too
    "15_vfr_rot180_aac.mp4": Used(2.38, 57, 32, 2.38, -180),  # 25 frames, 80 to 100 ms apart
    "17_hevc_aac.mp4": Used(10.0, 57, 32, 10.0),
    "19_hdr10_pq_rot.mkv": Used(0.4, 32, 56, "no audio track", -90),  # 10 frames at 25 fps, no track, an attachment
    "21_hevc10_noaudio.mp4": Used(1.0, 32, 32, "no audio track"),  # 30 frames at 30 fps
    "23_corrupted.mp4": Used(5.0, 57, 32, "no audio track"),  # 49 of 50 frames at 10 fps can be decoded
    "31_flv_named_mp4_truncated.mp4": Used(11.68, 57, 32, 11.65),  # 350 frames, some out of order
    "35_h264_aac51.mp4": Used(5.28, 57, 32, 5.28),
    "37_kinetics_noaudio.mp4": Used(10.0, 53, 32, "no audio track"),  # 340×256, pixels 64:51
    "39_h264_yuv444_mp3_16k.mp4": Used(14.0, 57, 32, "silent"),  # 280 frames at 20 fps; the track is all zeros
    "41_sar_2x1.mp4": Used(5.0, 114, 32, "no audio track"),  # 640×360, pixels twice as wide as high
    "43_prores4444_alpha_1frame.mp4": Used(0.04, 57, 32, "silent"),  # one frame; the track is all zeros
    "45_edit_list.mp4": Used(9.0, 57, 32, 9.0),  # without its edit list it would start at 0.08 s
}
UNUSABLE = {
    "13_audio_only_ac3.mp4": "no video",
    "25_no_streams.mp4": "no video",
    "27_chunk_out_of_range.mp4": "corrupt",
    "29_truncated_231s_header.mp4": "corrupt",  # the header promises 231 s, the file ends before the first
    "33_audio_with_cover_art.mp4": "no video",
}
BLACK = {"43_prores4444_alpha_1frame.mp4", "45_edit_list.mp4"}
DAMAGED = {"23_corrupted.mp4": 1, "31_flv_named_mp4_truncated.mp4": 1}


@pytest.fixture(scope="module")
def odd(shared_data):
    """A function that decodes one of the files, once."""
    known = {}

    def find(name: str):
        if name not in known:
            known[name] = decode(shared_data(f"odd/{name}"))
        return known[name]

    return find


def test_every_file_of_the_folder_has_an_expectation(shared_data):
    assert {path.name for path in shared_data("odd").iterdir()} == {*USED, *UNUSABLE}


LONG = ("05_webm_vp8_vorbis.webm", "17_hevc_aac.mp4", "39_h264_yuv444_mp3_16k.mp4")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in USED])
def test_a_usable_file_is_as_long_as_its_frames_say_upright_and_heard_and_its_damage_is_counted(odd, name):
    decoded, expected = odd(name), USED[name]
    decoder = decoded.decoder
    assert decoder.seconds == pytest.approx(expected.seconds, abs=0.021)  # half a frame
    assert len(decoded.frames) == round(decoder.seconds * 25)
    assert decoded.frames.shape[1:] == (expected.height, expected.width, 3)
    assert decoder.source["rotation"] == expected.rotation
    if isinstance(expected.sound, str):
        assert decoder.audio_absent == expected.sound
        assert np.abs(decoded.samples).max(initial=0.0) == 0.0
    else:
        assert decoder.audio_absent is None
        assert decoder.sound.covered == (pytest.approx(0, abs=0.01), pytest.approx(expected.sound, abs=0.06))
        assert len(decoded.samples) == round(decoder.seconds * 16_000)
        assert np.isfinite(decoded.samples).all()
        assert 0.005 < np.abs(decoded.samples).max() <= 1.5
    assert decoder.errors == DAMAGED.get(name, 0)
    assert name in BLACK or decoded.frames.std() > 5
    assert decoder.truncated == (name == "31_flv_named_mp4_truncated.mp4")
    if decoder.truncated:
        assert decoder.expected == pytest.approx(210.2, abs=0.1)  # its header's duration


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_file_says_truly_why(shared_data, name):
    with pytest.raises(Unusable, match=f"^{UNUSABLE[name]}: "):
        list(open_decoder(shared_data(f"odd/{name}")))


@pytest.mark.parametrize("name", ["07_mp4_phone_rot90.mp4", "15_vfr_rot180_aac.mp4", "19_hdr10_pq_rot.mkv"])
def test_a_turned_real_video_is_shown_as_a_player_shows_it(odd, shared_data, name):
    """Against the raw picture, turned by the angle in the file: counterclockwise, as FFmpeg defines it.

    The last one is mirrored as well (its header says yaw 180 and roll 90), and its HDR is mapped to SDR.
    """
    with av.open(str(shared_data(f"odd/{name}"))) as file:
        frame = next(file.decode(video=0))
        raw = frame.to_ndarray(format="rgb24")
    turned = np.rot90(raw, (USED[name].rotation // 90) % 4)
    turned = np.fliplr(turned) if name.startswith("19") else turned
    expected = cv2.resize(turned, (USED[name].width, USED[name].height), interpolation=cv2.INTER_AREA).astype(float)
    ours = odd(name).frames[0].astype(float)
    if name.startswith("19"):
        likeness = [np.corrcoef(ours.ravel(), other.ravel())[0, 1] for other in (expected, np.fliplr(expected))]
        assert likeness[0] > 0.9 > likeness[1] + 0.2
        return
    assert np.abs(ours - expected).mean() < 4
    assert np.abs(np.rot90(ours, 2) - expected).mean() > 2 * np.abs(ours - expected).mean()
