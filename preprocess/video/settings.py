"""Settings of the stored data."""

import json
from dataclasses import asdict, dataclass, field
from typing import Annotated

import tyro

from preprocess.flow import describe
from preprocess.store.format import FLOW_MEANING
from preprocess.video.limits import Limits


@dataclass(frozen=True)
class PieceSettings:
    """Settings of the stored data, the same for all videos of a store."""

    fps: float = 25.0
    """frames a second to which every video is resampled"""
    short_side: int = 128
    """pixels of the shorter side of a stored frame; the aspect is kept"""
    mel_bands: int = 64
    """bands of the log-mel spectrogram"""
    flow_engine: str = "auto"
    """solver of TV-L1: cpu, cuda, opencv (the slow reference), or auto: cuda where there is a GPU, else cpu"""
    flow_preset: str = "default"
    """default, or quality: more accurate, several times slower"""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)

    @classmethod
    def like(cls, parameters: dict) -> "PieceSettings":
        """The settings of a store with these parameters, for another machine: cpu and cuda agree with each other."""
        engine = "opencv" if parameters["flow"]["engine"] == "opencv" else "auto"
        same = {name: parameters[name] for name in ("fps", "short_side", "mel_bands")}
        return cls(**same, flow_engine=engine, flow_preset=parameters["flow"]["preset"])

    def parameters(self) -> dict:
        """The parameters that a store records, in the form that JSON returns, to be compared with those of files.

        Raises ValueError for a flow engine or preset that does not exist.
        """
        same = {"fps": self.fps, "short_side": self.short_side, "mel_bands": self.mel_bands}
        flow = describe(self.flow_engine, self.flow_preset) | {"steps": FLOW_MEANING}
        same |= {"flow": flow, "limits": asdict(self.limits)}
        return json.loads(json.dumps(same))
