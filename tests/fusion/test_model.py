"""The joint model: masks, and what balances joint training."""

import copy

import pytest
import torch

from fusion.heads import HEADS
from fusion.model import build_model, drop_streams
from fusion.settings import ModelSettings
from preprocess.common.errors import UserError
from streams.registry import STREAMS
from tests.support.cases import case

PARAMETERS = {"fps": 25.0, "short_side": 36, "mel_bands": 16}
SHAPES = {"rgb": (3, 4, 32, 32), "flow": (2, 4, 32, 32), "audio": (16, 32)}
B, D, K = 6, 8, 5
each_head = pytest.mark.parametrize("head", HEADS)
each_stream = pytest.mark.parametrize("name", STREAMS)


def make(**settings):
    torch.manual_seed(0)
    small = {"width": 4, "feature": D, "dropout": 0.0} | settings
    return build_model(ModelSettings(**small), streams=tuple(STREAMS), classes=K, parameters=PARAMETERS)


def clips(count: int = B) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(count, *SHAPES[name], generator=generator) for name in STREAMS}


def everywhere(count: int = B) -> dict[str, torch.Tensor]:
    return {name: torch.ones(count, dtype=torch.bool) for name in STREAMS}


def test_the_output_has_a_place_for_every_clip_and_stream():
    model = make()
    output = model(clips(), everywhere())
    assert output.logits.shape == (B, K)
    for name in STREAMS:
        assert output.streams.logits[name].shape == (B, K) and output.streams.features[name].shape == (B, D)
        assert output.streams.sequences[name].shape[::2] == (B, D)
        steps, channels = output.streams.sequences[name].shape[1], model.encoders[name].tower.features
        assert output.streams.towers[name].shape == (B, steps, channels)
        torch.testing.assert_close(output.streams.sequences[name].mean(dim=1), output.streams.features[name])


@each_stream
def test_absent_clips_reach_no_tower(name):
    """In training: outputs and batch norm's statistics are as if the absent rows were not there."""
    model, other = make(), make()
    batch, rows = clips(), torch.tensor([0, 2, 5])
    present = everywhere() | {name: torch.zeros(B, dtype=torch.bool).index_fill(0, rows, True)}
    batch[name][~present[name]] = float("nan")
    output = model(batch, present)
    alone = other.encoders[name](batch[name][rows])
    torch.testing.assert_close(output.streams.features[name][rows], alone.feature)
    torch.testing.assert_close(output.streams.sequences[name][rows], alone.sequence)
    torch.testing.assert_close(output.streams.towers[name][rows], alone.tower)
    assert not any(parts[name][~present[name]].any() for parts in output.streams)
    assert output.logits.isfinite().all()
    torch.testing.assert_close(model.encoders[name].state_dict(), other.encoders[name].state_dict())


@each_head
def test_a_clips_answer_depends_on_its_own_streams_alone_and_a_hidden_one_keeps_its_opinion_but_not_its_say(head):
    model = make(head=head).eval()
    batch, present = clips(), everywhere()
    full = model(batch, present).logits
    mask = torch.tensor([True, True, False, True, False, True])
    for name in STREAMS:
        with case(name):
            some = model(batch, present | {name: mask}).logits
            torch.testing.assert_close(some[mask], full[mask], atol=1e-5, rtol=1e-4)
            assert not torch.allclose(some[~mask], full[~mask])
            hidden = present | {name: torch.zeros(B, dtype=torch.bool)}
            output, absent = model(batch, present, use=hidden), model(batch, hidden)
            torch.testing.assert_close(output.logits, absent.logits)
            assert output.streams.logits[name].any() and not absent.streams.logits[name].any()
            torch.testing.assert_close(model.fuse(output.streams, hidden), output.logits)


@each_head
def test_an_absent_stream_gives_no_gradient_and_a_batch_that_has_nothing_at_all_is_survived(head):
    model = make(head=head)
    for name in STREAMS:
        with case(name):
            model.zero_grad()
            before = copy.deepcopy(model.encoders[name].state_dict())
            output = model(clips(), everywhere() | {name: torch.zeros(B, dtype=torch.bool)})
            assert output.streams.features[name].shape == (B, D) and not output.streams.features[name].any()
            (output.logits.sum() + sum(logits.sum() for logits in output.streams.logits.values())).backward()
            for parameter in [*model.encoders[name].parameters(), *model.auxiliary[name].parameters()]:
                assert parameter.grad is None or not parameter.grad.any()
            torch.testing.assert_close(model.encoders[name].state_dict(), before)
            for other in STREAMS:
                if other != name:
                    assert any(parameter.grad.any() for parameter in model.encoders[other].parameters())
    output = model(clips(), {name: torch.zeros(B, dtype=torch.bool) for name in STREAMS})
    assert output.logits.isfinite().all()
    output.logits.sum().backward()


def mask_of(share: float, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.rand(rows, generator=generator) < share for name in STREAMS}


@pytest.mark.parametrize("share", [0.25, 0.99])
def test_dropping_never_shows_an_absent_stream_nor_hides_the_last_one(share):
    torch.manual_seed(0)
    present = mask_of(0.5, 5000)
    before = {name: mask.clone() for name, mask in present.items()}
    kept = drop_streams(present, share)
    assert list(kept) == list(present)
    for name in present:
        assert torch.equal(present[name], before[name])
        assert not (kept[name] & ~present[name]).any()
    assert torch.equal(torch.stack([*kept.values()]).any(dim=0), torch.stack([*present.values()]).any(dim=0))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_streams_are_dropped_with_about_the_probability_asked_for_and_all_alike(share):
    torch.manual_seed(0)
    rows = 40_000
    present = {name: torch.ones(rows, dtype=torch.bool) for name in STREAMS}
    kept = drop_streams(present, share)
    # where all three would go, one of them stays
    expected = share - share**3 / 3
    for mask in kept.values():
        assert 1 - mask.float().mean().item() == pytest.approx(expected, abs=0.01)


def test_the_one_that_stays_is_any_of_those_present():
    torch.manual_seed(0)
    present = {name: torch.ones(6000, dtype=torch.bool) for name in STREAMS}
    present["flow"][:] = False
    kept = drop_streams(present, 0.999)
    assert kept["rgb"].float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert torch.equal(kept["rgb"], ~kept["audio"]) and not kept["flow"].any()


def test_nothing_is_dropped_without_a_share():
    present = mask_of(0.5, 100)
    kept = drop_streams(present, 0.0)
    assert all(torch.equal(kept[name], present[name]) for name in present)


def test_a_stream_may_have_another_tower():
    default, other = make(), make(towers=("rgb=r2plus1d",))
    kernels = {m.kernel_size for m in other.encoders["rgb"].modules() if isinstance(m, torch.nn.Conv3d)}
    assert all(1 in kernel for kernel in kernels)
    assert default.encoders["flow"].state_dict().keys() == other.encoders["flow"].state_dict().keys()
    assert default.encoders["rgb"].state_dict().keys() != other.encoders["rgb"].state_dict().keys()


def test_an_unknown_tower_is_named_beside_the_known_ones():
    for tower in ("rgb=resnet", "audio=conv3d", "smell=conv1d", "conv3d", "rgb"):
        says = f"unknown tower '{tower}'.*rgb=conv3d, .*rgb=r2plus1d, .*flow=conv3d"
        with case(tower), pytest.raises(UserError, match=says):
            make(towers=(tower,))


def test_an_unknown_head_is_named_beside_the_known_ones():
    with pytest.raises(UserError, match="unknown head 'tail': known are " + ", ".join(HEADS)):
        make(head="tail")
