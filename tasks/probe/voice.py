"""What a voice sounds like, in numbers: functionals of pitch, loudness, timbre, quality and rhythm of one recording.

Low-level descriptors every 10 ms, and their statistics over the recording, as the minimal sets of paralinguistics have
them (Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", IEEE Trans. Affective Computing 2016).
"""

import numpy as np

from preprocess.video.log_mel import HOP, SAMPLE_RATE

FRAME = 1024  # samples, 64 ms: more than two periods of the deepest voice, with its harmonics apart
RATE = SAMPLE_RATE // HOP  # 100 frames a second
HERTZ = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
DEEPEST, HIGHEST = 60.0, 500.0  # Hz, of a voice
BANDS, CEPSTRA, WIDE_BANDS = 26, 13, 8
FLOOR = 1e-8  # power, of the recording's loudest frames': −80 dB
SILENT = 1e-10  # power; −100 dB of full scale
QUIET = -35.0  # dB, of the loudest frames; below nothing is said
VOICED = 0.45  # correlation of a sound with itself a period later, from which on it has a pitch
LEAST_VOICED = 5  # frames; fewer tell nothing of a voice
SHORTEST = 0.1  # seconds
LAG = 5  # frames, 50 ms, about a sound of speech
MODULATION = (0.8, 2.5, 4.3, 6.6, 10.0, 15.0)  # Hz, borders of ranges; syllables follow each other at about 5
LEAST_MODULATION = 512  # frames, to which short recordings are padded
PERCENTILES = (5, 25, 50, 75, 95)


def voice_features(samples: np.ndarray) -> dict[str, np.ndarray]:
    """samples: (N,) float32 in -1…1 at 16 kHz → stream → (D,) float32: prosody, timbre, quality, rhythm.

    Loudness is relative to the recording's loudest frames, so that the distance to the microphone tells nothing.

    Raises ValueError if it is too short, or silent.
    """
    if len(samples) < SHORTEST * SAMPLE_RATE:
        raise ValueError(f"it has {len(samples) / SAMPLE_RATE:.2f} s of sound, and needs {SHORTEST} s")
    power = _power(samples)
    level = np.percentile(power.sum(axis=0), 95)
    if level < SILENT:
        raise ValueError("it is silent")
    power /= level
    loud = _decibels(power.sum(axis=0))
    pitch, periodic = _pitch(power)
    said = loud > QUIET
    voiced = said & (periodic > VOICED)
    if voiced.sum() < LEAST_VOICED:
        voiced = said
    tone = 12 * np.log2(pitch / 100)  # semitones above 100 Hz
    cepstra = _cepstra(power)
    found = {
        "prosody": [_prosody(tone, loud, periodic, voiced=voiced, said=said)],
        "timbre": [_timbre(_spectrum(power), cepstra, voiced=voiced, said=said), _motion(cepstra, said)],
        "quality": [_statistics(row[voiced]) for row in _quality(power, pitch, periodic)],
        "rhythm": [_rhythm(loud, voiced, said), _modulation(power)],
    }
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}


def _power(samples: np.ndarray) -> np.ndarray:
    """(N,) → (F, T), the middle of frame t at t * 10 ms."""
    window = np.hanning(FRAME + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / (window**2).sum() / FRAME).T


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + FLOOR)


