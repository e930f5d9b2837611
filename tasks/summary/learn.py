"""Learn from people's scores what is important, judge it on videos that it has not learned from, and keep it.

    python -m tasks.summary.learn runs/NAME scores.csv videos/ --out importance.npz
    python -m tasks.summarise runs/NAME new.mp4 --importance importance.npz

scores.csv has the columns video, time, score and, if several people said what they think, person. The table that is
printed gives Kendall's tau-b and Spearman's rho with each person, beside the agreement of the people with each other
and "the middle matters", which needs no picture.
"""

from preprocess.common.stopping import stop_at_once

if __name__ == "__main__":
    stop_at_once()

from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from preprocess.common.command import parse_command, run_command
from preprocess.common.console import plural, print_table
from preprocess.common.errors import UserError, at_least
from tasks.folder import check_output
from tasks.model import load
from tasks.sources import Named, named_videos, open_source
from tasks.summary.evidence import Evidence, gather
from tasks.summary.importance import importance
from tasks.summary.people import (
    Agreement,
    Scores,
    between_people,
    learn,
    middle_matters,
    read_scores,
    save_learned,
    with_people,
)
from tasks.summary.settings import LearnSettings


def main(settings: LearnSettings | None = None) -> None:
    settings = settings or parse_command(LearnSettings, prog="python -m tasks.summary.learn", doc=__doc__)
    at_least(2, folds=settings.folds)
    if not settings.videos:
        raise UserError("no video named: give files, folders or stores after the scores")
    check_output(settings.out, option="--out")
    said = read_scores(settings.scores)
    model = load(settings.run, weights=settings.weights, device=settings.device)
    model.spacing(hop=settings.hop)
    videos = matched(named_videos(settings.videos, parameters=model.parameters), list(said))
    if len(videos) < settings.folds:
        raise UserError(f"--folds {settings.folds} needs as many videos with scores, there are {len(videos)}")
    evidence = {}
    for name, one in videos.items():
        with open_source(one.source, video=one.video, parameters=model.parameters, bar=name) as opened:
            shape = {"streams": model.streams, "hop": settings.hop, "keep": True, "bar": name}
            evidence[name] = gather(model, opened.store, opened.videos[0], **shape)
    judge(evidence, said, folds=settings.folds)
    save_learned(settings.out, learn(list(evidence.values()), list(said.values()), run=str(settings.run)))
    print(f"wrote {settings.out}, learned from {plural(len(said), 'video')}")


def judge(evidence: Mapping[str, Evidence], said: Mapping[str, Scores], *, folds: int) -> None:
    """Print how well what is learned agrees with people on the videos of each fold that it has not learned from."""
    guessed, plain, names = {}, {}, list(said)
    for fold in range(folds):
        held = names[fold::folds]
        others = [name for name in names if name not in held]
        found = learn([evidence[name] for name in others], [said[name] for name in others], run="a fold")
        for name in held:
            times, at = said[name].times, evidence[name].middles
            guessed[name] = np.interp(times, at, found.predict(evidence[name]))
            plain[name] = np.interp(times, at, importance(evidence[name]).values)
    people = {name: one.scores for name, one in said.items()}
    middle = {name: middle_matters(scores.shape[1]) for name, scores in people.items()}
    rows = [
        _row("learned, on videos that it has not seen", with_people(guessed, people)),
        _row("without learning", with_people(plain, people)),
        _row("the middle matters", with_people(middle, people)),
    ]
    if all(len(scores) > 1 for scores in people.values()):
        rows.append(_row("people with each other", between_people(people)))
    print_table(["scores", "tau-b", "rho"], rows)


def matched(videos: Sequence[Named], names: Sequence[str]) -> dict[str, Named]:
    """The video of each name in the scores: by its path, its name, or that without its suffix.

    Raises UserError for a name that no video has, or several.
    """
    found = {}
    for name in names:
        fits = [one for one in videos if name in (one.name, one.key, PurePath(one.key).name, PurePath(one.key).stem)]
        if len(fits) != 1:
            many = "more than one" if fits else "no"
            raise UserError(f"the scores are of {name}, which {many} given video is called")
        found[name] = fits[0]
    return found


def _row(name: str, agreement: Agreement) -> list[str]:
    return [name, f"{agreement.tau:.3f}", f"{agreement.rho:.3f}"]


if __name__ == "__main__":
    run_command(main)
