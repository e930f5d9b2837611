"""The short film: cut exact to the frame, with its sound in step."""

import av
import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.summary.film import write_film, write_pictures
from tests.support.videos import Sound, grey, tone, write_video

SIZE = (64, 96)
EVERY = 0.4  # seconds from one flash, and click, to the next
KEPT = [(1.1, 2.3), (4.0, 5.04), (7.3, 9.06)]


def clicks(seconds: float, *, channels: int) -> np.ndarray:
    """5 ms of a loud tone every EVERY seconds, (C, N)."""
    samples, burst = np.zeros(round(seconds * 16_000), np.float32), tone(0.005, frequency=2000, level=0.9)
    for k in range(int(seconds / EVERY)):
        begin = round(k * EVERY * 16_000)
        samples[begin : begin + len(burst)] = burst
    return np.tile(samples, (channels, 1))


def flashes_and_clicks(path, *, fps: int, shift: float = 0.0, layout: str = "mono", **settings):
    """Ten seconds of flashes and clicks at the same times; the sound track begins `shift` seconds late."""
    bright = {round(k * EVERY * fps) for k in range(int(10 / EVERY))}
    pictures = [grey(230 if k in bright else 20, SIZE) for k in range(10 * fps)]
    track = clicks(10, channels=2 if layout == "stereo" else 1)[:, round(shift * 16_000) :]
    sound = Sound([(shift, track)], layout=layout, codec="aac" if path.suffix == ".mp4" else "pcm_s16le")
    return write_video(path, pictures, fps=fps, track=sound, **settings)


def seen_and_heard(path) -> tuple[list[float], list[float], int]:
    """The times of flashes and of clicks as a player shows them, and the number of pictures."""
    flashes, samples, count = [], [], 0
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            count += 1
            if frame.to_ndarray(format="gray").mean() > 120:
                flashes.append(frame.time)
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return flashes, [], count
        rate = file.streams.audio[0].rate
        for frame in file.decode(audio=0):
            begin = round(frame.time * rate)
            samples += [np.zeros(max(0, begin - sum(map(len, samples)))), frame.to_ndarray()[0]]
    loud = np.flatnonzero(np.abs(np.concatenate(samples)) > 0.2) / rate
    return flashes, [time for k, time in enumerate(loud) if not k or time - loud[k - 1] > 0.1], count


def expected(fps: int) -> tuple[list[float], int]:
    """The times in the film at which flashes of the kept spans come, and its number of pictures."""
    found, before = [], 0
    for begin, end in KEPT:
        first, last = round(begin * fps), round(end * fps)
        flashes = [round(k * EVERY * fps) for k in range(int(10 / EVERY))]
        found += [(before + flash - first) / fps for flash in flashes if first <= flash < last]
        before += last - first
    return found, before


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {"fps": 25}),
        ("b.mp4", {"fps": 30, "layout": "stereo", "b_frames": 2}),
        ("c.mkv", {"fps": 50, "shift": 1.5}),
    ],
)
def test_flashes_and_clicks_of_every_piece_stay_in_step(tmp_path, name, settings):
    video = flashes_and_clicks(tmp_path / name, **settings)
    length = write_film(tmp_path / "short.mp4", video, KEPT)
    flashes, heard, count = seen_and_heard(tmp_path / "short.mp4")
    wanted, pictures = expected(settings["fps"])
    assert count == pictures and length == pytest.approx(pictures / settings["fps"])
    assert np.allclose(flashes, wanted, atol=0.5 / settings["fps"]), "cut at other frames"
    silent = [k for k, time in enumerate(wanted) if settings.get("shift") and time < 1.5 - KEPT[0][0] - 0.01]
    assert len(heard) == len(wanted) - len(silent)
    apart = np.abs(np.array(heard) - np.array(wanted[len(silent) :]))
    assert apart.max() <= 0.02, f"sound is {1000 * apart.max():.0f} ms beside the pictures"


def test_a_film_has_the_size_of_its_source_also_of_odd_sizes_and_without_sound(tmp_path):
    pictures = [grey(20 + k, (37, 51)) for k in range(50)]
    video = write_video(tmp_path / "odd.mkv", pictures, codec="ffv1")
    write_film(tmp_path / "short.mp4", video, [(0.4, 1.0)])
    with av.open(str(tmp_path / "short.mp4")) as film:
        assert not film.streams.audio
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in film.decode(video=0)]
        assert (film.streams.video[0].height, film.streams.video[0].width) == (36, 50)
    assert np.allclose(levels, np.arange(30, 45), atol=2)


def test_pictures_are_those_of_their_moments(tmp_path):
    pictures = [grey(20 + 4 * k, SIZE) for k in range(50)]
    video = write_video(tmp_path / "v.mkv", pictures, codec="ffv1")
    write_pictures(tmp_path, video, [1.5, 0.22], names=["late.jpg", "early.jpg"])
    import cv2

    levels = {name: cv2.imread(str(tmp_path / name)).mean() for name in ("late.jpg", "early.jpg")}
    assert levels["late.jpg"] == pytest.approx(20 + 4 * 37, abs=2)
    assert levels["early.jpg"] == pytest.approx(20 + 4 * 5, abs=2)


def test_what_cannot_be_filmed_is_one_line_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    short = write_video(tmp_path / "v.mkv", [grey(90)] * 10, codec="ffv1")
    for file, kept in ((tmp_path / "bad.mp4", KEPT), (short, [(4.0, 5.0)]), (short, [])):
        with pytest.raises(UserError, match=file.name) as caught:
            write_film(tmp_path / "short.mp4", file, kept)
        assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"bad.mp4", "v.mkv"}


@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_colours_stay_as_players_see_them(tmp_path, size):
    colour = np.array([200, 60, 40])
    pictures = [np.broadcast_to(colour, (*size, 3)).astype(np.uint8)] * 10
    video = write_video(tmp_path / "v.mkv", pictures, codec="ffv1")
    write_film(tmp_path / "short.mp4", video, [(0.0, 0.4)])
    with av.open(str(tmp_path / "short.mp4")) as film:
        frame = next(film.decode(video=0))
        guess = "ITU709" if size[0] > 576 else "ITU601"
        shown = frame.reformat(format="rgb24", src_colorspace=guess).to_ndarray()
    assert np.abs(shown.reshape(-1, 3).mean(axis=0) - colour).max() < 6
