"""Turn a folder of videos into one store of RGB, TV-L1 optical flow and log-mel sound.

    python -m preprocess.extract videos/ out.h5                       # videos/<class>/<video>, at any depth
    python -m preprocess.extract videos/ out.h5 --labels labels.csv   # columns: path,label[,split][,group]

Look at the result with python -m preprocess.info out.h5 and python -m preprocess.show out.h5 VIDEO.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from preprocess import catalog
from preprocess.command import parse_command, run_command
from preprocess.errors import UserError, at_least
from preprocess.info import print_rejected, print_summary
from preprocess.piece import PieceSettings
from preprocess.pool import run_all
from preprocess.stopwatch import Stopwatch
from preprocess.store import Store
from preprocess.table import print_table
from preprocess.writer import StoreWriter


@dataclass(frozen=True)
class ExtractSettings:
    """The command line of preprocess.extract."""

    videos: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """folder of videos: <class>/<video>, at any depth below the class"""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """the store to write, for instance out.h5"""
    labels: Path | None = None
    """CSV file with columns path (relative to the folder), label, and optionally split (train, val, test) and group"""
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """worker processes, one thread each; the default is one for each core"""
    overwrite: bool = False
    """replace the store if there is one"""
    profile: bool = False
    """print how much of the time each stage took"""
    strict: bool = False
    """end with status 1 if any video could not be used"""
    store: Annotated[PieceSettings, tyro.conf.arg(name="")] = field(default_factory=PieceSettings)


def extract(settings: ExtractSettings) -> Store | None:
    """Extract every video and write the store; None if no video could be used, and then nothing is written.

    Raises UserError for input that cannot be worked on.
    """
    parameters = check(settings)
    found = (
        catalog.from_csv(settings.videos, settings.labels) if settings.labels else catalog.from_folder(settings.videos)
    )
    for note in found.notes:
        print(f"note: {note}")
    watch = Stopwatch()
    with StoreWriter(settings.out, overwrite=settings.overwrite) as writer:
        for done in run_all(found.sources, writer.folder, settings.store, workers=settings.workers):
            with watch.stage("store"):
                writer.add(done.piece, done.outcome)
            watch.seconds += done.seconds
        if not writer.videos:
            print_rejected(sorted(writer.rejected, key=lambda reject: reject.path))
            return None
        with watch.stage("store"):
            writer.publish(parameters=parameters, notes=found.notes)
    if settings.profile:
        print_profile(watch)
    return Store(settings.out)


def check(settings: ExtractSettings) -> dict:
    """The parameters that the store will record.

    Raises UserError for settings that cannot be worked with.
    """
    if not settings.videos.is_dir():
        raise UserError(f"{settings.videos} is no folder of videos")
    at_least(1, workers=settings.workers, mel_bands=settings.store.mel_bands)
    at_least(8, short_side=settings.store.short_side)
    if not 0 < settings.store.fps <= 1000:
        raise UserError(f"--fps must be positive, and 1000 at most, not {settings.store.fps}")
    try:
        return settings.store.parameters()
    except ValueError as error:
        raise UserError(str(error)) from error


def print_profile(watch: Stopwatch) -> None:
    """The share of each stage in the seconds of all processes."""
    total = watch.seconds.total()
    rows = [[name, f"{seconds:.1f} s", f"{seconds / total:.1%}"] for name, seconds in watch.seconds.most_common()]
    print_table(["stage", "time", "share"], rows)


def main() -> int:
    settings = parse_command(ExtractSettings, prog="python -m preprocess.extract", doc=__doc__)
    store = extract(settings)
    if store is None:
        print(f"error: none of the videos in {settings.videos} can be used; no store was written", file=sys.stderr)
        return 1
    print_rejected(store.rejected)
    print()
    print_summary(store)
    return 1 if settings.strict and store.rejected else 0


if __name__ == "__main__":
    run_command(main)
