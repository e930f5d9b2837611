"""Training of what is smaller by train.py's own loop, with the model it came from as its teacher."""

from dataclasses import replace
from pathlib import Path

import torch

from fusion.training.run import About, leave_nothing, load_model, save_weights
from fusion.training.settings import Recipe, TrainSettings
from preprocess.common.errors import UserError
from tasks.compression.prune import narrower
from tasks.compression.settings import CompressSettings
from tasks.run import Run
from train import train

START = "start.safetensors"  # the pruned model before it learns on


def learn(settings: CompressSettings, run: Run, data: Path) -> Path:
    """Train the pruned model or the student as a run of its own; return its folder.

    A tower whose size does not depend on the width, as an image network's, stays as it is in the run.

    Raises UserError if no tower can become narrower, or as train.py does.
    """
    network, about = load_model(run.model.path)
    recipe = about.settings.recipe
    width = max(1, round(settings.channels * recipe.model.width))
    torch.manual_seed(settings.seed)  # of what starts at random
    small, described, same = narrower(network, about, width=width)
    if len(same) == len(run.model.streams) or width == recipe.model.width:
        raise UserError(
            f"{run.path}: no tower becomes narrower at --channels {settings.channels}: our own towers have a width, "
            f"here {recipe.model.width}; image networks and those of libraries have none"
        )
    pruned = settings.method == "prune"
    init = [f"{name}={run.model.path}" for name in same]
    made = [folder for folder in (settings.out, *settings.out.parents) if not folder.exists()]
    start = settings.out / START
    if pruned:
        settings.out.mkdir(parents=True, exist_ok=True)
        save_weights(start, small, About(described.version, described.settings, about.classes, about.parameters))
        init = [str(start)]
    try:
        return train(
            TrainSettings(
                streams=about.settings.streams,
                data=data,
                run=settings.out,
                seed=settings.seed,
                init=tuple(init),
                recipe=_recipe(settings, recipe, width=width, run=run, same=same),
                machine=settings.machine,
            )
        )
    except BaseException:
        if settings.out.exists():
            leave_nothing(settings.out, before=set(), made=made)  # unless something was learned
        raise


def _recipe(settings: CompressSettings, recipe: Recipe, *, width: int, run: Run, same: list[str]) -> Recipe:
    """The run's own recipe, for a narrower model with a teacher."""
    usual = -(-recipe.epochs // 2) if settings.method == "prune" else recipe.epochs
    rates = [text for text in recipe.lr_of if text.partition("=")[0] not in same]
    return replace(
        recipe,
        epochs=settings.epochs or usual,
        lr=recipe.lr if settings.lr is None else settings.lr,
        lr_of=tuple(rates),
        freeze=",".join(same),
        teacher=run.model.path if settings.share else None,
        distil=settings.share,
        model=replace(recipe.model, width=width),
    )
