"""The command lines of tasks.track and tasks.tracking.learn, apart from their code, so that --help need not wait."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class FollowSettings:
    """How detections become tracks."""

    sure: float = 0.5
    """score from which a box begins a track; one below it can only prolong a track"""
    overlap: float = 0.5
    """overlap (IoU) of a box with where a track is expected, at least"""
    patience: float = 3.0
    """seconds that something may be hidden and still be the same; such gaps are filled"""
    shortest: int = 5
    """boxes that a piece of a track has at least; fewer are taken for false"""


@dataclass(frozen=True)
class TrackSettings:
    """The command line of tasks.track."""

    video: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="VIDEO")] = None
    """the video file; with --boxes it may be left out"""
    detector: str = "motion"
    """motion: what moves unlike the camera; background: what differs from a still background; fasterrcnn, or another
    detection network of torchvision by its name, with weights of COCO; or a file of tasks.tracking.learn"""
    boxes: Path | None = None
    """detections of another detector: MOTChallenge's text, or COCO's JSON named .json"""
    tracker: str = "pieces"
    """pieces (ours); or sort, bytetrack, ocsort of Roboflow's trackers, if it is installed"""
    fps: float = 25.0
    """pictures a second, of --boxes without a video"""
    mot: Path | None = None
    """write the tracks as MOTChallenge's text: frame from 1, id, x, y, w, h, score"""
    coco: Path | None = None
    """write the tracks as COCO's JSON, with track_id"""
    detections: Path | None = None
    """write what was detected, before it is tracked: text, or JSON if named .json"""
    film: Path | None = None
    """write the video with boxes and numbers, an .mp4 with its sound"""
    clips: Path | None = None
    """cut each track out of the video, into this folder: small .mp4 files with the video's sound, and clips.csv"""
    run: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """ask this run about each clip: who does what, when; in the table, in clips.csv, and in the film"""
    truth: Path | None = None
    """true boxes with ids, in the same formats: print MOTA, IDF1, HOTA and AP"""
    weights: str = "best"
    """of --run: best (by validation) or last"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
    follow: Annotated[FollowSettings, tyro.conf.arg(name="")] = field(default_factory=FollowSettings)


@dataclass(frozen=True)
class LearnSettings:
    """The command line of tasks.tracking.learn."""

    videos: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="VIDEOS")]
    """video files or folders of them; beside each, or in --boxes, lie its boxes: NAME.txt (MOTChallenge) or NAME.json
    (COCO)"""
    boxes: Path | None = None
    """folder of the boxes; without it, they lie beside the videos"""
    out: Path = Path("detector.safetensors")
    """file for what was learned, for --detector of tasks.track"""
    network: str = "fasterrcnn_mobilenet_v3_large_fpn"
    """a Faster R-CNN of torchvision by its name"""
    pretrained: bool = False
    """begin with torchvision's weights of COCO, which it downloads once"""
    epochs: int = 10
    """passes over all pictures"""
    batch: int = 4
    """pictures a step"""
    lr: float = 0.005
    """learning rate; it falls to zero along a cosine"""
    every: int = 5
    """take one of so many pictures of a video: neighbours show the same"""
    size: int = 480
    """the shorter side, in pixels, to which pictures are scaled"""
    seed: int = 0
    """seed of the weights and of the order of pictures"""
    device: str = "auto"
    """cpu, cuda …; auto is cuda where there is one"""
