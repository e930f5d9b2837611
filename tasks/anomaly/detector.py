"""A detector of the unusual, how unusual each moment of a video is to it, and its folder."""

import json
from collections.abc import Mapping, Sequence
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
from tasks.anomaly.alarms import Tail
from tasks.anomaly.bank import Bank
from tasks.anomaly.look import Look
from tasks.anomaly.moments import Moments, Reader

FILE, KEY = "detector.safetensors", "tristream-anomaly"
SPREAD = {"rgb": 1.0, "flow": 1.25}  # cells; standard deviation of the Gaussian that joins neighbouring cells


@dataclass(frozen=True)
class Scored:
    """How unusual N moments are, by each stream: 1 is what a hundredth of normal moments reach."""

    times: np.ndarray  # (N,) seconds
    streams: dict[str, np.ndarray]  # (N,) each; the streams that are there
    maps: np.ndarray | None  # (N, h, w) the greater of what looks and what moves unusually, in each cell

    @property
    def score(self) -> np.ndarray:
        """(N,) the greatest of the streams'; zero where none is there."""
        return np.max([*self.streams.values(), np.zeros(len(self.times))], axis=0)

    @property
    def places(self) -> np.ndarray:
        """(N, 2) x and y of the most unusual cell's middle, as shares of the picture's width and height; NaN without
        pictures."""
        if self.maps is None:
            return np.full((len(self.times), 2), np.nan)
        rows, columns = self.maps.shape[1:]
        best = self.maps.reshape(len(self.maps), -1).argmax(axis=1)
        return np.stack([(best % columns + 0.5) / columns, (best // columns + 0.5) / rows], axis=1)

    @property
    def causes(self) -> np.ndarray:
        """(N,) the name of the stream behind each score."""
        names = [*self.streams] or ["none"]
        return np.array(names)[np.stack([*self.streams.values()] or [self.times]).argmax(axis=0)]

    def of(self, streams: Sequence[str]) -> "Scored":
        """The same by some of the streams, without maps."""
        return Scored(self.times, {name: of for name, of in self.streams.items() if name in streams}, None)

    def divided(self, levels: Mapping[str, float]) -> "Scored":
        """The same scores of those streams, divided by these levels, without their maps."""
        streams = {name: of / levels[name] for name, of in self.streams.items() if name in levels}
        return Scored(self.times, streams, None)

    @classmethod
    def joined(cls, parts: Sequence["Scored"]) -> "Scored":
        """Parts of one video, one after the other; maps are left out."""
        streams = {name: np.concatenate([part.streams[name] for part in parts]) for name in parts[0].streams}
        return cls(np.concatenate([part.times for part in parts]), streams, None)


@dataclass(frozen=True)
class Detector:
    """What is normal."""

    parameters: dict  # of the stores that it reads
    step: int  # frames from one moment to the next
    streams: tuple[str, ...]
    levels: dict[str, float]  # what a hundredth of normal moments exceed, by stream
    banks: dict[str, Bank]  # of rgb and audio
    tail: Tail  # of scores in normal video
    device: torch.device

    def reader(self, streams: Sequence[str] | None = None) -> Reader:
        """Raises UserError for a stream that the detector does not have."""
        chosen = self.streams if streams is None else tuple(streams)
        for name in chosen:
            if name not in self.streams:
                raise UserError(f"the detector has no stream {name}: it has {', '.join(self.streams)}")
        look = Look().to(self.device) if "rgb" in chosen else None
        return Reader(chosen, self.step, self.device, look)

    def score(self, moments: Moments, *, but: int | None = None) -> Scored:
        """How unusual moments are, against all normal video but one stretch."""
        found, maps = {}, []
        if moments.moving is not None and moments.looks is not None:
            far = torch.zeros(moments.moving.shape)
            if len(moments.looks):
                far[moments.moving] = self.banks["rgb"].distances(moments.looks, but=but).cpu()
            maps.append(self._map(far.numpy(), "rgb"))
            found["rgb"] = maps[-1].max(axis=(1, 2))
        if moments.speed is not None:
            maps.append(self._map(moments.speed.cpu().numpy(), "flow"))
            found["flow"] = maps[-1].max(axis=(1, 2))
        if moments.sound is not None and "audio" in self.banks:
            far = self.banks["audio"].distances(moments.sound, but=but).cpu().numpy()
            found["audio"] = far / self.levels["audio"]
        return Scored(moments.times, found, np.max(maps, axis=0) if maps else None)

    def _map(self, values: np.ndarray, stream: str) -> np.ndarray:
        sigma = SPREAD[stream]
        return gaussian_filter(values, (0, sigma, sigma)) / self.levels[stream]

    def save(self, folder: Path) -> None:
        """Write the detector's folder."""
        about = {"version": release(), "parameters": self.parameters, "step": self.step, "streams": self.streams}
        about |= {"levels": self.levels, "tail": asdict(self.tail)}
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
            levels=about["levels"],
            banks=banks,
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
