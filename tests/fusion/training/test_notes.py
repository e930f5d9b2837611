"""What a user hears before a run begins."""

from dataclasses import replace

import pytest

from fusion.training import notes
from fusion.training.notes import run_notes
from streams.batch import ClipDataset
from streams.clip import ClipSettings
from streams.registry import STREAMS
from streams.split import split_videos
from tests.support.stores import HEIGHT, Spec, make_store, three_bit

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
ONE = {"batch": 8, "workers": 1, "processes": 1}


def found(store, *, clip: ClipSettings = CLIP, streams=tuple(STREAMS), **machine: int) -> list[str]:
    split = split_videos(store.videos, seed=0)
    by_path = {video.path: video for video in store.videos}
    usable = [by_path[path] for path in split.train if any(by_path[path].streams[name] for name in streams)]
    dataset = ClipDataset(store, usable, streams=streams, classes=store.classes, clip=clip, seed=0)
    return list(run_notes(dataset, split, streams=streams, **ONE | machine))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(32))


def test_a_run_that_its_store_and_machine_suit_needs_no_note(store):
    reach = 20  # frames, of every video of the store
    assert found(store, clip=replace(CLIP, size=HEIGHT, frames=reach, stride=1)) == []


def test_a_class_without_training_videos_is_named(tmp_path):
    specs = [replace(spec, split=("train", "val")[k // 16]) for k, spec in enumerate(three_bit(32))]
    later = [Spec(f"{label}/1.mp4", label=label, split=split) for label, split in (("late", "val"), ("last", "test"))]
    (note,) = found(make_store(tmp_path / "s.h5", specs + later))
    assert note.startswith("2 of 10 classes") and "last, late" in note


def test_training_videos_without_any_of_the_streams_are_counted(tmp_path):
    mute = [Spec(f"000/m{k}.mp4", label="000", split="train", streams=("rgb",)) for k in range(3)]
    specs = [replace(spec, split=("train", "val")[k // 16]) for k, spec in enumerate(three_bit(32))]
    store = make_store(tmp_path / "s.h5", specs + mute)
    (note,) = found(store, streams=("audio",))
    assert note.startswith("3 training videos") and "audio" in note
    assert found(store) == []


def test_what_enlarges_pictures_or_is_longer_than_most_videos_is_said_where_pictures_are_trained_on(store):
    (size,) = found(store, clip=replace(CLIP, size=HEIGHT + 1))
    assert f"--size {HEIGHT + 1}" in size and f" {HEIGHT} " in size
    (length,) = found(store, clip=replace(CLIP, frames=11))
    assert all(text in length for text in ("--frames 11", "--stride 2", "21 frames"))
    assert found(store, clip=replace(CLIP, size=HEIGHT + 1, frames=11), streams=("audio",)) == []


@pytest.mark.parametrize("short", ["memory", "shared memory"])
def test_clips_read_ahead_that_do_not_fit_are_said(store, monkeypatch, short):
    mel = 4 * 16 * round(CLIP.audio_seconds * 100)  # bytes of a clip's sound
    needed = 2 * 3 * 10 * mel  # two processes that each have two batches ready of each of one reader, and one at work

    class Room:
        f_frsize = 1
        f_bavail = needed - 1 if short == "shared memory" else 10**15

    def notes_with(memory: float, **machine: int) -> list[str]:
        monkeypatch.setattr(notes, "available_memory", lambda: memory)
        monkeypatch.setattr(notes.os, "statvfs", lambda _: Room)
        return found(store, streams=("audio",), **machine)

    memory = needed - 1 if short == "memory" else 1e15
    (note,) = notes_with(memory, batch=10, processes=2)
    assert "--batch" in note and "--workers" in note and short in note
    assert notes_with(memory, batch=9, processes=2) == []
