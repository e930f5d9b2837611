"""Clips of several streams as batches."""

import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocess.store.format import MEL_RATE, SILENCE
from streams.batch import Batch, ClipDataset
from streams.clip import random_starts, view_starts
from streams.loader import EpochBatches, make_loader
from streams.registry import STREAMS
from tests.support.batches import CLIP, assert_same, dataset_of, load, views_of
from tests.support.cases import case
from tests.support.reading import as_towers_see, read
from tests.support.stores import BANDS, HEIGHT, WIDTH, Spec, make_store


def joined(batches: list[Batch]) -> dict[int, list[torch.Tensor]]:
    """video → all that is known of its clip, whatever the batch it came in."""
    found = {}
    for batch in batches:
        for row, video in enumerate(batch.videos.tolist()):
            assert video not in found
            there = [name for name, mask in batch.present.items() if mask[row]]
            parts = [clips[row] for name in there for clips in batch.clips[name].values()]
            found[video] = [batch.labels[row], *(mask[row] for mask in batch.present.values()), *parts]
    return found


def test_a_batch_stacks_clips_and_says_what_is_there(toy):
    dataset = dataset_of(toy)
    (batch,) = load(dataset, views_of(dataset))
    assert len(toy) == 10 and batch.videos.tolist() == list(range(10)) and batch.clip == CLIP
    for name in STREAMS:
        expected = [video.streams[name] for video in toy.videos]
        assert batch.present[name].dtype == torch.bool and batch.present[name].tolist() == expected
        assert batch.rows[name].tolist() == [row for row, there in enumerate(expected) if there]
        for row, video in enumerate(toy.videos):
            clip = read(name, toy, view_starts(video, CLIP, 1)[0][0], CLIP, row=row)
            assert (clip is not None) == expected[row]
            if clip is not None:
                for part, values in clip.items():
                    assert torch.equal(batch.clips[name][part][row], torch.from_numpy(values))


def test_videos_of_any_shape_fit_into_one_batch(tmp_path):
    shapes = [(36, 36), (36, 48), (48, 36), (36, 100), (64, 36)]
    rng = np.random.default_rng(0)
    specs = [
        Spec(
            f"{k}.mp4",
            rgb=rng.integers(0, 256, (20, *shape, 3), dtype=np.uint8),
            flow=rng.normal(0, 3, (19, *shape, 2)).astype(np.float32),
        )
        for k, shape in enumerate(shapes)
    ]
    store = make_store(tmp_path / "s.h5", specs)
    for dataset, batches in (
        (dataset_of(store), lambda dataset, batch: views_of(dataset, batch=batch)),
        (dataset_of(store, seed=1), lambda dataset, batch: EpochBatches(dataset, batch=batch, seed=1)),
    ):
        together, alone = (joined(load(dataset, batches(dataset, batch))) for batch in (5, 1))
        assert len(together) == len(alone) == 5
        for video, parts in together.items():
            assert all(map(torch.equal, parts, alone[video]))


def test_labels_are_rows_of_the_classes_given_and_minus_one_without_a_label(toy):
    classes = [*reversed(toy.classes), "other"]
    dataset = ClipDataset(toy, toy.videos, streams=("rgb",), classes=classes, clip=CLIP)
    (batch,) = load(dataset, views_of(dataset))
    for row, label in zip(batch.videos.tolist(), batch.labels.tolist(), strict=True):
        wanted = toy.videos[row].label
        assert label == (-1 if wanted is None else classes.index(wanted))


def test_a_stream_that_a_whole_batch_lacks_still_has_its_place(tmp_path):
    store = make_store(tmp_path / "s.h5", [Spec(f"{k}.mp4", streams=("rgb",)) for k in range(3)])
    dataset = dataset_of(store)
    (batch,) = load(dataset, views_of(dataset))
    assert not batch.present["audio"].any() and len(batch.clips["audio"]["mel"]) == 3
    assert len(batch.rows["audio"]) == 0 and batch.rows["audio"].dtype == torch.int64
    assert batch.present["rgb"].all()


def test_every_view_of_every_video_comes_once_whatever_the_number_of_ranks(tmp_path):
    store = make_store(tmp_path / "s.h5", [Spec("a.mp4", frames=30), Spec("b.mp4", frames=9), Spec("c.mp4", frames=4)])
    dataset = dataset_of(store, views=3)
    for ranks in (1, 2, 5):
        with case(ranks):
            shares = [views_of(dataset, batch=2, rank=rank, ranks=ranks) for rank in range(ranks)]
            keys = [[key for batch in share for key in batch] for share in shares]
            assert sorted(key for share in keys for key in share) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]
            assert [len(share) for share in shares] == [len(list(share)) for share in shares]
            for rank in range(ranks):  # a video's views are judged by one
                assert {row % ranks for row, _ in keys[rank]} <= {rank}
            loaded = [batch.videos for share in shares for batch in load(dataset, share)]
            assert torch.cat(loaded).bincount().tolist() == [3, 2, 1]


