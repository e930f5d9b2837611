"""The audio stream: reading, augmentation, towers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from preprocess.store import Store
from preprocess.store.format import MEL_RATE, SILENCE
from preprocess.store.index import Video
from streams.clip import ClipSettings
from streams.geometry import Crop
from streams.spec import Shapes

CENTRE, SPREAD = -6.0, 4.0  # of log-mel over everyday sound: give a tower's input about unit variance
GAIN = 1.0  # nepers of power, to either side: a louder or quieter recording
MASKS = 2  # masks of time, and of bands
KNOTS = 6  # knots of a random filter, spread evenly over the bands
PATCH, STEP = 96, 48  # rows of a patch of sound, and from one to the next


class Audio:
    """Log-mel: (M, T) float32, natural log of power → (B, M, T), near zero mean and unit variance."""

    towers = ("conv1d", "conv2d", "vgg2d")
    libraries = ("hf", "yamnet")
    nothing = (SILENCE - CENTRE) / SPREAD
    step = 1  # rows: windows begin at whole multiples of it

    def channels(self, parameters: dict) -> int:
        return parameters["mel_bands"]

    def shapes(self, parameters: dict, clip: ClipSettings) -> Shapes:
        return {"mel": ((parameters["mel_bands"], clip.segments * self.rows(clip)), np.float32)}

    def reach(self, start: int, clip: ClipSettings, fps: float) -> tuple[float, float]:
        first = max(0, self._first_row(start, clip, fps))
        return first / MEL_RATE, (first + self.rows(clip)) / MEL_RATE

    def times(self, video: Video, starts: Sequence[int], clip: ClipSettings, fps: float) -> np.ndarray:
        def rows(start: int) -> np.ndarray:
            first, there = self.window(video, start, clip, fps)
            row, total = first + np.arange(self.rows(clip)), round(video.seconds * MEL_RATE)
            return self._repeated(first, clip, total) if there and clip.repeat_sound else row

        return (np.concatenate([rows(start) for start in starts]) + 0.5) / MEL_RATE

    def rows(self, clip: ClipSettings) -> int:
        """The rows of log-mel of a segment."""
        return round(clip.audio_seconds * MEL_RATE)

    def window(self, video: Video, start: int, clip: ClipSettings, fps: float) -> tuple[int, bool]:
        """The first row of the sound around a segment, and whether the track has any of it.

        If the video is long enough, the window lies inside it; a shorter video is centred in silence or in itself.
        """
        count, total = self.rows(clip), round(video.seconds * MEL_RATE)
        first = self._first_row(start, clip, fps)
        first = min(max(first, 0), total - count) if total >= count else -((count - total) // 2)
        first = int(first / self.step) * self.step  # towards zero, so that a shorter video stays inside it
        begin, end = max(first, 0), min(first + count, total)
        if video.sound is None:
            return first, False
        return first, end > video.sound[0] * MEL_RATE and begin < video.sound[1] * MEL_RATE

    def read(
        self,
        store: Store,
        video: Video,
        starts: Sequence[int],
        clip: ClipSettings,
        crop: Crop,
        into: dict[str, np.ndarray],
    ) -> bool:
        if video.sound is None:
            return False
        segments = zip(starts, np.split(into["mel"], clip.segments, axis=1), strict=True)
        # silence where the track has ended or not begun, as in a window that it covers in part
        return any([self._read_segment(store, video, start, clip, mel) for start, mel in segments])

    def _read_segment(self, store: Store, video: Video, start: int, clip: ClipSettings, mel: np.ndarray) -> bool:
        """Fill `mel`, (M, T), with the sound around a segment; False, and silence, where the track has none of it."""
        first, there = self.window(video, start, clip, store.fps)
        count = mel.shape[1]
        begin, end = max(first, 0), min(first + count, round(video.seconds * MEL_RATE))
        if there and clip.repeat_sound:
            total = round(video.seconds * MEL_RATE)
            mel[:] = store.mel(video, begin, end).T[:, self._repeated(first, clip, total) - begin]
            return True
        if end - begin < count or not there:
            mel[:] = SILENCE
        if there:
            mel[:, begin - first : end - first] = store.mel(video, begin, end).T
        return there

    def _repeated(self, first: int, clip: ClipSettings, total: int) -> np.ndarray:
        """The rows of a window from `first` on, where the sound of a short video of `total` rows repeats."""
        begin, end = max(first, 0), min(first + self.rows(clip), total)
        return begin + (first - begin + np.arange(self.rows(clip))) % (end - begin)

    def _first_row(self, start: int, clip: ClipSettings, fps: float) -> int:
        """The first row of a window whose centre is that of the segment's pictures."""
        first = round((start + clip.span / 2) / fps * MEL_RATE - self.rows(clip) / 2)
        return first // self.step * self.step

    def prepare(self, clips: dict[str, torch.Tensor], clip: ClipSettings, *, training: bool) -> torch.Tensor:
        mel = (clips["mel"] - CENTRE) / SPREAD
        if training:
            gain = torch.empty(len(mel), 1, 1, device=mel.device).uniform_(-GAIN, GAIN) / SPREAD
            mel = mel + gain
            for _ in range(MASKS):
                mel = _mask(_mask(mel, 1, clip.spec_mask), 2, clip.spec_mask)
            if clip.spec_tilt:
                mel = mel + _filter(mel) * (clip.spec_tilt / SPREAD)
            if clip.spec_noise:
                strength = torch.rand(len(mel), 1, 1, device=mel.device) * (clip.spec_noise / SPREAD)
                mel = mel + torch.randn_like(mel) * strength
        return mel


class PatchedAudio(Audio):
    """Windows of whole patches from a whole step on, of which a frozen tower's features can be kept.

    They begin up to a step earlier than those of Audio around the same centre, and are up to a step longer, or a patch.
    """

    step = STEP

    def rows(self, clip: ClipSettings) -> int:
        return PATCH + STEP * max(0, -(-(super().rows(clip) - PATCH) // STEP))


def _mask(mel: torch.Tensor, dim: int, longest: float) -> torch.Tensor:
    """Hide one random interval of `dim` in every row, as in SpecAugment (Park et al. 2019). mel: (B, M, T)."""
    size = mel.shape[dim]
    length = torch.rand(len(mel), 1, device=mel.device) * longest * size
    begin = torch.rand(len(mel), 1, device=mel.device) * (size - length)
    place = torch.arange(size, device=mel.device) + 0.5
    hidden = (place >= begin) & (place < begin + length)  # (B, size)
    return mel.masked_fill(hidden.unsqueeze(2 if dim == 1 else 1), 0.0)


def _filter(mel: torch.Tensor) -> torch.Tensor:
    """A random piecewise linear filter over the bands of each row, unit variance at its knots, like another microphone.

    FilterAugment (Nam et al. 2022), the linear kind. mel: (B, M, T) → (B, M, 1)
    """
    knots = torch.randn(len(mel), 1, KNOTS, device=mel.device)
    return interpolate(knots, size=mel.shape[1], mode="linear", align_corners=True).transpose(1, 2)
