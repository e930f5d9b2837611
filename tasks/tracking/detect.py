"""Detectors by name: what moves, what differs from a background, what a network knows, or boxes of a file."""

from functools import partial

from tasks.tracking.background import detect_foreground
from tasks.tracking.boxes import Boxes
from tasks.tracking.motion import detect_motion
from tasks.tracking.video import VideoFile


def detect(video: VideoFile, *, detector: str, device: str = "auto") -> Boxes:
    """The boxes of a video's pictures.

    detector: "motion", "background", a network's name, or a file of weights (see `rcnn.load`).

    Raises UserError for a detector that there is not, or a video without pictures.
    """
    if detector == "motion":
        return detect_motion(video.pictures(bar="motion"))
    if detector == "background":
        return detect_foreground(partial(video.pictures, bar="background"))
    from tasks.tracking.rcnn import detect_objects, load  # loads PyTorch

    network, classes = load(detector, device=device)
    return detect_objects(video.pictures(bar="detect"), network, classes)
