"""The three-bit videos: each bit is plain to its own stream and hidden from the two others."""

import csv
import json
from collections import Counter
from itertools import product

import cv2
import librosa
import numpy as np
import pytest
from scipy.stats import ks_2samp

from preprocess.common.errors import UserError
from preprocess.flow import tvl1
from preprocess.synth import (
    BITS,
    FACING,
    MARGIN,
    MOMENT,
    OTHER,
    SIZE,
    TASKS,
    SynthSettings,
    mono,
    picture_sequence,
    synthesise,
)
from tests.support.commands import assert_one_line_error, run
from tests.support.decoding import decode


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two videos a class, as the command line makes them."""
    folder = tmp_path_factory.mktemp("synth") / "videos"
    result = run("preprocess.synth", folder, "--train", 8, "--test", 8, "--seconds", 0.4, 0.6)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def decoded(made):
    """Label → decoded videos."""
    with open(made / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["label"]: [] for row in rows}
    for row in rows:
        found[row["label"]].append(decode(made / row["path"], short_side=SIZE))
    return found


def pictures(hue: str, direction: str, seed: int, frames: int = 12) -> np.ndarray:
    return picture_sequence((hue, hue), direction, frames, np.random.default_rng(seed))


def luma(frames: np.ndarray) -> np.ndarray:
    return frames[:, :SIZE].astype(float)


def test_there_are_as_many_videos_of_each_class_in_each_split(made):
    with open(made / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    counts = Counter((row["label"], row["split"]) for row in rows)
    labels = {"-".join(bits) for bits in product(*BITS.values())}
    assert counts == dict.fromkeys(product(labels, ("train", "test")), 1)
    assert all((made / row["path"]).is_file() for row in rows)
    assert json.loads((made / "ceilings.json").read_text()) == TASKS["three-bits"].ceilings


def test_the_ceilings_double_with_every_stream():
    expected = {"rgb": 0.25, "flow": 0.25, "audio": 0.25, "rgb+flow": 0.5, "rgb+audio": 0.5, "flow+audio": 0.5}
    assert TASKS["three-bits"].ceilings == expected | {"rgb+flow+audio": 1.0}


def test_every_video_has_pictures_and_sound_of_one_length(decoded):
    for clip in (clip for clips in decoded.values() for clip in clips):
        assert clip.frames.shape[1:] == (SIZE, SIZE, 3)
        assert 10 <= len(clip.frames) <= 15
        assert clip.decoder.audio_absent is None
        assert clip.decoder.sound.covered[1] >= clip.decoder.seconds - 0.01


def test_the_hue_leaves_no_trace_in_the_luma():
    for direction, seed in product(BITS["flow"], range(4)):
        orange, blue = (pictures(hue, direction, seed) for hue in BITS["rgb"])
        np.testing.assert_array_equal(luma(orange), luma(blue))
        assert (orange[:, SIZE:] != blue[:, SIZE:]).any()


def test_the_hue_leaves_no_trace_in_the_grey_frames_that_flow_is_computed_on(decoded):
    """After H.264 and the way to RGB and back to grey the patch is as bright in either hue."""
    patches = {hue: [] for hue in BITS["rgb"]}
    for label, clips in decoded.items():
        for clip in clips:
            coloured = np.ptp(clip.frames.mean(axis=0), axis=2) > 50
            assert 200 < coloured.sum() < 1000
            grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames])
            patches[label.split("-")[0]].append(
                grey[:, cv2.erode(coloured.astype(np.uint8), np.ones((5, 5))) > 0].mean()
            )
    orange, blue = (np.array(patches[hue]) for hue in BITS["rgb"])
    assert abs(orange.mean() - blue.mean()) < 1.5
    assert max(orange.std(), blue.std()) < 1.5


def test_one_frame_tells_the_hue(decoded):
    for label, clips in decoded.items():
        for clip in clips:
            red, _, blue = clip.frames[0].astype(float).mean(axis=(0, 1))
            assert (red > blue) == label.startswith("orange")


def test_frames_two_apart_are_alike_for_both_directions():
    """Up by half a period is down by half a period: but for noise, every second frame of both is the same."""
    noise = 2 * 4 * np.sqrt(2)  # twice the largest standard deviation of a difference
    for seed in range(4):
        up, down = (luma(pictures("orange", direction, seed)) for direction in BITS["flow"])
        assert np.abs(up[::2] - down[::2]).mean() < noise
        assert np.abs(up[1::2] - down[1::2]).mean() > 10


def test_even_steps_in_time_do_not_tell_the_direction():
    """The mean over videos of each frame's product with the one two before, shifted up and down, is symmetric."""
    difference = {2: [], 1: []}
    for stride, seed in product(difference, range(40)):
        frames = luma(pictures("orange", BITS["flow"][seed % 2], seed))
        frames -= frames.mean(axis=(1, 2), keepdims=True)
        now, later = frames[:-stride], frames[stride:]
        up = (now[:, 2:] * later[:, :-2]).mean() - (now[:, :-2] * later[:, 2:]).mean()
        difference[stride].append(up / (frames**2).mean() * (1 if seed % 2 == 0 else -1))
    two, one = np.array(difference[2]), np.array(difference[1])
    assert (one > 0.3).all()  # neighbours tell it every time: the measure measures
    assert np.abs(two).max() < 0.1


