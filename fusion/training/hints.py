"""--hint: towers learn to predict what a teacher's towers make of streams that the student lacks."""

from torch import Tensor, nn

from fusion.heads.head import Mask, Parts
from fusion.model import FusionModel
from fusion.training.loss import Counts
from streams.registry import subset_name

LEAST = 1e-5  # variance


class Hints(nn.Module):
    """A linear layer from each learning tower of the student to each tower of the teacher of another stream.

    What a network of flow makes of a clip tells more than its answer, which on training clips is nearly the label
    (Romero et al. 2015, FitNets, equation 3; Crasto et al. 2019, MARS, for RGB and flow). Squared errors are of the
    teacher's channels in units of their deviation over the batch. The layers are in the checkpoints, but not in a
    run's weights files.
    """

    def __init__(self, student: FusionModel, teacher: FusionModel, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        lacking = {name: encoder.tower.features for name, encoder in teacher.encoders.items()}
        lacking = {name: size for name, size in lacking.items() if name not in student.encoders}
        self.layers = nn.ModuleDict(
            {
                own: nn.ModuleDict({name: nn.Linear(encoder.tower.features, size) for name, size in lacking.items()})
                for own, encoder in student.encoders.items()
                if not encoder.frozen
            }
        )

    def line(self) -> str:
        """What learns from what, as text."""
        theirs = next(iter(self.layers.values()))
        return f"  towers of {subset_name(self.layers)} learn to predict its {subset_name(theirs)}"

    def forward(self, ours: Parts, theirs: Parts, present: Mask, counts: Counts) -> Tensor:
        """Both models' towers, {(B, T', C)}, and which clips have which stream, {(B,)} → (), times the weight.

        These clips may be a part of a batch with `counts` of the student's streams: the losses of parts add up, but for
        the deviations, which are of each part. Where a student's and the teacher's steps differ, means over time are
        compared.
        """
        total = 0.0
        for own, layers in self.layers.items():
            for name, layer in layers.items():
                one, other = ours[own].float(), theirs[name].float()
                if one.shape[1] != other.shape[1]:
                    one, other = one.mean(dim=1, keepdim=True), other.mean(dim=1, keepdim=True)
                both = (present[own] & present[name]).float()
                wanted = _standard(other, both[:, None, None])
                errors = (layer(one) - wanted).square().mean(dim=(1, 2))
                total = total + (errors * both).sum() / max(1.0, counts[own])
        return self.weight * total


def _standard(values: Tensor, rows: Tensor) -> Tensor:
    """(B, T, C) less each channel's mean over some rows, in units of its deviation; rows: (B, 1, 1) float."""
    number = (rows.sum() * values.shape[1]).clamp(min=1)
    mean = (values * rows).sum(dim=(0, 1)) / number
    variance = ((values - mean).square() * rows).sum(dim=(0, 1)) / number
    return (values - mean) / (variance + LEAST).sqrt()
