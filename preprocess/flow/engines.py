"""Optical flow of a video: one function, three engines.

    flow = tvl1(frames)                                     # (T, H, W) uint8 -> (T - 1, H, W, 2) float32
    flow = tvl1(frames, engine="opencv")                    # the reference, slow
    flow = tvl1(frames, engine="cpu", preset="quality")

`docs/flow.md` describes the problem, the speed and the accuracy.
"""

from dataclasses import asdict

import numpy as np

from preprocess.flow.schedule import PRESETS

ENGINES = ("auto", "opencv", "cpu", "cuda")


def tvl1(frames: np.ndarray, *, engine: str = "auto", preset: str = "default") -> np.ndarray:
    """TV-L1 optical flow from each frame to the next.

    Args:
        frames: (T, H, W) uint8, grey, T >= 1, H and W >= 2; any strides.
        engine: "opencv" (the reference, its defaults), "cpu", "cuda", or "auto" (see `resolve_engine`).
        preset: "default" or "quality"; the engine "opencv" has only "default".

    Returns:
        (T - 1, H, W, 2) float32, pixels a frame, x then y: frames[t][y, x] moves to
        frames[t + 1][y + flow[t, y, x, 1], x + flow[t, y, x, 0]]. Identical frames give exact zero.

    Each pair is solved alone: a long video may be given in chunks that share one frame.

    Raises:
        ValueError: frames, engine or preset is not one of the above, or the engine cannot run here.
    """
    _check_frames(frames)
    engine = resolve_engine(engine)
    _check_preset(engine, preset)
    if engine == "opencv":
        return _opencv(frames)
    if engine == "cpu":
        from preprocess.flow.cpu import solve
    else:
        from preprocess.flow.cuda import solve
    return solve(frames, PRESETS[preset])


def resolve_engine(engine: str) -> str:
    """The engine that `engine` stands for here: "auto" is "cuda" where torch sees a GPU, else "cpu".

    Raises:
        ValueError: unknown engine, or "cuda" without a GPU.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown flow engine {engine!r}; choose one of {', '.join(ENGINES)}")
    if engine == "auto":
        return "cuda" if _has_cuda() else "cpu"
    if engine == "cuda" and not _has_cuda():
        raise ValueError('flow engine "cuda" needs torch with a CUDA GPU; use "auto" or "cpu"')
    return engine


def describe(engine: str = "auto", preset: str = "default") -> dict:
    """The description of flow that a store records: engine, preset and every setting, JSON-ready.

    Raises:
        ValueError: as `tvl1`.
    """
    engine = resolve_engine(engine)
    _check_preset(engine, preset)
    settings = _opencv_settings() if engine == "opencv" else asdict(PRESETS[preset])
    return {"method": "tv-l1", "engine": engine, "preset": preset, "settings": settings}


def _check_frames(frames: np.ndarray) -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 3:
        what = f"{frames.dtype} {frames.shape}" if isinstance(frames, np.ndarray) else type(frames).__name__
        raise ValueError(f"frames must be a grey (T, H, W) uint8 array, not {what}")
    if frames.shape[0] < 1 or min(frames.shape[1:]) < 2:
        raise ValueError(f"frames must be at least one frame of 2x2 pixels, not {frames.shape}")


def _check_preset(engine: str, preset: str) -> None:
    allowed = ("default",) if engine == "opencv" else tuple(PRESETS)
    if preset not in allowed:
        raise ValueError(f"unknown preset {preset!r} of flow engine {engine!r}; choose one of {', '.join(allowed)}")


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def _opencv(frames: np.ndarray) -> np.ndarray:
    import cv2

    flows = np.zeros((len(frames) - 1, *frames.shape[1:], 2), np.float32)
    for t in range(len(flows)):
        # A new solver each time: the solver keeps its last flow and may start the next pair from it.
        solver = cv2.optflow.DualTVL1OpticalFlow_create()
        flows[t] = solver.calc(np.ascontiguousarray(frames[t]), np.ascontiguousarray(frames[t + 1]), None)
    return flows


def _opencv_settings() -> dict:
    import cv2

    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    names = (
        "Tau",
        "Lambda",
        "Theta",
        "ScalesNumber",
        "WarpingsNumber",
        "Epsilon",
        "InnerIterations",
        "OuterIterations",
        "ScaleStep",
        "Gamma",
        "MedianFiltering",
        "UseInitialFlow",
    )
    return {"opencv": cv2.__version__, **{name: getattr(solver, "get" + name)() for name in names}}
