"""Mixup and CutMix: every clip is mixed with another of its batch, the same way in all streams."""

import torch
from torch import Tensor
from torch.distributions import Beta

from fusion.heads.head import Mask

Clips = dict[str, Tensor]  # stream → (B, C, T, H, W) or (B, M, T), a tower's input


def mix(
    clips: Clips, present: Mask, labels: Tensor, *, classes: int, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[Clips, Tensor]:
    """Clips, {(B,) bool}, (B,) int64 → mixed clips and (B, K) targets whose rows sum to one.

    The share λ of a row's own clip and label is drawn from Beta(α, α); `mixup` and `cutmix` are α, and 0 turns the
    method off. Mixup (Zhang et al. 2018) blends the towers' inputs. CutMix (Yun et al. 2019) puts the other clip's
    pixels into a box of the pictures and the flow fields, the same box in all of them, and its sound into an interval
    of time. With both, each batch gets one of them. Only rows with the same streams are mixed: otherwise the label
    would differ between streams. A row with a unique set of streams is not mixed.
    """
    targets = (labels[:, None] == torch.arange(classes, device=labels.device)).float()  # one_hot waits to check labels
    if not (mixup or cutmix) or not len(labels):
        return clips, targets
    cut = bool(cutmix) and (not mixup or torch.rand(()).item() < 0.5)
    alpha = torch.full((len(labels),), cutmix if cut else mixup, device=labels.device)
    share = Beta(alpha, alpha, validate_args=False).sample()  # validating alpha would wait for a GPU
    partner = partners(present)
    places = torch.rand(3, len(labels), device=labels.device)  # across, down and in time
    mixed = {
        name: _cut(clip, partner, share, places) if cut else _blend(clip, partner, share)
        for name, clip in clips.items()
    }
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[partner]


def partners(present: Mask) -> Tensor:
    """For each row a random other one with the same streams, or itself if there is none: {(B,)} → (B,) int64"""
    masks = torch.stack([*present.values()])  # (S, B)
    kind = (masks * 2 ** torch.arange(len(masks), device=masks.device)[:, None]).sum(dim=0)
    order = torch.rand(len(kind), device=kind.device).argsort()
    order = order[kind[order].argsort(stable=True)]  # sorted by kind
    kind = kind[order]
    first, end = (torch.searchsorted(kind, kind, right=right) for right in (False, True))
    place = torch.arange(len(kind), device=kind.device)
    before = torch.where(place > first, place, end) - 1  # cyclic: before the first of a kind comes its last
    return torch.empty_like(order).scatter_(0, order, order[before])


def _blend(clip: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """(B, ...), (B,), (B,) → (B, ...)"""
    return clip[partner].lerp(clip, share[(..., *[None] * (clip.ndim - 1))])


def _cut(clip: Tensor, partner: Tensor, share: Tensor, places: Tensor) -> Tensor:
    """The other clip in a box (B, C, T, H, W) or an interval of time (B, M, T) that is 1 - share of all.

    places: (3, B) in 0…1, from the first to the last possible place of the box.
    """
    if clip.ndim == 3:
        inside = _stretch(1 - share, places[2], clip.shape[2])[:, None]
    else:
        side = (1 - share).sqrt()
        across, down = _stretch(side, places[0], clip.shape[4]), _stretch(side, places[1], clip.shape[3])
        inside = (down[:, :, None] & across[:, None])[:, None, None]
    return torch.where(inside, clip[partner], clip)


def _stretch(length: Tensor, place: Tensor, size: int) -> Tensor:
    """(B,) shares of `size` → (B, size) bool, True for pixels in the interval."""
    begin = (1 - length) * place
    pixel = (torch.arange(size, device=length.device) + 0.5) / size
    return (pixel >= begin[:, None]) & (pixel < (begin + length)[:, None])
