"""Clips of several streams as batches."""

import numpy as np
import pytest
import torch

from streams import STREAMS
from streams.batch import Batch, ClipDataset, EpochSampler, ViewSampler, make_loader
from streams.clip import ClipSettings, view_starts
from tests.stores import HEIGHT, WIDTH, Spec, make_store, three_bit

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)


def dataset_of(store, **settings) -> ClipDataset:
    return ClipDataset(store, store.videos, streams=tuple(STREAMS), classes=store.classes, clip=CLIP, **settings)


def load(dataset: ClipDataset, sampler, *, workers: int = 0, batch: int = 4) -> list[Batch]:
    return list(make_loader(dataset, sampler, batch=batch, workers=workers, pin=False))


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert torch.equal(left.videos, right.videos) and torch.equal(left.labels, right.labels)
        for name in left.clips:
            assert torch.equal(left.present[name], right.present[name])
            assert torch.equal(left.clips[name], right.clips[name])


@pytest.fixture
def toy(tmp_path):
    """Ten videos of eight classes; some lack flow or sound."""
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("flow", "audio"))]
    return make_store(tmp_path / "toy.h5", three_bit(8) + lacking[:1] + [Spec("x/2.mp4", streams=("rgb", "audio"))])


def test_a_batch_stacks_clips_and_says_what_is_there(toy):
    dataset = dataset_of(toy)
    (batch,) = load(dataset, ViewSampler(dataset), batch=32)
    assert len(toy) == 10 and batch.videos.tolist() == list(range(10))
    for name, stream in STREAMS.items():
        expected = [video.streams[name] for video in toy.videos]
        assert batch.present[name].dtype == torch.bool and batch.present[name].tolist() == expected
        for row, video in enumerate(toy.videos):
            clip = stream.read(toy, video, view_starts(video, CLIP, 1)[0], CLIP, None)
            assert (clip is not None) == expected[row]
            if clip is not None:
                assert torch.equal(batch.clips[name][row], torch.from_numpy(clip))


def test_labels_are_rows_of_the_classes_given_and_minus_one_without_a_label(toy):
    classes = [*reversed(toy.classes), "other"]
    dataset = ClipDataset(toy, toy.videos, streams=("rgb",), classes=classes, clip=CLIP)
    (batch,) = load(dataset, ViewSampler(dataset), batch=32)
    for row, label in zip(batch.videos.tolist(), batch.labels.tolist(), strict=True):
        wanted = toy.videos[row].label
        assert label == (-1 if wanted is None else classes.index(wanted))


def test_a_stream_that_a_whole_batch_lacks_still_has_its_place(tmp_path):
    store = make_store(tmp_path / "s.h5", [Spec(f"{k}.mp4", streams=("rgb",)) for k in range(3)])
    dataset = dataset_of(store)
    (batch,) = load(dataset, ViewSampler(dataset))
    assert not batch.present["audio"].any() and len(batch.clips["audio"]) == 3
    assert batch.present["rgb"].all()


def test_every_view_of_every_video_comes_once(tmp_path):
    store = make_store(tmp_path / "s.h5", [Spec("a.mp4", frames=30), Spec("b.mp4", frames=9), Spec("c.mp4", frames=4)])
    dataset = dataset_of(store, views=3)
    videos = torch.cat([batch.videos for batch in load(dataset, ViewSampler(dataset))])
    assert videos.bincount().tolist() == [3, 2, 1]


def test_an_epoch_holds_every_video_once_in_an_order_of_its_own(toy):
    dataset = dataset_of(toy, seed=0)

    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(dataset, seed=seed)
        sampler.epoch = epoch
        keys = list(sampler)
        assert len(keys) == len(sampler) and {number for _, number in keys} == {epoch}
        return [row for row, _ in keys]

    orders = [order(seed, epoch) for seed in range(2) for epoch in range(3)]
    assert all(sorted(rows) == list(range(10)) for rows in orders)
    assert len({tuple(rows) for rows in orders}) == 6
    assert order(1, 2) == orders[5]


def test_clips_of_an_epoch_are_the_same_however_many_workers_read_them(toy):
    dataset = dataset_of(toy, seed=3)
    epochs = {}
    for workers in (0, 1, 2):
        sampler = EpochSampler(dataset, seed=3)
        loader = make_loader(dataset, sampler, batch=4, workers=workers, pin=False)
        for epoch in (0, 1):
            sampler.epoch = epoch
            epochs[workers, epoch] = list(loader)
    for epoch in (0, 1):
        assert_same(epochs[0, epoch], epochs[1, epoch])
        assert_same(epochs[0, epoch], epochs[2, epoch])


def test_an_epoch_does_not_depend_on_those_before_it(toy):
    dataset = dataset_of(toy, seed=3)
    sampler = EpochSampler(dataset, seed=3)
    loader = make_loader(dataset, sampler, batch=4, workers=0, pin=False)
    list(loader)
    sampler.epoch = 5
    after_another = list(loader)
    fresh = EpochSampler(dataset, seed=3)
    fresh.epoch = 5
    assert_same(after_another, load(dataset, fresh))


@pytest.mark.parametrize("name", ["rgb", "flow"])
def test_another_epoch_or_seed_cuts_another_clip_of_the_same_video(toy, name):
    first, second = (dataset_of(toy, seed=3)[0, epoch]["clips"][name] for epoch in (0, 1))
    other = dataset_of(toy, seed=4)[0, 0]["clips"][name]
    assert not np.array_equal(first, second) and not np.array_equal(first, other)
    assert np.array_equal(first, dataset_of(toy, seed=3)[0, 0]["clips"][name])


def test_two_videos_of_one_epoch_are_not_augmented_alike(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8).repeat(20, axis=0)
    store = make_store(tmp_path / "s.h5", [Spec(f"{k}.mp4", rgb=picture) for k in range(2)])
    dataset = dataset_of(store, seed=0)
    assert not np.array_equal(dataset[0, 0]["clips"]["rgb"], dataset[1, 0]["clips"]["rgb"])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_clips_draws_none_of_the_programs_random_numbers(toy, workers):
    """Otherwise a run that is resumed, and so makes its loaders anew, would go on with other ones."""
    dataset = dataset_of(toy, seed=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load(dataset, EpochSampler(dataset, seed=0), workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_read_rightly_though_the_parent_has_the_store_open(toy):
    dataset = dataset_of(toy)
    sampler = ViewSampler(dataset)
    here = load(dataset, sampler, workers=0)
    assert_same(here, load(dataset, sampler, workers=2, batch=4))
    assert_same(here, load(dataset, sampler, workers=0))


def test_moving_a_batch_changes_nothing_in_it(toy):
    dataset = dataset_of(toy)
    (batch,) = load(dataset, ViewSampler(dataset), batch=32)
    assert_same([batch], [batch.to(torch.device("cpu"))])
    assert batch.to(torch.device("meta")).clips["rgb"].is_meta
