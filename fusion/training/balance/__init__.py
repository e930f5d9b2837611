"""Methods that keep one stream from learning at the others' expense, one a file."""

from fusion.training.balance.auxiliary import Auxiliary
from fusion.training.balance.blending import Blending
from fusion.training.balance.detached import Detached
from fusion.training.balance.mmpareto import MMPareto
from fusion.training.balance.ogm_ge import OgmGe
from fusion.training.balance.opm import Opm

BALANCES: dict[str, type[Auxiliary]] = {
    "auxiliary": Auxiliary,
    "blending": Blending,
    "ogm-ge": OgmGe,
    "opm": Opm,
    "mmpareto": MMPareto,
    "detached": Detached,
}
