"""Videos of which it is known which stream tells the class, where, and when."""

from dataclasses import dataclass

import numpy as np

from preprocess.store.format import SILENCE
from tests.support.stores import BANDS, HEIGHT, ROWS, STREAMS, WIDTH, Spec

FRAMES = 32
SIDE = 9  # pixels of a cue
LONG = 10  # frames that it is there
HUES = {"a": (210, 60, 50), "b": (50, 70, 210), None: (60, 190, 60)}  # of a patch that tells the class, or nothing
MOTIONS = {"a": (0, 2.0), "b": (0, -2.0), None: (-2.0, 0)}  # pixels a frame; training flips left and right alone
TONES = {"a": 2, "b": 12, None: 7}  # bands


@dataclass(frozen=True)
class Cue:
    """The one thing in a video that tells its class."""

    stream: str
    begin: int  # frame
    left: int  # pixels; of sound the place has no meaning
    top: int


def planted(count: int, *, seed: int = 0) -> tuple[list[Spec], list[Cue | None]]:
    """Videos of three classes in turn. Every stream has two patches, or tones, one after the other: one of all six
    tells the class a or b, half of the rest are of a third kind, and half are not there, so that neither presence nor
    absence says anything. Class n has no cue: without it a model may call b whatever is not a, whatever b's cue is.
    """
    rng = np.random.default_rng(seed)
    specs, cues = [], []
    for number in range(count):
        label, stream = "abn"[number % 3], STREAMS[number // 3 % 3]
        cues.append(None)
        grey = rng.integers(90, 160) + rng.integers(-12, 12, (FRAMES, HEIGHT, WIDTH, 1))
        rgb = np.repeat(grey, 3, axis=3)
        flow = rng.normal(0, 0.15, (FRAMES, HEIGHT, WIDTH, 2))
        mel = rng.normal(SILENCE + 3, 0.5, (FRAMES * ROWS, BANDS))
        for one in STREAMS:
            tells = rng.integers(2)  # the first or the second of the two
            for turn in range(2):
                begin = int(turn * FRAMES // 2 + rng.integers(FRAMES // 2 - LONG + 1))
                left = int(rng.integers(WIDTH // 2 - HEIGHT // 2 + 4, WIDTH // 2 + HEIGHT // 2 - SIDE - 3))
                top = int(rng.integers(4, HEIGHT - SIDE - 3))
                known = label if label != "n" and one == stream and turn == tells else None
                if not known and rng.random() < 0.5:
                    continue
                if known:
                    cues[-1] = Cue(one, begin, left, top)
                when, place = slice(begin, begin + LONG), (slice(top, top + SIDE), slice(left, left + SIDE))
                if one == "rgb":
                    rgb[(when, *place)] = np.array(HUES[known]) + rng.integers(-12, 12, 3)
                if one == "flow":
                    flow[(when, *place)] += MOTIONS[known]
                if one == "audio":
                    mel[begin * ROWS : (begin + LONG) * ROWS, TONES[known]] += rng.uniform(6, 8)
        arrays = {"rgb": rgb.clip(0, 255).astype(np.uint8), "flow": flow[:-1].astype(np.float32), "mel": mel}
        specs.append(Spec(f"{label}/{seed}-{number:03d}.mp4", label=label, frames=FRAMES, **arrays))
    return specs, cues
