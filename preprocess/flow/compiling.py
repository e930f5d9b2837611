"""How the kernels of `cpu_kernels.py` and `cpu_median.py` are compiled: for plain loops that become vector code."""

from platform import machine

from numba import njit, types
from numba.core.compiler import Compiler
from numba.extending import intrinsic

LANES = 16  # float32 in a cache line, and in the widest vector register
X86 = ("x86_64", "AMD64")


class _NoAlias(Compiler):
    """Tells LLVM that array arguments do not overlap; it would test every pair of them in every row."""

    def define_pipelines(self):
        self.state.flags.noalias = True
        return super().define_pipelines()


def compiled(*, apart: bool = False):
    """njit, cached on disk. Without a writable cache folder each process compiles for itself.

    `apart` promises that the array arguments do not overlap where they are written.
    """

    def decorate(function):
        settings = dict(nogil=True, fastmath=True, error_model="numpy")
        if apart:
            settings["pipeline_class"] = _NoAlias
        try:
            return njit(**settings, cache=True)(function)
        except RuntimeError:
            return njit(**settings)(function)

    return decorate


@intrinsic
def widest_vectors(typingctx):
    """Called in a kernel, lets LLVM use all 512 bits of AVX-512 in it; on Intel's processors it prefers 256.

    An attribute of the function being compiled, not of the process: other users of numba see nothing of it, and where
    there is no AVX-512, it says nothing.
    """
    return types.none(), _attribute('"prefer-vector-width"="512"')


@intrinsic
def rough_roots(typingctx):
    """Called in a kernel, takes 1 / sqrt as the processor estimates it, to 12 bits or more, without a Newton step.

    x86 alone: Arm's estimate has 8 bits.
    """
    return types.none(), _attribute('"reciprocal-estimates"="vec-sqrtf:0"' if machine() in X86 else None)


def _attribute(text: str | None):
    def generate(context, builder, signature, arguments):
        if text is not None:
            set.add(builder.function.attributes, text)  # llvmlite's own `add` refuses attributes with a value
        return context.get_dummy_value()

    return generate
