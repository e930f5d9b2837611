"""The search space: the parameters, and their possible values."""

import math
from typing import TYPE_CHECKING

from fusion.heads import HEADS
from fusion.training.balance import BALANCES
from preprocess.common.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Space = dict[str, "BaseDistribution"]

KNOWN = {  # ranges from:to, or choices
    "lr": "1e-4:1e-2",
    "weight_decay": "1e-3:0.3",
    "dropout": "0:0.6",
    "stream_dropout": "0:0.5",
    "label_smoothing": "0:0.2",
    "auxiliary": "0:1",
    "balance": ",".join(BALANCES),
    "head": ",".join(HEADS),
    "batch": "16,32,64",
    "width": "16,32,64",
    "feature": "64,128,256",
}
LOGARITHMIC = ("lr", "weight_decay")


def parse_space(texts: tuple[str, ...]) -> Space:
    """``("lr=1e-4:1e-3", "head")`` → Optuna's distributions by name, in the order of KNOWN."""
    space = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.replace("-", "_")
        if name not in KNOWN:
            raise UserError(f"--search {text}: known are {', '.join(KNOWN)}")
        try:
            space[name] = _parse(name, values or KNOWN[name])
        except ValueError as error:
            raise UserError(f"--search {text}: give it like {name}={KNOWN[name]}") from error
    return {name: space[name] for name in KNOWN if name in space}


def _parse(name: str, text: str) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if ":" in KNOWN[name]:
        low, high = map(float, text.split(":"))
        if not low < high < math.inf:
            raise ValueError
        return FloatDistribution(low, high, log=name in LOGARITHMIC)
    values, usual = text.split(","), KNOWN[name].split(",")
    if usual[0].isdigit():
        values = [int(value) for value in values]
    elif not {*values} <= {*usual}:
        raise ValueError
    if len({*values}) < len(values):
        raise ValueError
    return CategoricalDistribution(values)


def ends(values: "BaseDistribution") -> tuple:
    """The lowest and the highest value, or all choices."""
    return (values.low, values.high) if hasattr(values, "low") else values.choices


def contains(values: "BaseDistribution", value: object) -> bool:
    return values.low <= value <= values.high if hasattr(values, "low") else value in values.choices
