"""Temporal heads on made features: when what happens, from which streams."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.events.detector import found_events, points
from tasks.events.event import Event
from tasks.events.heads import HEADS
from tasks.events.metrics import score_events
from tasks.events.sequences import VideoFeatures
from tasks.events.settings import HeadRecipe
from tasks.events.targets import distance_iou, focal, targets
from tasks.events.training import train_head

CLASSES = ["bark", "jump"]  # one is heard, one is seen
HOP = 0.5


def made(count: int, *, seed: int) -> tuple[list[VideoFeatures], dict[str, list[Event]]]:
    """Videos of 100 s with three to five events that do not overlap; noise, and in one stream each class's own sign."""
    rng = np.random.default_rng(seed)
    videos, events = [], {}
    for number in range(count):
        name, total = f"v{number}", 200
        seen, heard = rng.normal(0, 0.5, (2, total, 4)).astype(np.float32)
        found, at = [], 5.0
        while len(found) < 5 and at < 75:
            length, label = float(rng.choice([3, 6, 15])), int(rng.integers(2))
            first, last = round(at / HOP), round((at + length) / HOP)
            (heard, seen)[label][first:last, 0] += 2
            found.append(Event(name, first * HOP, last * HOP, CLASSES[label]))
            at += length + float(rng.uniform(4, 12))
        there = torch.ones(total, dtype=torch.bool)
        videos.append(
            VideoFeatures(
                video=name,
                seconds=total * HOP,
                first=HOP / 2,
                hop=HOP,
                features={"rgb": torch.from_numpy(seen), "audio": torch.from_numpy(heard)},
                present={"rgb": there, "audio": there.clone()},
            )
        )
        events[name] = found
    return videos, events


@pytest.mark.parametrize(
    "name", ["tcn", *(pytest.param(name, marks=pytest.mark.slow) for name in HEADS if name != "tcn")]
)
def test_a_head_finds_events_that_it_has_not_seen_and_misses_those_of_a_stream_that_is_taken_away(name):
    videos, events = made(12, seed=0)
    recipe = HeadRecipe(head=name, passes=60, channels=32, drop=0.1, rate=3e-3)
    head = train_head(videos, events, classes=CLASSES, streams=("rgb", "audio"), recipe=recipe, seed=0)
    videos, events = made(6, seed=1)
    truth = [event for found in events.values() for event in found]

    def judged(streams: tuple[str, ...]) -> dict:
        said = [points(head, video.of(streams)) for video in videos]
        found = [one for part, video in zip(said, videos, strict=True) for one in found_events(part, video, CLASSES)]
        return score_events(truth, found)

    both, heard = judged(("rgb", "audio")), judged(("audio",))
    assert both["mean_map"] > 0.85, both
    assert heard["ap_per_class"]["bark"] > 0.7 and heard["ap_per_class"]["jump"] < 0.5, heard


def test_an_absent_stream_says_nothing_whatever_its_features_hold():
    (video, *_), _ = made(1, seed=0)
    torch.manual_seed(0)
    head = HEADS["multiscale"]({"rgb": 4, "audio": 4}, classes=2, width=16, dropout=0.0).eval()
    gone = replace(video, present=video.present | {"audio": torch.zeros(len(video), dtype=torch.bool)})
    other = replace(gone, features=gone.features | {"audio": 100 * torch.randn(len(video), 4)})
    np.testing.assert_array_equal(points(head, gone).scores, points(head, other).scores)
    np.testing.assert_allclose(points(head, gone).scores, points(head, video.of(("rgb",))).scores, atol=1e-6)


def test_targets_name_each_event_at_one_scale_around_its_middle():
    events, strides = np.array([[2.0, 5.0], [10.0, 40.0], [30.0, 33.0]]), (1, 2, 4, 8)
    found = targets(events, [0, 1, 0], windows=64, strides=strides, classes=2)
    assert [bool(level.inside.any()) for level in found] == [True, False, True, False]
    fine, coarse = found[0], found[2]
    assert set(np.flatnonzero(fine.classes[:, 0]).tolist()) == {2, 3, 4, 5, 30, 31, 32, 33}
    for level, stride in ((fine, 1), (coarse, 4)):
        for row in np.flatnonzero(level.inside).tolist():
            point = row * stride + (stride - 1) / 2
            back, on = level.extents[row].tolist()
            assert [point - back, point + on] in events.tolist()


def test_the_losses_are_those_of_the_papers():
    pytest.importorskip("torchvision")
    from torchvision.ops import distance_box_iou_loss, sigmoid_focal_loss

    torch.manual_seed(0)
    logits, wanted = torch.randn(50, 3), (torch.rand(50, 3) < 0.3).float()
    torch.testing.assert_close(focal(logits, wanted), sigmoid_focal_loss(logits, wanted, alpha=0.5, gamma=2))
    said, true = (1 + 5 * torch.rand(2, 50, 2)).double()

    def box(extents: torch.Tensor) -> torch.Tensor:
        """As boxes so flat that only the axis of time counts."""
        back, on = extents.unbind(1)
        return torch.stack([-back, torch.zeros(50), on, torch.full((50,), 1e-3)], dim=1)

    theirs = distance_box_iou_loss(box(said), box(true))
    torch.testing.assert_close(distance_iou(said, true), theirs, rtol=1e-3, atol=1e-4)
