"""Batches of small clips, and whether they are the same."""

import torch

from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.loader import ViewBatches, make_loader
from streams.registry import STREAMS

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)


def dataset_of(store, **settings) -> ClipDataset:
    return ClipDataset(store, store.videos, streams=tuple(STREAMS), classes=store.classes, clip=CLIP, **settings)


def load(dataset: ClipDataset, batches, *, workers: int = 0) -> list[Batch]:
    return list(make_loader(dataset, batches, workers=workers, pin=False))


def views_of(dataset: ClipDataset, *, batch: int = 32, **among) -> ViewBatches:
    return ViewBatches(dataset, batch=batch, **among)


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert torch.equal(left.videos, right.videos) and torch.equal(left.labels, right.labels)
        for name in left.clips:
            assert torch.equal(left.present[name], right.present[name])
            assert torch.equal(left.rows[name], right.rows[name])
            assert left.clips[name].keys() == right.clips[name].keys()
            for part, clips in left.clips[name].items():  # nobody looks at what is absent
                there = left.present[name]
                assert clips.shape == right.clips[name][part].shape
                assert torch.equal(clips[there], right.clips[name][part][there])