def epoch(dataset: ClipDataset, number: int, *, seed: int = 0, batch: int = 4, **among) -> EpochBatches:
    batches = EpochBatches(dataset, batch=batch, seed=seed, **among)
    batches.epoch = number
    return batches


def test_an_epoch_holds_every_video_once_in_an_order_of_its_own(toy):
    dataset = dataset_of(toy, seed=0)

    def order(seed: int, number: int) -> list[int]:
        batches = epoch(dataset, number, seed=seed)
        given = list(batches)
        assert len(given) == len(batches) == batches.total == 3 and [len(keys) for keys in given] == [4, 4, 2]
        assert {epoch for keys in given for _, epoch in keys} == {number}
        return [row for keys in given for row, _ in keys]

    orders = [order(seed, number) for seed in range(2) for number in range(3)]
    assert all(sorted(rows) == list(range(10)) for rows in orders)
    assert len({tuple(rows) for rows in orders}) == 6
    assert order(1, 2) == orders[5]


def test_ranks_and_parts_divide_the_steps_of_one_process(toy):
    dataset = dataset_of(toy, seed=0)
    steps = [sorted(keys) for keys in epoch(dataset, 2)]
    for ranks in (1, 2, 3, 7):
        for parts in (1, 2, 5):
            with case((ranks, parts)):
                shares = [list(epoch(dataset, 2, parts=parts, rank=rank, ranks=ranks)) for rank in range(ranks)]
                assert all(len(share) == 3 * parts for share in shares)
                for number, step in enumerate(steps):
                    given = [share[number * parts : (number + 1) * parts] for share in shares]
                    assert sorted(key for share in given for part in share for key in part) == step
                    sizes = [sum(map(len, share)) for share in given]
                    assert max(sizes) - min(sizes) <= 1
                    assert all(max(map(len, share)) - min(map(len, share)) <= 1 for share in given)


def test_an_epoch_that_was_left_in_its_middle_goes_on_with_the_steps_that_are_left(toy):
    dataset = dataset_of(toy, seed=0)
    for done in (0, 1, 2, 3):
        with case(done):
            whole, rest = (epoch(dataset, 1, parts=2) for _ in range(2))
            rest.done = done
            assert list(rest) == list(whole)[2 * done :] and len(rest) == len(list(rest))


def test_clips_of_an_epoch_are_the_same_however_many_workers_read_them(toy):
    dataset = dataset_of(toy, seed=3)
    epochs = {}
    for workers in (0, 1, 2):
        batches = EpochBatches(dataset, batch=4, seed=3)
        loader = make_loader(dataset, batches, workers=workers, pin=False)
        for number in (0, 1):
            batches.epoch = number
            epochs[workers, number] = list(loader)
    for number in (0, 1):
        for workers in (1, 2):
            assert_same(epochs[0, number], epochs[workers, number])


def test_clips_of_an_epoch_are_the_same_however_they_are_divided_into_batches(toy):
    dataset = dataset_of(toy, seed=3)
    expected = joined(load(dataset, epoch(dataset, 1, batch=10)))
    assert len(expected) == 10
    divided = [
        load(dataset, epoch(dataset, 1, batch=3)),
        load(dataset, epoch(dataset, 1, batch=1), workers=2),
        load(dataset, epoch(dataset, 1, batch=4, parts=3)),
        [batch for rank in range(3) for batch in load(dataset, epoch(dataset, 1, rank=rank, ranks=3))],
    ]
    for batches in divided:
        found = joined(batches)
        assert found.keys() == expected.keys()
        for video, parts in found.items():
            assert all(map(torch.equal, parts, expected[video]))


def test_a_share_without_a_video_is_an_empty_batch(toy):
    dataset = dataset_of(toy, seed=0)
    *_, last = load(dataset, epoch(dataset, 0, batch=9, rank=1, ranks=2))
    assert len(last.videos) == len(last.labels) == 0 and last.videos.dtype == last.labels.dtype == torch.int64
    for name in STREAMS:
        assert last.present[name].shape == last.rows[name].shape == (0,)
        assert all(len(clips) == 0 for clips in last.clips[name].values())


def test_an_epoch_does_not_depend_on_those_before_it(toy):
    dataset = dataset_of(toy, seed=3)
    batches = EpochBatches(dataset, batch=4, seed=3)
    loader = make_loader(dataset, batches, workers=0, pin=False)
    list(loader)
    batches.epoch = 5
    assert_same(list(loader), load(dataset, epoch(dataset, 5, seed=3)))


def first_clip(store, stream: str, *, seed: int, number: int = 0, row: int = 0) -> list[torch.Tensor]:
    return [clips[0] for clips in dataset_of(store, seed=seed).__getitems__([(row, number)]).clips[stream].values()]


@pytest.mark.parametrize("name", ["rgb", "flow"])
def test_another_epoch_or_seed_cuts_another_clip_of_the_same_video(toy, name):
    first = first_clip(toy, name, seed=3)
    for other in (first_clip(toy, name, seed=3, number=1), first_clip(toy, name, seed=4)):
        assert not all(map(torch.equal, first, other))
    assert all(map(torch.equal, first, first_clip(toy, name, seed=3)))


