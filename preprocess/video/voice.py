"""What a voice sounds like, in numbers: functionals of pitch, loudness, timbre and rhythm over one recording.

Low-level descriptors every 10 ms, and their statistics over the recording, as in the minimal sets of paralinguistics
(Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", IEEE Trans. Affective Computing 2016).
"""

import numpy as np

from preprocess.video.log_mel import HOP, SAMPLE_RATE

FRAME = 1024  # samples, 64 ms: two periods of the deepest voice, and the harmonics apart
DEEPEST, HIGHEST = 60.0, 500.0  # Hz, of a voice
BANDS, CEPSTRA = 26, 13
QUIETEST = 1e-10  # power; -100 dB
VOICED = 0.45  # correlation of a sound with itself a period later, from which on it has a pitch
LEAST_VOICED = 5  # frames; fewer tell nothing of a voice
SHORTEST = 0.1  # seconds
PERCENTILES = (5, 25, 50, 75, 95)


def voice_features(samples: np.ndarray) -> dict[str, np.ndarray]:
    """samples: (N,) float32 in -1…1 at 16 kHz → stream → (D,) float32: prosody, timbre, rhythm.

    Loudness is taken relative to the recording's own, so that the distance to the microphone tells nothing.

    Raises ValueError if it is too short, or silent.
    """
    if len(samples) < SHORTEST * SAMPLE_RATE:
        raise ValueError(f"it has {len(samples) / SAMPLE_RATE:.2f} s of sound, and needs {SHORTEST} s")
    power = _power(samples)  # (F, T)
    if power.max() < QUIETEST:
        raise ValueError("it is silent")
    loud = 10 * np.log10(power.sum(axis=0) + QUIETEST)
    loud -= np.percentile(loud, 95)
    pitch, periodic = _pitch(power)
    said = loud > -35
    voiced = said & (periodic > VOICED)
    if voiced.sum() < LEAST_VOICED:
        voiced = said
    tone = 12 * np.log2(pitch[voiced] / 100)  # semitones above 100 Hz
    slope = np.polyfit(np.linspace(0, 1, len(tone)), tone, 1)[0] if len(tone) > 1 else 0.0
    prosody = [
        _statistics(tone),
        _statistics(loud[said]),
        _statistics(periodic[said]),
        [slope, voiced.sum() / said.sum()],
    ]
    spectrum, cepstra = _spectrum(power), _cepstra(power)
    timbre = [_statistics(row[voiced]) for row in (*spectrum, *cepstra)] + [_statistics(row[said]) for row in spectrum]
    timbre += [[row[said].mean(), row[said].std()] for row in cepstra]
    found = {"prosody": prosody, "timbre": timbre, "rhythm": [_rhythm(loud, voiced, said)]}
    return {name: np.concatenate(parts).astype(np.float32) for name, parts in found.items()}


