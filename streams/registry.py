"""The streams: for each, reading and augmentation of its clips, and the towers that can encode it."""

from preprocess.common.errors import UserError
from streams.audio import Audio, PatchedAudio
from streams.flow import Flow
from streams.rgb import Rgb
from streams.spec import Stream

STREAMS: dict[str, Stream] = {"rgb": Rgb(), "flow": Flow(), "audio": Audio()}
PATCHED = STREAMS | {"audio": PatchedAudio()}  # the same, as a tower reads them whose features can be kept


def parse_streams(text: str) -> tuple[str, ...]:
    """``"audio,rgb"`` → ``("rgb", "audio")``: known names, each once, in the order of STREAMS."""
    names = [name.strip() for name in text.replace("+", ",").split(",") if name.strip()]
    for name in names:
        if name not in STREAMS:
            raise UserError(f"unknown stream '{name}': known are {', '.join(STREAMS)}")
        if names.count(name) > 1:
            raise UserError(f"stream {name} is named twice in '{text}'")
    if not names:
        raise UserError(f"no stream named: choose from {', '.join(STREAMS)}, separated by commas")
    return tuple(name for name in STREAMS if name in names)


def subset_name(streams) -> str:
    """``("rgb", "flow")`` → ``"rgb+flow"``"""
    return "+".join(streams)


def subsets(streams) -> list[tuple[str, ...]]:
    """Every non-empty subset, single streams first, each in the order given."""
    from itertools import combinations

    return [chosen for size in range(1, len(streams) + 1) for chosen in combinations(streams, size)]
