"""The streams: for each, reading and augmentation of its clips, and the towers that can encode it."""

from collections.abc import Collection, Iterable

from preprocess.common.errors import UserError
from streams.audio import Audio, PatchedAudio
from streams.flow import Flow
from streams.given import Given
from streams.rgb import Rgb
from streams.spec import Stream

STREAMS: dict[str, Stream] = {"rgb": Rgb(), "flow": Flow(), "audio": Audio()}
PATCHED = STREAMS | {"audio": PatchedAudio()}  # the same, as a tower reads them whose features can be kept


def streams_of(parameters: dict) -> dict[str, Stream]:
    """The streams of a store with these parameters: those of videos, or of features that others extracted."""
    given = parameters.get("given")
    return STREAMS if given is None else {name: Given(name, given[name]) for name in in_order(given)}


def place_of(name: str) -> tuple[int, str]:
    """Sort key of a stream: first those of STREAMS, then others by the alphabet."""
    known = list(STREAMS)
    return known.index(name) if name in known else len(known), name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names in the order in which streams are always named."""
    return tuple(sorted(names, key=place_of))


def parse_streams(text: str, known: Collection[str] | None = tuple(STREAMS)) -> tuple[str, ...]:
    """``"audio,rgb"`` → ``("rgb", "audio")``: known names, each once, in order; with None, any names."""
    names = [name.strip() for name in text.replace("+", ",").split(",") if name.strip()]
    for name in names:
        if known is not None and name not in known:
            raise UserError(f"unknown stream '{name}': known are {', '.join(known)}")
        if names.count(name) > 1:
            raise UserError(f"stream {name} is named twice in '{text}'")
    if not names:
        raise UserError(f"no stream named: choose from {', '.join(known or STREAMS)}, separated by commas")
    return in_order(names)


def subset_name(streams) -> str:
    """``("rgb", "flow")`` → ``"rgb+flow"``"""
    return "+".join(streams)


def subsets(streams) -> list[tuple[str, ...]]:
    """Every non-empty subset, single streams first, each in the order given."""
    from itertools import combinations

    return [chosen for size in range(1, len(streams) + 1) for chosen in combinations(streams, size)]