def _power(samples: np.ndarray) -> np.ndarray:
    """(N,) → (F, T), a frame each 10 ms, the middle of which it describes."""
    from scipy.signal import get_window

    padded = np.pad(samples.astype(np.float64), FRAME // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    window = get_window("hann", FRAME)
    return (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / (window**2).sum() / FRAME).T


def _pitch(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, T) → (T,) Hz and (T,) how periodic, from 0 to 1: the highest peak of the autocorrelation, smoothed over time.

    The autocorrelation of the window is divided out (Boersma 1993), which is what makes long periods comparable.
    """
    from scipy.ndimage import median_filter
    from scipy.signal import get_window

    window = get_window("hann", FRAME)
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * FRAME)) ** 2)[:FRAME]
    own = np.fft.irfft(power, axis=0)[: FRAME // 2]
    shortest, longest = int(SAMPLE_RATE / HIGHEST), int(SAMPLE_RATE / DEEPEST) + 1
    lags = np.arange(shortest, longest)
    curve = own[lags] / (own[0] + QUIETEST) / (taper[lags] / taper[0])[:, None]
    best = (curve - 0.02 * np.log2(lags / shortest)[:, None]).argmax(axis=0)  # of like peaks the shortest period
    periodic = np.take_along_axis(curve, best[None], axis=0)[0].clip(0, 1)
    return median_filter(SAMPLE_RATE / lags[best], 5), periodic


def _spectrum(power: np.ndarray) -> np.ndarray:
    """(F, T) → (8, T): where the energy lies, how steep and how flat the spectrum is, how much it changes."""
    hertz = np.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE)
    level = 10 * np.log10(power + QUIETEST)
    share = power / (power.sum(axis=0) + QUIETEST)

    def band(low: float, high: float) -> slice:
        return slice(*np.searchsorted(hertz, (low, high)))

    def slope(low: float, high: float) -> np.ndarray:
        part = band(low, high)
        away = (hertz[part] - hertz[part].mean()) / 1000
        return away @ level[part] / (away @ away)

    def total(low: float, high: float) -> np.ndarray:
        return 10 * np.log10(power[band(low, high)].sum(axis=0) + QUIETEST)

    centre = np.log2(hertz @ share + 1)
    flat = level[band(50, 5000)].mean(axis=0) - total(50, 5000)
    flux = np.sqrt((np.diff(np.sqrt(share), axis=1, prepend=np.sqrt(share[:, :1])) ** 2).sum(axis=0))
    peaks = level[band(0, 2000)].max(axis=0) - level[band(2000, 5000)].max(axis=0)  # Hammarberg's index
    alpha = total(50, 1000) - total(1000, 5000)
    return np.stack([centre, flat, flux, peaks, alpha, slope(0, 500), slope(500, 1500), slope(1500, 5000)])


def _cepstra(power: np.ndarray) -> np.ndarray:
    """(F, T) → (CEPSTRA, T): the mel-frequency cepstrum without its first coefficient, which is loudness."""
    from scipy.fft import dct
    from torchaudio.functional import melscale_fbanks

    bank = melscale_fbanks(len(power), 20.0, SAMPLE_RATE / 2, BANDS, SAMPLE_RATE).numpy()
    return dct(10 * np.log10(bank.T @ power + QUIETEST), axis=0, norm="ortho")[1 : CEPSTRA + 1]


def _rhythm(loud: np.ndarray, voiced: np.ndarray, said: np.ndarray) -> np.ndarray:
    """How fast and evenly it is spoken: voiced stretches a second, their lengths, loudness peaks, its modulation."""
    seconds = len(loud) * HOP / SAMPLE_RATE
    edges = np.flatnonzero(np.diff(np.pad(voiced.astype(int), 1)))
    on, off = (edges[1::2] - edges[::2]) / 100, (edges[2::2] - edges[1:-1:2]) / 100
    lengths = [part for ones in (on, off) for part in ((ones.mean(), ones.std()) if len(ones) else (0.0, 0.0))]
    steady = loud.clip(-35, 0)
    spectrum = np.abs(np.fft.rfft((steady - steady.mean()) * np.hanning(len(steady)), 512)) / np.sqrt(len(steady))
    modulation = [np.log(part.mean() + 1e-3) for part in np.split(spectrum[4:77], [9, 18, 30, 48])]  # 0.8 to 15 Hz
    peaks = ((steady[1:-1] > steady[:-2]) & (steady[1:-1] >= steady[2:]) & (steady[1:-1] > -15)).sum()
    return np.array([len(on) / seconds, peaks / seconds, said.mean(), *lengths, *modulation])


def _statistics(values: np.ndarray) -> np.ndarray:
    """(T,) → (9,): mean, deviation, percentiles, and how much it changes from one frame to the next."""
    if not len(values):
        values = np.zeros(1)
    change = np.diff(values) if len(values) > 1 else np.zeros(1)
    return np.array(
        [values.mean(), values.std(), *np.percentile(values, PERCENTILES), np.abs(change).mean(), change.std()]
    )
