"""One step of training."""

import copy
import math
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusion.heads import HEADS
from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.balance import BALANCES
from fusion.training.ranks import Ranks
from fusion.training.settings import Recipe
from fusion.training.step import BAD_IN_A_ROW, LAST_RATE, WARMUP, Schedule, Step
from preprocess.common.errors import UserError
from streams.batch import Batch, ClipDataset
from streams.clip import ClipSettings
from streams.loader import EpochBatches, make_loader
from streams.registry import STREAMS
from streams.towers.norm import BatchNorm
from tests.support.stores import Spec, make_store, three_bit

CLIP = ClipSettings(frames=4, stride=2, size=32, audio_seconds=0.32)
MODEL = ModelSettings(width=2, feature=8, dropout=0.0)
PLAIN = Recipe(clip=CLIP, model=MODEL, stream_dropout=0.0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("toy") / "toy.h5", three_bit(14) + lacking)


def make(
    toy,
    *,
    settings: ModelSettings = MODEL,
    steps: int = 100,
    lr: float = 1e-2,
    balance: str = "auxiliary",
    streams: tuple[str, ...] = tuple(STREAMS),
    device: torch.device = CPU,
    average: float = 0.0,
    optimizer: str = "adamw",
) -> Step:
    torch.manual_seed(0)
    model = build_model(settings, streams=streams, classes=8, parameters=toy.parameters).to(device)
    method = BALANCES[balance](streams=streams, auxiliary=0.5, epochs=4)
    schedule = Schedule(lr=lr, weight_decay=0.05, steps=steps, optimizer=optimizer)
    given = {"device": device, "ranks": Ranks(), "average": average}
    return Step(model.train(), balance=method, schedule=schedule, **given)


def batches_of(
    toy, *, batch: int = 8, parts: int = 1, epoch: int = 0, streams: tuple[str, ...] = tuple(STREAMS)
) -> list[Batch]:
    dataset = ClipDataset(toy, toy.videos, streams=streams, classes=toy.classes, clip=CLIP, seed=0)
    batches = EpochBatches(dataset, batch=batch, parts=parts, seed=0)
    batches.epoch = epoch
    return list(make_loader(dataset, batches, workers=0, pin=False))


@contextmanager
def without_augmentation():
    """Only what the clips were read with: nothing is drawn on the device."""
    real = Batch.inputs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "inputs", lambda batch, training: real(batch, training=False))
        yield


def freeze_norm(step: Step) -> None:
    for module in step.model.modules():
        if isinstance(module, BatchNorm):
            module.train(False)


def take(step: Step, batches: list[Batch], number: int = 0, *, recipe: Recipe = PLAIN, seed: int = 0):
    return step(batches, number, recipe=recipe, seed=seed)


def everything(step: Step) -> dict:
    state = copy.deepcopy(step.state_dict())
    return state | {"optimizer": state["optimizer"]["state"]}  # without the learning rate, which follows the number


def assert_equal(one: dict, other: dict) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("parts", "balance"),
    [*((2, balance) for balance in BALANCES if balance != "opm"), (11, "auxiliary")],
)
def test_accumulated_parts_are_one_step_of_the_same_clips_but_for_batch_norm(toy, parts, balance):
    """Also where a part is empty. With batch norm's statistics held fast, all that is left is rounding."""
    whole, divided = make(toy, balance=balance), make(toy, balance=balance)
    freeze_norm(whole)
    freeze_norm(divided)
    together, apart = batches_of(toy), batches_of(toy, parts=parts)
    assert len(apart) == parts * len(together)
    with without_augmentation():
        for number, batch in enumerate(together):
            here = apart[number * parts : (number + 1) * parts]
            one, other = take(whole, [batch], number), take(divided, here, number)
            torch.testing.assert_close(one.objective, other.objective, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(one.seen, other.seen, rtol=1e-5, atol=1e-5)
            assert one.clips == other.clips == len(batch.labels)
            gradients = [[p.grad for p in step.model.parameters()] for step in (whole, divided)]
            torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_batch_norm_sees_each_part_by_itself(toy):
    """As the setting says: in training, the statistics of two halves are not those of the whole."""
    whole, divided = make(toy), make(toy)
    with without_augmentation():
        take(whole, batches_of(toy)[:1])
        take(divided, batches_of(toy, parts=2)[:2])
    norms = [[m for m in step.model.modules() if isinstance(m, BatchNorm)] for step in (whole, divided)]
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms[0])
    assert all(int(norm.num_batches_tracked) == 2 for norm in norms[1])
    assert not torch.allclose(norms[0][0].running_mean, norms[1][0].running_mean)


