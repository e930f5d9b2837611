"""Reading a run that train.py wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.training.run import read_settings, read_split
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.store import Store
from preprocess.store.index import Video
from streams.split import Split
from tasks.model import Model, load
from tasks.sources import check_parameters


@dataclass(frozen=True)
class Run:
    """A trained model, and the videos that it was trained on."""

    path: Path
    settings: TrainSettings
    split: Split
    trained_on: frozenset[str]  # digests of the training files
    weights: str  # best or last
    model: Model


def load_run(path: Path, *, weights: str = "best", device: str = "auto") -> Run:
    """Load a run. Raises UserError if there is no run at `path`, or it lacks these weights or a classifier."""
    model = load(path, weights=weights, device=device)
    if not model.classes:
        raise UserError(f"{path} has no classifier, it was trained with --pretrain: train one with --init {path}")
    settings, _ = read_settings(path)
    split = read_split(path)
    trained_on = frozenset(split.train_content)
    return Run(path=path, settings=settings, split=split, trained_on=trained_on, weights=weights, model=model)


def check_store(run: Run, store: Store) -> None:
    """Raises UserError if the run cannot read the store: other parameters, or classes that it does not know."""
    check_parameters(store, run.model.parameters)
    unknown = [name for name in store.classes if name not in run.model.classes]
    if unknown:
        raise UserError(
            f"{store.path} has classes that {run.path} does not know: {_some(unknown)}; "
            f"the run knows {_some(run.model.classes)}"
        )


def choose_videos(run: Run, store: Store, which: str) -> tuple[list[Video], str]:
    """The labelled videos to judge a run on, never one that it was trained on, and a sentence about the choice.

    `which` is test or val (of the labels' split column, or of the run's own split), or auto: test videos if the store
    has some, else all that the run was not trained on.

    Raises UserError if none are left.
    """
    labelled = [video for video in store.videos if video.label is not None]
    unseen = [video for video in labelled if video.content not in run.trained_on]
    seen, held = len(labelled) - len(unseen), set(run.split.val_content)
    if which == "auto" and any(video.split == "test" for video in unseen):
        which = "test"
    if which == "test":
        chosen, name = [video for video in unseen if video.split == "test"], "test videos"
    elif which == "val":
        own = set(run.split.val)  # a test video may be a copy of one
        chosen, name = [v for v in unseen if v.content in held and v.path in own], "validation videos"
    elif which == "auto":
        chosen, name = unseen, "videos"
    else:
        raise UserError(f"unknown split '{which}': use auto, test or val")
    if not chosen:
        raise UserError(
            f"{store.path} has no labelled {name} that {run.path} was not trained on ({seen} it was): give another "
            f"store with --data, or another --split"
        )
    sentence = f"{len(chosen)} {name} of {store.path}" + (f" ({seen} training videos left out)" if seen else "")
    fitted = sum(video.content in held for video in chosen) if hasattr(run.model.network.head, "fitter") else 0
    return chosen, sentence + (f"; the head was fitted on {fitted} of them, which flatters it" if fitted else "")


def chosen_on(run: Run, videos: Sequence[Video]) -> int:
    """The number of these videos on which the run's best weights were chosen: answers on them are better than on new
    ones. 0 for its last weights.
    """
    held = set(run.split.val_content)
    return sum(video.content in held for video in videos) if run.weights == "best" else 0


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
