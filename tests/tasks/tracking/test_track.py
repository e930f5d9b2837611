"""Detectors, films and clips, and the command."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.track import main
from tasks.tracking.background import detect_foreground
from tasks.tracking.boxes import Boxes, make_boxes, overlap, read_boxes, write_mot
from tasks.tracking.clips import windows_of
from tasks.tracking.learn import main as learn
from tasks.tracking.motion import camera_motion, detect_motion
from tasks.tracking.settings import LearnSettings, TrackSettings
from tasks.tracking.training import train_detector
from tests.support.videos import drift, sound, tone, write_video


def scene(count: int, *, pan: int, size: tuple[int, int] = (96, 128)) -> tuple[list[np.ndarray], Boxes]:
    """Pictures of a textured ground under a panning camera, a bright square that goes its own way, and its boxes."""
    ground = drift(count, step=pan, size=size, seed=3) if pan else [drift(1, size=size, seed=3)[0]] * count
    rng, side = np.random.default_rng(1), 24
    patch = np.kron(rng.integers(0, 2, (side // 4, side // 4, 1)) * 60, np.ones((4, 4, 1))) + np.array([190, 60, 40])
    pictures, boxes = [], []
    for frame in range(count):
        left, top = 15 + 3 * frame, 40 + frame // 2
        picture = (0.6 * ground[frame]).astype(np.uint8)
        picture[top : top + side, left : left + side] = patch
        pictures.append(picture)
        boxes.append([left, top, side, side])
    return pictures, make_boxes(range(count), boxes, ids=[1] * count)


def best_overlaps(found: Boxes, truth: Boxes) -> np.ndarray:
    """The overlap of each frame's box of the highest score with the true one."""
    best = []
    for frame in range(len(truth)):
        one = found.at(frame)
        best.append(overlap(one.xywh[[one.scores.argmax()]], truth.at(frame).xywh)[0, 0] if len(one) else 0.0)
    return np.array(best)


def test_what_moves_unlike_a_panning_camera_is_found_and_the_ground_is_not():
    pictures, truth = scene(16, pan=-1)
    found = detect_motion(pictures)
    assert np.median(best_overlaps(found, truth)) > 0.6
    assert not len(detect_motion([pictures[0]] * 5)) and not len(detect_motion(pictures[:1]))


def test_the_camera_of_a_flow_is_found_though_a_quarter_of_it_moves_otherwise():
    y, x = np.mgrid[0:60, 0:100] / 100
    flow = np.stack([2 + 3 * x - y + x * y, -1 + 2 * y + y * y], axis=-1).astype(np.float32)
    seen = flow.copy()
    seen[:, 60:85] += [4, -3]
    np.testing.assert_allclose(camera_motion(seen), flow, atol=0.05)


def test_what_differs_from_a_still_background_is_found_to_the_pixel():
    pictures, truth = scene(20, pan=0)
    found = detect_foreground(lambda: iter(pictures))
    assert best_overlaps(found, truth).min() > 0.85


@pytest.mark.slow
def test_a_network_learns_boxes_from_its_file_and_is_asked_by_its_file(tmp_path, capsys):
    pytest.importorskip("torchvision")
    pictures, truth = scene(4, pan=0)
    write_video(tmp_path / "a.mp4", pictures)
    write_mot(tmp_path / "a.txt", truth)
    file = tmp_path / "d.safetensors"
    settings = LearnSettings((tmp_path / "a.mp4",), out=file, epochs=8, every=1, size=64, batch=2, device="cpu",
                             network="fasterrcnn_mobilenet_v3_large_320_fpn")  # fmt: skip
    losses = train_detector(settings)
    assert losses[-1] < losses[0]
    detections = tmp_path / "found.json"
    assert main(TrackSettings(tmp_path / "a.mp4", detector=str(file), detections=detections, device="cpu")) == 0
    read_boxes(detections)
    for change, named in (({"boxes": tmp_path / "none"}, "a.txt"), ({"network": "fastercnn"}, "fastercnn")):
        with pytest.raises(UserError, match=named):
            learn(replace(settings, **change))


def test_tracks_become_files_a_film_and_clips_that_a_run_answers_about(tmp_path, run_folder, capsys):
    pictures, truth = scene(24, pan=0)
    video = write_video(tmp_path / "a.mkv", pictures, track=sound(tone(0.96)), codec="ffv1")
    write_mot(tmp_path / "gt.txt", truth)
    out = {name: tmp_path / f"out.{end}" for name, end in (("mot", "txt"), ("coco", "json"), ("film", "mp4"))}
    more = {"truth": tmp_path / "gt.txt", "clips": tmp_path / "clips", "run": run_folder, "device": "cpu"}
    assert main(TrackSettings(video, detector="background", **out, **more)) == 0
    assert "1 track" in capsys.readouterr().out
    tracks = read_boxes(out["mot"])
    assert best_overlaps(tracks, truth).min() > 0.85 and set(tracks.ids) == {1}
    assert {one["track_id"] for one in json.loads(out["coco"].read_text())["annotations"]} == {1}
    (clip,) = (tmp_path / "clips").glob("*.mp4")
    for path, size in ((out["film"], (96, 128)), (clip, (64, 64))):
        with av.open(str(path)) as film:
            shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
            assert len(shown) == 24 and shown[0].shape[:2] == size
        with av.open(str(path)) as film:
            heard = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
            assert 0.1 < np.abs(heard[4800:38400]).mean() < 0.3
    middle = np.stack(shown)[:, 28:36, 28:36].reshape(-1, 3).mean(axis=0)  # the square stays in the middle of its clip
    assert middle[0] > 2 * middle[2]
    rows = [line.split(",") for line in (tmp_path / "clips" / "clips.csv").read_text().splitlines()]
    assert rows[0][-2:] == ["class", "probability"] and rows[1][:2] == [clip.name, "1"] and 0 < float(rows[1][-1]) <= 1


def test_a_window_follows_without_lag_and_a_long_track_gives_several():
    frames = np.arange(2000)
    track = make_boxes(frames, np.stack([frames * 2.0, 50 + 0 * frames, 20 + 0 * frames, 30 + 0 * frames], axis=1),
                       ids=[4] * 2000)  # fmt: skip
    first, second = windows_of(track, fps=25)
    assert (first.first, first.last, second.first, second.last) == (0, 1499, 1500, 1999)
    np.testing.assert_allclose(first.centres[:, 0], 2.0 * frames[:1500] + 10)
    assert first.side == second.side == round(1.25 * 30)


def test_wrong_input_is_a_line_before_any_work(tmp_path):
    boxes = tmp_path / "a.txt"
    boxes.write_text("1,-1,0,0,5,5,1\n")
    given = TrackSettings(boxes=boxes)
    for settings, named in (
        (TrackSettings(), "--boxes"),
        (TrackSettings(tmp_path / "none.mp4"), "none.mp4"),
        (replace(given, film=tmp_path / "f.mp4"), "--film"),
        (replace(given, tracker="deepsort"), "deepsort"),
        (replace(given, mot=tmp_path / "no" / "t.txt"), "--mot"),
        (replace(given, mot=boxes), "what is read"),
        (TrackSettings(boxes, boxes=boxes, clips=tmp_path), "--clips"),
        (TrackSettings(boxes, detector="motion"), "a.txt"),
        (TrackSettings(tmp_path / "a.txt", run=tmp_path), "--clips"),
    ):
        with pytest.raises(UserError, match=named):
            main(settings)
