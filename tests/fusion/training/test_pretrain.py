"""What is learned without labels."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from fusion.training.pretrain import TEMPERATURE, contrast, in_order
from preprocess.store import Store
from streams.registry import STREAMS
from tests.fusion.training.test_ranks import together
from tests.fusion.training.test_step import assert_equal, everything, nothing_waits, spoil, take
from tests.support.pretraining import batches_of, make_step, pretrain
from tests.support.stores import HEIGHT, WIDTH, Spec, make_store

LACKING = [
    Spec("lacking/1.mp4", streams=("rgb",)),
    Spec("lacking/2.mp4", streams=("rgb", "flow")),
    Spec("lacking/3.mp4", streams=("rgb", "audio")),
]


def videos(count: int, *, alike: bool, start: int = 0) -> list[Spec]:
    """Videos of one to a group whose three bits are the same, or tell nothing of each other; none has a label."""
    bits = [(k % 2,) * 3 if alike else (k % 2, k // 2 % 2, k // 4 % 2) for k in range(start, start + count)]
    return [Spec(f"{start + k:03d}.mp4", bits=one) for k, one in enumerate(bits)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Store:
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", videos(13, alike=True) + LACKING)


def by_hand(one: torch.Tensor, other: torch.Tensor, both: Sequence[bool], units: Sequence[int]) -> tuple[float, float]:
    """The loss and the top-1 of the formula in the paper, a number at a time."""
    rows = [k for k in range(len(one)) if both[k]]
    losses, right = [], []
    for these, those in ((one, other), (other, one)):
        for row in rows:
            compared = [k for k in rows if k == row or units[k] != units[row]]
            cosine = {k: float(these[row] @ those[k] / (these[row].norm() * those[k].norm())) for k in compared}
            total = math.fsum(math.exp(value / TEMPERATURE) for value in cosine.values())
            losses.append(math.log(total) - cosine[row] / TEMPERATURE)
            right.append(max(cosine, key=cosine.get) == row)
    return sum(losses) / len(losses), sum(right) / len(right)


def test_the_contrast_is_that_of_the_formula_over_rows_that_have_both_and_are_of_other_groups():
    torch.manual_seed(0)
    one = torch.randn(9, 6, dtype=torch.float64)
    other = one + 0.7 * torch.randn(9, 6, dtype=torch.float64)
    both, units = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1]) > 0, torch.tensor([0, 1, 1, 1, 2, 3, 0, 0, 4])
    found = contrast(one, other, both, units)
    loss, right = by_hand(one, other, both.tolist(), units.tolist())
    assert float(found.loss) == pytest.approx(loss) and float(found.right) == pytest.approx(right)
    assert found.rows == 7 and 0 < right < 1
    assert loss < by_hand(one, other, both.tolist(), range(9))[0]  # the groups are no negatives


def test_rows_that_lack_a_stream_have_no_influence_and_get_no_gradient():
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 4)
    both, units = torch.tensor([True, False, True, True, False]), torch.arange(5)
    few = contrast(one[both], other[both], torch.ones(3, dtype=torch.bool), units[both])
    one[1], other[4] = 1e9, 0.0
    one.requires_grad_()
    found = contrast(one, other, both, units)
    torch.testing.assert_close(found, few)
    found.loss.backward()
    assert not one.grad[~both].any() and one.grad[both].any(dim=1).all()
    nobody = contrast(one, other, torch.zeros(5, dtype=torch.bool), units)
    assert nobody.loss == 0 and nobody.rows == 0


@pytest.mark.slow
@pytest.mark.parametrize("streams", [("rgb", "flow", "audio"), ("flow",)])
@pytest.mark.usefixtures("one_thread")
def test_streams_learn_to_find_each_other_where_they_tell_the_same_and_only_there(tmp_path, streams):
    """On other videos than those that they learn from. Each bit halves the candidates, which is log 2 of loss."""
    gained = {}
    for alike in (True, False):
        store = make_store(tmp_path / f"{alike}.h5", videos(48, alike=alike))
        found = pretrain(store, streams, epochs=24, lr=3e-3, batch=16, judged=videos_after(tmp_path, alike))
        gained[alike] = math.log(16) - found["row"]["val_loss"]
    assert gained[True] > 0.6 * math.log(2)
    if len(streams) > 1:  # two clips of one video are alike in any case
        assert gained[False] < 0.1


def videos_after(folder, alike: bool) -> Store:
    path = folder / f"{alike}-judged.h5"
    return make_store(path, videos(48, alike=alike, start=100), seed=1)


def test_a_single_stream_has_two_different_clips_of_each_video(toy):
    first, second = batches_of(toy, ("rgb",), batch=4, views=2)[:2]
    for batch in (first, second):
        assert batch.videos[:4].tolist() == batch.videos[4:].tolist()
        one, other = batch.clips["rgb"]["map"].chunk(2)
        assert all(not torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert not set(first.videos.tolist()) & set(second.videos.tolist())


def test_streams_of_a_clip_draw_their_geometry_apart(toy):
    clips = batches_of(toy, ("rgb", "flow"), batch=4)[0].clips
    pairs = zip(clips["rgb"]["map"], clips["flow"]["map"], strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)


def test_a_step_waits_for_nothing_and_changes_nothing_without_a_finite_loss(toy):
    step, (first, second, *_) = make_step(toy, tuple(STREAMS)), batches_of(toy, tuple(STREAMS), batch=8)
    with nothing_waits():
        step.pretext.learn(step.model, first, parts=1, ranks=step.ranks)
    before = everything(step)
    assert take(step, [first], 0).objective > 0
    after = everything(step)
    for part in ("model", "pretext"):
        assert not all(torch.equal(value, after[part][name]) for name, value in before[part].items())
    heads = [name for name in before["model"] if name.startswith(("head.", "auxiliary."))]
    assert heads and all(torch.equal(before["model"][name], after["model"][name]) for name in heads)
    assert take(step, [spoil(second, "nan")], 1).objective == 0
    assert_equal(everything(step), after)


def test_parts_of_a_step_have_negatives_of_their_own_and_one_may_be_empty(toy):
    whole = batches_of(toy, ("rgb", "flow"), batch=4)[:2]
    losses = [float(take(make_step(toy, ("rgb", "flow")), [batch]).objective) for batch in whole]
    together_ = take(make_step(toy, ("rgb", "flow")), whole)
    assert float(together_.objective) == pytest.approx(sum(losses) / 2, rel=0.2)  # other colours, and batch norm
    empty = batches_of(toy, ("rgb", "flow"), batch=1, parts=2)[1]
    assert not len(empty.labels)
    assert take(make_step(toy, ("rgb", "flow")), [whole[0], empty]).objective > 0


def videos_that_change(count: int, *, start: int = 0) -> list[Spec]:
    """Pictures that grow brighter, and a motion that turns from up to down."""
    specs = []
    for number in range(start, start + count):
        rng = np.random.default_rng(number)
        rgb = rng.integers(0, 10, (8, HEIGHT, WIDTH, 3)) + 25 * np.arange(8)[:, None, None, None]
        flow = rng.normal(0, 0.2, (7, HEIGHT, WIDTH, 2)) + (np.arange(7) - 3)[:, None, None, None]
        specs.append(Spec(f"{number:03d}.mp4", frames=8, rgb=rgb.astype(np.uint8), flow=flow.astype(np.float32)))
    return specs


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_order_of_pieces_is_learned_where_it_can_be_seen_and_only_there(tmp_path):
    """Sound is noise here: nobody can tell how it was cut."""
    store = make_store(tmp_path / "s.h5", videos_that_change(32))
    judged = make_store(tmp_path / "judged.h5", videos_that_change(32, start=100))
    found = pretrain(store, tuple(STREAMS), kind="order", epochs=40, lr=1e-2, batch=16, judged=judged)
    assert found["row"]["val_top1_rgb"] > 0.4 and found["row"]["val_top1_flow"] > 0.4  # one of six by chance
    assert found["row"]["val_top1_audio"] < 0.4


def test_pieces_change_places_as_a_row_s_order_says():
    clip = torch.arange(2 * 8 * 2).reshape(2, 1, 8, 2)  # the last two steps are left out
    found = in_order(clip, torch.tensor([[2, 0, 1], [0, 1, 2]]))
    assert torch.equal(found[0], clip[0][:, [4, 5, 0, 1, 2, 3]]) and torch.equal(found[1], clip[1][:, :6])
    assert in_order(clip[:0], torch.empty(0, 3, dtype=torch.int64)).shape == (0, 1, 6, 2)  # a rank without rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "streams"), [("contrast", tuple(STREAMS)), ("contrast", ("flow",)), ("order", ("rgb", "audio"))]
)
def test_several_ranks_take_the_steps_that_one_process_takes(toy, tmp_path, kind, streams):
    """Negatives are of all ranks. Three ranks: of 16 videos in steps of five the last has a single one."""
    together(3, "tests.support.pretraining", toy.path, tmp_path, ",".join(streams), kind)
    alone = pretrain(toy, streams, kind=kind, epochs=1, lr=1e-4, batch=5, plain=True)
    for rank in range(3):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["taken"], alone["taken"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["gradients"], alone["gradients"], rtol=1e-3, atol=1e-5)
        assert found["row"]["val_loss"] == pytest.approx(alone["row"]["val_loss"], rel=1e-3)
        # of 28 answers or more, two may turn where cosines are equal but for rounding
        assert found["row"]["val_top1"] == pytest.approx(alone["row"]["val_top1"], abs=2 / 28)