def vertical_flow(clip, engine: str) -> float:
    """The median over the grating of the first flow steps, in pixels a frame; down is positive."""
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames[:3]])
    grating = np.ptp(clip.frames.mean(axis=0), axis=2) < 50
    return float(np.median(tvl1(grey, engine=engine)[:, grating, 1]))


@pytest.mark.slow
def test_the_sign_of_opencvs_vertical_flow_tells_the_direction(decoded):
    for label, clips in decoded.items():
        speed = vertical_flow(clips[0], "opencv")
        assert speed > 0.5 if label.split("-")[1] == "down" else speed < -0.5, label


def test_the_flow_that_is_stored_takes_the_grating_for_no_other_that_drifts_a_period_further(decoded):
    """It drifts a quarter of 8 to 14 pixels a frame; a period further would be 6 pixels or more."""
    for label, clips in decoded.items():
        sign = 1 if label.split("-")[1] == "down" else -1
        for clip in clips:
            assert 1.0 < sign * vertical_flow(clip, "auto") < 5.0, label


def test_both_vowels_are_equally_loud_and_differ_in_timbre():
    loudness = {vowel: [] for vowel in BITS["audio"]}
    centroid = {vowel: [] for vowel in BITS["audio"]}
    for vowel, seed in product(loudness, range(30)):
        samples = mono(vowel, 1.0, np.random.default_rng(seed))
        assert np.abs(samples).max() <= 1.0
        loudness[vowel].append(20 * np.log10(np.sqrt(np.mean(samples**2))))
        centroid[vowel].append(librosa.feature.spectral_centroid(y=samples, sr=16_000).mean())
    ah, ee = (np.array(loudness[vowel]) for vowel in BITS["audio"])
    np.testing.assert_allclose(ah, ee, atol=0.1)  # decibels, for one seed
    assert ah.std() > 2  # loudness itself is random
    assert np.mean(np.array(centroid["ee"]) > np.array(centroid["ah"])) == 1.0


def test_the_pitch_does_not_tell_the_vowel():
    voices = {vowel: [mono(vowel, 1.0, np.random.default_rng(seed)) for seed in range(6)] for vowel in BITS["audio"]}
    pitches = {
        vowel: np.array([np.median(librosa.yin(samples, fmin=90, fmax=300, sr=16_000)) for samples in clips])
        for vowel, clips in voices.items()
    }
    np.testing.assert_allclose(pitches["ah"], pitches["ee"], rtol=0.05)
    assert np.ptp(pitches["ah"]) > 30


def test_a_seed_makes_the_same_videos_again_and_another_makes_others(made, tmp_path):
    settings = {"train": 8, "test": 0, "seconds": (0.4, 0.6)}
    synthesise(SynthSettings(tmp_path / "same", seed=0, **settings))
    synthesise(SynthSettings(tmp_path / "other", seed=1, **settings))
    for path in sorted((tmp_path / "same").rglob("*.mp4")):
        name = path.relative_to(tmp_path / "same")
        assert path.read_bytes() == (made / name).read_bytes()
        assert path.read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_a_patch_that_faces_the_other_way_and_stripes_that_drift_the_other_way_are_each_known_to_one_stream():
    for seed in range(4):
        clips = {
            key: picture_sequence(FACING[key[0]], key[1], 12, np.random.default_rng(seed))
            for key in product(FACING, OTHER)
        }
        for direction in OTHER:
            one, other = clips["left", direction], clips["right", direction]
            np.testing.assert_array_equal(luma(one), luma(other))  # flow cannot know the facing
            assert (one[:, SIZE:] != other[:, SIZE:]).any()
        noise = 2 * 4 * np.sqrt(2)
        for facing in FACING:  # nor do every second frames know the drift
            left, right = clips[facing, "left"], clips[facing, "right"]
            assert np.abs(luma(left)[::2] - luma(right)[::2]).mean() < noise
            np.testing.assert_array_equal(left[:, SIZE:], right[:, SIZE:])


def test_with_and_against_are_what_the_classes_say(tmp_path):
    """By OpenCV's flow and by where the blue half lies."""
    synthesise(SynthSettings(tmp_path / "made", task="with-or-against", train=8, test=0, seconds=(0.4, 0.5)))
    facings = set()
    for path in sorted((tmp_path / "made").rglob("*.mp4")):
        frames = decode(path, short_side=SIZE).frames
        mean = frames.mean(axis=0)
        blue, orange = (np.argwhere(sign * (mean[..., 2] - mean[..., 0]) > 25)[:, 1].mean() for sign in (1, -1))
        grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:3]])
        drift = np.median(tvl1(grey)[:, np.ptp(mean, axis=2) < 50, 0])
        assert abs(drift) > 0.5
        assert path.parent.name == ("with" if (blue > orange) == (drift > 0) else "against")
        facings.add(bool(blue > orange))
    assert facings == {True, False}


