"""Mixup and CutMix."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from fusion.heads.head import Mask
from fusion.training.mixing import Clips, mix, partners
from preprocess.store import Store
from tests.fusion.training.test_step import PLAIN, batches_of, make, take
from tests.support.stores import Spec, make_store, three_bit

ROWS = 64
SHAPES = {"rgb": (3, 2, 20, 31), "flow": (2, 2, 9, 14), "audio": (5, 57)}  # as the towers are given them, of any size
MIXTURES = {"mixup": {"mixup": 0.4}, "cutmix": {"cutmix": 1.0}}
each_mixture = pytest.mark.parametrize("alphas", MIXTURES.values(), ids=MIXTURES)


def numbered(rows: int = ROWS) -> Clips:
    """Every value says which row it is of."""
    return {name: torch.arange(float(rows))[(..., *[None] * len(s))].repeat(1, *s) for name, s in SHAPES.items()}


def everything(rows: int = ROWS) -> Mask:
    return {name: torch.ones(rows, dtype=torch.bool) for name in SHAPES}


def mixtures(rows: int = ROWS) -> Mask:
    """Rows that have any of the streams, or none; the first is the only one that has all."""
    codes = torch.randint(0, 7, (rows,), generator=torch.Generator().manual_seed(3))
    codes[0] = 7
    assert len(codes.unique()) == 8
    return {name: (codes >> bit & 1).bool() for bit, name in enumerate(SHAPES)}


def own_and_other(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What is left of each row, (B,), and which other one is in it, (B,), where each row is a class of its own."""
    rows = torch.arange(len(targets))
    others = targets.clone()
    others[rows, rows] = 0
    assert ((others > 0).sum(dim=1) <= 1).all()
    return targets[rows, rows], torch.where(others.any(dim=1), others.argmax(dim=1), rows)


def test_without_mixing_clips_and_labels_are_what_they_were():
    clips, labels = numbered(), torch.randint(0, 5, (ROWS,))
    found, targets = mix(clips, mixtures(), labels, classes=5)
    assert all(found[name] is clip for name, clip in clips.items())
    assert targets.dtype == torch.float32 and torch.equal(targets, one_hot(labels, 5).float())


