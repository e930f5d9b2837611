"""Whether explanations find what is known to have been planted: which stream, when, and where."""

import pytest

import tristream
from fusion.settings import ModelSettings
from fusion.training.settings import Machine, Recipe, TrainSettings
from streams.clip import ClipSettings
from tasks.explain.check import check
from tasks.explain.explain import explain
from tests.support.stores import FPS, HEIGHT, WIDTH, make_store
from tests.tasks.explain.planted import LONG, SIDE, planted
from train import train

RECIPE = Recipe(
    epochs=40,
    batch=16,
    lr=3e-3,
    val_every=5,
    stream_dropout=0.1,
    clip=ClipSettings(frames=16, stride=2, size=32, audio_seconds=1.28, least_crop=0.9, spec_mask=0.0),
    model=ModelSettings(width=8, feature=32),
)
TESTED = 30  # videos of each stream's cue: two patches or tones each, one of which tells the class


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A model that has learned the cues, and videos that it has not seen, with what was planted in them."""
    folder = tmp_path_factory.mktemp("planted")
    store = make_store(folder / "train.h5", planted(480)[0])
    machine = Machine(workers=0, device="cpu")
    run = train(TrainSettings(data=store.path, run=folder / "run", recipe=RECIPE, machine=machine))
    specs, cues = planted(9 * TESTED // 2, seed=1)
    test = make_store(folder / "test.h5", specs)
    asked = [(test.find(spec.path), cue) for spec, cue in zip(specs, cues, strict=True) if cue]
    return tristream.load(run, device="cpu"), test, asked


@pytest.mark.slow
def test_planted_cues_are_found_by_stream_place_and_time(learned):
    model, test, asked = learned
    right, stream, when, lost, where = 0, [], [], [], []
    for video, cue in asked:
        found = explain(model, test, video, views=1, steps=16)
        if found.label != video.label:
            continue
        right += 1
        peak, losses = found.peaks[cue.stream], found.occlusion[cue.stream]
        at = losses.index(max(losses))
        begin, end = (cue.begin - 1) / FPS, (cue.begin + LONG + 1) / FPS  # a picture of the clip stands for two frames
        stream.append(max(found.shares, key=found.shares.get) == cue.stream)
        when.append(begin <= peak.seconds <= end)
        lost.append(begin <= (found.edges[at] + found.edges[at + 1]) / 2 <= end)
        if peak.x is not None:
            x, y = peak.x * WIDTH, peak.y * HEIGHT
            where.append(cue.left - 1 <= x <= cue.left + SIDE + 1 and cue.top - 1 <= y <= cue.top + SIDE + 1)
    assert right >= 0.9 * len(asked)
    assert all(stream)
    for found in (when, lost, where):
        assert sum(found) >= 0.9 * len(found)


@pytest.mark.slow
def test_random_weights_change_the_maps_and_what_they_name_counts(learned):
    model, test, asked = learned
    checks = []
    for at in sorted(range(len(asked)), key=lambda at: at % 7):  # every stream's cues of both classes in turn
        video, cue = asked[at]
        found = explain(model, test, video, views=1, steps=16)
        # a class that is said of an empty video too cannot be taken away or put in
        if found.label == video.label and found.odds_of_nothing < 0:
            checks.append((cue.stream, check(found.clips, found.maps, model.classes.index(found.label), steps=16)))
        if len(checks) == 13:
            break
    assert len(checks) == 13
    assert all(one.depends_on_weights for _, one in checks)
    areas = [one.curves.areas for _, one in checks]
    gains = {
        "deletion": [one["deletion_at_random"] - one["deletion"] for one in areas],
        "insertion": [one["insertion"] - one["insertion_at_random"] for one in areas],
    }
    # now and then a piece of another stream that comes in with the cue speaks for another class
    assert sum(one.finds_what_counts for _, one in checks) >= 0.9 * len(checks), (checks, gains)
    assert sum(gains["deletion"]) > 0.3 * len(checks), gains
    assert sum(gains["insertion"]) > 0.1 * len(checks), gains
    assert sum(one["insertion"] for one in areas) > 0.9 * len(areas), areas  # 0.95 is all that can be had
