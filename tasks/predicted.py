"""The answer for one video from its windows."""

from collections.abc import Callable, Sequence

import torch

from preprocess.store.index import Facts
from streams.registry import subsets
from tasks.prediction import Prediction, mean_answer, ranked, seconds_in
from tasks.shapley import shares
from tasks.windows import Windows


def predicted(
    windows: list[Windows],
    streams: Sequence[str],
    *,
    fuse: Callable[[Windows, Sequence[str]], Windows],
    classes: list[str],
    length: float,
    seconds: float,
    facts: Facts | None = None,
) -> Prediction:
    """The mean over the windows, of so many seconds each, of a video of `seconds`, and of these streams.

    fuse: gives the same windows as if only some streams were present. facts: of a stored video.
    """
    why = {} if facts is None else facts.why
    there = [name for name in streams if any(part.present[name].any() for part in windows)]
    answers = {frozenset(names): mean_answer([fuse(part, names) for part in windows]) for names in subsets(streams)}
    answer = answers[frozenset(streams)]
    alone = {name: ranked(answers[frozenset([name])], classes) for name in there}
    each = {names: found[None] for names, found in answers.items()}
    share = shares(each, answer.argmax()[None], streams)
    count, covered = sum(map(len, windows)), seconds_in(torch.cat([part.times for part in windows]).cpu().numpy())
    return Prediction(
        video=windows[0].videos[0],
        seconds=seconds,
        windows=count,
        length=length,
        seen=min(covered, count * length),  # of several segments only these are seen, not what lies between
        classes=ranked(answer, classes),
        streams=alone,
        shares={name: share[name].item() for name in there},
        missing={name: why.get(name, "not in any window") for name in streams if name not in there},
        expected=facts and facts.expected,
        damaged=0 if facts is None else facts.damaged,
        notes="" if facts is None else facts.notes,
    )