@each_mixture
def test_the_rows_of_the_targets_sum_to_one_and_clips_keep_shape_and_type(alphas):
    labels = torch.randint(0, 5, (ROWS,))
    clips, targets = mix(numbered(), mixtures(), labels, classes=5, **alphas)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(ROWS))
    assert targets.shape == (ROWS, 5) and (targets >= 0).all() and (targets[range(ROWS), labels] < 1).any()
    assert {name: (clip.shape[1:], clip.dtype) for name, clip in clips.items()} == {
        name: (shape, torch.float32) for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("alpha", [0.2, 8.0])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_the_shares_are_of_the_beta_distribution(name, alpha):
    torch.manual_seed(0)
    rows = 2000
    masks = {"audio": torch.ones(rows, dtype=torch.bool)}
    _, targets = mix({"audio": torch.zeros(rows, 1, 4)}, masks, torch.arange(rows), classes=rows, **{name: alpha})
    shares, _ = own_and_other(targets)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_mixup_blends_all_streams_of_two_clips_with_the_same_share():
    torch.manual_seed(0)
    clips = {name: torch.randn(ROWS, *shape) for name, shape in SHAPES.items()}
    found, targets = mix(clips, everything(), torch.arange(ROWS), classes=ROWS, mixup=0.4)
    shares, others = own_and_other(targets)
    assert shares.min() < 0.1 and shares.max() > 0.9
    for name, clip in clips.items():
        for row, (share, other) in enumerate(zip(shares.tolist(), others.tolist(), strict=True)):
            expected = share * clip[row].numpy().astype(np.float64) + (1 - share) * clip[other].numpy()
            np.testing.assert_allclose(found[name][row].numpy(), expected, rtol=1e-4, atol=1e-5)


def bounds(inside: torch.Tensor) -> tuple[int, int]:
    """Where a stretch begins and ends, which has no gap."""
    places = inside.nonzero()[:, 0].tolist() or [0]
    begin, end = places[0], places[0] + int(inside.sum())
    assert inside[begin:end].all()
    return begin, end


def test_cutmix_takes_its_share_of_every_stream_from_one_other_clip():
    """A box of the pictures, in the same place in all of them, and a stretch of the sound, to a pixel's rounding."""
    torch.manual_seed(0)
    found, targets = mix(numbered(), everything(), torch.arange(ROWS), classes=ROWS, cutmix=0.5)
    shares, others = own_and_other(targets)
    assert (others != torch.arange(ROWS)).all()
    parts = 0
    for row, (share, other) in enumerate(zip(shares.tolist(), others.tolist(), strict=True)):
        taken = {name: clip[row] == other for name, clip in found.items()}
        assert all((taken[name] | (clip[row] == row)).all() for name, clip in found.items())
        places = []
        for name in ("rgb", "flow"):
            box = taken[name][0, 0]
            assert (taken[name] == box).all()
            across, down = box.any(dim=0), box.any(dim=1)
            assert torch.equal(box, down[:, None] & across)
            if box.any():
                for side in (across, down):
                    begin, end = bounds(side)
                    assert abs(end - begin - (1 - share) ** 0.5 * len(side)) < 1 + 1e-4
                    places += [(begin / len(side), 1 / len(side))]
            else:  # less than a pixel's side of the smaller
                assert (1 - share) ** 0.5 * min(box.shape) < 1
        if len(places) == 4:
            for (one, pixel), (same, coarser) in zip(places[:2], places[2:], strict=True):
                assert abs(one - same) <= pixel + coarser
        stretch = taken["audio"][0]
        assert (taken["audio"] == stretch).all()
        begin, end = bounds(stretch)
        assert abs(end - begin - (1 - share) * len(stretch)) < 1 + 1e-4
        parts += bool(taken["rgb"].any() and not taken["rgb"].all())
    assert parts > ROWS / 4


def test_boxes_lie_anywhere_but_never_over_the_edge():
    torch.manual_seed(0)
    rows = 4000
    masks = {"rgb": torch.ones(rows, dtype=torch.bool)}
    clip = torch.arange(float(rows))[:, None, None, None, None].repeat(1, 1, 1, 8, 8)
    found, _ = mix({"rgb": clip}, masks, torch.arange(rows), classes=rows, cutmix=1.0)
    often = (found["rgb"] != clip).float().mean(dim=0)[0, 0]
    torch.testing.assert_close(often, often.flip(0), rtol=0, atol=0.05)
    torch.testing.assert_close(often, often.flip(1), rtol=0, atol=0.05)
    torch.testing.assert_close(often, often.T, rtol=0, atol=0.05)
    assert float(often.mean()) == pytest.approx(0.5, abs=0.03) and often.min() > 0.1


@each_mixture
def test_only_clips_that_have_the_same_streams_are_mixed(alphas):
    present = mixtures()
    kinds = [tuple(mask[row].item() for mask in present.values()) for row in range(ROWS)]
    for seed in range(5):
        torch.manual_seed(seed)
        found, targets = mix(numbered(), present, torch.arange(ROWS), classes=ROWS, **alphas)
        _, others = own_and_other(targets)
        assert [kinds[other] for other in others.tolist()] == kinds
        assert others[0] == 0 and targets[0, 0] == 1
        assert all((clip[0] == 0).all() for clip in found.values())


def test_every_clip_has_a_partner_that_is_not_itself_and_is_one_clips_partner():
    present = mixtures()
    code = sum(mask.long() << bit for bit, mask in enumerate(present.values()))
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        found = partners(present)
        assert sorted(found.tolist()) == list(range(ROWS))
        assert torch.equal(code[found], code)
        alone = torch.bincount(code)[code] == 1
        assert torch.equal(found == torch.arange(ROWS), alone)
        seen.add(int(found[1]))
    assert seen <= set((code == code[1]).nonzero()[:, 0].tolist()) and len(seen) > 3


@each_mixture
def test_what_stands_in_the_place_of_an_absent_stream_reaches_no_clip_that_has_it(alphas):
    present, clips = mixtures(), numbered()
    for name, mask in present.items():
        clips[name][~mask] = torch.nan
    for seed in range(5):
        torch.manual_seed(seed)
        found, targets = mix(clips, present, torch.arange(ROWS), classes=ROWS, **alphas)
        assert all(found[name][mask].isfinite().all() for name, mask in present.items())
        assert targets.isfinite().all()


@each_mixture
def test_a_part_of_no_clip_or_of_one_is_left_as_it_is(alphas):
    """A rank's share may be empty."""
    for rows in (0, 1):
        clips = numbered(rows)
        found, targets = mix(clips, everything(rows), torch.full((rows,), 2), classes=5, **alphas)
        torch.testing.assert_close(found, clips, rtol=0, atol=0)
        assert torch.equal(targets, torch.eye(5)[[2] * rows])


def test_of_both_each_batch_gets_one():
    blended, cut = 0, 0
    for seed in range(100):
        torch.manual_seed(seed)
        found, targets = mix(numbered(8), everything(8), torch.arange(8), classes=8, mixup=1.0, cutmix=1.0)
        _, others = own_and_other(targets)
        rows = torch.arange(8.0)[:, None, None]
        pure = (found["audio"] == rows) | (found["audio"] == others[:, None, None])
        blended, cut = blended + bool(not pure.any()), cut + bool(pure.all())
    assert blended + cut == 100 and 30 < cut < 70


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Store:
    silent = [Spec(f"x/{k}.mp4", label="000", streams=("rgb", "flow")) for k in range(4)]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(14) + silent)


@each_mixture
def test_a_step_learns_from_mixtures_and_not_from_what_absent_streams_hold(toy, alphas):
    recipe, found = replace(PLAIN, **alphas), {}
    plain = take(make(toy), batches_of(toy, batch=18)[:1])[0]
    for value in (0.0, torch.nan):
        step, batch = make(toy), batches_of(toy, batch=18)[0]
        assert not batch.present["audio"].all() and batch.present["audio"].any()
        batch.clips["audio"]["mel"][~batch.present["audio"]] = value
        loss = take(step, [batch], recipe=recipe).objective
        assert step.report_skipped() == [] and loss != plain
        found[value] = {name: parameter.grad for name, parameter in step.model.named_parameters()}
    torch.testing.assert_close(*found.values(), rtol=0, atol=0)


@each_mixture
def test_an_absent_streams_encoder_gets_no_gradient_from_mixtures(toy, alphas):
    step, batch = make(toy), batches_of(toy)[0]
    none = {name: mask & (name != "audio") for name, mask in batch.present.items()}
    batch = replace(batch, present=none, rows={name: mask.nonzero()[:, 0] for name, mask in none.items()})
    take(step, [batch], recipe=replace(PLAIN, **alphas))
    for name, parameter in step.model.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoders.audio.")
