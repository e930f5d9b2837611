"""Fusion heads: what the streams that are there say, in; one answer, out.

Every head is made with the same four settings and asked in the same way; none knows a stream by name, and none looks
at what an absent stream holds. One that is fitted on validation answers, by fusion.training.fitting, has a `fitter` of
what the streams say alone, `take` for what that finds, and `forget`. A new head is a class in a file here and an entry
in HEADS.
"""

from fusion.heads.attention import Attention
from fusion.heads.binding import Binding
from fusion.heads.concat import Concat
from fusion.heads.gated import Gated
from fusion.heads.lowrank import LowRank
from fusion.heads.mean import Mean
from fusion.heads.stacked import Stacked
from fusion.heads.weighted import Weighted

HEADS = {
    "concat": Concat,
    "mean": Mean,
    "weighted": Weighted,
    "stacked": Stacked,
    "gated": Gated,
    "attention": Attention,
    "lowrank": LowRank,
    "binding": Binding,
}
