"""The training of a Faster R-CNN on the boxes of videos, with torchvision's own loss."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fusion.device import choose_device
from preprocess.common.console import plural, progress
from preprocess.common.errors import UserError, at_least
from preprocess.store.codec import decode_rgb, encode_rgb
from tasks.folder import check_output
from tasks.sources import files_of
from tasks.tracking.boxes import Boxes, read_boxes
from tasks.tracking.rcnn import Detector, as_input, build, save
from tasks.tracking.settings import LearnSettings
from tasks.tracking.video import open_video

NAMELESS = "object"
WARM_UP = 20  # steps over which the learning rate rises
STEEPEST = 10.0  # norm to which gradients are cut


@dataclass(frozen=True)
class Example:
    """A picture on the disk, and its boxes."""

    jpeg: Path
    corners: np.ndarray  # (N, 4) float32: left, top, right, bottom
    labels: list[str]  # N


def train_detector(settings: LearnSettings) -> list[float]:
    """Learn, and write `settings.out`; the mean loss of each epoch.

    Raises UserError for videos without boxes, or a network that torchvision does not have.
    """
    at_least(1, epochs=settings.epochs, batch=settings.batch, every=settings.every, size=settings.size)
    check_output(settings.out, option="--out")
    device = choose_device(settings.device)
    torch.manual_seed(settings.seed)
    order = np.random.default_rng(settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        examples = gather(settings, Path(folder))
        classes = tuple(sorted({label for one in examples for label in one.labels}))
        print(f"{plural(len(examples), 'picture')}, {plural(len(classes), 'class')}: {', '.join(classes)}")
        detector = Detector(settings.network, classes, settings.size)
        network = build(detector, pretrained=settings.pretrained).to(device).train()
        learned = [value for value in network.parameters() if value.requires_grad]
        optimiser = torch.optim.SGD(learned, lr=settings.lr, momentum=0.9, weight_decay=5e-4)
        steps = settings.epochs * -(-len(examples) // settings.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
        means = []
        bar = progress(total=steps, unit="step", name="learn")
        for _ in range(settings.epochs):
            losses = []
            for places in np.array_split(order.permutation(len(examples)), steps // settings.epochs):
                batch = [_tensors(examples[place], classes, device) for place in places]
                loss = sum(network(*map(list, zip(*batch, strict=True))).values())
                if not torch.isfinite(loss):
                    raise UserError(f"the loss is {loss.item()}: try a lower --lr than {settings.lr}")
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(learned, STEEPEST)
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
                bar.update()
            means.append(float(np.mean(losses)))
            bar.set_postfix(loss=f"{means[-1]:.3f}")
        bar.close()
    save(settings.out, network, detector)
    print(f"wrote {settings.out}: loss {means[0]:.3f} → {means[-1]:.3f}")
    return means


def gather(settings: LearnSettings, folder: Path) -> list[Example]:
    """One of `every` pictures of all videos, as JPEGs in a folder; of those without boxes as well.

    Raises UserError for a video without a file of boxes, or if no box is known at all.
    """
    examples: list[Example] = []
    for path in [Path(file) for named in settings.videos for file in files_of(named)]:
        boxes = read_boxes(boxes_of(path, settings.boxes))
        for frame, picture in enumerate(open_video(path).pictures(bar=path.name)):
            if frame % settings.every == 0:
                jpeg = folder / f"{len(examples):07d}.jpg"
                jpeg.write_bytes(encode_rgb(picture).tobytes())
                examples.append(_example(jpeg, boxes.at(frame), picture.shape[:2]))
    if not any(len(one.corners) for one in examples):
        raise UserError("there is no box in any of the pictures: lower --every, or check the frames of the boxes")
    return examples


def boxes_of(video: Path, folder: Path | None) -> Path:
    """The file of a video's boxes.

    Raises UserError if there is none.
    """
    folder = video.parent if folder is None else folder
    for suffix in (".txt", ".json", ".csv"):
        if (path := folder / f"{video.stem}{suffix}").is_file():
            return path
    raise UserError(f"{video} has no boxes: {folder / video.stem}.txt or .json is missing")


def _example(jpeg: Path, boxes: Boxes, size: tuple[int, int]) -> Example:
    """Boxes cut at the borders of the picture, of size height, width; those outside it are left out."""
    corners = np.concatenate([boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]], axis=1)
    corners = corners.clip(0, (size[1], size[0]) * 2)
    inside = (corners[:, 2:] - corners[:, :2] >= 1).all(axis=1)
    labels = [label or NAMELESS for label in boxes.labels[inside].tolist()]
    return Example(jpeg, corners[inside].astype(np.float32), labels)


def _tensors(example: Example, classes: tuple[str, ...], device: torch.device) -> tuple[torch.Tensor, dict]:
    numbers = [classes.index(label) + 1 for label in example.labels]
    truth = {
        "boxes": torch.from_numpy(example.corners).reshape(-1, 4).to(device),
        "labels": torch.tensor(numbers, dtype=torch.int64, device=device),
    }
    picture = decode_rgb(np.frombuffer(example.jpeg.read_bytes(), np.uint8))
    return as_input(picture).to(device), truth


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: it rises, then falls along a cosine."""
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / steps))
