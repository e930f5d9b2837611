"""A detector of the unusual, how unusual each moment of a video is to it, and its folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from scipy.ndimage import gaussian_filter

from fusion.device import choose_device
from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from preprocess.store.format import is_current, release
from tasks.anomaly.alarms import Tail, smooth
from tasks.anomaly.bank import Bank
from tasks.anomaly.look import Look
from tasks.anomaly.moments import Moments, Reader

FILE, KEY = "detector.safetensors", "tristream-anomaly"
SPREAD = {"rgb": 1.0, "flow": 1.25}  # cells; standard deviation of the Gaussian that joins neighbouring cells


@dataclass(frozen=True)
class Scored:
    """How far from normal N moments are by each stream, in units of its own; NaN where it is not there."""

    times: np.ndarray  # (N,) seconds
    streams: dict[str, np.ndarray]  # (N,) each
    maps: dict[str, np.ndarray]  # (N, h, w) of rgb and flow: the same in each cell

    @classmethod
    def joined(cls, parts: Sequence["Scored"]) -> "Scored":
        """Parts of one video, one after the other; maps are left out."""
        streams = {name: np.concatenate([part.streams[name] for part in parts]) for name in parts[0].streams}
        return cls(np.concatenate([part.times for part in parts]), streams, {})


@dataclass(frozen=True)
class Rated:
    """How rare N moments are: by each stream, joined with their neighbours, and by all together."""

    times: np.ndarray  # (N,) seconds
    streams: dict[str, np.ndarray]  # (N,) each

    @property
    def score(self) -> np.ndarray:
        """(N,) the sum: logarithms of rarities add up as those of independent tests do (Fisher 1932)."""
        return np.sum([*self.streams.values()], axis=0)

    @property
    def causes(self) -> np.ndarray:
        """(N,) the name of the stream that adds most to each score."""
        return np.array([*self.streams])[np.stack([*self.streams.values()]).argmax(axis=0)]

    def of(self, streams: Sequence[str]) -> "Rated":
        """The same by some of the streams."""
        return Rated(self.times, {name: self.streams[name] for name in streams})


@dataclass(frozen=True)
class Detector:
    """What is normal."""

    parameters: dict  # of the stores that it reads
    step: int  # frames from one moment to the next
    streams: tuple[str, ...]
    banks: dict[str, Bank]  # of rgb and audio
    tails: dict[str, Tail]  # of each stream's scores in normal video
    tail: Tail  # of the greatest score of each second of it
    device: torch.device

    @property
    def seconds(self) -> float:
        """From one moment to the next."""
        return self.step / self.parameters["fps"]

    def reader(self, streams: Sequence[str] | None = None) -> Reader:
        """Raises UserError for a stream that the detector does not have."""
        chosen = self.streams if streams is None else tuple(streams)
        for name in chosen:
            if name not in self.streams:
                raise UserError(f"the detector has no stream {name}: it has {', '.join(self.streams)}")
        look = Look().to(self.device) if "rgb" in chosen else None
        return Reader(chosen, self.step, self.device, look)

    def score(self, moments: Moments, *, streams: Sequence[str], but: int | None = None) -> Scored:
        """How far moments are from normal video, not counting one stretch of it."""
        nothing = np.full(len(moments.times), np.nan)
        found, maps = dict.fromkeys(streams, nothing), {}
        if moments.moving is not None and moments.looks is not None:
            far = torch.zeros(moments.moving.shape)
            if len(moments.looks):
                far[moments.moving] = self.banks["rgb"].distances(moments.looks, but=but).cpu()
            maps["rgb"] = far.numpy()
        if moments.speed is not None:
            maps["flow"] = moments.speed.cpu().numpy()
        for name, values in maps.items():
            maps[name] = gaussian_filter(values, (0, SPREAD[name], SPREAD[name]))
            found[name] = maps[name].max(axis=(1, 2))
        if moments.sound is not None:
            found["audio"] = self.banks["audio"].distances(moments.sound, but=but).cpu().numpy()
        return Scored(moments.times, found, maps)

    def rate(self, scored: Scored) -> Rated:
        """How rare the moments of a video are; one without a stream is as usual as can be to it."""
        step = self.seconds
        return Rated(
            scored.times,
            {
                name: self.tails[name].rarity(smooth(np.nan_to_num(values), step=step))
                for name, values in scored.streams.items()
            },
        )

    def heat(self, scored: Scored) -> np.ndarray | None:
        """(N, h, w) how rare what is in each cell is; None without pictures."""
        maps = [self.tails[name].rarity(values) for name, values in scored.maps.items()]
        return np.sum(maps, axis=0) if maps else None

    def places(self, scored: Scored) -> np.ndarray:
        """(N, 2) x and y of the middle of the rarest cell, as shares of the picture's size; NaN without pictures."""
        heat = self.heat(scored)
        if heat is None:
            return np.full((len(scored.times), 2), np.nan)
        rows, columns = heat.shape[1:]
        best = heat.reshape(len(heat), -1).argmax(axis=1)
        return np.stack([(best % columns + 0.5) / columns, (best // columns + 0.5) / rows], axis=1)

    def save(self, folder: Path) -> None:
        """Write the detector's folder."""
        about = {"version": release(), "parameters": self.parameters, "step": self.step, "streams": self.streams}
        about |= {"tails": {name: asdict(one) for name, one in self.tails.items()}, "tail": asdict(self.tail)}
        tensors = {
            f"{stream}.{name}": value.contiguous().cpu()
            for stream, bank in self.banks.items()
            for name, value in bank.tensors().items()
        }
        raw = save(tensors, metadata={KEY: json.dumps(about)})
        folder.mkdir(parents=True, exist_ok=True)
        write_aside(folder / FILE, lambda part: part.write_bytes(raw))


def load_detector(folder: Path, *, device: str = "auto") -> Detector:
    """The detector in a folder of `tasks.anomaly train`.

    Raises UserError if there is none, or its file is damaged or of another version.
    """
    path, place = folder / FILE, choose_device(device)
    if not path.is_file():
        raise UserError(f"{folder} holds no detector of anomalies: train one with python -m tasks.anomaly train")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[KEY])
        tensors = load_file(path)
        names = dict.fromkeys(name.partition(".")[0] for name in tensors)
        banks = {
            stream: Bank.of({name: tensors[f"{stream}.{name}"] for name in ("examples", "spread", "stretch")}, place)
            for stream in names
        }
        found = Detector(
            parameters=about["parameters"],
            step=about["step"],
            streams=tuple(about["streams"]),
            banks=banks,
            tails={name: Tail(**one) for name, one in about["tails"].items()},
            tail=Tail(**about["tail"]),
            device=place,
        )
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({str(error).splitlines()[0]}): train it again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is of another version ({error}): train it again") from error
    if not is_current(found.parameters):
        raise UserError(f"{path} is of an older version, whose flow was another: train it again")
    return found