def test_a_step_tells_the_fused_likelihood_and_top1_of_its_clips_as_validation_would(toy):
    """Not what is minimised, which label smoothing and the streams' own losses are part of."""
    (batch,) = batches_of(toy, batch=16)
    outputs = []
    model = make(toy).model
    model.register_forward_hook(lambda *given: outputs.append(given[-1]))
    rates = {"schedule": Schedule(lr=1e-2, weight_decay=0.0, steps=9), "device": CPU, "ranks": Ranks()}
    method = BALANCES["auxiliary"](streams=tuple(STREAMS), auxiliary=0.5, epochs=4)
    taken = Step(model, balance=method, **rates)([batch], 0, recipe=replace(PLAIN, label_smoothing=0.2), seed=0)
    logits, labels = outputs[0].logits.detach().double(), batch.labels
    likelihood = logits.softmax(dim=1).gather(1, labels[:, None]).log().sum()
    right = (logits.argmax(dim=1) == labels).sum()
    expected = torch.tensor([-likelihood, right, 16], dtype=torch.float64)
    torch.testing.assert_close(taken.seen, expected, rtol=1e-5, atol=1e-5)
    assert taken.objective > taken.seen[0] / 16


def spoil(batch: Batch, how: str) -> Batch:
    clips = copy.deepcopy(batch.clips)
    value = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[how]
    clips["audio"]["mel"][int(batch.rows["audio"][0])] = value  # all of it: masks hide parts
    return replace(batch, clips=clips)


@pytest.mark.parametrize(("how", "balance"), [*(("nan", balance) for balance in BALANCES), ("-inf", "auxiliary")])
def test_a_batch_without_a_finite_loss_changes_nothing_and_is_named(toy, how, balance):
    step, batches = make(toy, balance=balance, average=0.9), batches_of(toy)
    assert take(step, batches[:1], 0).objective > 0
    assert step.report_skipped() == []
    before = everything(step)
    assert before["optimizer"] and any("running_mean" in name for name in before["model"])
    bad = spoil(batches[1], how)
    taken = take(step, [bad], 1)
    assert taken.objective == 0 and taken.clips == 8 and taken.seen.tolist() == [0, 0, 0]
    assert_equal(everything(step), before)
    assert step.report_skipped() == [(1, bad.videos.tolist())]
    assert step.report_skipped() == []
    take(step, batches[:1], 2)
    assert step.report_skipped() == []
    assert all(value.isfinite().all() for value in everything(step)["model"].values())
    assert not all(torch.equal(value, before["model"][name]) for name, value in step.model.state_dict().items())


@pytest.mark.parametrize(
    "shape",
    [
        *({"balance": balance} for balance in BALANCES),
        {"optimizer": "muon", "settings": replace(MODEL, width=8, feature=32)},  # kernels large enough for it
    ],
)
def test_a_skipped_step_leaves_those_after_it_as_if_it_had_not_been(toy, shape):
    one, other = make(toy, average=0.9, **shape), make(toy, average=0.9, **shape)
    batches = batches_of(toy)
    for number, batch in enumerate([batches[0], spoil(batches[1], "nan"), batches[1]]):
        take(one, [batch], number)
    for number, batch in ((0, batches[0]), (2, batches[1])):
        take(other, [batch], number)
    assert_equal(everything(one), everything(other))


def test_one_bad_part_of_several_spoils_the_step_and_all_its_videos_are_named(toy):
    step = make(toy)
    first, second = batches_of(toy, parts=2)[:2]
    take(step, [first, second], 0)
    step.report_skipped()
    before = everything(step)
    take(step, [first, spoil(second, "nan")], 1)
    assert_equal(everything(step), before)
    ((number, videos),) = step.report_skipped()
    assert number == 1 and sorted(videos) == sorted(torch.cat([first.videos, second.videos]).tolist())
    assert all(isinstance(video, int) for video in videos)


def test_many_bad_steps_in_a_row_end_the_run_with_one_line_and_fewer_do_not(toy):
    step = make(toy)
    good = batches_of(toy)[0]
    bad = spoil(good, "nan")
    number = 0
    for _ in range(2):
        for batch in [*[bad] * (BAD_IN_A_ROW - 1), good]:
            take(step, [batch], number)
            step.report_skipped()  # a look now and then does not begin the count anew
            number += 1
    for _ in range(BAD_IN_A_ROW):
        take(step, [bad], number)
        number += 1
    with pytest.raises(UserError, match=rf"steps {number - BAD_IN_A_ROW + 1} to {number} .*--lr") as e:
        step.report_skipped()
    assert "\n" not in str(e.value)


def test_weights_that_are_not_finite_end_the_run_too(toy):
    step, (batch, _) = make(toy), batches_of(toy)
    with torch.no_grad():
        next(step.model.parameters()).fill_(math.nan)
    for number in range(BAD_IN_A_ROW):
        take(step, [batch], number)
    with pytest.raises(UserError, match=f"steps 1 to {BAD_IN_A_ROW}"):
        step.report_skipped()


