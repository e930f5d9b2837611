"""Find videos, and the moments in them, that are like another one.

    python -m tasks.search index/ query.mp4
    python -m tasks.search index/ query.mp4 --from 12 --to 15 --streams audio
    python -m tasks.search index/ query.mp4 --weights rgb=1,audio=2 --page found.html
    python -m tasks.search index/ queries/ --json > found.json
    python -m tasks.search index/ --ranking all.json            # every video of the index asks the others

Copies are found too where they were mirrored, cropped, darkened, slowed or muted. The index knows its model, which has
to be where it was.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import print_table
from preprocess.common.errors import UserError, at_least, one_line
from preprocess.common.files import write_aside
from preprocess.store.seal import digest
from streams.registry import parse_streams
from tasks.folder import check_output
from tasks.model import Model, load
from tasks.retrieval.colours import COLOURS
from tasks.retrieval.describe import CLASS, Described, chosen_parts, describe, with_colours
from tasks.retrieval.graph import Graphs, newest_graph
from tasks.retrieval.index import Index
from tasks.retrieval.page import write_found
from tasks.retrieval.ranking import FEW, Ranked, Weights, rank
from tasks.retrieval.settings import SearchSettings
from tasks.retrieval.stills import middle_pictures
from tasks.retrieval.whitening import Whitened
from tasks.sources import Named, named_videos, open_source

DEFAULTS = {"rgb": 2.0}  # parts that do not count 1


@dataclass(frozen=True)
class Ways:
    """How the windows of an index are compared with those of queries."""

    weights: Weights
    graphs: Graphs | None
    whitened: dict[str, Whitened] | None

    def rank(self, index: Index, query: Described, settings: SearchSettings, *, without: str | None = None) -> Ranked:
        """The videos of the index most like a query."""
        ways = {"graphs": self.graphs, "whitened": self.whitened}
        return rank(index, query, self.weights, top=settings.top, without=without, **ways)


def search(index: Index, model: Model, one: Named, settings: SearchSettings, ways: Ways) -> Ranked:
    """The videos most like one.

    Raises UserError if it cannot be used, or has nothing to compare.
    """
    with open_source(one.source, video=one.video, parameters=model.parameters) as opened:
        (video,) = opened.videos
        model.check_streams(video, model.streams)
        about = index.about
        shape = {"length": about.length, "hop": about.hop, "keep": not opened.lasts}
        described = describe(model, model.windows(opened.store, video=video.path, **shape), about.parts)
        if COLOURS in about.parts:
            described = with_colours(described, middle_pictures(opened.store, video, described.times))
    described = described.between(settings.start, settings.to)
    if not len(described):
        raise UserError(f"{one.name} ends before --from {settings.start:g}: it lasts {video.seconds:.1f} s")
    return ways.rank(index, described, settings)


def weights_of(index: Index, settings: SearchSettings) -> Weights:
    """How much each part counts.

    Raises UserError for streams that the index does not have, or weights that are none.
    """
    there = list(dict.fromkeys(name.removesuffix(CLASS) for name in index.names if not name.startswith("fused")))
    given = _parse_weights(settings.weights, there) if settings.weights else {}
    streams = list(given) or None
    if settings.streams:
        streams = list(parse_streams(settings.streams, there))
    parts = chosen_parts(index.names, by=settings.by, streams=streams)
    if not parts:
        raise UserError(f"{index.folder} cannot be asked by class: its run has no classifier")
    return {name: given.get(name.removesuffix(CLASS), DEFAULTS.get(name, 1.0)) for name in parts}


def graphs_of(index: Index, weights: Weights, settings: SearchSettings) -> Graphs | None:
    """The graphs of an index, if all that counts has one, and every window need not be compared."""
    if settings.exact or len(index) <= FEW or not all(newest_graph(index, name)[0] for name in weights):
        return None
    return Graphs(index, list(weights))


def ways_of(index: Index, settings: SearchSettings) -> Ways:
    """How the settings compare: content is whitened; what tells classes is compared as it is.

    Raises UserError as weights_of, and for a damaged graph.
    """
    weights = weights_of(index, settings)
    whitened = {name: Whitened(index, name) for name in weights} if settings.by == "content" else None
    return Ways(weights, graphs_of(index, weights, settings), whitened)


def model_of(index: Index, *, device: str) -> Model:
    """The model that made an index.

    Raises UserError if it is not where it was, or is another.
    """
    path = Path(index.about.model)
    if not path.is_file():
        raise UserError(f"the model of {index.folder} is not at {path} any more: put it there, or make the index again")
    if digest(path) != index.about.model_digest:
        raise UserError(f"{path} is another model than that of {index.folder}: make the index again")
    return load(path, device=device)


def _all_ask(index: Index, settings: SearchSettings, ways: Ways) -> Iterator[tuple[str, Ranked]]:
    """What the videos of an index find among the others; those that lack all that is compared find nothing."""
    for video in tqdm(index.held, desc="search", unit="video", leave=False, disable=None):
        query = index.described(video.rows).between(settings.start, settings.to)
        if any(query.present[name].any() for name in ways.weights):
            yield video.path, ways.rank(index, query, settings, without=video.content)


def _parse_weights(text: str, known: list[str]) -> dict[str, float]:
    found = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if name not in known or not 0 < weight < 1e6:
            raise UserError(f"--weights {text}: give numbers above zero for {', '.join(known)}, as in rgb=1,audio=2")
        found[name] = weight
    return found


def _print(name: str, found: Ranked) -> None:
    print(one_line(name))
    rows = [
        [f"{match.score:.3f}".replace("-", "−"), one_line(match.video.path), _span(match.time), _span(match.asked)]
        for match in found.matches
    ]
    print_table(["similarity", "video", "at", "as the query at"], rows)


def _span(time: tuple[float, float]) -> str:
    return f"{time[0]:.1f}–{time[1]:.1f} s"


def as_json(found: list[tuple[str, Ranked]]) -> list[dict]:
    """The answers as plain data."""
    return [
        {
            "query": name,
            "found": [
                {
                    "video": match.video.path,
                    "source": match.video.source,
                    "similarity": match.score,
                    "time": match.time,
                    "query_time": match.asked,
                }
                for match in one.matches
            ],
        }
        for name, one in found
    ]


def main(settings: SearchSettings | None = None) -> int:
    settings = settings or parse_command(SearchSettings, prog="python -m tasks.search", doc=__doc__)
    at_least(1, top=settings.top)
    if settings.to is not None and settings.to <= settings.start:
        raise UserError(f"--to {settings.to:g} is not after --from {settings.start:g}")
    for option, path in (("--ranking", settings.ranking), ("--page", settings.page)):
        if path is not None:
            check_output(path, option=option)
    index = Index(settings.index)
    ways = ways_of(index, settings)
    found, failed = [], 0
    if settings.queries:
        model = model_of(index, device=settings.device)
        queries = named_videos(settings.queries, video=settings.video, parameters=model.parameters)
        for one in tqdm(queries, desc="search", unit="video", leave=False, disable=None):
            try:
                found.append((one.key, search(index, model, one, settings, ways)))
            except UserError as error:
                failed += 1
                tqdm.write(f"error: {one_line(str(error))}", file=sys.stderr)
    elif settings.ranking or settings.json or settings.page:
        found = list(_all_ask(index, settings, ways))
    else:
        raise UserError("give a video to find the like of, or --ranking FILE to let every video of the index ask")
    if settings.ranking and found:
        ranking = {name: [index.videos[number].path for number in one.order] for name, one in found}
        write_aside(settings.ranking, lambda part: part.write_text(json.dumps(ranking)))
    if settings.page and found:
        write_found(settings.page, index, [(name, one.matches) for name, one in found])
    if settings.json:
        print(json.dumps(as_json(found), indent=1))
    elif settings.queries:
        for name, one in found:
            _print(name, one)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
