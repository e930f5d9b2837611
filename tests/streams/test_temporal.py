"""The models of time, each beside what is known of it."""

import re

import pytest
import torch

from fusion.heads import HEADS
from fusion.model import build_model
from fusion.settings import ModelSettings
from preprocess.common.errors import UserError
from streams.temporal import DILATIONS, KERNEL, TEMPORAL, split_temporal
from streams.towers.registry import SCRATCH
from tests.support.commands import run

PARAMETERS = {"fps": 25.0, "short_side": 36, "mel_bands": 16}


def make(temporal: str, inputs: int = 5, feature: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return TEMPORAL[temporal](inputs, feature, 0.3).eval()


@pytest.mark.parametrize("temporal", TEMPORAL)
@torch.no_grad()
def test_a_model_of_time_takes_any_length_sees_nothing_to_come_and_mixes_no_clips(temporal):
    layer, steps = make(temporal), torch.randn(3, 70, 5)
    sequence = layer(steps)[0]
    assert sequence.shape == (3, 70, 8)
    for length in (1, 2, 33):  # a step is what it is whatever follows
        torch.testing.assert_close(layer(steps[:, :length])[0], sequence[:, :length], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layer(steps[1:2])[0], sequence[1:2], atol=1e-5, rtol=1e-4)
    changed = steps.clone()
    changed[:, 40] += 1
    differs = (layer(changed)[0] - sequence).abs().amax(dim=(0, 2)) > 1e-6
    assert not differs[:40].any() and differs[40]
    assert differs[41:50].any() == (temporal != "mean")


@torch.no_grad()
def test_the_tcn_is_the_papers_written_out():
    """Bai et al. 2018, equation 1 and figure 1b: dilated sums over what was, twice a block, beside a shortcut."""
    layer, steps = make("tcn"), torch.randn(2, 40, 5)

    def convolve(values, module):
        weight = module.parametrizations.weight
        kernel = weight.original0 * weight.original1 / weight.original1.flatten(1).norm(dim=1)[:, None, None]
        out = module.bias.expand(*values.shape[:2], -1).clone()
        for back in range(KERNEL):
            ago = back * module.dilation[0]
            out[:, ago:] += values[:, : values.shape[1] - ago] @ kernel[:, :, KERNEL - 1 - back].T
        return out

    values = steps
    for block, dilation in zip(layer.blocks, DILATIONS, strict=True):
        first, second = [module for module in block.layers if isinstance(module, torch.nn.Conv1d)]
        assert first.dilation == second.dilation == (dilation,)
        hidden = convolve(convolve(values, first).relu(), second).relu()
        short = values
        if isinstance(block.shortcut, torch.nn.Conv1d):
            short = values @ block.shortcut.weight[:, :, 0].T + block.shortcut.bias
        values = (hidden + short).relu()
    torch.testing.assert_close(layer(steps)[0], values, atol=1e-5, rtol=1e-4)


def test_absent_clips_reach_no_model_of_time_and_a_batch_may_have_none():
    """Also in training, as if the absent rows were not there."""
    for temporal in TEMPORAL:
        settings = ModelSettings(width=4, feature=8, dropout=0.0, temporal=temporal, towers=("rgb=cnn",))
        torch.manual_seed(0)
        model = build_model(settings, streams=("rgb", "audio"), classes=3, parameters=PARAMETERS)
        clips = {"rgb": torch.randn(4, 3, 5, 32, 32), "audio": torch.randn(4, 16, 40)}
        present = {"rgb": torch.tensor([True, False, True, False]), "audio": torch.ones(4, dtype=torch.bool)}
        clips["rgb"][~present["rgb"]] = float("nan")
        found = model(clips, present)
        alone = model.encoders["rgb"](clips["rgb"][::2])
        torch.testing.assert_close(found.streams.sequences["rgb"][::2], alone.sequence)
        assert not found.streams.sequences["rgb"][1::2].any() and found.logits.isfinite().all()
        nobody = model(clips, {name: torch.zeros(4, dtype=torch.bool) for name in clips})
        assert nobody.logits.isfinite().all() and nobody.streams.features["rgb"].shape == (4, 8)
        empty = model.encoders["rgb"](clips["rgb"][:0])  # in one of several processes
        assert empty.sequence.shape == (0, 5, 8)
        (found.logits.sum() + empty.feature.sum()).backward()
        grads = [parameter.grad for parameter in model.encoders["rgb"].parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_a_tower_can_name_its_model_of_time_and_wrong_names_are_told_in_one_line():
    assert split_temporal("cnn+lstm") == ("cnn", "lstm") and split_temporal("timm:a+b") == ("timm:a+b", None)
    sizes = {"streams": ("rgb", "flow", "audio"), "classes": 3, "parameters": PARAMETERS}
    settings = ModelSettings(width=4, feature=8, temporal="gru", towers=("rgb=cnn+lstm", "audio=conv2d+mean"))
    model = build_model(settings, **sizes)
    assert {name: encoder.temporal for name, encoder in model.encoders.items()} == {
        "rgb": "lstm",
        "flow": "gru",
        "audio": "mean",
    }
    assert any(name.startswith("encoders.flow.gru.weight_hh") for name in model.state_dict())
    for wrong, said in (
        ({"temporal": "tnc"}, "--temporal 'tnc'"),
        ({"towers": ("rgb=cnn+tnc",)}, r"rgb=cnn\+tnc.*\+tcn"),
        ({"towers": ("rgb=+lstm",)}, r"rgb=\+lstm"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            build_model(ModelSettings(**wrong), **sizes)
        assert "\n" not in str(caught.value)


def test_train_help_names_every_system_model_of_time_and_head():
    told = run("train", "--help").stdout
    assert [name for name in (*SCRATCH, *TEMPORAL, *HEADS) if not re.search(rf"\b{name}\b", told)] == []
