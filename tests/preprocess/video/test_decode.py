"""One pass over a file of any container: pictures and sound on one clock, upright and in proportion."""

import os

import av
import cv2
import numpy as np
import pytest

from preprocess.common.stopwatch import Stopwatch
from preprocess.video.decoder import Decoder
from tests.support.decoding import decode
from tests.support.videos import Sound, click, drift, flash, grey, sound, tone, write_video


def loud_at(samples: np.ndarray) -> float:
    """When the first loud sample sounds, in seconds."""
    return int(np.flatnonzero(np.abs(samples) > 0.1)[0]) / 16_000


@pytest.mark.parametrize(("fps", "count", "expected"), [(10, 8, 20), (50, 20, 10), (30, 30, 25), (25, 9, 9)])
def test_any_rate_comes_out_at_25_frames_a_second(tmp_path, fps, count, expected):
    decoded = decode(write_video(tmp_path / "a.mp4", [grey(50)] * count, fps=fps))
    assert len(decoded.frames) == expected
    assert decoded.decoder.seconds == pytest.approx(expected / 25)


def test_another_output_rate_is_kept_too(tmp_path):
    pictures = [grey(10 + 8 * k) for k in range(30)]
    decoded = decode(write_video(tmp_path / "a.mp4", pictures, fps=30), fps=10)
    assert len(decoded.frames) == 10
    np.testing.assert_allclose((decoded.levels - 10) / 8 / 30, np.arange(10) / 10, atol=0.06)


def test_variable_frame_rate_shows_each_picture_at_its_time(tmp_path):
    times = [0.0, 0.04, 0.12, 0.36, 0.4, 0.72]
    levels = [20, 60, 100, 140, 180, 220]
    decoded = decode(write_video(tmp_path / "a.mp4", [grey(level) for level in levels], times=times))
    onsets = [int(np.flatnonzero(np.abs(decoded.levels - level) < 6)[0]) for level in levels]
    assert onsets == [round(25 * time) for time in times]


@pytest.mark.parametrize("codec", ["libx264", "mjpeg", "ffv1"])
def test_pictures_come_out_in_the_order_of_their_timestamps(tmp_path, codec):
    order = [0, 2, 1, 3, 4, 6, 5, 7, 9, 8]
    pictures = [grey(20 + 20 * k) for k in order]
    container = "a.mkv"
    decoded = decode(write_video(tmp_path / container, pictures, times=[k / 25 for k in order], codec=codec))
    np.testing.assert_allclose(decoded.levels, 20 + 20 * np.arange(10), atol=3)


@pytest.mark.parametrize("suffix", ["mjpeg", "h264", "avi"])
def test_a_container_without_timestamps_plays_at_its_rate(tmp_path, suffix):
    codec = "libx264" if suffix == "h264" else "mjpeg"
    decoded = decode(write_video(tmp_path / f"a.{suffix}", [grey(20 * k) for k in range(10)], codec=codec))
    np.testing.assert_allclose(decoded.levels, 20 * np.arange(10), atol=3)


@pytest.mark.parametrize(
    ("first", "name", "codec", "rate"),
    [(0.0, "a.mp4", "aac", 44_100), (0.5, "a.mkv", "pcm_s16le", 44_100), (3600.2, "a.ts", "aac", 16_000)],
)
def test_a_flash_and_a_click_at_one_container_time_meet_at_one_clock_time(tmp_path, first, name, codec, rate):
    times = [first + k / 25 for k in range(15)]
    track = sound(click(0.6, 8 / 25, rate=rate), start=first, rate=rate, codec=codec)
    decoded = decode(write_video(tmp_path / name, flash(15, 8), times=times, track=track))
    assert decoded.levels.argmax() == 8
    assert loud_at(decoded.samples) == pytest.approx(8 / 25, abs=0.003)
    assert len(decoded.frames) == 15
    assert len(decoded.samples) == round(15 / 25 * 16_000)


