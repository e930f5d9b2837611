"""A run's folder: its name, its settings and split, its weights."""

import json
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from fusion.model import FusionModel, build_model
from fusion.settings import ModelSettings
from fusion.training.checkpoint import Checkpoints
from fusion.training.ranks import Ranks
from fusion.training.settings import Machine, Recipe, TrainSettings, differences, validate
from preprocess.common.errors import UserError
from preprocess.common.files import only_one, remove_folder, write_aside
from preprocess.store import Store
from preprocess.store.format import is_current
from streams.clip import ClipSettings
from streams.registry import parse_streams, subset_name
from streams.split import Split

KEY = "tristream"  # the metadata key under which a weights file is described
MUST_MATCH = ("fps", "mel_bands")  # of a model's store and another; frames of any size are scaled to the clip's


def default_run(streams: tuple[str, ...], *, resume: bool) -> Path:
    """A new folder runs/STREAMS, runs/STREAMS-2, …; to resume, the newest existing one."""
    base = Path("runs", subset_name(streams))
    taken = [base] if base.exists() else []
    while taken and (following := base.with_name(f"{base.name}-{len(taken) + 1}")).exists():
        taken.append(following)
    if resume:
        return taken[-1] if taken else base
    return base.with_name(f"{base.name}-{len(taken) + 1}") if taken else base


def resume_settings(run: Path, given: TrainSettings, *, epochs: int | None) -> TrainSettings:
    """The settings that `run` was started with; machine, paths of data and teacher may change, and `epochs` grow.

    Raises UserError for other changes.
    """
    saved, _ = read_settings(run)
    usual = differences(given, TrainSettings())
    refuse_changes(run, {name: value for name, value in differences(given, saved).items() if name in usual})
    if epochs is not None and epochs < saved.recipe.epochs:
        raise UserError(f"{run} was started with {saved.recipe.epochs} epochs: --epochs can be more, but not {epochs}")
    data = saved.data if given.data == TrainSettings.data else given.data
    teacher = given.recipe.teacher or saved.recipe.teacher  # it may have moved; its weights may not have changed
    recipe = replace(saved.recipe, epochs=epochs or saved.recipe.epochs, teacher=teacher)
    return replace(saved, resume=True, data=data, recipe=recipe, machine=given.machine)


def refuse_changes(run: Path, changes: dict[str, object]) -> None:
    """Raises UserError for an option that may not change when `run` is resumed."""
    for name, value in changes.items():
        if name not in ("data", "run", "resume", "teacher"):
            raise UserError(
                f"--resume goes on with the settings of {run}; leave out --{name.replace('_', '-')} {value}"
            )


def own_settings(given: TrainSettings) -> TrainSettings:
    """The settings of the run that `given` resumes, on the usual machine: what options that are not given mean."""
    run = given.run or default_run(parse_streams(given.streams, None), resume=True)
    return replace(read_settings(run)[0], resume=False, machine=Machine())


def lengthen(run: Path, epochs: int) -> int:
    """Let the run have so many epochs; return how many it had."""
    before, saved = read_settings(run)
    if epochs != before.recipe.epochs:
        saved["settings"]["recipe"]["epochs"] = epochs
        write_json(run / "settings.json", saved)
    return before.recipe.epochs


def read_settings(run: Path) -> tuple[TrainSettings, dict]:
    """A run's settings, and its store's classes and parameters."""
    try:
        saved = json.loads((run / "settings.json").read_text())
        values, _, _ = (saved[name] for name in ("settings", "classes", "parameters"))
        return replace(settings_from_json(values), run=run), saved
    except FileNotFoundError as error:
        raise UserError(f"{run} is no run of train.py: it has no settings.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{run}/settings.json is not what this version of train.py writes ({error})") from error


def settings_from_json(values: dict) -> TrainSettings:
    """Settings from JSON.

    Raises ValueError, KeyError or TypeError if they are not of this version.
    """
    recipe = values["recipe"]
    model = ModelSettings(**recipe["model"] | {"towers": tuple(recipe["model"]["towers"])})
    lists = {name: tuple(recipe["clip"].get(name, ())) for name in ("clip_of", "blend")}
    clip = ClipSettings(**recipe["clip"] | lists)
    nested = {
        "data": Path(values["data"]),
        "run": values["run"] and Path(values["run"]),
        "init": tuple(values.get("init", ())),
        "recipe": Recipe(
            **recipe
            | {
                "clip": clip,
                "model": model,
                "lr_of": tuple(recipe.get("lr_of", ())),
                "teacher": recipe.get("teacher") and Path(recipe["teacher"]),
                "hint": recipe.get("hint", 0.0),  # older runs had none
            }
        ),
        "machine": Machine(**values["machine"]),
    }
    return TrainSettings(**values | nested)


