"""What only a GPU can show, in one command, on data that it makes itself.

    python -m benchmarks.gpu             # under two minutes; writes benchmarks/results/gpu-<name>.json

Flow: pairs a second of the engine "cuda" beside "cpu" on one core, and how far the two differ. Training: clips a second
of the default three-stream model, forward and backward, in bfloat16. The last line is JSON.
"""

import json
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from fusion.device import mixed_precision
from fusion.model import ModelSettings, build_model
from preprocess.flow import tvl1
from preprocess.tvl1 import PRESETS
from streams import STREAMS
from streams.clip import ClipSettings

RESULTS = Path(__file__).parent / "results"
SIZES = ((256, 340), (128, 171))  # height, width
FRAMES = 129  # of a video
PAIRS_ON_CPU = 16
BATCHES = (32, 64, 128)
TURNS = 5


def moving_texture(height: int, width: int, frames: int) -> np.ndarray:
    """(T, H, W) uint8: smooth noise that drifts, turns a little and breathes, as a hand-held camera would show it."""
    import cv2

    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(size=(2 * height, 2 * width)).astype(np.float32), (0, 0), 2.5)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    video = []
    for k in range(frames):
        turn = cv2.getRotationMatrix2D((width, height), 3 * np.sin(k / 9), 1 + 0.05 * np.sin(k / 13))
        turn[:, 2] += (-width / 2 + 20 * np.sin(k / 7), -height / 2 + 15 * np.cos(k / 11))
        video.append(cv2.warpAffine(texture, turn, (width, height), borderMode=cv2.BORDER_REFLECT))
    return np.stack(video).round().astype(np.uint8)


def measure_flow(height: int, width: int, preset: str) -> dict:
    """Speed of both engines in turn, and their difference on the same pairs."""
    video = moving_texture(height, width, FRAMES)
    tvl1(video[:3], engine="cuda", preset=preset)  # compiles
    tvl1(video[:3], engine="cpu", preset=preset)
    cuda, cpu = [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        on_gpu = tvl1(video, engine="cuda", preset=preset)
        cuda.append((FRAMES - 1) / (time.perf_counter() - start))
        start = time.perf_counter()
        on_cpu = tvl1(video[: PAIRS_ON_CPU + 1], engine="cpu", preset=preset)
        cpu.append(PAIRS_ON_CPU / (time.perf_counter() - start))
    difference = np.linalg.norm(on_gpu[:PAIRS_ON_CPU] - on_cpu, axis=-1).mean()
    return {
        "cuda_pairs_per_second": statistics.median(cuda),
        "cpu_pairs_per_second": statistics.median(cpu),
        "ratio": statistics.median(cuda) / statistics.median(cpu),
        "mean_difference_px": float(difference),
    }


def measure_training(batch: int) -> dict:
    """Clips a second and peak memory of a training step of the default model."""
    device, clip = torch.device("cuda"), ClipSettings()
    parameters = {"mel_bands": 64}
    model = build_model(ModelSettings(), streams=tuple(STREAMS), classes=101, parameters=parameters).to(device)
    optimizer = torch.optim.AdamW(model.parameters())
    picture = (clip.frames, clip.size, clip.size)
    clips = {
        "rgb": torch.randn(batch, 3, *picture, device=device),
        "flow": torch.randn(batch, 2, *picture, device=device),
        "audio": torch.randn(batch, 64, round(clip.audio_seconds * 100), device=device),
    }
    present = {name: torch.ones(batch, dtype=torch.bool, device=device) for name in clips}
    labels = torch.randint(101, (batch,), device=device)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(TURNS + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with mixed_precision(device):
            loss = torch.nn.functional.cross_entropy(model(clips, present).logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        "clips_per_second": batch / statistics.median(seconds[3:]),
        "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9,
    }


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("error: no GPU here; run this where torch.cuda.is_available()")
    name = torch.cuda.get_device_name()
    result = {
        "gpu": name,
        "torch": torch.__version__,
        "flow": {
            f"{width}x{height} {preset}": measure_flow(height, width, preset)
            for height, width in SIZES
            for preset in PRESETS
        },
        "training": {str(batch): measure_training(batch) for batch in BATCHES},
    }
    for size, flow in result["flow"].items():
        print(
            f"flow {size}: cuda {flow['cuda_pairs_per_second']:.0f} pairs/s, {flow['ratio']:.0f} times cpu; they "
            f"differ by {flow['mean_difference_px']:.4f} px"
        )
    for batch, step in result["training"].items():
        print(f"training, batch {batch}: {step['clips_per_second']:.0f} clips/s, {step['peak_gigabytes']:.1f} GB")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