def test_sound_that_starts_after_the_pictures_is_preceded_by_silence(tmp_path):
    track = sound(tone(0.4), start=0.3)
    decoded = decode(write_video(tmp_path / "a.mkv", flash(20, 3), track=track))
    assert loud_at(decoded.samples) == pytest.approx(0.3, abs=0.003)
    assert decoded.decoder.sound.covered == pytest.approx((0.3, 0.7), abs=0.002)
    assert len(decoded.samples) == round(0.8 * 16_000)


@pytest.mark.parametrize("seconds", [0.2, 3.0])
def test_sound_as_short_or_long_as_it_likes_ends_with_the_pictures(tmp_path, seconds):
    decoded = decode(write_video(tmp_path / "a.mkv", flash(20, 3), track=sound(tone(seconds))))
    assert len(decoded.samples) == round(0.8 * 16_000)
    assert decoded.decoder.sound.covered == pytest.approx((0, min(seconds, 0.8)), abs=0.002)
    assert np.abs(decoded.samples[round(seconds * 16_000) :]).max(initial=0) == 0


@pytest.mark.parametrize(("layout", "channels", "rate"), [("mono", 1, 8000), ("stereo", 2, 48_000), ("5.1", 6, 8000)])
def test_sound_of_any_layout_and_rate_keeps_its_length_and_pitch(tmp_path, layout, channels, rate):
    samples = np.stack([tone(0.8, rate=rate, level=0.1)] * channels)
    track = sound(samples, rate=rate, layout=layout)
    decoded = decode(write_video(tmp_path / "a.mkv", flash(20, 3), track=track))
    assert len(decoded.samples) == 12_800
    spectrum = np.abs(np.fft.rfft(decoded.samples))
    assert spectrum.argmax() * 16_000 / 12_800 == pytest.approx(440, abs=2)


def test_a_gap_in_the_sound_keeps_what_follows_in_step_with_the_pictures(tmp_path):
    track = Sound([(0.0, tone(0.2)), (0.6, tone(0.2))])
    samples = decode(write_video(tmp_path / "a.mkv", flash(20, 3), track=track)).samples
    assert np.abs(samples[round(0.22 * 16_000) : round(0.58 * 16_000)]).max() < 0.01
    assert 0.6 + loud_at(samples[round(0.6 * 16_000) :]) == pytest.approx(0.6, abs=0.003)


@pytest.mark.parametrize(("level", "why"), [(0.0, "silent"), (4 / 32768, None)])
def test_only_a_track_of_nothing_but_zeros_is_silent(tmp_path, level, why):
    track = sound(tone(0.4, level=level))
    decoded = decode(write_video(tmp_path / "a.mkv", flash(10, 3), track=track))
    assert decoded.decoder.audio_absent == why


def test_sound_that_ends_before_the_pictures_begin_is_absent(tmp_path):
    times = [2 + k / 25 for k in range(10)]
    decoded = decode(write_video(tmp_path / "a.mkv", flash(10, 3), times=times, track=sound(tone(1.0))))
    assert decoded.decoder.audio_absent == "not while there are pictures"


def quarter_picture() -> np.ndarray:
    """The upper left quarter is bright, the upper right one half bright."""
    picture = grey(20, (48, 64))
    picture[:24, :32] = 230
    picture[:24, 32:] = 120
    return picture


@pytest.mark.parametrize(("name", "degrees"), [("a.mp4", 90), ("a.mp4", 180), ("a.mp4", 270), ("a.mkv", 90)])
def test_a_rotated_video_stands_upright(tmp_path, degrees, name):
    upright = quarter_picture()
    lying = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
    decoded = decode(write_video(tmp_path / name, [lying] * 3, rotation=degrees), short_side=24)
    assert decoded.frames.shape[1:] == (24, 32, 3)
    expected = upright[::2, ::2].astype(int)
    assert np.abs(decoded.frames[0].astype(int) - expected).mean() < 4


@pytest.mark.parametrize(("aspect", "shape"), [(1, (32, 43)), (2, (32, 85)), ("1/2", (48, 32)), ("64/45", (32, 61))])
def test_pixels_that_are_not_square_are_made_square(tmp_path, aspect, shape):
    decoded = decode(write_video(tmp_path / "a.mp4", drift(3), pixel_aspect=aspect))
    assert decoded.frames.shape[1:3] == shape