def test_all_streams_of_a_training_clip_show_the_same_part_of_the_frames(toy):
    dataset = dataset_of(toy, seed=0)
    rows = [row for row, video in enumerate(toy.videos) if video.streams["rgb"] and video.streams["flow"]]
    batch = dataset.__getitems__([(row, epoch) for row in rows for epoch in range(3)])
    rgb, flow = (batch.clips[name]["map"] for name in ("rgb", "flow"))
    assert torch.equal(rgb, flow)
    assert len(torch.unique(rgb, dim=0)) == len(rgb)


def test_two_videos_of_one_epoch_are_not_augmented_alike(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8).repeat(20, axis=0)
    store = make_store(tmp_path / "s.h5", [Spec(f"{k}.mp4", rgb=picture) for k in range(2)])
    assert not all(map(torch.equal, first_clip(store, "rgb", seed=0), first_clip(store, "rgb", seed=0, row=1)))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_clips_draws_none_of_the_programs_random_numbers(toy, workers):
    """Otherwise a run that is resumed, and so makes its loaders anew, would go on with other ones."""
    dataset = dataset_of(toy, seed=0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    load(dataset, epoch(dataset, 0), workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_memory_is_flat_over_many_batches(toy):
    dataset = dataset_of(toy, seed=0)
    batches = EpochBatches(dataset, batch=5, seed=0)
    loader = make_loader(dataset, batches, workers=0, pin=False)

    def epochs(count: int) -> tuple[int, int]:
        for _ in range(count):
            batches.epoch += 1
            for _ in loader:
                pass
        with open("/proc/self/statm") as file:
            return tracemalloc.get_traced_memory()[0], int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    tracemalloc.start()
    try:
        before, after = epochs(5), epochs(40)
    finally:
        tracemalloc.stop()
    size = sum(clips.nbytes for part in next(iter(loader)).clips.values() for clips in part.values())
    assert after[0] - before[0] < 200_000 < 80 * size  # Python's and NumPy's
    assert after[1] - before[1] < 16e6  # PyTorch's and OpenCV's too


def test_moving_a_batch_changes_nothing_in_it(toy):
    dataset = dataset_of(toy)
    (batch,) = load(dataset, views_of(dataset))
    moved = batch.to(torch.device("cpu"))
    assert_same([batch], [moved])
    assert moved.clip == batch.clip
    elsewhere = batch.to(torch.device("meta"))
    assert all(clips.is_meta for part in elsewhere.clips.values() for clips in part.values())
    assert elsewhere.labels.is_meta and elsewhere.rows["rgb"].is_meta


@pytest.mark.parametrize("seed", [None, 3])
def test_a_clip_of_segments_is_each_segment_read_by_itself_with_one_crop(toy, seed):
    clip = replace(CLIP, frames=2, segments=3)
    dataset = ClipDataset(toy, toy.videos, streams=tuple(STREAMS), classes=toy.classes, clip=clip, seed=seed)
    batch = dataset.__getitems__([(row, 0) for row in range(len(toy))])
    inputs = batch.inputs(training=False)
    assert batch.starts.shape == (10, 3)
    for row, video in enumerate(toy.videos):
        for name, there in video.streams.items():
            assert batch.present[name][row] == there
            parts = inputs[name][row].chunk(3, dim=1)
            for start, part in zip(batch.starts[row].tolist(), parts if there else (), strict=there):
                rng = None
                if seed is not None:  # the same random numbers: three places, then the crop
                    rng = np.random.default_rng((seed, 0, row))
                    assert random_starts(video, clip, rng) == tuple(batch.starts[row].tolist())
                alone = as_towers_see(name, toy, start, replace(clip, segments=1), rng, row=row)
                torch.testing.assert_close(part, torch.from_numpy(alone), atol=1e-6, rtol=1e-6)


def test_sound_of_some_segments_alone_is_silence_in_the_others_and_sound_of_none_is_absent(tmp_path):
    specs = []
    for end in (2.0, 0.9, 0.01):  # seconds of the track
        loud = np.arange(200)[:, None] < end * MEL_RATE
        mel = np.where(loud, 2.0, SILENCE).repeat(BANDS, axis=1)
        specs.append(Spec(f"{len(specs)}.mp4", frames=50, mel=mel, covered=(0, end)))
    store = make_store(tmp_path / "s.h5", specs)
    clip = replace(CLIP, frames=2, segments=2, audio_seconds=0.32)
    dataset = ClipDataset(store, store.videos, streams=("audio",), classes=store.classes, clip=clip)
    batch = dataset.__getitems__([(row, 0) for row in range(3)])
    assert batch.present["audio"].tolist() == [True, True, False]  # the sound of the segments begins 0.34 and 1.34 s in
    heard = (batch.clips["audio"]["mel"] > 0).float().mean(dim=1)
    assert heard[0].all() and heard[1, :32].all() and not heard[1, 32:].any()
    torch.testing.assert_close(
        batch.clips["audio"]["mel"][1, :, 32:], torch.full((BANDS, 32), SILENCE), rtol=1e-3, atol=0
    )
