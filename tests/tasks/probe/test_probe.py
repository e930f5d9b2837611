"""python -m tasks.probe: learned with groups left out, kept, asked, judged."""

import csv

import numpy as np
import pytest

from fusion.settings import ModelSettings
from fusion.training.settings import Recipe, TrainSettings
from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from tasks.features import main as features
from tasks.probe.__main__ import main
from tasks.probe.answer import evaluate, predict
from tasks.probe.probe import load_probe
from tasks.probe.settings import EvaluateProbe, PredictProbe, ProbeSettings, TrainProbe
from tasks.probe.table import groups_of, read_features, read_rows, read_targets
from tasks.probe.train import folds, judged, train_probe
from tasks.settings import FeaturesSettings
from tests.support.commands import assert_one_line_error
from tests.support.runs import run_here
from tests.support.stores import BANDS, HEIGHT, ROWS, WIDTH, Spec, make_store
from tests.tasks.conftest import CPU
from train import train


def write_table(path, columns, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def speakers(folder, name, count, *, seed, offset):
    """20 sentences of each speaker; the voice adds `offset` times what is the speaker's own."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(count), 20)
    angry = rng.integers(0, 2, len(who))
    voice = rng.normal(size=(len(who), 4)) + offset * rng.normal(size=(count, 4))[who]
    voice[:, 0] += 4 * angry
    arrays = {"name": [f"{name}{row}" for row in range(len(who))], "speaker": [f"{name}-{one}" for one in who]}
    np.savez(folder / f"{name}.npz", **arrays, voice=voice.astype(np.float32))
    labels = [(one, ["calm", "angry"][number]) for one, number in zip(arrays["name"], angry, strict=True)]
    return folder / f"{name}.npz", write_table(folder / f"{name}.csv", ["name", "label"], labels)


def test_what_tells_only_the_group_is_worth_nothing(tmp_path):
    """Every speaker has one emotion: a random split would be answered right to 100 %."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(24), 6)
    smell = np.where(who[:, None] == 3, np.float32(1), np.float32(np.nan))  # one group alone has it
    names = [f"s{row}" for row in range(144)]
    np.savez(tmp_path / "f.npz", name=names, voice=np.eye(24, dtype=np.float32)[who], smell=smell)
    emotions = rng.permutation(np.arange(24) % 2)[who]
    rows = [(f"s{row}", f"e{emotions[row]}", f"g{who[row]}") for row in range(144)]
    settings = TrainProbe(
        tmp_path / "f.npz",
        write_table(tmp_path / "l.csv", ["name", "label", "group"], rows),
        tmp_path / "p.npz",
        penalties=(0.03,),
    )
    table = read_rows(settings.labels)
    samples = read_features(settings.features, streams=(), names=None, group="group", rows=table, standardise=False)
    targets, groups = read_targets(table, [one.name for one in samples], ()), groups_of(samples)
    for rest, left in folds(groups, 10):
        assert not {*groups[rest]} & {*groups[left]} and len(rest) + len(left) == 144
    added, constants = judged(samples, targets, groups, settings)
    right = (constants + added["voice"] + added["smell"]).argmax(axis=1) == targets.values
    assert right.mean() < 0.7


def test_voices_standardised_by_speaker_are_alike_and_new_speakers_are_answered(tmp_path):
    known, labels = speakers(tmp_path, "known", 5, seed=0, offset=30.0)
    new, truth = speakers(tmp_path, "new", 4, seed=1, offset=30.0)
    rates = {}
    for standardise in (False, True):
        probe = tmp_path / f"{standardise}.npz"
        train_probe(TrainProbe(known, labels, probe, group="speaker", standardise=standardise))
        ((recall, _),) = evaluate(EvaluateProbe(probe, new, truth, group="speaker"))["voice"]
        rates[standardise] = recall.value
    assert rates[False] < 0.8 < 0.95 < rates[True]
    predict(PredictProbe(tmp_path / "True.npz", new, csv=tmp_path / "a.csv", group="speaker"))
    answers = {row["name"]: row for row in csv.DictReader(open(tmp_path / "a.csv"))}
    right = [answers[row["name"]]["label"] == row["label"] for row in csv.DictReader(open(truth))]
    assert np.mean(right) > 0.95 and len(answers) == 80
    assert all(
        float(one["score_angry"]) + float(one["score_calm"]) == pytest.approx(1, abs=1e-3) for one in answers.values()
    )


@pytest.fixture(scope="module")
def felt(tmp_path_factory):
    """Features of a run, and of 64 videos whose brightness is valence and whose loudness is arousal."""
    folder, rng = tmp_path_factory.mktemp("felt"), np.random.default_rng(0)
    felt = rng.uniform(-1, 1, (64, 2))
    specs = []
    for row, (valence, arousal) in enumerate(felt):
        grey = (128 + 90 * valence + rng.normal(0, 4, (8, HEIGHT, WIDTH, 1))).clip(0, 255)
        mel = (-6 + 3 * arousal + rng.normal(0, 0.3, (8 * ROWS, BANDS))).astype(np.float16)
        label = f"{valence > 0:d}{arousal > 0:d}"
        pictures = np.repeat(grey, 3, axis=3).astype(np.uint8)
        specs.append(
            Spec(f"v{row}.mp4", label, f"g{row // 4}", frames=8, streams=("rgb", "audio"), rgb=pictures, mel=mel)
        )
    store = make_store(folder / "s.h5", specs)
    clip = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
    recipe = Recipe(epochs=3, batch=16, lr=3e-3, clip=clip, model=ModelSettings(width=4, feature=16))
    run = train(TrainSettings(data=store.path, streams="rgb,audio", run=folder / "run", recipe=recipe, machine=CPU))
    features(FeaturesSettings(run, (store.path, folder / "f.npz"), device="cpu", weights="last"))
    rows = [(f"v{row}.mp4", f"g{row // 4}", *felt[row]) for row in range(64)]
    return folder, rows


def test_valence_is_seen_and_arousal_heard_and_each_is_lost_with_its_stream_alone(felt):
    folder, rows = felt
    columns = ["name", "group", "valence", "arousal"]
    known, new = (write_table(folder / f"{k}.csv", columns, part) for k, part in enumerate((rows[:44], rows[44:])))
    probe = train_probe(TrainProbe(folder / "f.npz", known, folder / "p.npz", penalties=(0.03,)))
    assert probe.columns == ("valence", "arousal") and not probe.classes
    found = evaluate(EvaluateProbe(folder / "p.npz", folder / "f.npz", new))
    ccc = {name: [measures[0].value for measures in each] for name, each in found.items()}
    assert min(ccc["rgb+audio"]) > 0.8
    assert ccc["rgb"][0] > 0.8 and abs(ccc["rgb"][1]) < 0.4
    assert ccc["audio"][1] > 0.8 and abs(ccc["audio"][0]) < 0.4


WRONG = {
    "no such file": (["train", "none.npz", "known.csv", "p.npz"], "none.npz"),
    "no column": (["train", "known.npz", "known.csv", "p.npz", "--targets", "joy"], "joy"),
    "name lost": (["train", "known.npz", "new.csv", "p.npz"], "new0"),
    "no groups": (["train", "known.npz", "known.csv", "p.npz", "--standardise"], "--group"),
    "no probe": (["predict", "known.npz", "new.npz"], "known.npz"),
}


def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    for name in ("known", "new"):
        speakers(tmp_path, name, 2, seed=0, offset=0.0)
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    for arguments, says in WRONG.values():
        assert_one_line_error(run_here(monkeypatch, capsys, *arguments, main=main), says)
    assert {*tmp_path.iterdir()} == before


def test_a_probe_refuses_features_of_another_size(tmp_path, capsys):
    known, labels = speakers(tmp_path, "known", 3, seed=0, offset=0.0)
    main(ProbeSettings(TrainProbe(known, labels, tmp_path / "p.npz", group="speaker", penalties=(0.1,))))
    assert load_probe(tmp_path / "p.npz").learned[0] == "known0"
    evaluate(EvaluateProbe(tmp_path / "p.npz", known, labels))
    assert "learned from 60" in capsys.readouterr().out
    np.savez(tmp_path / "wide.npz", name=["a", "b"], voice=np.ones((2, 7), np.float32))
    with pytest.raises(UserError, match="voice"):
        predict(PredictProbe(tmp_path / "p.npz", tmp_path / "wide.npz"))
