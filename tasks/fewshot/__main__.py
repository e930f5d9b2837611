"""Tell classes apart of which only a few videos are known, by the features of a run that never learned them.

    python -m tasks.fewshot runs/NAME new.h5 --way 5 --shot 1          # 600 random episodes, accuracy with its interval
    python -m tasks.fewshot runs/NAME new.h5 --episodes episodes.json --out answers.json
    python -m tasks.fewshot runs/NAME new.h5 --episodes episodes.json --by dtw

A class is the mean of its known videos' features in each stream (prototypes), or its videos step by step (dtw).
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fusion.training.run import check_parameters
from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.common.files import write_aside
from preprocess.store import Store
from tasks.fewshot.classify import Warping, classify, prototypes
from tasks.fewshot.embed import Embedded, embed
from tasks.fewshot.episodes import Episodes, draw_episodes, read_episodes
from tasks.fewshot.settings import FewShotSettings
from tasks.folder import check_output
from tasks.model import load


@dataclass(frozen=True)
class Accuracy:
    """Of a set of episodes."""

    episodes: int
    classes: float  # of an episode, the mean
    accuracy: float  # the mean over episodes
    interval: float  # half of its 95 % interval: 1.96 standard errors over episodes, which share videos


def answer(
    episodes: Episodes, streams: dict[str, Embedded], *, by: str, trust: dict[str, float] | None = None
) -> dict[str, list[list[str]]]:
    """set → of each episode the classes of its queries."""
    score = Warping() if by == "dtw" else prototypes
    return {
        name: [classify(streams, episodes.labels, one, score=score, trust=trust) for one in found]
        for name, found in episodes.sets.items()
    }


def judge(episodes: Episodes, answers: dict[str, list[list[str]]]) -> dict[str, Accuracy]:
    """set → its accuracy."""
    found = {}
    for name, those in episodes.sets.items():
        right = [
            np.mean([episodes.labels[row] == said for row, said in zip(one.query, answered, strict=True)])
            for one, answered in zip(those, answers[name], strict=True)
        ]
        ways = [len({episodes.labels[row] for row in one.support}) for one in those]
        error = np.std(right, ddof=1) / np.sqrt(len(right)) if len(right) > 1 else 0.0
        found[name] = Accuracy(len(right), float(np.mean(ways)), float(np.mean(right)), float(1.96 * error))
    return found


def parse_trust(texts: Sequence[str], streams: Sequence[str]) -> dict[str, float]:
    """``("audio=0.25",)`` → ``{"audio": 0.25}``

    Raises UserError for a stream that is not used, or a number that is not above zero.
    """
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if name not in streams or not 0 < found[name] < math.inf:
            known = ", ".join(streams)
            raise UserError(f"--trust {text}: give a stream that is used ({known}) and a number above 0, as audio=0.25")
    return found


def main(settings: FewShotSettings | None = None) -> None:
    settings = settings or parse_command(FewShotSettings, prog="python -m tasks.fewshot", doc=__doc__)
    at_least(1, views=settings.views, batch=settings.batch)
    if settings.out is not None:
        check_output(settings.out, option="--out")
    model = load(settings.run, weights=settings.weights, device=settings.device)
    streams = model.choose(settings.streams)
    trust = parse_trust(settings.trust, streams)
    store = Store(settings.data)
    check_parameters(store, model.parameters)
    if settings.episodes is not None:
        episodes = read_episodes(settings.episodes, store)
    else:
        shape = {"way": settings.way, "shot": settings.shot, "queries": settings.queries}
        episodes = draw_episodes(store, **shape, count=settings.count, seed=settings.seed)
    learned = sorted(set(episodes.labels) & set(model.classes))
    if learned:
        what = plural(len(learned), "class")
        print(f"note: the run has learned {what} of the episodes, such as {learned[0]}", file=sys.stderr)
    features = embed(model, store, episodes.videos, streams, of=settings.of, views=settings.views, batch=settings.batch)
    answers = answer(episodes, features, by=settings.by, trust=trust)
    accuracies = judge(episodes, answers)
    for name, one in accuracies.items():
        chance = f"chance {1 / one.classes:.1%}"
        print(f"{name}: {one.accuracy:.1%} ± {one.interval:.1%} over {plural(one.episodes, 'episode')}, {chance}")
    if settings.out is not None:
        found = answers | {"accuracy": {name: asdict(one) for name, one in accuracies.items()}}
        write_aside(settings.out, lambda part: part.write_text(json.dumps(found), encoding="utf-8"))


if __name__ == "__main__":
    run_command(main)
