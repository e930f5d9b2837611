"""Captions from training to subtitles."""

import json
from dataclasses import replace

import pytest
import torch

from preprocess.common.errors import UserError
from streams.clip import ClipSettings
from tasks.caption import main
from tasks.captions.captioner import DECODER, load_captioner
from tasks.captions.evaluate import evaluate
from tasks.captions.predict import Told, as_vtt
from tasks.captions.references import read_captions
from tasks.captions.settings import (
    TOWERS,
    CaptionRecipe,
    CaptionSettings,
    EvaluateCaption,
    PredictCaption,
    TrainCaption,
)
from tasks.captions.train import train_captioner
from tests.support.stores import make_store, three_bit
from tests.tasks.conftest import CPU, TINY

WORDS = (("orange", "blue"), ("up", "down"), ("low", "high"))  # what each stream's bit is called
CLIP = ClipSettings(frames=1, stride=1, size=32, audio_seconds=0.32, least_crop=0.9, judged_crop=1.0, flip=False)
RECIPE = CaptionRecipe(epochs=2, batch=8, channels=16)


def told(label: str) -> list[str]:
    """Two captions of a video of three bits."""
    hue, way, tone = (names[int(bit)] for names, bit in zip(WORDS, label, strict=True))
    return [f"{hue} that drifts {way} with a {tone} tone", f"a {tone} tone and {hue} moves {way}"]