def read_split(run: Path) -> Split:
    try:
        return Split(**json.loads((run / "split.json").read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{run}/split.json is not what this version of train.py writes ({error})") from error


def write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=1, default=lambda one: asdict(one) if is_dataclass(one) else str(one))
    write_aside(path, lambda part: part.write_text(text + "\n"))


@dataclass(frozen=True)
class About:
    """The metadata of a weights file: enough to build the model and prepare its inputs."""

    version: str  # release that wrote the file
    settings: TrainSettings
    classes: list[str]
    parameters: dict  # of the training store

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "About":
        """Raises ValueError, KeyError or TypeError for metadata of another version."""
        values = json.loads(text)
        return cls(**values | {"settings": settings_from_json(values["settings"])})


def save_weights(path: Path, model: nn.Module, about: About) -> None:
    """Save all parameters and buffers as safetensors, which load without running code; one file is a whole model."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    raw = save(tensors, metadata={KEY: about.to_json()})
    write_aside(path, lambda part: part.write_bytes(raw))


def load_model(path: Path) -> tuple[FusionModel, About]:
    """The model in a weights file, on the CPU.

    Raises UserError if the file is missing, is damaged, or was not written by this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = About.from_json((file.metadata() or {})[KEY])
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: the run has not finished its first epoch") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): try the run's other weights") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say what model it holds: train it again with this version") from error
    streams = parse_streams(about.settings.streams, None)
    if not is_current(about.parameters):
        raise UserError(f"{path} learned from a store of an older version: extract and train again with this one")
    recipe, sizes = about.settings.recipe, {"classes": len(about.classes), "parameters": about.parameters}
    model = build_model(recipe.model, streams=streams, segments=recipe.clip.segments, **sizes)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} holds the weights of another model: {str(error).splitlines()[0]}") from error
    return model, about


def check_parameters(store: Store, parameters: dict) -> None:
    """Raises UserError if a model trained with these parameters cannot read the store."""
    if store.parameters.get("given") != parameters.get("given"):
        what = {True: "videos", False: "features that were given"}
        ours, theirs = (what[one.get("given") is None] for one in (store.parameters, parameters))
        more = "" if ours != theirs else ", others or of another size"
        raise UserError(f"{store.path} holds {ours}, the model was trained on {theirs}{more}")
    for name in MUST_MATCH:
        if store.parameters.get(name) != parameters.get(name):
            raise UserError(
                f"{store.path} was extracted with {name} {store.parameters.get(name)}, the model was trained with "
                f"{parameters[name]}: extract again with --{name.replace('_', '-')} {parameters[name]}"
            )


def claim(settings: TrainSettings, ranks: Ranks, held: ExitStack, *, epochs: int | None) -> tuple[Path, TrainSettings]:
    """The run's folder, locked for this process by `held`, and the run's settings.

    When `held` is left, nothing remains of a new run of which no step was saved. epochs: of a resumed run, if more.

    Raises UserError if a new run exists already, if a run to resume does not, or if another process is training it.
    """
    streams = parse_streams(settings.streams, None)
    run = settings.run or default_run(streams, resume=settings.resume)
    run = Path(ranks.same_text(str(run)))
    again = settings.run is None and not settings.resume and run.name != subset_name(streams)
    if again and ranks.first:
        print(f"note: there are earlier runs of these streams; this one is {run}")
    if settings.resume:
        settings = resume_settings(run, settings, epochs=epochs)
    elif ranks.first and any(Checkpoints(run, keep=1).files()):  # without a checkpoint nothing is lost
        raise UserError(f"{run} holds a run: go on with it with --resume, name another, or delete it")
    validate(settings)
    if ranks.first:
        made = [folder for folder in (run, *run.parents) if not folder.exists()]
        run.mkdir(parents=True, exist_ok=True)
        before = {*run.iterdir()}
        busy = f"{run} is being trained by another process: wait for it, or name another run"
        held.enter_context(only_one(run / "lock", busy=busy))
        held.callback(leave_nothing, run, before=before, made=made)
    return run, settings


def leave_nothing(run: Path, *, before: set[Path], made: list[Path]) -> None:
    """Remove what a run without a checkpoint or a finished epoch has written, so that its name stays free.

    before: what was in its folder; made: folders that were made for it, the innermost first.
    """
    if any(Checkpoints(run, keep=1).files()) or (run / "metrics.jsonl").exists():
        return
    for path in {*run.iterdir()} - before:
        remove_folder(path) if path.is_dir() else path.unlink()
    for folder in made:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
