"""Optical flow against known motion, OpenCV and Middlebury; hard inputs; engines against each other."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.flow import describe, resolve_engine, tvl1
from preprocess.flow.schedule import PRESETS

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT.parent / "shared" / "data"
VIDEO = DATA / "ucf7"
MIDDLEBURY = DATA / "middlebury"
needs_video = pytest.mark.skipif(not VIDEO.is_dir(), reason="shared/data/ucf7 is not here")
needs_middlebury = pytest.mark.skipif(not MIDDLEBURY.is_dir(), reason="shared/data/middlebury is not here")


def torch_path(frames, preset="default", **options):
    """The engine "cuda" on the CPU: same code, plain torch steps."""
    pytest.importorskip("torch")
    from preprocess.flow.cuda import solve

    return solve(frames, PRESETS[preset], device="cpu", **options)


def cpu(frames, preset="default"):
    return tvl1(frames, engine="cpu", preset=preset)


def texture(height, width, seed=0):
    """Smooth random grey image, float32 0 to 255: something to hold on to at every scale."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    image = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4, 10))
    return cv2.normalize(image, None, 10, 245, cv2.NORM_MINMAX)


def shifted(height, width, dx, dy, seed=0):
    """Two frames of a texture that moves by exactly (dx, dy) pixels."""
    large = texture(height + 80, width + 80, seed)
    frames = []
    for x, y in ((0, 0), (dx, dy)):
        move = np.float32([[1, 0, x - 40], [0, 1, y - 40]])
        frames.append(cv2.warpAffine(large, move, (width, height), flags=cv2.INTER_CUBIC))
    return np.stack(frames).round().clip(0, 255).astype(np.uint8)


def moving_video(count, height=48, width=60):
    """Frames of a texture, each pair with its own motion."""
    return np.stack([shifted(height, width, 0.7 * t, 0.3 * t * (-1) ** t)[1] for t in range(count)])


def real_video(name, count=2, size=(171, 128)):
    """`count` frames from the middle of the first clip of a class."""
    import av

    with av.open(str(sorted((VIDEO / name).glob("*.mp4"))[0])) as container:
        grey = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    middle = len(grey) // 2
    return np.stack([cv2.resize(frame, size) for frame in grey[middle : middle + count]])


def distance(a, b):
    """Mean endpoint distance in pixels."""
    return float(np.linalg.norm(a - b, axis=-1).mean())