@pytest.mark.parametrize("steps", [200, 1, 3])
def test_the_learning_rate_rises_then_falls_along_a_cosine(toy, steps):
    step = make(toy, steps=steps, lr=0.5)
    warmup = max(1, round(WARMUP * steps))
    last = 0.5 * LAST_RATE
    expected = [0.5 * (number + 1) / warmup for number in range(warmup)]
    for number in range(steps - warmup):
        expected.append(last + (0.5 - last) * (1 + math.cos(math.pi * number / (steps - warmup))) / 2)
    assert [step.rate(number) for number in range(steps)] == pytest.approx(expected)
    assert step.rate(steps) == pytest.approx(last if steps > 1 else 0.5)


def test_a_step_learns_at_the_rate_of_its_number(toy):
    batch = batches_of(toy)[0]
    for number in (0, 3, 50, 99):
        step = make(toy)
        take(step, [batch], number)
        assert {group["lr"] for group in step.optimizer.param_groups} == {step.rate(number)}


def test_random_numbers_follow_from_the_seed_the_step_and_the_rank_alone(toy):
    batch = batches_of(toy)[0]
    settings = replace(MODEL, dropout=0.5)
    recipe = replace(PLAIN, stream_dropout=0.5, model=settings, mixup=0.4, cutmix=1.0)

    def loss(number: int, *, seed: int = 0, rank: int = 0, before: int = 0) -> float:
        step = make(toy, settings=settings)
        step.ranks.rank = rank
        torch.manual_seed(before)
        torch.rand(before)
        return float(take(step, [batch], number, recipe=recipe, seed=seed)[0])

    assert loss(7) == loss(7, before=5)
    different = [loss(7), loss(8), loss(7, seed=1), loss(7, rank=1), loss(0), loss(1)]
    assert len(set(different)) == len(different)
    assert math.isfinite(loss(10**6 - 1, seed=2**31 - 1, rank=1000))


WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "_unique2", "item", "equal"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class NothingWaits(TorchDispatchMode):
    """Raises for every operation whose result, or whose result's size, a GPU would have to be waited for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        flat = [part for arg in args if isinstance(arg, (tuple, list)) for part in arg]
        by_mask = any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in flat)
        if name in WAITS or (name in INDEXING and by_mask):
            raise AssertionError(f"the step waits for the GPU: {function}")
        return function(*args, **(kwargs or {}))


@contextmanager
def nothing_waits():
    def values(tensor: torch.Tensor) -> list:
        raise AssertionError("the step waits for the GPU: tolist")

    with pytest.MonkeyPatch.context() as patch, NothingWaits():
        patch.setattr(torch.Tensor, "tolist", values)  # which reads the memory of a tensor on the CPU directly
        yield


def test_the_watch_on_waiting_sees_what_waits():
    for wait in (lambda x: x.item(), bool, lambda x: x.tolist(), float, lambda x: x[x > 0].sum()):
        with pytest.raises(AssertionError, match="waits"), nothing_waits():
            wait(torch.ones(1))


@pytest.mark.parametrize(
    ("parts", "head", "balance"),
    [*((1, "concat", name) for name in BALANCES), *((2, name, "auxiliary") for name in HEADS)],
)
def test_a_step_waits_for_nothing_from_its_clips_on_their_way_to_the_device_until_its_end(
    toy, monkeypatch, parts, head, balance
):
    """Before that it counts rows, of tensors that the CPU has."""
    settings = replace(MODEL, dropout=0.3, head=head)
    mixing = {"mixup": 0.4} if parts == 1 else {"cutmix": 1.0}  # of both one is drawn, on the CPU
    recipe = replace(PLAIN, stream_dropout=0.25, label_smoothing=0.1, model=settings, accumulate=parts, **mixing)
    step, batches = make(toy, settings=settings, balance=balance, average=0.9), batches_of(toy, parts=parts)
    assert not all(mask.all() for batch in batches for mask in batch.present.values())
    real, moved = Batch.to, []

    def to(batch: Batch, device: torch.device) -> Batch:
        if not moved:
            watch.enter_context(nothing_waits())
        moved.append(batch)
        return real(batch, device)

    monkeypatch.setattr(Batch, "to", to)
    for number in range(2):
        moved.clear()
        with ExitStack() as watch:
            take(step, batches[number * parts : (number + 1) * parts], number, recipe=recipe)
        assert len(moved) == parts
    assert not step.report_skipped() and step.due is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("balance", BALANCES)
def test_on_a_gpu_a_step_waits_for_nothing(toy, balance):
    device = torch.device("cuda")
    step = make(toy, device=device, balance=balance, average=0.9)
    recipe = replace(PLAIN, mixup=0.4, cutmix=1.0)
    batches = [batch.pin_memory() for batch in batches_of(toy)]
    take(step, batches[:1], 0, recipe=recipe)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for number in range(1, 9):  # one mixture or the other
            take(step, batches[:1], number, recipe=recipe)
    finally:
        torch.cuda.set_sync_debug_mode("default")
