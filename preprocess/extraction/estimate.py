"""An estimate of an extraction from a few videos: number of videos, time, size."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from preprocess.common.console import human_bytes, human_seconds, plural
from preprocess.common.errors import one_line
from preprocess.common.files import make_folder
from preprocess.common.stopping import Stopping
from preprocess.extraction.local import work_here
from preprocess.extraction.settings import ExtractSettings
from preprocess.extraction.sources import Source
from preprocess.extraction.task import Outcome, VideoTask, looked_at, piece_path
from preprocess.store.index import category

SAMPLE = 5  # videos


def print_plan(todo: Sequence[Source], *, total: int, settings: ExtractSettings) -> None:
    """Extract a few of the remaining videos into a temporary folder, and print the time and size that all will take.

    total: the number of videos of the whole job. Nothing is kept.
    """
    print(f"{plural(total, 'video')}; {total - len(todo)} are done or belong to other parts")
    if not todo:
        print("nothing to do")
        return
    sample = choose(todo)
    with Stopping().listening() as stopping, tempfile.TemporaryDirectory() as folder:
        pieces, scratch = Path(folder) / "pieces", Path(folder) / "scratch"
        make_folder(pieces)
        make_folder(scratch)
        unit = VideoTask(pieces, scratch, settings.store)
        limits = settings.worker_limits
        done = list(work_here(sample, unit, workers=1, worker_limits=limits, stopping=stopping))
        stored = sum(piece_path(pieces, m.content).stat().st_size for m in done if m.content and not m.reason)
    _print_estimate(todo, done, stored=stored, workers=settings.workers)


def choose(sources: Sequence[Source]) -> list[Source]:
    """A few sources from the smallest file to the largest, each from the middle of its share."""
    by_size = sorted(sources, key=lambda source: size(source.file))
    count = min(SAMPLE, len(by_size))
    return [by_size[(2 * k + 1) * len(by_size) // (2 * count)] for k in range(count)]


def size(file: str) -> int:
    """Bytes of a file; 0 if it cannot be accessed."""
    looks = looked_at(file)
    return looks[0] if looks else 0


def _print_estimate(todo: Sequence[Source], done: Sequence[Outcome], *, stored: int, workers: int) -> None:
    bytes_of = {source.path: size(source.file) for source in todo}
    total, sampled = sum(bytes_of.values()), sum(bytes_of[outcome.path] for outcome in done)
    share = total / max(1, sampled)
    seconds = sum(outcome.took for outcome in done) * share / max(1, min(workers, len(todo)))
    print(
        f"to do: {plural(len(todo), 'video')}, {human_bytes(total)}; from {plural(len(done), 'video')} of them: about "
        f"{human_seconds(seconds)} with {plural(workers, 'worker')}, about {human_bytes(stored * share)} in the store"
    )
    for outcome in done:
        if outcome.reason:
            print(f"of these, {one_line(outcome.path)} would be rejected ({category(outcome.reason)})")
