"""Ask a run about video files: the classes, what each stream alone would say, and what was missing.

    python -m tasks.predict runs/NAME video.mp4 other.avi
    python -m tasks.predict runs/NAME video.mp4 --json      # one document; a file that cannot be used has an "error"

Flow and log-mel are computed as preprocess.extract does.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least
from preprocess.store import Store
from streams import subset_name
from tasks.evaluate import ask
from tasks.run import Run, load_run


@dataclass(frozen=True)
class PredictSettings:
    """The command line of tasks.predict."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder of the run, for instance runs/rgb+flow+audio"""
    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files"""
    top: int = 5
    """how many classes to name"""
    views: int = 5
    """clips a video, spread evenly over its time"""
    json: bool = False
    """print one JSON document instead of tables"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""


def predict(run: Run, file: Path, *, views: int = 5) -> dict:
    """What the run makes of one video file.

    Returns {"video", "seconds", "classes": {name: probability}, "streams": {stream: {name: probability}}, "missing":
    {stream: why}}, classes from the likeliest on. Streams that are missing have no opinion; the answer is fused from
    the others.

    Raises UserError if the file is no usable video, or has none of the run's streams.
    """
    at_least(1, views=views)
    with tempfile.TemporaryDirectory() as folder:
        store = _extract(run, file, Path(folder))
        video = store.videos[0]
        missing = {name: video.why[name] for name in run.streams if not video.streams[name]}
        there = tuple(name for name in run.streams if name not in missing)
        if not there:
            why = ", ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise UserError(f"{file} has no stream that {run.path} can use ({why})")
        names = list(dict.fromkeys([there, *((name,) for name in there)]))
        answers = ask(run, store, [video], names, views=views)

    def ranked(subset: tuple[str, ...]) -> dict[str, float]:
        probabilities = answers.probabilities(subset_name(subset))[0]
        order = probabilities.argsort(descending=True).tolist()
        return {run.classes[row]: probabilities[row].item() for row in order}

    return {
        "video": str(file),
        "seconds": video.seconds,
        "classes": ranked(there),
        "streams": {name: ranked((name,)) for name in there},
        "missing": missing,
    }


def _extract(run: Run, file: Path, folder: Path) -> Store:
    """A store of this one file, with the parameters of the run's own."""
    from preprocess.common.stopwatch import Stopwatch
    from preprocess.store.index import Video
    from preprocess.store.locations import Locations
    from preprocess.store.seal import digest
    from preprocess.store.writer import StoreWriter
    from preprocess.video.decoder import Unusable
    from preprocess.video.piece import PieceSettings, extract_piece

    if file.is_dir():
        raise UserError(f"{file} is a folder: name the videos in it")
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    settings = PieceSettings.like(run.parameters)
    piece, out, content = folder / "piece.h5", folder / "video.h5", digest(file)
    try:
        facts = extract_piece(str(file), piece, content=content, settings=settings, watch=Stopwatch())
    except Unusable as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    archive = Locations(settings.parameters())
    archive.add_file(piece)
    with StoreWriter(out, archive=archive, scratch=folder, shard_bytes=float("inf")) as writer:
        writer.place(content)
        writer.publish([Video(**vars(facts), path=file.name)], [], notes=[])
    return Store(out)


def print_prediction(prediction: dict, *, top: int) -> None:
    """One video's answer as a table: a row a class, a column a stream."""
    streams = prediction["streams"]
    print(f"{prediction['video']} ({prediction['seconds']:.1f} s)")
    rows = [
        [name, f"{share:.1%}", *(f"{opinion[name]:.1%}" for opinion in streams.values())]
        for name, share in list(prediction["classes"].items())[:top]
    ]
    print_table(["class", "fused", *(f"{name} alone" for name in streams)], rows)
    for name, opinion in streams.items():
        print(f"  {name} alone says {next(iter(opinion))}")
    for name, why in prediction["missing"].items():
        print(f"  {name} is missing: {why}; answered without it")


def _shortened(prediction: dict, top: int) -> dict:
    """Only the likeliest classes."""

    def first(classes: dict[str, float]) -> dict[str, float]:
        return dict(list(classes.items())[:top])

    streams = {name: first(classes) for name, classes in prediction["streams"].items()}
    return prediction | {"classes": first(prediction["classes"]), "streams": streams}


def main() -> int:
    settings = parse_command(PredictSettings, prog="python -m tasks.predict", doc=__doc__)
    if not settings.videos:
        raise UserError("no video named: give one or more files after the run")
    at_least(1, top=settings.top, views=settings.views)
    run = load_run(settings.run, device=settings.device)
    predictions, failures = [], []
    for file in tqdm(settings.videos, unit="video", leave=False, disable=None if len(settings.videos) > 1 else True):
        try:
            prediction = predict(run, file, views=settings.views)
        except UserError as error:
            failures.append({"video": str(file), "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
            continue
        predictions.append(prediction)
        if not settings.json:
            print_prediction(prediction, top=settings.top)
    if settings.json:
        print(json.dumps([_shortened(answer, settings.top) for answer in predictions] + failures, indent=1))
    return 1 if failures else 0


if __name__ == "__main__":
    run_command(main)
