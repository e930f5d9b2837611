"""The TV-L1 problem and its schedules, shared word for word by the `cpu` and `cuda` engines.

For a pair of frames I0, I1 (grey, 0 to 255) the flow u = (u, v) minimises

    E(u) = sum |grad u| + |grad v| + attachment * |I1(x + u) - I0(x)|

(Zach, Pock and Bischof, DAGM 2007; Sanchez, Meinhardt-Llopis and Facciolo, IPOL 2013), coarse to fine. At
every level the residual is made linear at the flow so far ("a warp"), and the convex problem that this
leaves is iterated with the primal-dual steps of Chambolle and Pock (JMIV 2011), which need no auxiliary
flow and reach a lower energy than the alternation of 2007 in as many iterations. A 5x5 median after each
warp removes what linearisation leaves behind (Wedel et al. 2009; Sun, Roth and Black, CVPR 2010).
"""

from dataclasses import dataclass

# Keeps 1 / |gradient| finite where a frame is flat; far below the smallest gradient of 8-bit frames.
FLAT = 1e-9
MEDIAN = 5  # pixels; a 3x3 median lets linearisation's outliers survive at coarse levels


@dataclass(frozen=True)
class Settings:
    """One schedule. A level is a reduction of both frames; level 0 is the frame itself."""

    scale: float  # size of a level over the size of the next finer one
    passes: tuple[tuple[int, int], ...]  # (warps, iterations a warp) from level 0 up; the last one repeats
    coarsest: int = 24  # pixels of the smallest level: below, fine texture aliases into false motion
    denoise: float = 0.6  # pixels: Gaussian blur of the frames themselves
    antialias: float = 1.1  # pixels: Gaussian blur before each reduction
    attachment: float = 0.35  # weight of one grey level of residual against one pixel of variation
    step: float = 0.35  # pixels: primal step; the dual step is 1 / (8 step), the largest that converges
    blend: float = 0.6  # share of I0's gradient in the linearisation where the frames agree
    agreement: float = 8.0  # grey levels of residual at which that share has halved

    @property
    def dual_step(self) -> float:
        return 1.0 / (8.0 * self.step)

    def passes_at(self, level: int) -> tuple[int, int]:
        """(warps, iterations a warp) at a level."""
        return self.passes[min(level, len(self.passes) - 1)]

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """(height, width) of every level, the frame's own first."""
        sizes = [(height, width)]
        while True:
            ratio = self.scale ** len(sizes)
            size = round(height * ratio), round(width * ratio)
            if min(size) < self.coarsest:
                return sizes
            sizes.append(size)


PRESETS = {
    "default": Settings(scale=0.5, passes=((3, 10), (4, 20), (5, 20))),
    "quality": Settings(scale=0.7, passes=((5, 30),)),
}