def photometric_error(frames, flows):
    height, width = frames.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    back = [
        cv2.remap(after, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for after, flow in zip(frames[1:].astype(np.float32), flows, strict=True)
    ]
    return float(np.abs(np.stack(back) - frames[:-1]).mean())


def middlebury_errors(preset):
    errors = {}
    for folder in sorted(MIDDLEBURY.iterdir()):
        frames = np.stack([cv2.imread(str(folder / f"frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)])
        raw = (folder / "flow10.flo").read_bytes()
        width, height = np.frombuffer(raw, "<i4", 2, 4)
        truth = np.frombuffer(raw, "<f4", offset=12).reshape(height, width, 2)
        known = (np.abs(truth) < 1e9).all(-1)
        errors[folder.name] = distance(cpu(frames, preset)[0][known], truth[known])
    return errors


# What comes out


@pytest.mark.parametrize("engine", ["opencv", "cpu"])
def test_flow_has_one_pair_fewer_than_frames_and_x_before_y(engine):
    flow = tvl1(moving_video(4), engine=engine)
    assert flow.shape == (3, 48, 60, 2) and flow.dtype == np.float32


@pytest.mark.parametrize(
    "solve", [cpu, torch_path, lambda frames, preset: tvl1(frames, engine="opencv")], ids=["cpu", "torch", "opencv"]
)
def test_a_known_translation_is_found(solve):
    for motion in ((1.0, 0.0), (-2.25, 1.5), (0.3, -0.6)):
        flow = solve(shifted(96, 120, *motion), "default")[0]
        inside = flow[8:-8, 8:-8]
        assert distance(inside, np.float32(motion)) < 0.1


@pytest.mark.parametrize("preset", list(PRESETS))
def test_large_motion_is_found_where_the_frame_still_shows_it(preset):
    flow = cpu(shifted(256, 340, 18.0, -11.0), preset)[0]
    assert distance(flow[32:-32, 32:-32], np.float32([18, -11])) < 0.1


@needs_middlebury
@pytest.mark.parametrize(("preset", "most"), [("default", 0.45), ("quality", 0.30)])
def test_middlebury_error_is_well_below_opencvs_0_639(preset, most):
    errors = middlebury_errors(preset)
    assert len(errors) == 4
    assert np.mean(list(errors.values())) <= most, errors


@pytest.fixture(scope="module")
def videos_with_opencvs_flow():
    if not VIDEO.is_dir():
        pytest.skip("shared/data/ucf7 is not here")
    classes = ("ApplyLipstick", "BabyCrawling", "BasketballDunk")
    videos = [real_video(name, size=(340, 256)) for name in classes]
    return [(frames, tvl1(frames, engine="opencv")) for frames in videos]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_frames_warped_by_our_flow_match_better_than_by_opencvs(preset, videos_with_opencvs_flow):
    for frames, theirs in videos_with_opencvs_flow:
        assert photometric_error(frames, cpu(frames, preset)) < photometric_error(frames, theirs)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_flow_of_real_video_resembles_opencvs(preset, videos_with_opencvs_flow):
    for frames, theirs in videos_with_opencvs_flow:
        assert distance(cpu(frames, preset), theirs) < 0.4 * np.linalg.norm(theirs, axis=-1).mean()


# Hard inputs


def hard_inputs():
    rng = np.random.default_rng(1)
    noise = rng.choice(np.uint8([0, 255]), (3, 40, 52))
    return {
        "black": np.zeros((2, 32, 32), np.uint8),
        "white": np.full((2, 32, 32), 255, np.uint8),
        "black then white": np.stack([np.zeros((40, 40)), np.full((40, 40), 255)]).astype(np.uint8),
        "saturated noise": noise,
        "scene cut": np.stack([texture(64, 80, 2), texture(64, 80, 3)]).astype(np.uint8),
        "flash": np.stack([texture(64, 80), texture(64, 80) * 0.4]).astype(np.uint8),
        "two pixels high": rng.integers(0, 256, (3, 2, 200), np.uint8),
        "two pixels wide": rng.integers(0, 256, (3, 200, 2), np.uint8),
        "2x2": rng.integers(0, 256, (3, 2, 2), np.uint8),
        "3x5": rng.integers(0, 256, (2, 3, 5), np.uint8),
        "16x16": shifted(16, 16, 1, 1),
        "odd size": shifted(67, 101, 1.5, -1),
    }


@pytest.mark.parametrize(
    ("solve", "preset"),
    [(cpu, "default"), (cpu, "quality"), (torch_path, "default")],
    ids=["cpu", "cpu-quality", "torch"],
)
def test_flow_is_finite_whatever_the_frames_show(solve, preset):
    for name, frames in hard_inputs().items():
        flow = solve(frames, preset)
        assert flow.shape == (len(frames) - 1, *frames.shape[1:], 2), name
        assert np.isfinite(flow).all(), name


@pytest.mark.slow
def test_a_4k_pair_is_solved():
    # A crop of texture, repeated: generating 4K of it would take longer than solving it.
    frames = np.tile(shifted(270, 480, 2.0, 1.0), (1, 8, 8))
    flow = cpu(frames)[0]
    assert np.isfinite(flow).all()
    assert distance(flow[100:170, 100:380], np.float32([2, 1])) < 0.1


@pytest.mark.parametrize("solve", [cpu, torch_path], ids=["cpu", "torch"])
def test_identical_frames_have_exactly_zero_flow_and_leave_their_neighbours_alone(solve):
    a, b = shifted(48, 64, 1, 0.5)
    flow = solve(np.stack([a, a, b, b]), "default")
    assert not flow[0].any() and not flow[2].any()
    assert np.array_equal(flow[1], solve(np.stack([a, b]), "default")[0])


@pytest.mark.parametrize("engine", ["opencv", "cpu"])
def test_one_frame_has_no_flow(engine):
    assert tvl1(moving_video(1), engine=engine).shape == (0, 48, 60, 2)


def test_strides_do_not_matter():
    frames = moving_video(3)
    expected = cpu(frames)
    wide = np.zeros((3, 96, 180), np.uint8)
    wide[:, ::2, ::3] = frames
    mirrored = frames[:, ::-1, ::-1].copy()
    for same in (wide[:, ::2, ::3], np.asfortranarray(frames), mirrored[:, ::-1, ::-1]):
        assert np.array_equal(cpu(same), expected)


# Pairs are solved alone


def test_a_pair_has_the_same_flow_alone_as_in_a_video():
    frames = moving_video(6)
    together = cpu(frames)
    for t in (3, 0, 4):
        assert np.array_equal(cpu(frames[t : t + 2])[0], together[t])


def test_flow_is_the_same_after_other_videos_of_the_same_size():
    frames = shifted(48, 60, 1, 1)
    before = cpu(frames)
    cpu(hard_inputs()["saturated noise"])
    cpu(np.random.default_rng(0).integers(0, 256, (5, 48, 60), np.uint8))
    assert np.array_equal(cpu(frames), before)


def test_the_size_of_a_chunk_does_not_change_the_torch_path():
    frames = moving_video(3)
    together = torch_path(frames)
    alone = torch_path(frames, chunk=1)
    np.testing.assert_allclose(alone, together, atol=1e-4)


def test_threads_get_the_same_flow():
    from concurrent.futures import ThreadPoolExecutor

    videos = [moving_video(3) + np.uint8(i) for i in range(4)]
    with ThreadPoolExecutor(2) as pool:
        for flow, video in zip(pool.map(cpu, videos), videos, strict=True):
            assert np.array_equal(flow, cpu(video))


# Engines agree


@needs_video
@pytest.mark.parametrize("preset", ["default", pytest.param("quality", marks=pytest.mark.slow)])
def test_cpu_and_cuda_engines_agree_on_real_video(preset):
    # The mean over clips: where something fast leaves the frame (BandMarching) rounding picks one of
    # several equally bad matches.
    apart = []
    for name in ("ApplyLipstick", "BabyCrawling", "BandMarching"):
        frames = real_video(name, size=(128, 96))
        apart.append(distance(cpu(frames, preset), torch_path(frames, preset)))
    assert np.mean(apart) <= 0.05, apart


TRITON_CHECK = """
import torch
from preprocess.flow import cuda_kernels, torch_steps
from preprocess.flow.schedule import PRESETS

settings = PRESETS["default"]
generator = torch.Generator().manual_seed(0)
image, other = 255 * torch.rand(2, 2, 13, 19, generator=generator)
flow = 3 * torch.randn(2, 2, 13, 19, generator=generator)
dual = torch.zeros(4, 2, 13, 19)
found = []
for steps in (torch_steps, cuda_kernels):
    warped = steps.warp(other, flow)
    data = steps.linearise(image, warped, flow, settings)
    moved, tension = flow.clone(), dual.clone()
    steps.iterate(moved, data, tension, settings, 6)
    found.append((warped, data, moved, tension, steps.median(flow.round())))
for plain, kernel in zip(*found, strict=True):
    torch.testing.assert_close(kernel, plain, atol=1e-3, rtol=1e-4)
"""


@pytest.mark.slow
def test_triton_kernels_do_the_same_steps_as_plain_torch():
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    # A process of its own: Triton decides at import whether it interprets.
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", TRITON_CHECK], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_cuda_engine_on_a_gpu_agrees_with_cpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU here")
    frames = np.stack([shifted(256, 340, 2.5 * t, -t)[1] for t in range(4)])
    for preset in PRESETS:
        assert distance(tvl1(frames, engine="cuda", preset=preset), cpu(frames, preset)) <= 0.05


# Use


def test_frames_of_another_kind_are_refused():
    for frames in (
        np.zeros((2, 8, 8), np.float32),
        np.zeros((2, 8, 8, 3), np.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((0, 8, 8), np.uint8),
        np.zeros((2, 1, 8), np.uint8),
        [[0, 1], [2, 3]],
    ):
        with pytest.raises(ValueError, match="frames"):
            tvl1(frames, engine="cpu")


def test_unknown_engines_and_presets_are_refused_by_name():
    frames = moving_video(2)
    with pytest.raises(ValueError, match="gpu"):
        tvl1(frames, engine="gpu")
    with pytest.raises(ValueError, match="best"):
        tvl1(frames, engine="cpu", preset="best")
    with pytest.raises(ValueError, match="quality"):
        tvl1(frames, engine="opencv", preset="quality")


def test_auto_is_an_engine_that_runs_here():
    assert resolve_engine("auto") in ("cpu", "cuda")
    assert tvl1(moving_video(2)).shape == (1, 48, 60, 2)


@pytest.mark.parametrize(("engine", "preset"), [("cpu", "default"), ("cpu", "quality"), ("opencv", "default")])
def test_the_description_holds_every_setting_and_is_json(engine, preset):
    described = json.loads(json.dumps(describe(engine, preset)))
    assert described["engine"] == engine and described["preset"] == preset
    assert len(described["settings"]) > 5


def test_importing_the_flow_module_needs_only_numpy():
    script = "import sys, preprocess.flow.engines; sys.exit(bool({'cv2', 'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
