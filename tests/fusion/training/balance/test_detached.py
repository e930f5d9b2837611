"""Detached."""

from dataclasses import replace

import pytest
import torch

from fusion.heads.head import StreamOutputs
from fusion.training.loss import count_rows, each_loss
from tests.fusion.training.test_step import MODEL, batches_of, make, take, without_augmentation


@pytest.mark.parametrize("head", ["concat", "mean"])
def test_encoders_learn_as_if_each_were_trained_alone_and_the_head_as_if_they_stood_still(toy, monkeypatch, head):
    monkeypatch.setattr("fusion.training.step.CLIP_NORM", 1e9)
    step = make(toy, balance="detached", settings=replace(MODEL, head=head))
    start = {name: value.clone() for name, value in step.model.state_dict().items()}
    batch = batches_of(toy)[1]
    assert not all(mask.all() for mask in batch.present.values())
    with without_augmentation():
        take(step, [batch])
    clips, counts = batch.inputs(training=False), count_rows(batch.present)
    for name, encoder in step.model.encoders.items():
        alone = make(toy, streams=(name,)).model  # a model of this stream and no other
        alone.load_state_dict({key: value for key, value in start.items() if f".{name}." in key}, strict=False)
        output = alone({name: clips[name]}, {name: batch.present[name]})
        each_loss(output, batch.labels, {name: batch.present[name]}, counts)[name].backward()
        for ours, theirs in ((encoder, alone.encoders[name]), (step.model.auxiliary[name], alone.auxiliary[name])):
            for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    joint = make(toy, settings=replace(MODEL, head=head)).model
    output = joint(clips, batch.present)
    streams = StreamOutputs(*({name: value.detach() for name, value in part.items()} for part in output.streams))
    output = output._replace(logits=joint.fuse(streams, batch.present))
    fused = each_loss(output, batch.labels, batch.present, counts)
    if head == "concat":
        fused[""].backward()
        for one, other in zip(step.model.head.parameters(), joint.head.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    else:
        assert not fused[""].requires_grad
