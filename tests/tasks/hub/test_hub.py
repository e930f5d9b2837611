"""Published models: the same answers from a folder and from the hub, and a card of what was measured."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tristream
from fusion.training.run import write_json
from preprocess.common.errors import UserError
from tasks.evaluate import evaluate
from tasks.hub.folder import CARD, CONFIG, WEIGHTS, without_paths
from tasks.hub.settings import PublishSettings
from tasks.publish import main
from tasks.settings import EvaluateSettings
from tests.support.stores import make_store, three_bit

hub = pytest.importorskip("huggingface_hub", reason="needs the 'hub' extra")

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def judged(run_folder, tmp_path_factory):
    """A run that was judged twice: these weights, and others."""
    folder = tmp_path_factory.mktemp("judged")
    copy = Path(shutil.copytree(run_folder, folder / "run"))
    unseen = make_store(folder / "unseen.h5", three_bit(16, prefix="new", frames=10), seed=7)
    evaluate(EvaluateSettings(copy, data=unseen.path, views=1, device="cpu"))
    (report,) = copy.glob("judged/*/report.json")
    older = json.loads(report.read_text()) | {"weights_sha256": "0" * 64, "which": "earlier videos"}
    (copy / "judged" / "older").mkdir()
    write_json(copy / "judged" / "older" / "report.json", older)
    return copy


@pytest.fixture(scope="module")
def published(judged, tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "out"
    ablation = out.with_name("ablation")
    ablation.mkdir()
    (ablation / "ablation.json").write_text('{"data": "/secret/place/abl.h5"}')
    (ablation / "table.md").write_text("| streams |\n| --- |\n| rgb |\n\nTop-1 on 9 videos of /secret/place/abl.h5.\n")
    more = {"licence": "cc-by-4.0", "data": "Toys | <b>", "not_for": ("Surgery.",), "ablation": ablation}
    assert main(PublishSettings(judged, out, **more)) == 0
    return out


@pytest.fixture
def cached(published, tmp_path):
    """The hub's cache as a download of owner/name leaves it."""
    place = tmp_path / "cache" / "models--owner--name"
    shutil.copytree(published, place / "snapshots" / REVISION)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(REVISION)
    return tmp_path / "cache"


def assert_same(one, other, source):
    ours, theirs = (list(model.windows(source, hop=0.2)) for model in (one, other))
    assert len(ours)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.answer, b.answer) and torch.equal(a.fused, b.fused)
        assert all(torch.equal(a.features[name], b.features[name]) for name in one.streams)
    assert other.classes == one.classes and other.streams == one.streams and other.parameters == one.parameters


def test_a_published_folder_answers_bit_for_bit_as_the_run(model, published, toy):
    assert {path.name for path in published.iterdir()} == {WEIGHTS, CONFIG, CARD}
    assert_same(model, tristream.load(published, device="cpu"), toy)
    assert_same(model, tristream.Model.from_pretrained(published, device="cpu"), toy)
    said = json.loads((published / CONFIG).read_text())
    assert said["classes"] == model.classes and said["streams"] == list(model.streams)
    assert said["preprocessing"]["fps"] == model.fps


def test_the_hub_gives_the_same_from_its_cache_without_a_network(model, cached, toy, monkeypatch):
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    given = {"cache_dir": cached, "device": "cpu"}
    assert_same(model, tristream.Model.from_pretrained("owner/name", **given), toy)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(cached))
    for name in ("hf:owner/name", f"hf:owner/name@{REVISION}"):
        assert str(cached) in str(tristream.load(name, device="cpu").path)
    with pytest.raises(UserError, match="owner/other"):
        tristream.load("hf:owner/other")


def test_what_is_uploaded_is_what_can_be_loaded(model, tmp_path, toy, monkeypatch):
    sent = {}

    class Api:
        def __init__(self, **settings):
            sent["token"] = settings["token"]

        def create_repo(self, repo, **settings):
            sent["made"] = repo, settings["private"]

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            sent["repo"] = repo_id
            shutil.copytree(folder_path, tmp_path / "sent")
            return "https://hub.example/commit"

    monkeypatch.setattr(hub, "HfApi", Api)
    assert model.push_to_hub("owner/name", private=True, token="t") == "https://hub.example/commit"
    assert sent == {"token": "t", "made": ("owner/name", True), "repo": "owner/name"}
    assert_same(model, tristream.load(tmp_path / "sent", device="cpu"), toy)
    assert 'tristream.load("hf:owner/name")' in (tmp_path / "sent" / CARD).read_text()


def test_the_card_holds_what_was_measured_of_these_weights_and_nothing_else(judged, published):
    card = hub.ModelCard.load(published / CARD)  # an independent reader of the metadata
    (report,) = (json.loads(path.read_text()) for path in judged.glob("judged/unseen*/report.json"))
    metrics = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert metrics == {f"top-1 from {name}": found["top1"] for name, found in report["subsets"].items()}
    assert card.data.license == "cc-by-4.0" and card.data.library_name == "tristream"
    whole = report["subsets"]["rgb+flow+audio"]
    low, high = (f"{100 * whole['interval'][end]:.1f} %" for end in ("low", "high"))
    assert f"| rgb+flow+audio | {100 * whole['top1']:.1f} % | {low} to {high} |" in card.text
    assert whole["interval"]["low"] < whole["top1"] < whole["interval"]["high"]
    assert "16 videos of unseen.h5" in card.text and "earlier videos" not in card.text
    assert "label prior" in card.text  # the audit
    assert "9 videos of abl.h5" in card.text and "Surgery." in card.text
    assert "Toys \\| \\<b\\>" in card.text


def test_a_card_without_results_says_so(model, tmp_path):
    model.save_pretrained(tmp_path / "bare")
    card = hub.ModelCard.load(tmp_path / "bare" / CARD)
    assert card.text.count("Not measured: ") >= 2 and not card.data.eval_results and card.data.license is None
    assert "does not state a licence" in card.text and "How often it is right is not known." in card.text


def test_no_path_of_this_machine_is_published(judged, published):
    raw = b"".join(path.read_bytes() for path in published.iterdir())
    settings = tristream.load(judged, device="cpu").settings
    assert str(settings.data.parent).encode() not in raw and b"/secret" not in raw
    there = replace(settings, init=("rgb=/home/me/a.safetensors", "/home/me/run"))
    recipe = replace(there.recipe, model=replace(there.recipe.model, towers=("audio=yamnet:/home/me/y.onnx",)))
    found = without_paths(replace(there, recipe=replace(recipe, teacher=Path("/home/me/t"))))
    assert "/home" not in str(found) and found.init == ("rgb=a.safetensors", "run")
    local = replace(recipe, model=replace(recipe.model, towers=("rgb=hf:/home/me/mae",)))
    with pytest.raises(UserError, match="hf:/home/me/mae"):
        without_paths(replace(there, recipe=local))


def test_wrong_input_is_one_line_and_leaves_nothing(judged, published, tmp_path):
    with pytest.raises(UserError, match=str(published)):
        main(PublishSettings(judged, published))
    with pytest.raises(UserError, match="older"):
        main(PublishSettings(judged, tmp_path / "new", judged=(judged / "judged" / "older",)))
    with pytest.raises(UserError, match="OWNER/NAME"):
        main(PublishSettings(judged, tmp_path / "new", repo="nobody"))
    with pytest.raises(UserError, match=r"ablation\.json"):
        main(PublishSettings(judged, tmp_path / "new", ablation=tmp_path))
    with pytest.raises(UserError, match="no folder of a run"):
        main(PublishSettings(judged / "best.safetensors", tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
