"""What keeps one stream from learning at the others' expense, one method a file."""

from fusion.balance.auxiliary import Auxiliary
from fusion.balance.blending import Blending
from fusion.balance.detached import Detached
from fusion.balance.mmpareto import MMPareto
from fusion.balance.ogm_ge import OgmGe
from fusion.balance.opm import Opm

BALANCES: dict[str, type[Auxiliary]] = {
    "auxiliary": Auxiliary,
    "blending": Blending,
    "ogm-ge": OgmGe,
    "opm": Opm,
    "mmpareto": MMPareto,
    "detached": Detached,
}