def order_frames(label: str, seed: int, frames: int) -> list[tuple]:
    """What every frame of a video of the order task shows."""
    shots = TASKS["order"].shots(label, frames, np.random.default_rng(seed))
    return [(shot.hues[0], shot.direction, shot.vowel) for shot in shots for _ in range(shot.frames)]


def windows_of(shown: list[tuple]) -> Counter:
    """How often each thing is seen by all windows as long as a moment's margin, which wrap around at the end."""
    twice = shown + shown
    return Counter(tuple(twice[begin : begin + MARGIN]) for begin in range(len(shown)))


@pytest.mark.parametrize("label", TASKS["order"].classes)
def test_no_window_as_long_as_the_margin_tells_which_moment_came_first(label):
    """A video with its halves exchanged is one of the other class, and all windows see the same."""
    nothing, begins, firsts = ("grey", "still", "uh"), set(), Counter()
    for seed in range(60):
        shown = order_frames(label, seed, 2 * (55 + seed % 3))
        half, moments = len(shown) // 2, []
        for part in (shown[:half], shown[half:]):
            (begin,) = (k for k in range(half) if part[k] != nothing and part[k - 1] == nothing)
            moment = [what for what in part if what != nothing]
            assert part[begin : begin + len(moment)] == moment == [moment[0]] * len(moment)
            assert len(moment) >= MOMENT and begin >= MARGIN and half - begin - len(moment) >= MARGIN
            begins.add(begin)
            moments.append(moment[0])
        bits = [[pair.index(bit) for pair, bit in zip(BITS.values(), moment, strict=True)] for moment in moments]
        assert (sum(bits[0]) >= 2) == (label == "backwards") and all(
            one + two == 1 for one, two in zip(*bits, strict=True)
        )
        firsts[tuple(bits[0])] += 1
        exchanged = shown[half:] + shown[:half]
        assert windows_of(exchanged) == windows_of(shown)
        assert all(len({what for what in window} - {nothing}) <= 1 for window in windows_of(shown))
    assert len(begins) > 5  # the time of a moment is random
    assert len(firsts) == 4 and max(firsts.values()) < 30  # all that have most bits of the label


def test_halves_of_an_order_video_are_drawn_alike():
    """Place and length of the moment have the same distribution in both, and do not depend on the class."""
    found = {half: [] for half in (0, 1)}
    for seed in range(400):
        shots = TASKS["order"].shots("forwards", 130, np.random.default_rng(seed))
        assert sum(shot.frames for shot in shots) == 130
        for half in found:
            found[half].append([shot.frames for shot in shots[3 * half : 3 * half + 3]])
        other = TASKS["order"].shots("backwards", 130, np.random.default_rng(seed))
        assert [shot.frames for shot in other] == [shot.frames for shot in shots]
    first, second = (np.array(found[half]) for half in (0, 1))
    for column in range(3):
        assert ks_2samp(first[:, column], second[:, column]).pvalue > 0.01


def test_every_second_frame_of_a_moment_and_of_what_surrounds_it_is_blind_to_the_direction():
    """The stripes' phase must not go on from the still part before: relative to it the moment would tell."""
    differences = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        direction = BITS["flow"][seed % 2]
        still, moving = (luma(picture_sequence(("grey", "grey"), way, 12, rng)) for way in ("still", direction))
        assert np.abs(np.diff(still, axis=0)).mean() < 2 * 4 * np.sqrt(2) < np.abs(np.diff(moving, axis=0)).mean()
        before, odd = still[-1] - still[-1].mean(), moving[1] - moving[1].mean()
        up = (before[2:] * odd[:-2]).mean() - (before[:-2] * odd[2:]).mean()
        differences.append(up / (before**2).mean() * (1 if seed % 2 == 0 else -1))
    assert abs(np.mean(differences)) < 3 * np.std(differences) / np.sqrt(60)


def test_no_two_videos_of_a_run_are_alike(made):
    files = [path.read_bytes() for path in made.rglob("*.mp4")]
    assert len(set(files)) == len(files) == 16


def test_numbers_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    for name, changes in (
        ("--train", {"train": 7}),
        ("--train", {"train": 0, "test": 0}),
        ("--test", {"train": 16, "test": -8}),
        ("--seconds", {"seconds": (2.0, 1.0)}),
        ("--seconds", {"seconds": (0.0, 1.0)}),
        ("--task", {"task": "four-bits"}),
        ("--seconds", {"task": "order", "seconds": (1.0, 5.0)}),
    ):
        with pytest.raises(UserError, match=name):
            synthesise(SynthSettings(tmp_path / "new", **changes))
        assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_anything_is_refused(tmp_path):
    (tmp_path / "mine.txt").touch()
    assert_one_line_error(run("preprocess.synth", tmp_path), str(tmp_path))
