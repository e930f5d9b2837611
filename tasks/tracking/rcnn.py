"""Faster R-CNN as a detector: torchvision's networks by name, with its weights of COCO or weights learned here.

Ren et al., "Faster R-CNN", NeurIPS 2015. A file of weights says which network and which classes they are for.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fusion.device import choose_device
from preprocess.common.errors import UserError
from preprocess.common.files import write_aside
from tasks.tracking.boxes import Boxes, make_boxes

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN

SHORT = {"fasterrcnn": "fasterrcnn_resnet50_fpn_v2"}
LOWEST = 0.05  # score of a box that is given out at all
KEY = "tristream_detector"


@dataclass(frozen=True)
class Detector:
    """What a file of weights holds beside them."""

    network: str  # torchvision's name
    classes: tuple[str, ...]  # number 0 is the background, and has no name here
    size: int  # the shorter side to which pictures are scaled


def network_names() -> list[str]:
    """The names of torchvision's Faster R-CNNs.

    Raises UserError without torchvision.
    """
    try:
        from torchvision.models import detection, list_models
    except ImportError as error:
        raise UserError("Faster R-CNN needs torchvision: pip install 'tristream[torchvision]'") from error
    return [name for name in list_models(module=detection) if name.startswith("fasterrcnn")]


def build(detector: Detector, *, pretrained: bool = False) -> "FasterRCNN":
    """The network with a head for these classes, with random weights, or with those of COCO below the head.

    Raises UserError for a name that torchvision does not have, or weights that cannot be had.
    """
    from torchvision.models import get_model
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    if detector.network not in network_names():
        raise UserError(f"unknown network '{detector.network}': torchvision has {', '.join(network_names())}")
    shape = {"min_size": detector.size, "max_size": 4 * detector.size}
    classes = len(detector.classes) + 1
    if not pretrained:
        none = {"weights": None, "weights_backbone": None}
        return get_model(detector.network, num_classes=classes, **none, **shape)
    network = _download(detector.network, **shape)
    predictor = network.roi_heads.box_predictor
    network.roi_heads.box_predictor = FastRCNNPredictor(predictor.cls_score.in_features, classes)
    return network


def save(path: Path, network: "FasterRCNN", detector: Detector) -> None:
    """Write weights and what they are for as a safetensors file."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    about = {KEY: json.dumps(asdict(detector))}
    write_aside(path, lambda part: save_file(state, part, metadata=about))


def load(name: str, *, device: str = "auto") -> "tuple[FasterRCNN, tuple[str, ...]]":
    """A network ready to detect, and its classes: a file written by `save`, or torchvision's name for one of COCO.

    Raises UserError for a file or name that is none.
    """
    if name.endswith(".safetensors"):
        network, classes = _load_file(Path(name))
    else:
        known = network_names()
        name = SHORT.get(name, name)
        if name not in known:
            raise UserError(f"unknown detector '{name}': motion, background, a .safetensors file, {', '.join(known)}")
        network, classes = _download(name), _coco_classes(name)
    return network.eval().to(choose_device(device)), classes


@torch.inference_mode()
def detect_objects(pictures: Iterable[np.ndarray], network: "FasterRCNN", classes: tuple[str, ...]) -> Boxes:
    """The boxes, scores and labels that a network finds in pictures, (H, W, 3) uint8."""
    device = next(network.parameters()).device
    frames, xywh, scores, labels = [], [], [], []
    for frame, picture in enumerate(pictures):
        (found,) = network([as_input(picture).to(device)])
        corners = found["boxes"].cpu().numpy().astype(float)
        kept = (found["scores"].cpu().numpy() >= LOWEST) & (corners[:, 2:] > corners[:, :2]).all(axis=1)
        frames += [frame] * int(kept.sum())
        xywh += [[*box[:2], *(box[2:] - box[:2])] for box in corners[kept]]
        scores += found["scores"].cpu().numpy()[kept].tolist()
        labels += [classes[number - 1] for number in found["labels"].cpu().numpy()[kept].tolist()]
    return make_boxes(frames, xywh, scores=scores, labels=labels)


def as_input(picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 → (3, H, W) float32 between 0 and 1."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255


def _load_file(path: Path) -> "tuple[FasterRCNN, tuple[str, ...]]":
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(KEY, "null"))
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is no file of weights: {error}") from error
    if about is None:
        raise UserError(f"{path} holds no detector: make one with python -m tasks.tracking.learn")
    detector = Detector(about["network"], tuple(about["classes"]), about["size"])
    network = build(detector)
    lacking, unknown = network.load_state_dict(state, strict=False)
    if unknown or not all(name.endswith("num_batches_tracked") for name in lacking):  # frozen statistics have no count
        raise UserError(f"{path} does not fit {detector.network}: make it again with python -m tasks.tracking.learn")
    return network, detector.classes


def _download(name: str, **shape: int) -> "FasterRCNN":
    from torchvision.models import get_model

    try:
        return get_model(name, weights="DEFAULT", weights_backbone=None, **shape)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"torchvision's weights of {name} cannot be downloaded ({error}): put them into its cache, "
            f"{torch.hub.get_dir()}/checkpoints, or learn your own with python -m tasks.tracking.learn"
        ) from error


def _coco_classes(name: str) -> tuple[str, ...]:
    from torchvision.models import get_model_weights

    return tuple(get_model_weights(name).DEFAULT.meta["categories"][1:])
