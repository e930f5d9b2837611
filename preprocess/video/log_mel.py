"""Log-mel spectrograms, four frames to a video frame at 25 fps."""

import numpy as np

from preprocess.store.format import MEL_FLOOR, MEL_RATE

SAMPLE_RATE = 16_000  # Hz, mono
WINDOW = 400  # 25 ms
HOP = SAMPLE_RATE // MEL_RATE  # 160 samples, 10 ms
N_FFT = 1024  # zero-padded window, so that even the lowest, narrowest filters contain a bin


class LogMel:
    """Natural log of the mel power spectrogram, chunk by chunk, the same as of the whole signal at once.

    Mel frame j is centred on sample j * HOP, zeros beyond both ends. Hann window, Slaney's mel scale and area
    normalisation: librosa.feature.melspectrogram's defaults, with which the tests compare.
    """

    def __init__(self, *, bands: int = 64) -> None:
        from torchaudio.transforms import MelSpectrogram

        self._mel = MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=N_FFT,
            win_length=WINDOW,
            hop_length=HOP,
            n_mels=bands,
            power=2.0,
            center=False,
            norm="slaney",
            mel_scale="slaney",
        )
        self._tail = np.zeros(N_FFT // 2, np.float32)  # samples that the next frame needs

    def push(self, samples: np.ndarray) -> np.ndarray:
        """samples: (N,) float32 in -1…1 at SAMPLE_RATE → the frames completed by them: (T, M) float16."""
        import torch

        signal = np.concatenate([self._tail, samples])
        count = max(0, (len(signal) - N_FFT) // HOP + 1)
        self._tail = signal[count * HOP :]
        if not count:
            return np.zeros((0, self._mel.n_mels), np.float16)
        power = self._mel(torch.from_numpy(signal[: (count - 1) * HOP + N_FFT]))
        return torch.log(power.T + MEL_FLOOR).to(torch.float16).numpy()

    def finish(self) -> np.ndarray:
        """The last frames, which reach beyond the end: (T, M) float16."""
        return self.push(np.zeros(N_FFT // 2, np.float32))


def log_mel(samples: np.ndarray, *, bands: int = 64) -> np.ndarray:
    """samples: (N,) float32 in -1…1 at SAMPLE_RATE → (1 + N // HOP, M) float16, natural log of power."""
    mel = LogMel(bands=bands)
    return np.concatenate([mel.push(samples), mel.finish()])
