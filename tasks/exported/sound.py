"""Log-mel as an ONNX file, for a browser that has samples: preprocess.video.log_mel without its FFT."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d

from preprocess.store.format import MEL_FLOOR
from preprocess.video.log_mel import HOP, N_FFT, SAMPLE_RATE, WINDOW
from tasks.exported.write import OPSET, quiet

REACH = WINDOW // 2  # samples that a row extends to either side of its centre


class LogMelPart(nn.Module):
    """Samples → log-mel. Row 0 is centred on sample REACH; each of the others, HOP samples later."""

    def __init__(self, *, bands: int) -> None:
        super().__init__()
        from torchaudio.functional import melscale_fbanks

        bins, times = torch.arange(N_FFT // 2 + 1)[:, None], torch.arange(WINDOW)[None]
        angles = 2 * torch.pi * (bins * times % N_FFT).double() / N_FFT
        waves = torch.cat([angles.cos(), angles.sin()]) * torch.hann_window(WINDOW, dtype=torch.float64)
        scale = {"norm": "slaney", "mel_scale": "slaney"}
        filters = melscale_fbanks(N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, **scale)
        self.register_buffer("waves", waves.float()[:, None])
        self.register_buffer("filters", filters.T)

    def forward(self, samples: Tensor) -> Tensor:
        """(1, N) float32 in -1…1 at 16 kHz → (1, M, 1 + (N - WINDOW) // HOP), rounded as the store rounds"""
        real, imaginary = conv1d(samples[:, None], self.waves, stride=HOP).chunk(2, dim=1)
        return torch.log(self.filters @ (real**2 + imaginary**2) + MEL_FLOOR).half().float()


def write_log_mel(path: Path, *, bands: int) -> None:
    """Write the file: `samples` (1, N) → `mel` (1, M, T)."""
    part = LogMelPart(bands=bands).eval()
    length = torch.export.Dim("samples", min=WINDOW)
    names = {"input_names": ["samples"], "output_names": ["mel"]}
    dynamic = {"dynamic_shapes": {"samples": {1: length}}}
    settings = {"dynamo": True, "verbose": False, "opset_version": OPSET, **names, **dynamic}
    with quiet(), torch.no_grad():
        onnx = torch.onnx.export(part, (torch.zeros(1, SAMPLE_RATE),), **settings)
    onnx.save(str(path))
