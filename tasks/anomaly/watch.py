"""Watch videos: their scores over time, the alarms, and what is written of them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from preprocess.store import Store
from preprocess.store.index import Video
from streams.registry import parse_streams
from tasks.anomaly.alarms import alarms
from tasks.anomaly.detector import Detector, Rated, Scored, load_detector
from tasks.anomaly.live import watch_live
from tasks.anomaly.moments import Reader
from tasks.anomaly.page import Chapter, Still, draw_still, write_page
from tasks.anomaly.settings import WatchAnomaly
from tasks.events.event import Event, write_events
from tasks.folder import check_output
from tasks.sources import Named, check_keys, named_videos, open_source

LONGEST = 40  # letters of a name beside a progress bar
STILLS = 60  # alarms of a video that have a picture on the page


@dataclass(frozen=True)
class Watched:
    """One video's scores at all its frames."""

    name: str  # for people
    key: str  # its name in what is written
    seconds: float
    fps: float
    step: float  # seconds from one moment to the next
    rated: Rated  # all its moments
    there: tuple[str, ...]  # the streams that it has
    places: np.ndarray  # (T, 2) x and y of the most unusual at each frame, in pixels of the video

    def frames(self, streams: Sequence[str] | None = None) -> np.ndarray:
        """(T,) the score of each frame, by some of the streams"""
        rated = self.rated if streams is None else self.rated.of(streams)
        at, middle = np.arange(len(self.places)) / self.fps, (self.step - 1 / self.fps) / 2
        return np.interp(at, rated.times + middle, rated.score)

    def alarms(self, *, threshold: float) -> list[Event]:
        """The alarms at a threshold, in the order of time."""
        found = {"video": self.key, "step": self.step, "threshold": threshold}
        return alarms(self.rated.times, self.rated.score, self.rated.causes, **found)


def watch(settings: WatchAnomaly) -> int:
    """Watch what the command line names; 1 if a video could not be used, else 0.

    Raises UserError if there is nothing to do, or the detector cannot do it.
    """
    check(settings)
    detector = load_detector(settings.detector, device=settings.device)
    streams = None if settings.streams is None else parse_streams(settings.streams, None)
    reader, threshold = detector.reader(streams), detector.tail.threshold(settings.false_alarms)
    tell_threshold(detector, settings.false_alarms)
    if settings.live is not None:
        found = watch_live(settings, detector, reader, threshold=threshold)
        if settings.out is not None:
            write_events(settings.out, found)
        return 0
    videos = named_videos(settings.videos, parameters=detector.parameters)
    check_keys(videos)
    if settings.out is not None and settings.out.suffix == ".vtt" and len(videos) > 1:
        raise UserError(f"--out {settings.out}: subtitles are of one video; name a .csv or .json for {len(videos)}")
    watched, chapters, events, failed = [], [], [], False
    for number, one in enumerate(videos, start=1):
        bar = f"watch {number}/{len(videos)} {one_line(one.name)[-LONGEST:]}"
        try:
            with open_source(one.source, video=one.video, parameters=detector.parameters, bar=bar) as opened:
                (video,) = opened.videos
                done = watch_video(detector, reader, opened.store, video, named=one, bar=bar)
                found = done.alarms(threshold=threshold)
                if settings.page is not None:
                    stills = [_still(detector, reader, opened.store, video, event, done) for event in found[:STILLS]]
                    chapters.append(Chapter(done.name, done.seconds, done.rated.times, done.rated.score, found, stills))
        except UserError as error:
            failed = True
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            continue
        watched.append(done)
        events += found
        show(done, found)
    if settings.out is not None and watched:
        write_events(settings.out, events)
    if settings.scores is not None and watched:
        write_scores(settings.scores, watched)
    if settings.page is not None and watched:
        write_page(settings.page, chapters, threshold=threshold)
    return int(failed)