@pytest.fixture(scope="module")
def captions(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("captions") / "captions.json"
    path.write_text(json.dumps({video.path: told(video.label) for video in toy.videos}))
    return path


def train(store, captions, out, *, clip=CLIP, **recipe):
    made = replace(RECIPE, **recipe)
    return train_captioner(
        TrainCaption(
            data=store.path,
            captions=captions,
            out=out,
            recipe=made,
            clip=clip,
            model=replace(
                TOWERS, towers=("rgb=places", "flow=coarse", "audio=conv1d"), width=4, feature=16
            ),  # short sound
            machine=CPU,
        )
    )


@pytest.fixture(scope="module")
def captioner(toy, captions, tmp_path_factory):
    """A folder of a captioner that has hardly learned."""
    out = tmp_path_factory.mktemp("captioner") / "captions"
    train(toy, captions, out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_each_word_comes_from_its_stream_and_fails_alone_without_it(kind, tmp_path):
    store = make_store(tmp_path / "train.h5", three_bit(64, frames=10))
    test = make_store(tmp_path / "test.h5", three_bit(40, frames=10, prefix="t"), seed=1)
    for one in (store, test):
        text = json.dumps({video.path: told(video.label) for video in one.videos})
        one.path.with_suffix(".json").write_text(text)
    train(store, store.path.with_suffix(".json"), tmp_path / "run", epochs=40, decoder=kind)
    asked = {"data": test.path, "captions": test.path.with_suffix(".json"), "out": tmp_path / "judged", "device": "cpu"}
    evaluate(EvaluateCaption(captioner=tmp_path / "run", **asked))

    def right(subset: str) -> list[float]:
        """The share of videos whose hue, way and tone are told as they are."""
        found = json.loads((tmp_path / "judged" / f"{subset}.json").read_text())
        labels = {video.path: video.label for video in test.videos}
        pairs = [(set(text.split()), labels[path]) for path, text in found.items()]
        return [
            sum({*names} & words == {names[int(label[at])]} for words, label in pairs) / len(pairs)
            for at, names in enumerate(WORDS)
        ]

    assert min(right("rgb+flow+audio")) > 0.95
    for at, subset in enumerate(("flow+audio", "rgb+audio", "rgb+flow")):
        shares = right(subset)
        assert shares.pop(at) < 0.75 and min(shares) > 0.95


def test_a_file_is_told_as_its_store_is_and_a_long_one_in_windows(captioner, videos, store, tmp_path, capsys):
    asked = {"captioner": captioner, "device": "cpu", "beam": 2}
    out = tmp_path / "told"
    again = tmp_path / "again"
    shape = {"length": 0.48, "hop": 0.24}
    assert main(CaptionSettings(PredictCaption(videos=(videos / "both.mkv",), out=out, **shape, **asked))) == 0
    assert main(CaptionSettings(PredictCaption(videos=(store.path,), out=again, **shape, **asked))) == 0
    words = load_captioner(captioner, device="cpu").decoder.vocabulary.words
    assert json.loads((captioner / "vocabulary.json").read_text()) == list(words)
    (parts,) = json.loads((out / "captions.json").read_text()).values()
    assert len(parts) == 7 and parts[0]["start"] == 0 and parts[-1]["end"] == pytest.approx(1.92)
    assert json.loads((again / "captions.json").read_text())["both.mkv"] == parts
    assert len((out / "captions.csv").read_text().splitlines()) == 8
    assert (out / "both.mkv.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> ")
    assert main(CaptionSettings(PredictCaption(videos=(videos / "mute.mkv",), streams="audio", **asked))) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("s  ")  # nothing is heard: nothing is told


def test_subtitles_join_what_goes_on_and_leave_out_what_is_not_told():
    parts = [Told(0, 2, "a", 0), Told(1, 3, "a", 0), Told(2, 4, "b", 0), Told(4, 6, "", 0), Told(3600, 3602.5, "c", 0)]
    assert as_vtt(parts) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\na\n\n00:00:02.000 --> 00:00:04.000\nb\n\n"
        "01:00:00.000 --> 01:00:02.500\nc\n"
    )


def test_captions_that_cannot_be_read_are_named(tmp_path):
    for name, text, named in (
        ("none.csv", None, "none.csv"),
        ("a.csv", "file,text\nx,y\n", "columns video and caption"),
        ("b.json", '{"x": [1]}', "no text"),
        ("c.json", "{", "c.json"),
        ("d.csv", "video,caption\nx,\n", "no caption"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=named):
            read_captions(tmp_path / name)


def test_what_cannot_be_learned_is_refused_and_leaves_nothing(toy, captions, captioner, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("video,caption\nsomething.mp4,a dog\n")
    for wrong, named in (
        ({"decoder": "gru"}, "gru"),
        ({"word_dropout": 1.0}, "word-dropout"),
        ({"clip": replace(CLIP, frames=0)}, "frames"),
        ({"clip": replace(CLIP, clip_of=("rgb=2x1x32",))}, "places"),
        ({"decoder": f"hf:{tmp_path}/nowhere"}, "nowhere"),
    ):
        with pytest.raises(UserError, match=named):
            train(toy, captions, tmp_path / "run", **wrong)
    with pytest.raises(UserError, match=r"something\.mp4"):
        train(toy, other, tmp_path / "run")
    with pytest.raises(UserError, match="holds a captioner"):
        train(toy, captions, captioner)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="no captioner"):
        load_captioner(tmp_path)
    (tmp_path / DECODER).write_bytes(b"junk")
    with pytest.raises(UserError, match="damaged"):
        load_captioner(tmp_path)


def test_encoders_of_a_trained_run_stay_as_they_are_if_frozen(run_folder, toy, captions, tmp_path, model):
    given = TrainCaption(
        data=toy.path, captions=captions, out=tmp_path / "run", init=run_folder, freeze=True, recipe=RECIPE, machine=CPU
    )
    train_captioner(given)
    kept = load_captioner(tmp_path / "run", device="cpu")
    assert kept.model.clip == TINY.clip and kept.model.classes == model.classes
    theirs = model.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in kept.model.network.state_dict().items())
    (windows,) = kept.windows(toy, video="only.mp4")
    assert kept.decoder.captions(kept.evidence(windows), beam=2)[0].score < 0


def test_a_language_model_learns_to_tell_what_the_streams_show(toy, captions, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = sorted({word for label in ("000", "111") for text in told(label) for word in text.split()})
    known = {word: number for number, word in enumerate(["<end>", *words])}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<end>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", unk_token="<end>")
    shape = {"vocab_size": len(known), "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 128}
    language = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0))
    for part in (tokenizer, language):
        part.save_pretrained(tmp_path / "tiny")
    decoder = f"hf:{tmp_path / 'tiny'}"
    train(toy, captions, tmp_path / "run", decoder=decoder, tune=True, epochs=12, lr=5e-3)
    one, other = (load_captioner(tmp_path / "run", device="cpu") for _ in range(2))
    (windows,) = one.windows(toy, video="only.mp4")
    shown = one.evidence(windows)
    texts = [part.decoder.captions(shown, beam=3)[0] for part in (one, other)]
    assert texts[0] == texts[1] and {"moves", "drifts"} & set(texts[0].text.split())
    junk = replace(shown, steps=shown.steps | {"flow": shown.steps["flow"] + 9})  # which this video lacks
    assert one.decoder.captions(junk, beam=3)[0].text == texts[0].text