def _pitch(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, T) → (T,) Hz and (T,) how periodic, from 0 to 1: the highest peak of the autocorrelation.

    That of the window is divided out, without which long periods would seem weaker (Boersma, Proc. IFA 1993).
    """
    from scipy.ndimage import median_filter

    window = np.hanning(FRAME + 1)[:-1]
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * FRAME)) ** 2)[:FRAME]
    own = np.fft.irfft(power, axis=0)[: FRAME // 2]
    lags = np.arange(int(SAMPLE_RATE / HIGHEST) - 1, int(SAMPLE_RATE / DEEPEST) + 2)
    curve = own[lags] / (own[0] + FLOOR / FRAME) / (taper[lags] / taper[0])[:, None]
    inner = curve[1:-1]
    peak = (inner >= curve[:-2]) & (inner >= curve[2:])
    octaves = np.log2(lags[1:-1] / lags[0])[:, None]
    best = np.where(peak, inner - 0.02 * octaves, -1).argmax(axis=0) + 1  # of like peaks the shortest period
    before, at, after = (np.take_along_axis(curve, best[None] + step, axis=0)[0] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0).clip(-1, 1)  # of the parabola
    return median_filter(SAMPLE_RATE / (lags[best] + shift), 5), at.clip(0, 1)


def _prosody(
    tone: np.ndarray, loud: np.ndarray, periodic: np.ndarray, *, voiced: np.ndarray, said: np.ndarray
) -> np.ndarray:
    """Pitch in semitones and loudness in dB: statistics, the slope, and each third of the recording."""
    pitched = tone[voiced]
    slope = np.polyfit(np.linspace(0, 1, len(pitched)), pitched, 1)[0] if len(pitched) > 1 else 0.0
    found = [*_statistics(pitched), *_statistics(loud[said]), *_statistics(periodic[said])]
    found += [slope, voiced.sum() / said.sum()]
    for values in (pitched - pitched.mean(), loud[said]):
        thirds = [third if len(third) else np.zeros(1) for third in np.array_split(values, 3)]
        found += [third.mean() for third in thirds] + [third.std() for third in thirds]
    return np.array(found)


def _spectrum(power: np.ndarray) -> np.ndarray:
    """(F, T) → (8, T): where the energy lies, how steep and how flat the spectrum is, how much it changes."""
    level = _decibels(power)
    share = power / (power.sum(axis=0) + FLOOR)
    flux = np.diff(np.sqrt(share), axis=1, prepend=np.sqrt(share[:, :1]))
    return np.stack(
        [
            np.log2(HERTZ @ share + 1),
            level[_band(50, 5000)].mean(axis=0) - _total(power, 50, 5000),
            np.sqrt((flux**2).sum(axis=0)),
            level[_band(0, 2000)].max(axis=0) - level[_band(2000, 5000)].max(axis=0),  # Hammarberg's index
            _total(power, 50, 1000) - _total(power, 1000, 5000),  # the alpha ratio
            *(_slope(level, low, high) for low, high in ((0, 500), (500, 1500), (1500, 5000))),
        ]
    )


def _quality(power: np.ndarray, pitch: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """(5, T) dB: harmonics to noise, and the first harmonic against the second and against the formants' regions.

    Pressed voices have weak first harmonics, breathy ones strong ones.
    """
    level, frames = _decibels(power), np.arange(len(pitch))

    def harmonic(number: int) -> np.ndarray:
        bins = np.rint(number * pitch / HERTZ[1]).astype(int)
        return np.max([level[bins + step, frames] for step in (-1, 0, 1)], axis=0)

    sure = periodic.clip(0.01, 0.99)
    first = harmonic(1)
    regions = [level[_band(low, high)].max(axis=0) for low, high in ((300, 1000), (1000, 2000), (2000, 3500))]
    return np.stack([10 * np.log10(sure / (1 - sure)), first - harmonic(2), *(first - region for region in regions)])


def _cepstra(power: np.ndarray) -> np.ndarray:
    """(F, T) → (CEPSTRA, T): the mel-frequency cepstrum without its first coefficient, which is loudness."""
    from scipy.fft import dct

    return dct(_decibels(_mel(BANDS) @ power), axis=0, norm="ortho")[1 : CEPSTRA + 1]


def _timbre(spectrum: np.ndarray, cepstra: np.ndarray, *, voiced: np.ndarray, said: np.ndarray) -> np.ndarray:
    rows = [_statistics(row[voiced]) for row in (*spectrum, *cepstra)] + [_statistics(row[said]) for row in spectrum]
    return np.concatenate([*rows, cepstra[:, said].mean(axis=1), cepstra[:, said].std(axis=1)])


def _motion(cepstra: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How far the timbre moves within 50 ms: how clearly is articulated."""
    moved = (cepstra[:, LAG:] - cepstra[:, :-LAG])[:, said[LAG:]]
    if not moved.shape[1]:
        moved = np.zeros((CEPSTRA, 1))
    return np.concatenate([moved.std(axis=1), np.abs(moved).mean(axis=1)])


def _rhythm(loud: np.ndarray, voiced: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How fast and evenly it is spoken: voiced stretches and peaks a second, the lengths of stretches and pauses."""
    seconds = len(loud) / RATE
    edges = np.flatnonzero(np.diff(np.pad(voiced.astype(int), 1)))
    stretches, pauses = (edges[1::2] - edges[::2]) / RATE, (edges[2::2] - edges[1:-1:2]) / RATE
    lengths = [
        number for ones in (stretches, pauses) for number in ((ones.mean(), ones.std()) if len(ones) else (0, 0))
    ]
    peaks = ((loud[1:-1] > loud[:-2]) & (loud[1:-1] >= loud[2:]) & (loud[1:-1] > -15)).sum()
    whole = _modulated(loud.clip(QUIET, 0)[None])
    return np.array([len(stretches) / seconds, peaks / seconds, said.mean(), *lengths, *whole])


def _modulation(power: np.ndarray) -> np.ndarray:
    """How fast the loudness of each of eight bands goes up and down."""
    loud = _decibels(_mel(WIDE_BANDS) @ power)
    return _modulated(loud.clip(loud.max() - 50, None))


def _modulated(loud: np.ndarray) -> np.ndarray:
    """(M, T) dB → (5 M,): the logarithm of their modulation spectra, in five ranges."""
    away = (loud - loud.mean(axis=1, keepdims=True)) * np.hanning(loud.shape[1])
    size = max(LEAST_MODULATION, loud.shape[1])
    spectrum = np.abs(np.fft.rfft(away, size, axis=1)) / np.sqrt(loud.shape[1])
    ranges = np.split(spectrum, np.searchsorted(np.fft.rfftfreq(size, 1 / RATE), MODULATION), axis=1)[1:-1]
    return np.log(np.stack([part.mean(axis=1) for part in ranges], axis=1) + 1e-3).ravel()


def _mel(bands: int) -> np.ndarray:
    """(M, F)"""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(len(HERTZ), 20.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE).numpy().T


def _band(low: float, high: float) -> slice:
    return slice(*np.searchsorted(HERTZ, (low, high)))


def _total(power: np.ndarray, low: float, high: float) -> np.ndarray:
    return _decibels(power[_band(low, high)].sum(axis=0))


def _slope(level: np.ndarray, low: float, high: float) -> np.ndarray:
    """dB a kHz."""
    away = (HERTZ[_band(low, high)] - HERTZ[_band(low, high)].mean()) / 1000
    return away @ level[_band(low, high)] / (away @ away)


def _statistics(values: np.ndarray) -> np.ndarray:
    """(T,), T > 0 → (9,): mean, deviation, how much it changes from one frame to the next, percentiles."""
    change = np.diff(values) if len(values) > 1 else np.zeros(1)
    spread = values.std(), np.abs(change).mean(), change.std()
    return np.array([values.mean(), *spread, *np.percentile(values, PERCENTILES)])
