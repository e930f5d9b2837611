"""Exported models, which have to answer as the run does."""

import json
import shutil

import pytest
import torch

import tristream
from fusion.heads import HEADS
from fusion.heads.head import StreamOutputs
from fusion.training.run import load_model, save_weights
from preprocess.common.errors import UserError
from streams.registry import subsets
from tasks.export import main
from tasks.exported.parity import largest_difference
from tasks.exported.parts import ANSWER, FUSION, parts_of
from tasks.exported.settings import ExportSettings
from tasks.exported.write import write_parts
from tests.support.commands import assert_one_line_error, run

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")
pytest.importorskip("onnxscript", reason="needs the 'onnx' extra")

PARITY = 1e-4
OTHERS = sorted(set(HEADS) - {"binding"})  # quick tests export one head


@pytest.fixture(scope="module")
def out(run_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "out"
    assert main(ExportSettings(run_folder, folder)) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(("frames", "rows"), [(2, 32), (7, 101), (16, 256)])
def test_every_output_is_pytorchs_for_every_batch_length_and_subset(model, out, batch, frames, rows):
    assert largest_difference(model, out, batch=batch, frames=frames, rows=rows) < PARITY


@pytest.mark.slow
def test_programs_of_torch_export_answer_as_the_run(model, run_folder, videos, tmp_path):
    out = tmp_path / "out"
    assert main(ExportSettings(run_folder, out, format="pt2")) == 0
    assert model.clip.frames <= 4 and model.clip.audio_seconds < 0.65  # so short that no other length is taken
    for batch in (1, 2, 5):
        assert largest_difference(model, out, batch=batch) < PARITY
    ours, theirs = (one.predict(videos / "mute.mkv", views=2) for one in (model, tristream.load(out)))
    assert theirs.missing == ours.missing and theirs.classes == pytest.approx(ours.classes, abs=PARITY)
    whole = (out / "flow.pt2").read_bytes()
    (out / "flow.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"flow\.pt2"):
        tristream.load(out)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compiled_programs_answer_as_the_run(run_folder, videos, tmp_path):
    model = with_model(run_folder, tmp_path, streams=("audio",), clip={"audio_seconds": 1.28})  # compiling takes long
    write_parts(model, tmp_path / "out", kind="aoti")
    for batch, rows in ((1, 101), (2, 65), (5, 256)):
        assert largest_difference(model, tmp_path / "out", batch=batch, rows=rows) < PARITY
    ours, theirs = (one.predict(videos / "one.mkv", views=2) for one in (model, tristream.load(tmp_path / "out")))
    assert theirs.classes == pytest.approx(ours.classes, abs=PARITY)


@pytest.mark.slow
def test_programs_of_models_with_longer_clips_take_any_length(run_folder, tmp_path):
    model = with_model(run_folder, tmp_path, clip={"frames": 8, "audio_seconds": 1.28})
    write_parts(model, tmp_path / "out", kind="pt2")
    for batch, frames, rows in ((1, 5, 101), (2, 8, 65), (5, 16, 256)):
        assert largest_difference(model, tmp_path / "out", batch=batch, frames=frames, rows=rows) < PARITY


@pytest.mark.slow
def test_a_video_gets_the_runs_answer_also_one_without_sound(model, out, videos):
    exported = tristream.load(out)
    assert exported.classes == model.classes and exported.streams == model.streams
    for name in ("one.mkv", "mute.mkv"):
        ours, theirs = model.predict(videos / name, views=2), exported.predict(videos / name, views=2)
        assert theirs.missing == ours.missing and theirs.windows == ours.windows
        assert theirs.classes == pytest.approx(ours.classes, abs=PARITY)
        assert theirs.shares == pytest.approx(ours.shares, abs=PARITY)


@pytest.mark.slow
def test_windows_can_be_fused_again_from_other_streams(model, out, videos):
    (ours,), (theirs,) = (list(one.windows(videos / "both.mkv", hop=0.2)) for one in (model, tristream.load(out)))
    for subset in subsets(model.streams):
        one, other = model.fuse(ours, subset), tristream.load(out).fuse(theirs, subset)
        assert torch.allclose(one.answer, other.answer, atol=PARITY)
        assert torch.allclose(one.fused, other.fused, atol=PARITY)


@pytest.mark.slow
def test_each_file_says_its_classes_and_clips(model, out):
    for name in (*model.streams, FUSION):
        said = onnxruntime.InferenceSession(str(out / f"{name}.onnx")).get_modelmeta().custom_metadata_map
        assert json.loads(said["classes"]) == model.classes and json.loads(said["streams"]) == list(model.streams)
        assert json.loads(said["fps"]) == model.fps
        clip = json.loads(said["clips"])["rgb"]
        assert clip["frames"] == model.clip.frames and clip["inputs"]["frames"]["type"] == "uint8"


@pytest.mark.parametrize("head", ["binding", *(pytest.param(one, marks=pytest.mark.slow) for one in OTHERS)])
def test_every_head_is_the_same_in_torch_export(head, run_folder, tmp_path):
    model = with_model(run_folder, tmp_path, head=head)
    part = parts_of(model)[FUSION]
    program = torch.export.export(
        part.module, part.example, dynamic_shapes=part.dynamic, prefer_deferred_runtime_asserts_over_guards=True
    ).module()
    outputs, _ = part.example
    there = torch.tensor([[name in subset for name in model.streams] for subset in subsets(model.streams)])
    given = {name: torch.randn(len(there), *value.shape[1:]) for name, value in outputs.items()}
    parts = [{n: given[f"{n}.{o}"] for n in model.streams} for o in ("logits", "feature", "sequence", "tower")]
    with torch.no_grad():
        found = dict(zip(ANSWER, program(given, there), strict=True))
        fused, logits = model.network.answer(
            StreamOutputs(*parts), dict(zip(model.streams, there.unbind(1), strict=True))
        )
    assert torch.allclose(found["fused"], fused, atol=PARITY) and torch.allclose(found["logits"], logits, atol=PARITY)


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(set(HEADS) - {"concat"}))
def test_every_head_is_the_same_in_onnx(head, run_folder, tmp_path):
    model = with_model(run_folder, tmp_path, head=head)
    write_parts(model, tmp_path / "out")
    assert largest_difference(model, tmp_path / "out", batch=3, frames=9, rows=77) < PARITY


@pytest.mark.slow
def test_wrong_input_is_one_line(run_folder, out, tmp_path):
    assert_one_line_error(run("tasks.export", run_folder, out), str(out))
    assert_one_line_error(run("tasks.export", tmp_path / "none", tmp_path / "new"), "none")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="gradients"):
        next(tristream.load(out).windows(tmp_path / "any.mp4", gradients=True))


