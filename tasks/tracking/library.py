"""The trackers of Roboflow's library `trackers` by name, behind the same call as ours.

It asks for opencv-python, which would overwrite the build of OpenCV that holds TV-L1, and needs libGL: install it
without what it asks for.
"""

from importlib import import_module

import numpy as np

from preprocess.common.errors import UserError
from tasks.tracking.boxes import Boxes
from tasks.tracking.joining import fill
from tasks.tracking.settings import FollowSettings
from tasks.tracking.tracker import follow, probabilities

NAMES = {"sort": "SORTTracker", "bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker"}
INSTALL = "pip install --no-deps trackers supervision pydeprecate defusedxml"
PIECES = "pieces"


def check_tracker(name: str) -> None:
    """Raises UserError for a tracker that there is not, or that is not installed."""
    if name not in (PIECES, *NAMES):
        raise UserError(f"unknown tracker '{name}': known are {', '.join((PIECES, *NAMES))}")
    if name != PIECES:
        try:
            import_module("trackers")
        except ImportError as error:
            raise UserError(f"--tracker {name} needs Roboflow's trackers ({error}): {INSTALL}") from error


def track(boxes: Boxes, *, tracker: str, fps: float, settings: FollowSettings) -> Boxes:
    """The tracks of detections: by our own tracker, "pieces", or one of NAMES with the library's defaults.

    Of the settings the library's trackers take `patience` alone: so long they wait, and such gaps are filled.

    Raises UserError as check_tracker.
    """
    check_tracker(tracker)
    if tracker == PIECES:
        return follow(boxes, fps=fps, settings=settings)
    import supervision
    import trackers

    patience = round(30 * settings.patience)  # the library counts frames of 30 a second, whatever the video's rate
    made = getattr(trackers, NAMES[tracker])(lost_track_buffer=patience, frame_rate=fps)
    scores, ids = probabilities(boxes.scores), np.full(len(boxes), -1)
    for frame in range(int(boxes.frames.max(initial=-1)) + 1):
        rows = np.arange(*np.searchsorted(boxes.frames, (frame, frame + 1)))
        corners = np.concatenate([boxes.xywh[rows, :2], boxes.xywh[rows, :2] + boxes.xywh[rows, 2:]], axis=1)
        given = supervision.Detections(xyxy=corners.reshape(-1, 4), confidence=scores[rows], data={"row": rows})
        found = made.update(given)
        if len(found):
            ids[found.data["row"]] = found.tracker_id
    followed = boxes.with_ids(np.where(ids >= 0, ids + 1, -1))[ids >= 0].sort()
    return fill(followed, longest=round(settings.patience * fps))
