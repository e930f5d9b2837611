"""Fusion heads: outputs of the present streams in, one answer out.

Every head is made with the same four settings and called in the same way; none knows a stream by name, and none reads
the values of an absent stream. A head that is fitted on validation answers, by fusion.training.fitting, has a `fitter`
for the streams' own logits, `take` for its result, and `forget`. A new head is a class in a file here and an entry in
HEADS.
"""

from fusion.heads.attention import Attention
from fusion.heads.binding import Binding
from fusion.heads.concat import Concat
from fusion.heads.convolution import Convolution
from fusion.heads.gated import Gated
from fusion.heads.lowrank import LowRank
from fusion.heads.mean import Mean
from fusion.heads.mixture import Mixture
from fusion.heads.stacked import Stacked
from fusion.heads.weighted import Weighted

HEADS = {
    "concat": Concat,
    "mean": Mean,
    "weighted": Weighted,
    "stacked": Stacked,
    "mixture": Mixture,
    "gated": Gated,
    "attention": Attention,
    "lowrank": LowRank,
    "binding": Binding,
    "convolution": Convolution,
}