@pytest.mark.slow
def test_other_towers_and_models_of_time_are_the_same_in_onnx(run_folder, tmp_path):
    towers = ("rgb=i3d+gru", "flow=c3d+tcn", "audio=vgg2d+mean")
    model = with_model(run_folder, tmp_path, towers=towers, head="convolution")
    write_parts(model, tmp_path / "out")
    for frames in (3, 18):
        assert largest_difference(model, tmp_path / "out", batch=2, frames=frames, rows=77) < PARITY


def with_model(run_folder, tmp_path, streams=("rgb", "flow", "audio"), clip=None, **changes):
    """The run's model with other settings, of its clips too, at random where that learns."""
    from dataclasses import replace

    from fusion.model import build_model
    from fusion.training.run import About

    _, about = load_model(run_folder / "best.safetensors")
    recipe = about.settings.recipe
    settings = replace(
        about.settings,
        streams=",".join(streams),
        recipe=replace(recipe, model=replace(recipe.model, **changes), clip=replace(recipe.clip, **(clip or {}))),
    )
    torch.manual_seed(0)
    sizes = {"classes": len(about.classes), "parameters": about.parameters}
    network = build_model(settings.recipe.model, streams=streams, **sizes)
    save_weights(
        tmp_path / "other.safetensors", network, About(about.version, settings, about.classes, about.parameters)
    )
    return tristream.load(tmp_path / "other.safetensors", device="cpu")
