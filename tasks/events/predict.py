"""Events of new videos, as tables, subtitles and pictures."""

import sys
from pathlib import Path

from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError
from tasks.events.detector import Detector, load_detector, streams_of
from tasks.events.event import Event, write_events
from tasks.events.figure import draw_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import PredictEvents
from tasks.folder import output_folder
from tasks.sources import files_of


def predict(settings: PredictEvents) -> int:
    """Find events, print and write them; 1 if a video could not be used, else 0.

    Raises UserError if there is nothing to do, or the detector cannot do it.
    """
    if not settings.videos:
        raise UserError("no video named: give one or more files, folders or stores after the detector")
    if not 0 <= settings.least <= 1:
        raise UserError(f"--least is a score between 0 and 1, not {settings.least}")
    detector = load_detector(settings.detector, device=settings.device)
    streams = streams_of(detector, settings.streams)
    found, failures = [], 0
    with output_folder(settings.out):
        for source in (one for video in settings.videos for one in files_of(video)):
            try:
                for video in detector.sequences(source):
                    found += _one(detector, video, streams, settings)
            except UserError as error:
                failures += 1
                print(f"error: {error}", file=sys.stderr)
        if found or not failures:
            settings.out.mkdir(parents=True, exist_ok=True)
            for name in ("events.csv", "events.json"):
                write_events(settings.out / name, found)
            print(f"wrote {settings.out}/events.csv, events.json, and for each video subtitles and a picture")
    return 1 if failures else 0


def _one(detector: Detector, video: VideoFeatures, streams: tuple[str, ...], settings: PredictEvents) -> list[Event]:
    """One video's events, printed and drawn."""
    events = detector.events(video, streams=streams)
    sure = sorted((event for event in events if event.score >= settings.least), key=lambda event: event.start)
    seen = [name for name in streams if video.present[name].any()]
    missing = [name for name in streams if name not in seen]
    without = f" (no {', '.join(missing)})" if missing else ""
    print(f"{video.video}: {video.seconds:.1f} s, from {', '.join(seen)}{without}; {plural(len(sure), 'event')}")
    rows = [[f"{event.start:.2f}", f"{event.end:.2f}", event.label, f"{event.score:.0%}"] for event in sure]
    if rows:
        print_table(["start", "end", "event", "score"], rows)
    settings.out.mkdir(parents=True, exist_ok=True)
    name = settings.out / Path(video.video).name
    write_events(name.with_suffix(".vtt"), sure)
    draw_events(name.with_suffix(".png"), video=name.name, seconds=video.seconds, found=sure)
    return events
