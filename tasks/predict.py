"""Predict the classes of video files, also by each stream alone, and tell what is missing or damaged.

    python -m tasks.predict runs/NAME video.mp4 other.avi
    python -m tasks.predict runs/NAME video.mp4 --json      # one document; a file that cannot be used has an "error"

Flow and log-mel are computed as preprocess.extract does.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import sys
from dataclasses import asdict, replace

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, at_least, one_line
from tasks.model import load
from tasks.prediction import Prediction
from tasks.settings import PredictSettings

LONGEST = 40  # letters of a name beside a progress bar


def print_prediction(prediction: Prediction, *, top: int) -> None:
    """One video's answer as a table: a row a class, a column a stream."""
    streams = prediction.streams
    print(f"{prediction.video} ({prediction.seconds:.1f} s)")
    if prediction.expected is not None:
        print(f"  truncated: {prediction.seconds:.2f} s of {prediction.expected:.2f} s could be decoded")
    if prediction.damaged:
        what = "packets that could not be decoded, or frames with an impossible time"
        print(f"  passed over: {plural(prediction.damaged, 'damaged part')}, {what}")
    for note in filter(None, prediction.notes.split("; ")):
        print(f"  note: {note}")
    rows = [
        [name, f"{share:.1%}", *(f"{alone[name]:.1%}" for alone in streams.values())]
        for name, share in prediction.top(top)
    ]
    print_table(["class", "fused", *(f"{name} alone" for name in streams)], rows)
    for name, alone in streams.items():
        print(f"  {name} alone says {next(iter(alone))}")
    for name, why in prediction.missing.items():
        print(f"  {name} is missing: {why}; answered without it")


def shortened(prediction: Prediction, top: int) -> Prediction:
    """The prediction with only the likeliest classes."""
    streams = {name: dict(list(alone.items())[:top]) for name, alone in prediction.streams.items()}
    return replace(prediction, classes=dict(prediction.top(top)), streams=streams)


def main(settings: PredictSettings | None = None) -> int:
    settings = settings or parse_command(PredictSettings, prog="python -m tasks.predict", doc=__doc__)
    if not settings.videos:
        raise UserError("no video named: give one or more files after the run")
    at_least(1, top=settings.top, views=settings.views)
    model = load(settings.run, device=settings.device)
    predictions, failures = [], []
    for number, file in enumerate(settings.videos, start=1):
        place = f"{number}/{len(settings.videos)} " if len(settings.videos) > 1 else ""
        try:
            prediction = model.predict(file, views=settings.views, bar=place + one_line(file.name)[-LONGEST:])
        except UserError as error:
            failures.append({"video": str(file), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
            continue
        predictions.append(prediction)
        if not settings.json:
            print_prediction(prediction, top=settings.top)
    if settings.json:
        print(json.dumps([asdict(shortened(one, settings.top)) for one in predictions] + failures, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(main)
