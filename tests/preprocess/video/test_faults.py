"""Made files of many faults: the numbers burnt into their pictures and the clicks in their sound say what is right."""

from itertools import pairwise

import av
import cv2
import numpy as np
import pytest

from tests.support.decoding import decode

CLICK = 0.006  # s; how exactly a click's time can be read: a lossy codec smears it


@pytest.fixture
def fault(shared_data):
    """A function that decodes one of the files."""
    return lambda name, **settings: decode(shared_data(f"faults/{name}"), **{"short_side": 128} | settings)


def numbers(frames: np.ndarray) -> list[int]:
    """(T, H, W, 3) → the 12 bits in each picture, row by row from the top; the lowest quarter says nothing."""
    height, width = frames.shape[1] // 4, frames.shape[2] // 4
    inner = frames.mean(axis=3)[:, : 3 * height, : 4 * width].reshape(-1, 3, height, 4, width)
    inner = inner[:, :, height // 4 : -(height // 4), :, width // 4 : -(width // 4)]
    bits = inner.mean(axis=(2, 4)).reshape(-1, 12) > 128
    return [int("".join("01"[bit] for bit in row), 2) for row in bits.tolist()]


def clicks(samples: np.ndarray) -> list[float]:
    """The times of the clicks."""
    loud = np.flatnonzero(np.abs(samples) > 0.5 * np.abs(samples).max())
    return [loud[0] / 16_000, *(now / 16_000 for before, now in pairwise(loud) if now - before > 1600)]


def motions(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) → (T-1, 2): how far the whole picture moves, x then y, by OpenCV."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in frames]
    window = cv2.createHanningWindow(grey[0].shape[::-1], cv2.CV_32F)
    return np.array([cv2.phaseCorrelate(one, two, window)[0] for one, two in pairwise(grey)])


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "order_h264_b.avi": range(75),
        "order_xvid_packed.avi": range(60),
        "order_no_cts.flv": range(25, 75),  # nothing before the first key frame can be decoded
        "fps50.mp4": range(0, 150, 2),
        "fps60.mp4": [int(slot * 2.4 + 0.5) for slot in range(75)],
        "restart.ts": range(100),
        "clock_ahead_100s.ts": range(100),
        "two_programs.ts": range(1000, 1075),
        "first_sound_at_zero.flv": range(50),
        "last_slides.mp4": np.repeat([1, 2, 3], [100, 100, 300]),
        "silent_first.mp4": range(75),
    }.items(),
)
def test_every_frame_is_the_picture_of_its_time(fault, name, expected):
    assert numbers(fault(name).frames) == list(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "jitter_30ms.mkv": [1, 2, 3, 4, 5],
        "two_programs.ts": [0.5, 1.5, 2.5],
        "first_sound_at_zero.flv": [1],
        "last_slides.mp4": [2, 6, 10, 14, 18],
        "silent_first.mp4": [0.5, 1.5, 2.5],
    }.items(),
)
def test_every_click_sounds_at_its_time(fault, name, expected):
    decoded = fault(name)
    assert decoded.decoder.audio_absent is None
    assert clicks(decoded.samples) == pytest.approx(expected, abs=CLICK)
    assert len(decoded.samples) == round(decoded.decoder.seconds * 16_000)


@pytest.mark.parametrize("name", ["restart.ts", "clock_ahead_100s.ts"])
def test_a_clock_that_begins_anew_or_jumps_goes_on_and_the_report_says_so(fault, name):
    decoded = fault(name)
    assert clicks(decoded.samples) == pytest.approx([1, 3], abs=0.02)  # to within a packet of sound
    assert decoded.decoder.seconds == 4.0
    assert any("joined" in note for note in decoded.decoder.notes)


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "order_pan_flow.avi": (2, 0),
        "fps50_pan.mp4": (4, 0),
        "mirror_hflip.mp4": (-3, 1),
        "mirror_vflip.mp4": (3, -1),
    }.items(),
)
def test_the_picture_moves_as_it_was_made_to(fault, name, expected):
    found = motions(fault(name).frames)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=0.25)


