"""An explanation as text."""

from collections.abc import Iterator

from preprocess.common.errors import one_line
from tasks.explain.check import ALIKE, Check
from tasks.explain.explain import Explanation


def lines(found: Explanation) -> Iterator[str]:
    """What the command prints, line by line."""
    yield f"{one_line(found.video)}: {one_line(found.label)} {found.probability:.1%}, {len(found.times)} clips"
    yield f"  {'':10} {'share':>8} {'alone':>8} {'map':>8}   strongest"
    yield f"  {'chance':10} {100 * found.chance:8.1f}"
    for name, share in found.shares.items():
        peak = found.peaks[name]
        where = "" if peak.x is None else f", {peak.x:.0%} from the left, {peak.y:.0%} from above"
        alone, total = f"{found.alone[name]:8.1%}", f"{found.totals[name]:+8.2f}"
        yield f"  {name:10} {100 * share:+8.1f} {alone} {total}   at {peak.seconds:.2f} s{where}"
    for name, why in found.missing.items():
        yield f"  {name:10} missing: {one_line(why)}"
    total = found.chance + sum(found.shares.values())
    yield f"  shares add up to {total:.6f}, the answer is {found.probability:.6f}"
    change = found.odds - found.odds_of_nothing
    yield f"  maps add up to {change + found.error:+.3f} nepers of log-odds, from nothing to the video {change:+.3f}"
    if found.check is not None:
        yield from _check_lines(found.check)


def _check_lines(check: Check) -> Iterator[str]:
    yield "  rank correlation of the maps with those of a model of random weights:"
    for what, similarity in check.similarity.items():
        yield f"    {what:15} {', '.join(f'{name} {alike:+.2f}' for name, alike in similarity.items())}"
    if check.depends_on_weights:
        yield f"    all below {ALIKE} in the end: the maps depend on what was learned"
    else:
        yield f"    NOT all below {ALIKE} in the end: do not trust these maps"
    areas = check.curves.areas
    for name, better in (("deletion", "smaller"), ("insertion", "larger")):
        at_random = areas[f"{name}_at_random"]
        yield f"  area under {name}: {areas[name]:.3f}, of places at random {at_random:.3f} ({better} is better)"
    if not check.finds_what_counts:
        yield "    NOT better than places at random: do not trust these maps"
