"""Events of new videos, as tables, subtitles and pictures."""

import sys
from dataclasses import replace
from pathlib import Path

from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, one_line
from tasks.events.curves import curves
from tasks.events.detector import Detector, load_detector, streams_of
from tasks.events.event import Event, write_events
from tasks.events.figure import draw_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import PredictEvents
from tasks.folder import output_folder
from tasks.page.page import page_path, write_page
from tasks.sources import Named, check_keys, named_videos, open_source

LONGEST = 40  # letters of a name beside a progress bar


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
    videos = named_videos(settings.videos, parameters=detector.model.parameters)
    check_keys(videos)
    if settings.page:
        page_path(settings.page, "", count=len(videos))
    found, failures = [], 0
    with output_folder(settings.out):
        for number, one in enumerate(videos, start=1):
            try:
                found += _events_of(detector, one, streams, settings, place=f"{number}/{len(videos)} ")
            except UserError as error:
                failures += 1
                print(f"error: {one_line(str(error))}", file=sys.stderr)
        if found or not failures:
            settings.out.mkdir(parents=True, exist_ok=True)
            for name in ("events.csv", "events.json"):
                write_events(settings.out / name, found)
            print(f"wrote {settings.out}/events.csv, events.json, and for each video subtitles and a picture")
    return 1 if failures else 0


def _events_of(
    detector: Detector, one: Named, streams: tuple[str, ...], settings: PredictEvents, *, place: str
) -> list[Event]:
    """The events of one video, printed and written.

    Raises UserError if it cannot be used, or has none of the streams.
    """
    bar = place + one_line(one.name)[-LONGEST:]
    with open_source(one.source, video=one.video, parameters=detector.model.parameters, bar=bar) as opened:
        (facts,) = opened.videos
        detector.model.check_streams(facts, streams)
        (video,) = detector.sequences(opened.store, video=facts.path, keep=True, bar=bar)
        video = replace(video, video=one.name)
        events = detector.events(video, streams=streams)
        sure = [event for event in events if event.score >= settings.least]
        _show(video, sure, streams)
        path = settings.out / one.key
        path.parent.mkdir(parents=True, exist_ok=True)
        write_events(path.with_name(f"{path.name}.vtt"), sure)
        draw_events(path.with_name(f"{path.name}.png"), video=path.name, seconds=video.seconds, found=sure)
        if settings.page:
            page = page_path(settings.page, one.key, count=1)
            file = None if opened.lasts else Path(one.source)
            line = curves(detector, video, streams, length=detector.length)
            write_page(page, store=opened.store, video=facts, timeline=line, file=file, events=sure)
            print(f"  {page}: open it in a browser")
    return events


def _show(video: VideoFeatures, sure: list[Event], streams: tuple[str, ...]) -> None:
    """Print one video's events in the order of time."""
    seen = [name for name in streams if video.present[name].any()]
    missing = [name for name in streams if name not in seen]
    without = f" (no {', '.join(missing)})" if missing else ""
    print(f"{video.video}: {video.seconds:.1f} s, from {', '.join(seen)}{without}; {plural(len(sure), 'event')}")
    ordered = sorted(sure, key=lambda event: event.start)
    rows = [[f"{event.start:.2f}", f"{event.end:.2f}", event.label, f"{event.score:.0%}"] for event in ordered]
    if rows:
        print_table(["start", "end", "event", "score"], rows)
