"""Predictions as text: tables for people, CSV, JSON."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, replace

from preprocess.common.console import plural, print_table
from streams.registry import in_order
from tasks.events.event import COLUMNS
from tasks.prediction import Prediction, Span, TimedPrediction


def print_prediction(prediction: Prediction, *, top: int) -> None:
    """One video's answer as a table: a row a class, a column a stream."""
    streams = prediction.streams
    _print_seen(prediction)
    rows = [
        [name, f"{share:.1%}", *(f"{alone[name]:.1%}" for alone in streams.values())]
        for name, share in prediction.top(top)
    ]
    print_table(["class", "fused", *(f"{name} alone" for name in streams)], rows)
    for name, alone in streams.items():
        print(f"  {name} alone says {next(iter(alone))}")
    _print_missing(prediction)


def print_timeline(prediction: TimedPrediction) -> None:
    """One video's answers as a table: a row a span, a column a stream's share of the probability."""
    _print_seen(prediction)
    streams = list(prediction.streams)
    rows = [
        [
            _clock(span.start),
            _clock(span.end),
            "no stream is there" if span.label is None else span.label,
            f"{span.score:.1%}",
            *(f"{span.shares[name]:+.1%}" if name in span.shares else "" for name in streams),
        ]
        for span in prediction.timeline
    ]
    print_table(["from", "to", "class", "fused", *(f"{name}'s share" for name in streams)], rows)
    _print_missing(prediction)


def as_csv(predictions: Sequence[Prediction | TimedPrediction]) -> str:
    """A line an answer: a video, or a span of one, with the likeliest class; times in seconds.

    The first columns are those of a table of events. Spans without any stream have no answer, and no line.
    """
    streams = _streams(predictions)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, "score", *(f"{name}_alone" for name in streams), *(f"{name}_share" for name in streams)])
    for prediction in predictions:
        for span in _spans(prediction):
            numbers = [part.get(name) for part in (span.alone, span.shares) for name in streams]
            cells = ["" if number is None else f"{number:.4f}" for number in (span.score, *numbers)]
            rows.writerow([prediction.video, f"{span.start:.3f}", f"{span.end:.3f}", span.label, *cells])
    return text.getvalue()


def as_object(prediction: Prediction | TimedPrediction, *, top: int) -> dict:
    """The fields of a prediction, of one answer with only the likeliest classes, for JSON."""
    if isinstance(prediction, Prediction):
        streams = {name: dict(list(alone.items())[:top]) for name, alone in prediction.streams.items()}
        prediction = replace(prediction, classes=dict(prediction.top(top)), streams=streams)
    return asdict(prediction)


def _spans(prediction: Prediction | TimedPrediction) -> list[Span]:
    if isinstance(prediction, TimedPrediction):
        return [span for span in prediction.timeline if span.label is not None]
    ((label, score),) = prediction.top(1)
    alone = {name: classes[label] for name, classes in prediction.streams.items()}
    return [Span(start=0.0, end=prediction.seconds, label=label, score=score, alone=alone, shares=prediction.shares)]


def _streams(predictions: Sequence[Prediction | TimedPrediction]) -> list[str]:
    """The streams that were asked for, in their order, whether they are there or not."""
    return list(in_order({name for one in predictions for name in (*one.streams, *one.missing)}))


def _print_seen(prediction: Prediction | TimedPrediction) -> None:
    share = min(1.0, prediction.seen / max(prediction.seconds, 1e-9))
    windows = f"{plural(prediction.windows, 'window')} of {prediction.length:.2f} s"
    shown = f"{windows} show {prediction.seen:.1f} s of it, {share:.1%}"
    print(f"{prediction.video} ({prediction.seconds:.1f} s): {shown}")
    if prediction.expected is not None:
        print(f"  truncated: {prediction.seconds:.2f} s of {prediction.expected:.2f} s could be decoded")
    if prediction.damaged:
        what = "packets that could not be decoded, or frames with an impossible time"
        print(f"  passed over: {plural(prediction.damaged, 'damaged part')}, {what}")
    for note in filter(None, prediction.notes.split("; ")):
        print(f"  note: {note}")


def _print_missing(prediction: Prediction | TimedPrediction) -> None:
    for name, why in prediction.missing.items():
        print(f"  {name} is missing: {why}; answered without it")


def _clock(seconds: float) -> str:
    """3723.5 → '1:02:03.50'; 90 → '1:30.00'"""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    tail = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{tail}" if minutes >= 60 else f"{minutes}:{tail}"
