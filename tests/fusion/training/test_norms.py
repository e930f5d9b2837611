"""Batch norm's statistics from clips that look like those that are judged."""

import copy

import pytest
import torch

from fusion.model import build_model
from fusion.settings import ModelSettings
from fusion.training.norms import estimate_norms
from streams.registry import STREAMS
from streams.towers.norm import BatchNorm
from tests.support.batches import dataset_of, load, views_of
from tests.support.stores import Spec, make_store, three_bit

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    lacking = [Spec("x/1.mp4", label="000", streams=("rgb",)), Spec("x/2.mp4", label="001", streams=("rgb", "flow"))]
    return make_store(tmp_path_factory.mktemp("norms") / "s.h5", lacking + three_bit(14))


def a_model(store):
    torch.manual_seed(0)
    settings = ModelSettings(width=4, feature=8, towers=("flow=r2plus1d",))
    return build_model(settings, streams=tuple(STREAMS), classes=8, parameters=store.parameters).train()


def norms_of(model) -> dict[str, BatchNorm]:
    return {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm)}


def batches_of(store, *, batch: int = 5) -> list:
    dataset = dataset_of(store)
    return load(dataset, views_of(dataset, batch=batch))


def test_the_statistics_are_the_means_over_all_batches_of_what_goes_into_each_layer(store):

    model = a_model(store)
    seen: dict[str, list] = {name: [] for name in norms_of(model)}

    def remember(name: str):
        def hook(_, inputs) -> None:
            values = inputs[0].double().transpose(0, 1).flatten(1)
            seen[name].append((values.mean(dim=1), values.var(dim=1)))

        return hook

    hooks = [norm.register_forward_pre_hook(remember(name)) for name, norm in norms_of(model).items()]
    estimate_norms(model, batches_of(store), device=CPU, seed=0)
    for hook in hooks:
        hook.remove()
    for name, norm in norms_of(model).items():
        assert len(seen[name]) == (3 if "audio" in name else 4)  # the last batch has no sound
        means, variances = (torch.stack(part).mean(dim=0) for part in zip(*seen[name], strict=True))
        torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-5)


def test_nothing_but_the_statistics_changes_and_the_model_is_ready_to_judge(store):
    model = a_model(store)
    before = copy.deepcopy(model.state_dict())
    estimate_norms(model, batches_of(store), device=CPU, seed=0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.running_{what}" for name in norms_of(model) for what in ("mean", "var")}
    assert not any(module.training for module in model.modules())
    assert all(norm.momentum == 0.1 for norm in norms_of(model).values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_compiled_towers_stay_one_graph_while_statistics_are_taken(store):
    plain, compiled = a_model(store), a_model(store)
    for encoder in compiled.encoders.values():
        encoder.tower.compile(backend="eager", fullgraph=True, dynamic=None)  # an error, where a graph would break
    for model in (plain, compiled):
        estimate_norms(model, batches_of(store), device=CPU, seed=0)
    for name, norm in norms_of(plain).items():
        torch.testing.assert_close(norms_of(compiled)[name].running_var, norm.running_var, rtol=1e-4, atol=1e-5)


def test_what_was_gathered_before_and_what_absent_streams_hold_make_no_difference(store):
    found = []
    for spoil in (False, True):
        model, batches = a_model(store), batches_of(store)
        if spoil:
            for norm in norms_of(model).values():
                norm.running_mean.fill_(7.0)
            for batch in batches:
                for name, present in batch.present.items():
                    for clips in batch.clips[name].values():
                        clips[~present] = 99
        estimate_norms(model, batches, device=CPU, seed=0)
        found.append(dict(model.named_buffers()))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_a_stream_that_no_clip_has_keeps_its_statistics(store):
    model = a_model(store)
    before = copy.deepcopy(dict(model.encoders["audio"].named_buffers()))
    lacking = batches_of(store, batch=2)[-1:]
    assert not lacking[0].present["audio"].any()
    estimate_norms(model, lacking, device=CPU, seed=0)
    torch.testing.assert_close(dict(model.encoders["audio"].named_buffers()), before, rtol=0, atol=0)


def test_a_model_that_learned_from_larger_things_judges_as_if_it_had_not(store):
    """Statistics of clips that are four times as bright as those that are judged are forgotten."""
    model, batches = a_model(store), batches_of(store)
    estimate_norms(model, batches, device=CPU, seed=0)
    expected = copy.deepcopy(dict(model.named_buffers()))
    model.train()
    with torch.no_grad():
        for batch in batches * 10:
            clips = {name: 4 * clip for name, clip in batch.inputs(training=True).items()}
            model.encode(clips, batch.present)
    assert not torch.allclose(model.encoders["rgb"].tower.stages[0][1].running_var, next(iter(expected.values())))
    estimate_norms(model, batches, device=CPU, seed=0)
    torch.testing.assert_close(
        {name: buffer for name, buffer in model.named_buffers() if "running" in name},
        {name: buffer for name, buffer in expected.items() if "running" in name},
    )
