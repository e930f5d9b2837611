"""What may be searched: the parameters, and the values that a search may give them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion.heads import HEADS
from fusion.training.balance import BALANCES
from preprocess.common.errors import UserError

if TYPE_CHECKING:
    from optuna import Trial


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False

    def suggest(self, trial: "Trial", name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"

    @property
    def ends(self) -> tuple[float, ...]:
        return self.low, self.high

    def parse(self, text: str) -> "Range":
        low, high = map(float, text.split(":"))
        if not low < high < float("inf") or (self.log and low <= 0):
            raise ValueError
        return Range(low, high, self.log)


@dataclass(frozen=True)
class Choice:
    """Some values."""

    ends: tuple

    def suggest(self, trial: "Trial", name: str) -> object:
        return trial.suggest_categorical(name, self.ends)

    def __contains__(self, value: object) -> bool:
        return value in self.ends

    def __str__(self) -> str:
        return ",".join(map(str, self.ends))

    def parse(self, text: str) -> "Choice":
        values = tuple(map(type(self.ends[0]), text.split(",")))
        if len({*values}) < len(values) or (isinstance(values[0], str) and not {*values} <= {*self.ends}):
            raise ValueError
        return Choice(values)


Space = dict[str, Range | Choice]

KNOWN: Space = {
    "lr": Range(1e-4, 1e-2, log=True),
    "weight_decay": Range(1e-3, 0.3, log=True),
    "dropout": Range(0.0, 0.6),
    "stream_dropout": Range(0.0, 0.5),
    "label_smoothing": Range(0.0, 0.2),
    "auxiliary": Range(0.0, 1.0),
    "balance": Choice(tuple(BALANCES)),
    "head": Choice(tuple(HEADS)),
    "batch": Choice((16, 32, 64)),
    "width": Choice((16, 32, 64)),
    "feature": Choice((64, 128, 256)),
}
USUAL = ("lr", "weight_decay", "dropout", "stream_dropout", "label_smoothing", "auxiliary", "head")


def parse_space(texts: tuple[str, ...]) -> Space:
    """``("lr=1e-4:1e-3", "head")`` → ranges and choices by name, in the order of KNOWN."""
    space = {}
    for text in texts:
        name, given, values = text.replace("-", "_", text.partition("=")[0].count("-")).partition("=")
        if name not in KNOWN:
            raise UserError(f"--search {text}: known are {', '.join(KNOWN)}")
        try:
            space[name] = KNOWN[name].parse(values) if given else KNOWN[name]
        except ValueError as error:
            raise UserError(f"--search {text}: give it like {name}={KNOWN[name]}") from error
    return {name: space[name] for name in KNOWN if name in space}
