"""Validation of a model while it is trained."""

import torch
from torch.utils.data import DataLoader

from fusion.answers import predict_videos
from fusion.training.fitting import fit_head
from fusion.training.step import Step
from preprocess.common.console import with_progress
from streams.batch import ClipDataset
from streams.registry import subset_name
from streams.split import group_numbers


def validate(step: Step, loader: DataLoader, dataset: ClipDataset) -> dict:
    """Top-1 of the fused answer and of each stream alone, and the fused loss, on the middle clip of each video.

    A video that lacks a stream counts as wrong for it. Each video is judged by one rank, once. A head with a fitter is
    fitted on these answers, so that all saved weights include the fit; its fused answers here are cross-fitted, from
    fits on other groups. Without labels, what the pretext measures.
    """
    if step.pretext:
        shown = with_progress(loader, unit="batch", name="validate", leave=False, hidden=not step.ranks.first)
        return step.pretext.judge(step.judged, shown, dataset.videos, ranks=step.ranks)
    streams = tuple(dataset.streams)
    labels = torch.tensor([dataset.rows[video.label] for video in dataset.videos])
    subsets = list(dict.fromkeys([streams, *((name,) for name in streams)]))
    device, add_up = step.device, step.ranks.add_up
    units = group_numbers(dataset.videos)
    fitting, judging = (
        with_progress(loader, unit="batch", name=name, leave=False, hidden=not step.ranks.first)
        for name in ("fit the head", "validate")
    )
    honest = fit_head(step.judged, fitting, labels, units, subsets=subsets, device=device, add_up=add_up)
    sizes = {"videos": len(labels), "classes": len(dataset.rows), "device": device}
    answers = predict_videos(step.judged, judging, subsets, watch=step.balance.watch, **sizes)
    answers.join(add_up)
    row = {}
    for subset in subsets:
        name = subset_name(subset)
        probabilities = honest.get(name, answers.probabilities(name))
        right = (probabilities.argmax(dim=1) == labels) & answers.answered(name)
        row["val_top1" if subset == streams else f"val_top1_{name}"] = right.double().mean().item()
        if subset == streams:
            chosen = probabilities.gather(1, labels[:, None]).clamp(min=1e-12)
            row["val_loss"] = -chosen.log().mean().item()
    return row | step.balance.end_epoch(step.ranks)
