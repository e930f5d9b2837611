"""Flow is a velocity: the same motion gives the same flow, whatever the source's frame rate."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from preprocess.common.stopwatch import Stopwatch
from preprocess.store.codec import dequantise_flow
from preprocess.video.decoded import Frame
from preprocess.video.encoder import VideoEncoder
from preprocess.video.settings import PieceSettings
from tests.preprocess.video.test_piece import Kept, Piece
from tests.support.videos import write_video

FPS = 25
SETTINGS = PieceSettings(short_side=64)
RATES = [10, 12.5, 15, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60]
QUICK = (12.5, 25, Fraction(30000, 1001), 60)  # frames repeated, kept, left out at uneven places, and left out
SPEED = 2.0  # px in 1 / FPS s

Place = Callable[[float], float]  # second → pixels from the left


def steady(second: float) -> float:
    return SPEED * FPS * second


def faster(second: float) -> float:
    """From 1 px to 3 px a step within two seconds."""
    return FPS * (second + second**2 / 2)


def texture(shift: float, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A smooth texture moved to the right, exactly: plane waves, (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    waves = 0.0
    for _ in range(16):
        angle, length, phase = rng.uniform(0, 2 * np.pi), rng.uniform(14, 50), rng.uniform(0, 2 * np.pi)
        waves = waves + np.cos(2 * np.pi * ((x - shift) * np.cos(angle) + y * np.sin(angle)) / length + phase)
    return np.repeat((127 + 18 * waves).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def flow_of(path, place: Place, times: list[float], *, shown: list[float] | None = None, **how) -> np.ndarray:
    """(T - 1,) the median of the flow to the right at each step of a file whose pictures at `times` show `place`,
    or what `place` was at the times `shown`."""
    pictures = [texture(place(time)) for time in shown or times]
    piece = Piece(write_video(path, pictures, times=times, **how), settings=SETTINGS)
    flow = dequantise_flow(piece.frames("flow"))[:, 8:-8, 12:-12]
    assert np.abs(np.median(flow[..., 1], axis=(1, 2))).max() <= 0.2
    return np.median(flow[..., 0], axis=(1, 2))


@pytest.mark.parametrize(
    "rate",
    [pytest.param(rate, id=f"{float(rate):.4g}", marks=() if rate in QUICK else pytest.mark.slow) for rate in RATES],
)
def test_the_same_motion_gives_the_same_flow_at_every_rate(tmp_path, rate):
    times = [float(k / Fraction(rate)) for k in range(round(2 * rate))]
    found = flow_of(tmp_path / "steady.mp4", steady, times, fps=Fraction(rate))
    assert len(found) == pytest.approx(49, abs=1)
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)  # half a level of the store is 0.08 px

    found = flow_of(tmp_path / "faster.mp4", faster, times, fps=Fraction(rate))
    truth = 1 + (np.arange(len(found)) + 0.5) / FPS
    late = max(1 / FPS, float(1 / Fraction(rate)))  # s; the flow of two pictures holds for all steps between them
    assert (np.abs(found - truth) <= 0.05 * truth + 0.08 + late).all()


def test_irregular_times_make_no_irregular_flow(tmp_path):
    """As a phone in the dark, whose pictures last between 1/40 and 1/9 of a second."""
    times = [0.0, *np.random.default_rng(1).uniform(1 / 40, 1 / 9, 30).cumsum()]
    found = flow_of(tmp_path / "a.mp4", steady, times)
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)


@pytest.mark.parametrize("repeats", [2, 3])
def test_a_picture_that_is_coded_again_and_again_is_one_picture(tmp_path, repeats):
    """Within a file of 25 pictures a second, with a codec that alters each repetition a little."""
    times = [k / FPS for k in range(48)]
    found = flow_of(tmp_path / "a.mp4", steady, times, shown=[k // repeats * repeats / FPS for k in range(48)])
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)


@pytest.mark.parametrize(
    ("rate", "shown", "name"),
    [
        (24, 30, "a.mp4"),
        (24, 30, "a.mkv"),  # whose times are whole milliseconds
        (25, 30, "a.mp4"),
        (24, 60, "a.mp4"),
        (10, 25, "a.mp4"),
        (24, 25, "a.mp4"),  # one in a second: a cadence too long to be seen
    ],
)
def test_film_brought_to_another_rate_by_repeating_pictures_moves_evenly(tmp_path, rate, shown, name):
    """Pulldown: the times of a file are when its pictures are shown, not when they were filmed."""
    count = 2 * shown
    times = [k / shown for k in range(count)]
    found = flow_of(tmp_path / name, steady, times, fps=shown, shown=[k * rate // shown / rate for k in range(count)])
    assert len(found) == pytest.approx(49, abs=1)
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)


def test_a_camera_that_loses_every_fifth_picture_is_no_film_at_another_rate(tmp_path):
    """The repetitions are in turn as in pulldown, but the next picture is two displacements away."""
    times = [k / FPS for k in range(50)]
    found = flow_of(tmp_path / "a.mp4", steady, times, shown=[(k - (k % 5 == 4)) / FPS for k in range(50)])
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)


def test_pictures_that_a_camera_could_not_deliver_in_time_leave_no_zeros(tmp_path):
    lost = {5, 6, 17, 30, 31, 32}
    shown = [max(k for k in range(n + 1) if k not in lost) / FPS for n in range(50)]
    found = flow_of(tmp_path / "a.mp4", steady, [k / FPS for k in range(50)], shown=shown)
    np.testing.assert_allclose(found, SPEED, rtol=0.05, atol=0.08)


@pytest.mark.parametrize("rate", [12.5, 25, 30])
def test_a_stop_is_a_stop(tmp_path, rate):
    times = [float(k / Fraction(rate)) for k in range(round(2 * rate))]
    found = flow_of(tmp_path / "a.mp4", lambda second: steady(min(second, 0.8)), times, fps=Fraction(rate))
    np.testing.assert_allclose(found[:18], SPEED, rtol=0.05, atol=0.08)
    assert (np.abs(found[22:]) < 0.01).all()


def test_slides_and_stills_do_not_move(tmp_path):
    found = flow_of(tmp_path / "a.mp4", steady, [0.0, 0.5, 1.0, 2.0])
    assert (found == 0).all()


def test_pictures_without_times_of_their_own_follow_each_other_at_the_stores_rate():
    flow = {}
    for name, seconds in (("without", [None] * 6), ("with", [k / FPS for k in range(6)])):
        sinks = {stream: Kept() for stream in ("rgb", "flow", "mel")}
        encoder = VideoEncoder(SETTINGS, **sinks, watch=Stopwatch())
        for k, second in enumerate(seconds):
            encoder.push(Frame(texture(2 * k), 1, second))
        encoder.finish()
        flow[name] = sinks["flow"]
    assert len(flow["with"]) == 5
    assert all(map(np.array_equal, flow["with"], flow["without"]))
