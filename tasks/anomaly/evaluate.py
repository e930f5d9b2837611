"""Judge a detector: how well its scores tell unusual frames from normal ones, by each subset of streams."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_curve

from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from tasks.anomaly.detector import load_detector
from tasks.anomaly.settings import EvaluateAnomaly
from tasks.anomaly.watch import LONGEST, Watched, tell_threshold, watch_video
from tasks.events.event import Event, read_events
from tasks.folder import check_output
from tasks.sources import check_keys, named_videos, open_source

RESAMPLES = 1000  # of the videos


@dataclass(frozen=True)
class Figures:
    """Of the scores of frames; the area under ROC is over the frames of all videos together, none scaled by itself."""

    micro_auc: float
    low: float | None  # 95 % interval over resampled videos
    high: float | None
    macro_auc: float | None  # the mean over videos that have both kinds of frames
    average_precision: float
    equal_error_rate: float


def evaluate(settings: EvaluateAnomaly) -> None:
    """Print the figures, and write them if that is asked for.

    Raises UserError for a truth that cannot be read, or says nothing of a video.
    """
    *paths, truth = settings.videos
    if not paths:
        raise UserError("name the videos, and last the truth: a .json of frames or a .csv of events")
    at_least(1e-6, false_alarms=settings.false_alarms)
    if settings.out is not None:
        check_output(settings.out, option="--out")
    known, detector = read_truth(truth), load_detector(settings.detector, device=settings.device)
    reader, videos = detector.reader(), named_videos(paths, parameters=detector.parameters)
    check_keys(videos)
    threshold = detector.tail.threshold(settings.false_alarms)
    tell_threshold(detector, settings.false_alarms)
    watched, labels, fps = [], {}, detector.parameters["fps"]
    for number, one in enumerate(videos, start=1):
        bar = f"judge {number}/{len(videos)} {one_line(one.name)[-LONGEST:]}"
        with open_source(one.source, video=one.video, parameters=detector.parameters, bar=bar) as opened:
            (video,) = opened.videos
            done = watch_video(detector, reader, opened.store, video, named=one, bar=bar)
        labels[done.key] = labels_of(known, done, truth, fps=fps)
        watched.append(done)
    check_both(labels, truth)
    streams = tuple(name for name in detector.streams if any(name in one.there for one in watched))
    sets = chain.from_iterable(combinations(streams, size) for size in range(1, len(streams) + 1))
    found = {"+".join(subset): figures(labels, {one.key: one.frames(subset) for one in watched}) for subset in sets}
    found["the frame's number"] = figures(labels, {name: np.arange(len(of)) for name, of in labels.items()})
    events = {one.key: one.alarms(threshold=threshold) for one in watched}
    hits = at_threshold(labels, events, fps=fps)
    _show(found, hits, watched, rate=settings.false_alarms)
    if settings.out is not None:
        text = json.dumps({name: vars(one) for name, one in found.items()} | {"alarms": hits}, indent=1) + "\n"
        write_aside(settings.out, lambda part: part.write_text(text, encoding="utf-8"))


def read_truth(path: Path) -> Mapping[str, np.ndarray] | list[Event]:
    """(T,) 0 or 1 a frame of each video, or the events in which something unusual happens.

    Raises UserError if the file is neither.
    """
    if path.suffix == ".csv":
        return read_events(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        frames = {str(name): np.array(values) for name, values in found.items()}
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no JSON object of videos ({error}): give {{video: [0 or 1 a frame]}}") from error
    for name, values in frames.items():
        if values.ndim != 1 or not np.isin(values, (0, 1)).all():
            raise UserError(f"{path}: {name} must be a list of 0 or 1 a frame")
    return frames


def labels_of(known: Mapping[str, np.ndarray] | list[Event], done: Watched, path: Path, *, fps: float) -> np.ndarray:
    """(T,) bool, whether each frame of a video is unusual.

    Raises UserError if the truth does not fit the video.
    """
    if isinstance(known, list):
        at, unusual = np.arange(len(done.places)) / fps, np.zeros(len(done.places), bool)
        for event in known:
            if Path(event.video).with_suffix("").as_posix() == done.key:
                unusual |= (at >= event.start) & (at < event.end)
        return unusual
    if done.key not in known:
        raise UserError(f"{path} says nothing of {done.key}: it knows {', '.join(list(known)[:3])} …")
    if len(known[done.key]) != len(done.places):
        raise UserError(
            f"{path} has {len(known[done.key])} frames of {done.key}, at {fps:g} fps it has {len(done.places)}"
        )
    return known[done.key].astype(bool)


def check_both(labels: Mapping[str, np.ndarray], path: Path) -> None:
    """Raises UserError if nothing, or everything, is unusual."""
    every = np.concatenate([*labels.values()])
    if every.all() or not every.any():
        which = "everything" if every.all() else "nothing"
        raise UserError(f"by {path} {which} in these videos is unusual: give some of both kinds")


def figures(labels: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray]) -> Figures:
    """The figures of (T,) scores of each video."""
    names = list(labels)
    truth, said = (np.concatenate([of[name] for name in names]) for of in (labels, scores))
    single = [area(labels[name], scores[name]) for name in names if 0 < labels[name].mean() < 1]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES if len(names) > 1 else 0):
        chosen = [names[row] for row in rng.integers(0, len(names), len(names))]
        those = np.concatenate([labels[name] for name in chosen])
        if 0 < those.mean() < 1:
            drawn.append(area(those, np.concatenate([scores[name] for name in chosen])))
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (None, None)
    wrong, right, _ = roc_curve(truth, said)
    at = np.abs(wrong - (1 - right)).argmin()
    return Figures(
        micro_auc=area(truth, said),
        low=low,
        high=high,
        macro_auc=float(np.mean(single)) if single else None,
        average_precision=float(average_precision_score(truth, said)),
        equal_error_rate=float((wrong[at] + 1 - right[at]) / 2),
    )


def area(truth: np.ndarray, scores: np.ndarray) -> float:
    """The area under ROC by ranks (Hanley and McNeil 1982); equal scores count half. It is drawn a thousand times."""
    ranks, right = rankdata(scores), int(truth.sum())
    return float((ranks[truth].sum() - right * (right + 1) / 2) / (right * (len(truth) - right)))


def at_threshold(
    labels: Mapping[str, np.ndarray], events: Mapping[str, Sequence[Event]], *, fps: float
) -> dict[str, float]:
    """What the alarms found: unusual stretches that an alarm touches, and alarms that touch none, an hour of normal."""
    found = stretches = false = normal = 0
    for name, unusual in labels.items():
        edges = np.flatnonzero(np.diff(np.concatenate([[0], unusual.astype(int), [0]])))
        spans = [(begin / fps, end / fps) for begin, end in edges.reshape(-1, 2)]
        stretches, normal = stretches + len(spans), normal + int((~unusual).sum())
        found += sum(any(event.start < end and begin < event.end for event in events[name]) for begin, end in spans)
        false += sum(not any(event.start < end and begin < event.end for begin, end in spans) for event in events[name])
    hours = normal / fps / 3600
    return {"stretches": stretches, "found": found, "false": false, "false_an_hour": false / hours if hours else 0.0}


def _show(found: Mapping[str, Figures], hits: Mapping[str, float], watched: Sequence[Watched], *, rate: float) -> None:
    frames = sum(len(one.places) for one in watched)
    print(f"{plural(len(watched), 'video')}, {frames} frames; areas in %, over the frames of all videos together")
    rows = []
    for name, one in found.items():
        between = "–" if one.low is None or one.high is None else f"{100 * one.low:.1f} to {100 * one.high:.1f}"
        macro = "–" if one.macro_auc is None else f"{100 * one.macro_auc:.1f}"
        rest = [f"{100 * one.average_precision:.1f}", f"{100 * one.equal_error_rate:.1f}"]
        rows.append([name, f"{100 * one.micro_auc:.1f}", between, macro, *rest])
    print_table(["by", "AUC", "95 %", "mean of videos", "average precision", "equal error"], rows)
    print(
        f"alarms at {rate:g} false ones an hour: {hits['found']} of {plural(int(hits['stretches']), 'unusual stretch')}"
        f" found, {plural(int(hits['false']), 'false alarm')}"
    )
