"""The tracks of one video, as a command line asks for them."""

from pathlib import Path

import numpy as np

from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, at_least
from tasks.folder import check_output, output_folder
from tasks.tracking.boxes import Boxes, read_boxes, write_coco, write_mot
from tasks.tracking.library import check_tracker, track
from tasks.tracking.settings import TrackSettings
from tasks.tracking.video import VideoFile, open_video

SHOWN = 20  # tracks in the table


def run(settings: TrackSettings) -> int:
    """Detect, follow, write and judge.

    Raises UserError for what cannot be read, written, or done.
    """
    check(settings)
    video = None if settings.video is None else open_video(settings.video)
    truth = None if settings.truth is None else read_boxes(settings.truth)
    model = None if settings.run is None else _model(settings)
    if settings.boxes is not None:
        found = read_boxes(settings.boxes)
    else:
        from tasks.tracking.detect import detect  # needs PyAV and OpenCV

        assert video is not None
        found = detect(video, detector=settings.detector, device=settings.device)
    fps = settings.fps if video is None else video.fps
    tracks = track(found, tracker=settings.tracker, fps=fps, settings=settings.follow)
    if settings.detections is not None:
        _write_boxes(settings.detections, found, settings, fps=fps)
    answers = _clips(settings, video, tracks, model) if video is not None and settings.clips is not None else {}
    show(tracks, fps=fps, answers=answers)
    if settings.mot is not None:
        write_mot(settings.mot, tracks)
    if settings.coco is not None:
        _write_boxes(settings.coco, tracks, settings, fps=fps)
    if settings.film is not None and video is not None:
        from tasks.tracking.draw import write_drawn

        names = {number: next(iter(answer), "") for number, answer in answers.items()}
        labels = {number: str(one.labels[0]) for number, one in tracks.tracks.items()}
        write_drawn(settings.film, video, tracks, names=labels | names)
    if truth is not None:
        show_scores(found, tracks, truth)
    return 0


def check(settings: TrackSettings) -> None:
    """Raises UserError, before the work, for what is wrong by itself."""
    if settings.video is None:
        if settings.boxes is None:
            raise UserError("no video named: give one, or the boxes of one with --boxes")
        for option, value in (("--film", settings.film), ("--clips", settings.clips), ("--run", settings.run)):
            if value is not None:
                raise UserError(f"{option} {value} needs the video: name it before the options")
    if settings.run is not None and settings.clips is None:
        raise UserError(f"--run {settings.run} is asked about clips: name a folder for them with --clips")
    if (
        settings.clips is not None
        and settings.clips.exists()
        and (not settings.clips.is_dir() or any(settings.clips.iterdir()))
    ):
        raise UserError(
            f"--clips {settings.clips} is not an empty folder: name a new one, so that no old clips stay in it"
        )
    follow = settings.follow
    at_least(0, sure=follow.sure, overlap=follow.overlap, patience=follow.patience)
    at_least(1, fps=settings.fps, shortest=follow.shortest)
    check_tracker(settings.tracker)
    for option in ("mot", "coco", "detections", "film"):
        path = getattr(settings, option)
        if path is not None:
            check_output(path, option=f"--{option}")
            if any(
                given is not None and path.exists() and given.exists() and path.samefile(given)
                for given in (settings.video, settings.boxes, settings.truth)
            ):
                raise UserError(f"--{option} {path} is what is read: name another file")
    if settings.film is not None and settings.film.suffix.lower() != ".mp4":
        raise UserError(f"--film {settings.film}: the film is an .mp4; name it so")


def show(tracks: Boxes, *, fps: float, answers: dict[int, dict[str, float]]) -> None:
    """Print a table of the longest tracks, by their beginnings."""
    known = tracks.tracks
    longest = sorted(known, key=lambda number: -len(known[number]))[:SHOWN]
    rows = []
    for number in sorted(longest, key=lambda number: known[number].frames[0]):
        one = known[number]
        begin, end = one.frames[0] / fps, (one.frames[-1] + 1) / fps
        size = " × ".join(f"{value:.0f}" for value in np.median(one.xywh[:, 2:], axis=0))
        what = ", ".join(f"{name} {value:.2f}" for name, value in list(answers.get(number, {}).items())[:1])
        rows.append([str(number), f"{begin:.2f}", f"{end:.2f}", size, what or str(one.labels[0])])
    print(f"{plural(len(known), 'track')}, {plural(len(tracks), 'box')}".replace("boxs", "boxes"))
    if rows:
        print_table(["track", "from s", "until s", "pixels", "what"], rows)
    if len(known) > SHOWN:
        print(f"  and {len(known) - SHOWN} shorter ones")


def show_scores(found: Boxes, tracks: Boxes, truth: Boxes) -> None:
    """Print how well detections and tracks agree with true boxes."""
    from tasks.tracking.metrics import average_precision, judge

    scores = judge(tracks, truth)
    row = [scores.mota, scores.idf1, scores.hota, average_precision(found, truth)]
    counts = [scores.switches, scores.false, scores.missed]
    names = ["MOTA", "IDF1", "HOTA", "AP50 of detections", "switches", "false", "missed"]
    print_table(names, [[*(f"{value:.4f}" for value in row), *map(str, counts)]])


def _write_boxes(path: Path, boxes: Boxes, settings: TrackSettings, *, fps: float) -> None:
    """Text, or JSON if the file is named so, or is that of --coco."""
    if path.suffix.lower() != ".json" and path != settings.coco:
        write_mot(path, boxes)
        return
    name = (settings.video or settings.boxes or path).stem
    write_coco(path, boxes, video=name, fps=fps)


def _model(settings: TrackSettings):
    """The run that answers about clips.

    Raises UserError if it cannot be used, or has no classes.
    """
    from tasks.model import load  # loads PyTorch

    model = load(settings.run, weights=settings.weights, device=settings.device)
    model.check_classifier()
    return model


def _clips(settings: TrackSettings, video: VideoFile, tracks: Boxes, model) -> dict[int, dict[str, float]]:
    """Cut the clips, and ask the run, if there is one: track → class → probability, the most likely first."""
    from tasks.tracking.clips import cut_clips, write_table

    folder = settings.clips
    assert folder is not None
    with output_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        clips = cut_clips(folder, video, tracks)
        answers = None
        if model is not None:
            answers = [
                dict(model.predict(clip.file, bar=f"track {clip.track}").top(len(model.classes))) for clip in clips
            ]
        write_table(folder / "clips.csv", clips, answers)
    return _by_track(clips, answers or [])


def _by_track(clips, answers: list[dict[str, float]]) -> dict[int, dict[str, float]]:
    """The mean over the clips of each track, weighted by their lengths, the most likely class first."""
    found: dict[int, dict[str, float]] = {}
    seconds: dict[int, float] = {}
    for clip, answer in zip(clips, answers, strict=False):
        length = clip.end - clip.start
        seconds[clip.track] = seconds.get(clip.track, 0) + length
        known = found.setdefault(clip.track, dict.fromkeys(answer, 0.0))
        for name, value in answer.items():
            known[name] += value * length
    return {
        number: dict(
            sorted(((name, value / seconds[number]) for name, value in known.items()), key=lambda one: -one[1])
        )
        for number, known in found.items()
    }