def test_rotation_turns_pixels_that_are_not_square_along(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(3), pixel_aspect=2, rotation=90)
    assert decode(path).frames.shape[1:3] == (85, 32)


@pytest.mark.parametrize("size", [(48, 36), (144, 176), (16, 20)])
def test_the_short_side_is_as_asked_for_and_the_aspect_is_kept(tmp_path, size):
    shape = decode(write_video(tmp_path / "a.mp4", drift(2, size=size))).frames.shape[1:3]
    assert min(shape) == 32
    assert shape[1] / shape[0] == pytest.approx(size[1] / size[0], abs=0.03)


def test_making_a_picture_smaller_averages_as_opencv_does(tmp_path):
    picture = drift(1, size=(128, 192), seed=3)[0]
    ours = decode(write_video(tmp_path / "a.mkv", [picture] * 2, codec="ffv1")).frames[0]
    expected = cv2.resize(picture, (48, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(ours.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv420p"), ("libx264", "yuv444p"), ("mjpeg", "yuvj420p")])
def test_a_grey_level_is_kept_whatever_range_the_file_codes_it_in(tmp_path, codec, pixels):
    levels = [0, 30, 128, 220, 255]
    path = write_video(tmp_path / "a.mkv", [grey(level) for level in levels], codec=codec, pixels=pixels)
    np.testing.assert_allclose(decode(path).levels, levels, atol=3)


def test_the_frames_are_red_green_blue(tmp_path):
    picture = grey(0)
    picture[...] = (220, 60, 20)
    mean = decode(write_video(tmp_path / "a.mp4", [picture] * 3)).frames.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, (220, 60, 20), atol=5)


def test_a_cut_file_gives_what_came_before_the_cut(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(20), codec="ffv1", track=sound(tone(0.8)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    decoded = decode(path)
    assert 5 <= len(decoded.frames) < 20
    assert len(decoded.samples) == len(decoded.frames) * 640


def test_damaged_packets_are_counted_and_what_is_whole_survives(tmp_path):
    path = write_video(tmp_path / "a.mp4", [grey(20 + 8 * k) for k in range(20)], codec="mjpeg")
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in places[7:10]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    decoded = decode(path)
    assert decoded.decoder.errors == 3
    held = [20 + 8 * (6 if k in (7, 8, 9) else k) for k in range(20)]  # the last whole picture stays
    np.testing.assert_allclose(decoded.levels, held, atol=3)


def test_a_file_may_be_called_anything(tmp_path, monkeypatch):
    content = write_video(tmp_path / "plain.mp4", flash(5, 2)).read_bytes()
    monkeypatch.chdir(tmp_path)
    names = ["10:30 clip.mp4", "file:odd.mp4", "100%d %s.mp4", "a\nb.mp4", "-x.mp4", os.fsdecode(b"caf\xe9.mp4")]
    for name in [*names, "caf\u00e9 \u7535\u5f71.mp4"]:
        (tmp_path / name).write_bytes(content)
        for path in (str(tmp_path / name), name):
            assert len(decode(path).frames) == 5


def test_after_every_packet_it_is_told_how_far_decoding_is(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(20), track=sound(tone(0.8), codec="aac"))
    with av.open(str(path)) as file:
        packets = sum(1 for _ in file.demux())
    told: list[float] = []
    decoder = Decoder(str(path), fps=25, short_side=32, watch=Stopwatch(), heartbeat=told.append)
    list(decoder)
    assert len(told) == packets
    assert told == sorted(told)
    assert 0.5 < told[-1] <= decoder.seconds


def test_packets_that_give_nothing_are_told_of_too(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(20), codec="mjpeg")
    with av.open(str(path)) as file:
        places = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in places[1:]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    told: list[float] = []
    list(Decoder(str(path), fps=25, short_side=32, watch=Stopwatch(), heartbeat=told.append))
    assert len(told) >= 20
