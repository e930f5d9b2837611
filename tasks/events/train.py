"""Training of a detector: its towers, if none are given, then the temporal head on their features."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fusion.training.run import write_json
from fusion.training.settings import TrainSettings
from preprocess.common.console import plural
from preprocess.common.errors import UserError, at_least
from preprocess.info import print_summary
from preprocess.store import Store
from streams.registry import parse_streams, subset_name
from tasks.events.cut import cut_store
from tasks.events.detector import HEAD, Detector, save_detector
from tasks.events.event import Event
from tasks.events.heads import HEADS
from tasks.events.labels import check_overlaps, known_events
from tasks.events.sequences import VideoFeatures, sequences
from tasks.events.settings import CutEvents, HeadRecipe, TrainEvents
from tasks.events.training import train_head
from tasks.folder import output_folder
from tasks.model import Model, load


def train_detector(settings: TrainEvents) -> Detector:
    """Train, write the folder, return the detector.

    Raises UserError for a recipe, table, store or run that cannot be learned from, or a folder that holds a detector.
    """
    check_recipe(settings.head)
    at_least(0, seed=settings.seed)
    if (settings.out / HEAD).exists():
        raise UserError(f"{settings.out} holds a detector: name another folder with --out, or delete it")
    store = Store(settings.data)
    events, notes = training_events(store, settings.labels, settings.head)
    with output_folder(settings.out):
        for note in notes:
            print(f"note: {note}")
        towers = settings.init or _train_towers(settings, store, events)
        model = load(towers, device=settings.machine.device)
        streams = detector_streams(model, settings.streams)
        videos = gather(model, store, events, settings.head)
        classes = sorted({event.label for found in events.values() for event in found})
        total = f"{plural(sum(map(len, events.values())), 'event')} of {plural(len(classes), 'class')}"
        print(f"{settings.out}: {subset_name(streams)}, {total} in {plural(len(events), 'video')}")
        learned = {"classes": classes, "streams": streams, "recipe": settings.head, "seed": settings.seed}
        detector = Detector(model, train_head(videos, events, **learned, bar="head"), classes, settings.head)
        save_detector(settings.out, detector)
        write_json(settings.out / "settings.json", settings)
    print(f"judge it with: python -m tasks.events evaluate {settings.out} --data TEST.h5 --labels TEST.csv")
    return detector


def cut(settings: CutEvents) -> Store:
    """Cut a store into parts. Raises UserError if the result exists, or the table does not fit the store."""
    if settings.out.exists():
        raise UserError(f"{settings.out} exists: give another name for the result")
    if not settings.out.parent.is_dir():
        raise UserError(f"cannot write {settings.out}: its folder does not exist")
    store = Store(settings.data)
    events, notes = known_events(store, settings.labels)
    for note in notes:
        print(f"note: {note}")
    parts = cut_store(store, events, settings.out)
    print_summary(parts)
    return parts


def check_recipe(recipe: HeadRecipe) -> None:
    """Raises UserError for an unknown head, or a number that cannot be."""
    if recipe.head not in HEADS:
        raise UserError(f"unknown --head '{recipe.head}': known are {', '.join(HEADS)}")
    at_least(1, passes=recipe.passes, videos=recipe.videos, channels=recipe.channels)
    at_least(0.001, hop=recipe.hop, rate=recipe.rate / 1e6 * 1e6)
    at_least(0, drop=recipe.drop, hide=recipe.hide, decay=recipe.decay)
    if recipe.channels % 4:
        raise UserError(f"--channels must be a multiple of 4, not {recipe.channels}")
    for name in ("drop", "hide"):
        if getattr(recipe, name) >= 1:
            raise UserError(f"--{name} is a share below 1, not {getattr(recipe, name)}")


def training_events(store: Store, labels: Path, recipe: HeadRecipe) -> tuple[dict[str, list[Event]], list[str]]:
    """The events by video, and notes; raises UserError for what the head cannot learn."""
    events, notes = known_events(store, labels)
    if len(HEADS[recipe.head].strides) == 1:
        for found in events.values():
            check_overlaps(found, head=recipe.head)
    return events, notes


def detector_streams(model: Model, text: str | None) -> tuple[str, ...]:
    """The streams to learn from. Raises UserError for one that the towers lack."""
    names = parse_streams(text) if text else model.streams
    for name in names:
        if name not in model.streams:
            raise UserError(f"{model.path} was not trained on {name}: its streams are {', '.join(model.streams)}")
    return names


def gather(
    model: Model, store: Store, events: Mapping[str, Sequence[Event]], recipe: HeadRecipe
) -> list[VideoFeatures]:
    """The window features of the videos that the table names: others may hold events that nobody has noted."""
    found = sequences(model, store, length=recipe.length, hop=recipe.hop, keep=True, bar="features")
    return [video for video in found if video.video in events]


def _train_towers(settings: TrainEvents, store: Store, events: Mapping[str, Sequence[Event]]) -> Path:
    """Cut the videos into parts, and let train.py learn towers from these; the run."""
    from train import train

    parts, run = settings.out / "parts.h5", settings.out / "towers"
    if not parts.exists():
        settings.out.mkdir(parents=True, exist_ok=True)
        cut_store(store, events, parts)
    given = TrainSettings(data=parts, run=run, seed=settings.seed, recipe=settings.towers, machine=settings.machine)
    if settings.streams:
        given = replace(given, streams=settings.streams)
    return train(given)
