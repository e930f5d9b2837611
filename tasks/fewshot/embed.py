"""The features of videos by which classes are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocess.store import Store
from preprocess.store.index import Video
from tasks.model import Model


@dataclass(frozen=True)
class Embedded:
    """V videos in one stream."""

    vectors: np.ndarray  # (V, D), the mean over a video's clips; zeros where the stream is absent
    sequences: list[np.ndarray]  # V of (T', D), its clips one after the other; (0, D) where the stream is absent
    present: np.ndarray  # (V,) bool


def embed(
    model: Model, store: Store, videos: Sequence[Video], streams: Sequence[str], *, of: str, views: int, batch: int
) -> dict[str, Embedded]:
    """stream → its features of the videos: `of` the LSTMs ("features") or of the "towers"."""
    parts: dict[str, list[list[np.ndarray]]] = {name: [[] for _ in videos] for name in streams}
    sizes = {}
    names = [video.path for video in videos]
    for windows in model.clips(store, videos, views=views, names=names, batch=batch, keep=True, bar="features"):
        values = windows.sequences if of == "features" else windows.towers
        for name in streams:
            arrays, there = values[name].float().cpu().numpy(), windows.present[name].tolist()
            sizes[name] = arrays.shape[2]
            for row, array, is_there in zip(windows.rows.tolist(), arrays, there, strict=True):
                if is_there:
                    parts[name][row].append(array)
    found = {}
    for name in streams:
        empty = np.zeros((0, sizes[name]), np.float32)
        sequences = [np.concatenate([empty, *clips]) for clips in parts[name]]
        vectors = np.stack([one.mean(axis=0) if len(one) else np.zeros(sizes[name], np.float32) for one in sequences])
        found[name] = Embedded(vectors, sequences, np.array([len(one) > 0 for one in sequences]))
    return found
