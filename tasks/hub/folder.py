"""The folder of a published model: weights, which are enough by themselves, a configuration for people, a card."""

import re
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from fusion.training.run import About, save_weights, write_json
from fusion.training.settings import TrainSettings
from preprocess.common.errors import UserError
from preprocess.common.files import remove_folder, write_aside

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
LOCAL = re.compile(r"[/~.\\]")  # how the path of a folder begins


def weights_in(path: Path) -> Path:
    """The file of weights in a folder that `write_folder` wrote; any other path as it is."""
    return path / WEIGHTS if (path / WEIGHTS).is_file() else path


def write_folder(out: Path, network: nn.Module, about: About, *, card: str) -> None:
    """Write the folder, whole or not at all. Paths of this machine are left out of the settings.

    Raises UserError if the folder is there, or if a tower is described by a folder of this machine.
    """
    if out.exists():
        raise UserError(f"{out} is there already: name another folder, or delete it")
    about = replace(about, settings=without_paths(about.settings))
    part = out.with_name(out.name + ".part")
    remove_folder(part)
    part.mkdir(parents=True)
    try:
        save_weights(part / WEIGHTS, network, about)
        write_json(part / CONFIG, configuration(about))
        raw = card.encode("utf-8", "backslashreplace")  # names of files may hold bytes that are not UTF-8
        write_aside(part / CARD, lambda file: file.write_bytes(raw))
        part.rename(out)
    finally:
        remove_folder(part)


def configuration(about: About) -> dict:
    """What config.json says. Nothing is read from it: the weights' file says the same."""
    clip = about.settings.recipe.clip
    return {
        "library_name": "tristream",
        "release": about.version,
        "streams": about.settings.streams.split(","),
        "classes": about.classes,
        "clip_seconds": clip.length / about.parameters["fps"],
        "preprocessing": about.parameters,
        "settings": asdict(about.settings),
    }


def without_paths(settings: TrainSettings) -> TrainSettings:
    """The settings with names in the place of paths, which say where things lie on one machine.

    Raises UserError for a tower that cannot be built without a folder of this machine.
    """
    recipe, model = settings.recipe, settings.recipe.model
    model = replace(model, towers=tuple(map(_tower, model.towers)))
    teacher = recipe.teacher and Path(recipe.teacher.name)
    recipe = replace(recipe, model=model, teacher=teacher)
    init = tuple("=".join([*text.split("=")[:-1], Path(text.split("=")[-1]).name]) for text in settings.init)
    return replace(settings, data=Path(settings.data.name), run=None, init=init, recipe=recipe)


def _tower(text: str) -> str:
    stream, _, tower = text.partition("=")
    library, _, name = tower.partition(":")
    if library == "yamnet":  # its weights are among the model's: the file is not read again
        return f"{stream}=yamnet:{Path(name).name}"
    if library == "hf" and (LOCAL.match(name) or Path(name).is_dir()):
        raise UserError(f"--towers {text} is described by a folder of this machine, without which nobody can load it")
    return text
