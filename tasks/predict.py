"""Predict the classes of videos, also by each stream alone, and tell what was seen, and what is missing or damaged.

    python -m tasks.predict runs/NAME video.mp4 other.avi videos/   # files, folders, stores
    python -m tasks.predict runs/NAME out.h5 --video v_Archery_g08_c01
    python -m tasks.predict runs/NAME match.mp4 --hop 0.5           # over time: which class from when until when
    python -m tasks.predict runs/NAME match.mp4 --page match.html   # and a page to look at it in a browser
    python -m tasks.predict runs/NAME videos/ --csv answers.csv
    python -m tasks.predict runs/NAME video.mp4 --json      # one document; a video that cannot be used has an "error"

A video of more than 30 seconds gets a timeline; --no-timeline gives one answer, --timeline a timeline of any video.
Flow and log-mel are computed as preprocess.extract does.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import sys
from dataclasses import replace
from pathlib import Path

from preprocess.common.command import parse_command, run_command
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from tasks.folder import check_output
from tasks.model import Model, load
from tasks.page.page import page_path, write_page
from tasks.prediction import Prediction, TimedPrediction, seconds_in
from tasks.prediction_text import as_csv, as_object, print_prediction, print_timeline
from tasks.settings import PredictSettings
from tasks.sources import Named, named_videos, open_source
from tasks.spans import spans_of
from tasks.timeline import timelines

LONG = 30.0  # seconds; a longer video gets a timeline
LONGEST = 40  # letters of a name beside a progress bar


def predict(model: Model, one: Named, settings: PredictSettings, *, bar: str) -> Prediction | TimedPrediction:
    """The answer for one video, or its answers over time.

    Raises UserError if the video cannot be used, or has none of the streams.
    """
    with open_source(one.source, video=one.video, parameters=model.parameters, bar=bar) as opened:
        (video,) = opened.videos
        streams = model.choose(settings.streams)
        model.check_streams(video, streams)
        if not wants_timeline(settings, video.seconds):
            asked = {"views": settings.views, "streams": streams, "bar": bar}
            return replace(model.predict(opened.store, video=video.path, **asked), video=one.name)
        asked = {"length": settings.length, "hop": settings.hop}
        shared = {"streams": streams, "bar": bar, "keep": not opened.lasts}
        (timeline,) = timelines(model, opened.store, video=video.path, **shared, **asked)
        if settings.page:
            path = page_path(settings.page, one.key, count=1)
            file = None if opened.lasts else Path(one.source)
            write_page(path, store=opened.store, video=video, timeline=replace(timeline, video=one.name), file=file)
        length, hop = model.spacing(**asked)
        shown = length if model.clip.segments == 1 else model.seconds  # seconds of a window that are looked at
        return TimedPrediction(
            video=one.name,
            seconds=video.seconds,
            windows=len(timeline),
            length=length,
            hop=hop,
            seen=min(seconds_in(timeline.times), len(timeline) * shown),
            streams={name: float(there.mean()) for name, there in timeline.present.items() if there.any()},
            missing={
                name: video.why.get(name, "not in any window")
                for name, there in timeline.present.items()
                if not there.any()
            },
            expected=video.expected,
            damaged=video.damaged,
            notes=video.notes,
            timeline=spans_of(timeline),
        )


def wants_timeline(settings: PredictSettings, seconds: float) -> bool:
    """True if a video of this length gets a timeline."""
    if settings.no_timeline:
        return False
    return (
        settings.timeline
        or settings.page is not None
        or settings.length is not None
        or settings.hop is not None
        or seconds > LONG
    )


def check(settings: PredictSettings) -> None:
    """Raises UserError for what is wrong by itself."""
    if not settings.videos:
        raise UserError("no video named: give one or more files, folders or stores after the run")
    at_least(1, top=settings.top, views=settings.views)
    if settings.no_timeline:
        for option in ("timeline", "length", "hop", "page"):
            if getattr(settings, option) not in (None, False):
                raise UserError(f"--{option} asks for a timeline, --no-timeline for none: leave one of them out")
    if settings.csv is not None:
        check_output(settings.csv, option="--csv")


def main(settings: PredictSettings | None = None) -> int:
    settings = settings or parse_command(PredictSettings, prog="python -m tasks.predict", doc=__doc__)
    check(settings)
    model = load(settings.run, weights=settings.weights, device=settings.device)
    model.check_classifier()
    model.choose(settings.streams)
    model.spacing(length=settings.length, hop=settings.hop)
    videos = named_videos(settings.videos, video=settings.video, parameters=model.parameters)
    if settings.page is not None:
        page_path(settings.page, "", count=len(videos))
    predictions, failures = [], []
    for number, one in enumerate(videos, start=1):
        place = f"{number}/{len(videos)} " if len(videos) > 1 else ""
        try:
            prediction = predict(model, one, settings, bar=place + one_line(one.name)[-LONGEST:])
        except UserError as error:
            failures.append({"video": one.name, "error": str(error)})
            print(f"error: {one_line(str(error))}", file=sys.stderr)
            continue
        predictions.append(prediction)
        if settings.json:
            continue
        if isinstance(prediction, TimedPrediction):
            print_timeline(prediction)
        else:
            print_prediction(prediction, top=settings.top)
    if settings.json:
        print(json.dumps([as_object(one, top=settings.top) for one in predictions] + failures, indent=1))
    if settings.csv is not None and predictions:
        text = as_csv(predictions)
        write_aside(settings.csv, lambda part: part.write_text(text, encoding="utf-8", errors="surrogateescape"))
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(main)