def test_a_steady_tone_with_jittering_timestamps_has_no_holes(fault):
    samples = fault("jitter_30ms.mkv").samples
    level = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1)
    assert level.min() > 0.5 * np.median(level)


def test_the_last_picture_stays_and_its_sound_is_heard(fault):
    decoded = fault("last_still_music.mp4")
    assert decoded.decoder.seconds == 20.0
    assert decoded.decoder.audio_absent is None
    assert clicks(decoded.samples) == pytest.approx([2, 6, 10, 14, 18], abs=CLICK)


def test_a_still_of_eleven_minutes_is_one(fault):
    decoded = fault("still11min.mkv", short_side=32)
    assert decoded.decoder.seconds == pytest.approx(661.04, abs=0.021)
    assert np.ptp(decoded.frames[100:16_400:100].astype(int), axis=0).max() == 0


def test_stereo_in_opposite_phase_is_heard(fault):
    decoded = fault("inverted.mkv")
    assert decoded.decoder.audio_absent is None
    assert np.abs(decoded.samples[: 16_000 * 3]).max() > 0.05
    assert decoded.decoder.notes


def test_the_second_sound_track_is_taken_where_the_first_is_silent(fault):
    assert any("track 2 of 2" in note for note in fault("silent_first.mp4").decoder.notes)


def test_interlaced_pictures_have_no_comb(fault):
    frames = fault("interlaced.mp4", short_side=240).frames.mean(axis=3)
    edges = []
    for frame in frames:
        bar = frame > (frame.min() + frame.max()) / 2
        rows = bar[20:-20]
        left = rows.argmax(axis=1)[rows.any(axis=1)]
        assert np.ptp(left) <= 2  # the bar's edge is straight: a comb is 5 px wide
        edges.append(left.mean())
    assert np.diff(edges) == pytest.approx(10, abs=1.5)  # two fields a frame


def test_hdr_greys_are_those_of_an_sdr_screen_whose_white_is_203_nits(fault):
    """BT.1886 up to graphics white (BT.2408); brighter ones are white."""
    frame = fault("hdr_pq.mp4", short_side=90).frames[0]
    nits = np.array([0, 1, 5, 20, 50, 100, 203, 1000])
    columns = frame.shape[1] // 8
    greys = [frame[40:50, k * columns + columns // 3 : (k + 1) * columns - columns // 3].mean() for k in range(8)]
    np.testing.assert_allclose(greys, 255 * np.minimum(nits / 203, 1) ** (1 / 2.4), atol=4)


@pytest.mark.parametrize("name", ["reschange.ts", "sarchange.ts"])
def test_a_disc_stays_round_when_the_size_or_the_aspect_changes(fault, name):
    decoded = fault(name, short_side=240)
    sizes = {frame.shape for frame in decoded.frames}
    assert len(sizes) == 1
    for frame in decoded.frames:
        grey = frame.mean(axis=2)
        inner = grey > 128
        height, width = (np.ptp(np.flatnonzero(inner.any(axis=axis))) for axis in (1, 0))
        assert width / height == pytest.approx(1, abs=0.05)
    assert any("shape" in note for note in decoded.decoder.notes)


def test_outside_of_the_clean_aperture_nothing_is_kept(fault):
    decoded = fault("clap.mp4")
    assert decoded.frames.shape[1:3] == (128, 128)
    red = decoded.frames[..., 0].astype(int) - decoded.frames[..., 1]
    assert (red > 100).mean() < 0.01


def test_hd_without_a_tag_is_bt_709(fault, shared_data):
    with av.open(str(shared_data("faults/untagged_hd709.mp4"))) as file:
        planes = next(file.decode(video=0)).to_ndarray(format="yuv420p").astype(float)
    luma, chroma = planes[:720], planes[720:].reshape(2, 360, 640)
    y, u, v = (cv2.resize(plane, (228, 128), interpolation=cv2.INTER_AREA) for plane in (luma, *chroma))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    rgb = 255 * np.stack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u], axis=2).clip(0, 1)  # BT.709
    difference = np.abs(fault("untagged_hd709.mp4").frames[0] - rgb)
    assert np.median(difference, axis=(0, 1)) == pytest.approx(0, abs=2.5)
