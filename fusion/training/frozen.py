"""--freeze and --lr-of: towers that do not learn, or at a rate of their own."""

import math

from fusion.model import FusionModel
from fusion.training.transfer import Report
from preprocess.common.errors import UserError


def frozen_streams(text: str, streams: tuple[str, ...]) -> tuple[str, ...]:
    """``"rgb,flow"`` → the streams whose towers are frozen.

    Raises UserError for one that this run does not train.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        _check_stream("--freeze", text, name, streams)
    return names


def tower_rates(texts: tuple[str, ...], streams: tuple[str, ...], *, frozen: tuple[str, ...] = ()) -> dict[str, float]:
    """``("rgb=1e-4",)`` → the highest learning rate of each stream's tower.

    Raises UserError for a stream that is unknown, is frozen or is named twice, and for what is no rate.
    """
    rates = {}
    for text in texts:
        name, _, number = text.partition("=")
        _check_stream("--lr-of", text, name, streams)
        if name in frozen:
            raise UserError(f"--lr-of {text}: --freeze {name} keeps this tower as it is; leave one of them out")
        if name in rates:
            raise UserError(f"--lr-of gives {name} twice: name one rate a stream")
        try:
            rates[name] = float(number)
        except ValueError:
            rates[name] = math.nan
        if not 0 < rates[name] < math.inf:
            raise UserError(f"--lr-of {text}: give a positive rate, as in --lr-of {name}=1e-4")
    return rates


def freeze_towers(model: FusionModel, streams: tuple[str, ...], reports: list[Report] | None) -> None:
    """Freeze the towers of `streams`. reports: of the weights that the model starts from; None if it is a resumed run.

    Raises UserError for a tower that would stay as it is at random.
    """
    for name in streams:
        loaded = [report for report in reports or () if report.stream == name]
        lacking = any(part.startswith("tower") for report in loaded for part in report.left_out)
        if reports is not None and (lacking or not loaded):
            raise UserError(f"--freeze {name}: its tower starts at random; give weights for all of it, --init {name}=…")
        model.encoders[name].freeze()


def _check_stream(option: str, text: str, name: str, streams: tuple[str, ...]) -> None:
    if name not in streams:
        raise UserError(f"{option} {text}: this run has no stream '{name}'; its streams are {', '.join(streams)}")