def check(settings: WatchAnomaly) -> None:
    """Raises UserError for what is wrong by itself, before the work."""
    if (settings.live is None) == (not settings.videos):
        raise UserError("name videos, folders or stores to watch after the detector, or one source with --live")
    at_least(1e-6, false_alarms=settings.false_alarms)
    if settings.live is not None and (settings.page or settings.scores):
        raise UserError("--page and --scores are of videos that have an end: leave them out with --live")
    for option in ("out", "scores", "page"):
        path = getattr(settings, option)
        if path is not None:
            check_output(path, option=f"--{option}")
    if settings.out is not None and settings.out.suffix not in (".csv", ".json", ".vtt"):
        raise UserError(f"--out {settings.out}: alarms are written as .csv, .json or .vtt, not '{settings.out.suffix}'")


def tell_threshold(detector: Detector, rate: float) -> None:
    """A note if the rate is more than the normal video can tell."""
    if detector.tail.is_guess(rate):
        minutes = detector.tail.count / 60
        print(
            f"note: {rate:g} false alarms an hour are a guess from {minutes:.1f} minutes of normal video; with more of "
            f"it the threshold is surer",
            file=sys.stderr,
        )


def watch_video(
    detector: Detector, reader: Reader, store: Store, video: Video, *, named: Named, bar: str | None = None
) -> Watched:
    """The scores of one video.

    Raises UserError if it has no stream that is watched.
    """
    if not any(video.streams[name] for name in reader.streams):
        why = ", ".join(f"{name}: {video.why[name]}" for name in reader.streams)
        raise UserError(f"{named.name} has no stream that is watched ({why})")
    scored, places = [], []
    shown = tqdm(
        reader.video(store, video), desc=bar, total=reader.parts(video), unit="part", leave=False, disable=None
    )
    for part in shown:
        scored.append(detector.score(part, streams=reader.streams))
        places.append(detector.places(scored[-1]))
    source = store.group(video).attrs
    size = [source.get(f"source_{name}", getattr(video, name)) for name in ("width", "height")]
    return Watched(
        name=named.name,
        key=Path(named.key).with_suffix("").as_posix(),
        seconds=video.seconds,
        fps=store.fps,
        step=detector.seconds,
        rated=detector.rate(Scored.joined(scored)),
        there=tuple(name for name in reader.streams if video.streams[name]),
        places=np.concatenate(places)[np.arange(video.frames) // detector.step] * size,
    )


def show(done: Watched, found: Sequence[Event]) -> None:
    """The alarms of a video, for people."""
    if not found:
        print(f"{done.name}: nothing unusual")
        return
    print(f"{done.name}:")
    print_table(["from", "to", "by", "sureness"], [table_row(event) for event in found])


def table_row(event: Event) -> list[str]:
    return [f"{event.start:.2f}", f"{event.end:.2f}", event.label, f"{event.score:.2f}"]


def write_scores(path: Path, watched: Sequence[Watched]) -> None:
    """The scores of all frames, and where in each the most unusual is."""
    found: dict[str, list] = {}
    for one in watched:
        found[one.key] = one.frames().round(5).tolist()
        if not np.isnan(one.places).any():
            found[f"{one.key}_xy"] = one.places.round(1).tolist()
    text = json.dumps(found)
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8", errors="surrogateescape"))


def _still(detector: Detector, reader: Reader, store: Store, video: Video, event: Event, done: Watched) -> Still | None:
    """The moment of an alarm at which the score is greatest; None of a video without pictures."""
    if not video.streams["rgb"]:
        return None
    times = done.rated.times
    inside = np.nonzero((times >= event.start) & (times < event.end))[0]
    time = float(times[inside[done.rated.score[inside].argmax()]])
    first = min(round(time * store.fps), video.frames - 1)
    heat = detector.heat(detector.score(reader.read(store, video, first, detector.step), streams=reader.streams))
    picture = store.frames(video, "rgb", [first])[0]
    return Still(time, draw_still(picture, None if heat is None else heat[0]))
