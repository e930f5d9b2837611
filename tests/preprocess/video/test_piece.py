"""One video in, one piece of a store out."""

import hashlib
import os
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from preprocess.common.stopwatch import Stopwatch
from preprocess.flow import tvl1
from preprocess.store import safe_hdf5
from preprocess.store.codec import decode_flow, decode_rgb, dequantise_flow, quantise_flow
from preprocess.store.format import FLOW_BOUND, FLOW_ZERO, read_parameters
from preprocess.store.index import Facts, facts_at, read_facts
from preprocess.store.seal import stream_checksum, verify
from preprocess.video.decoded import Frame, Samples
from preprocess.video.encoder import FLOW_CHUNK, VideoEncoder
from preprocess.video.limits import Limits, Unusable
from preprocess.video.log_mel import log_mel
from preprocess.video.piece import extract_piece
from preprocess.video.settings import PieceSettings
from tests.support.decoding import decode
from tests.support.videos import click, drift, flash, grey, sound, tone, write_video

SETTINGS = PieceSettings(short_side=32)
CONTENT = "0123456789abcdef" * 2


class Kept(list):
    """What an encoder sends to one of its sinks."""

    def add(self, values: np.ndarray) -> None:
        self.append(np.array(values))


class Piece:
    """What `extract_piece` made of a file."""

    def __init__(self, path, *, settings: PieceSettings = SETTINGS) -> None:
        folder = path.parent / "pieces"
        folder.mkdir(exist_ok=True)
        self.target = folder / "0.h5"
        self.facts = extract_piece(str(path), self.target, content=CONTENT, settings=settings, watch=Stopwatch())
        self.data: dict[str, np.ndarray] = {}
        self.attributes: dict[str, dict] = {}
        with h5py.File(self.target) as file:
            video = file[f"videos/{CONTENT}"]
            self.attributes[""] = dict(video.attrs)
            for name, group in video.items():
                self.attributes[name] = dict(group.attrs)
                self.data |= {f"{name}/{key}": item[()] for key, item in group.items()}
        self.left = [name for name in os.listdir(folder) if name != "0.h5"]

    def frames(self, stream: str) -> np.ndarray:
        ends, data = self.data[f"{stream}/ends"], self.data[f"{stream}/data"]
        if stream == "rgb":
            return np.stack([decode_rgb(data[a:b]) for a, b in pairwise(ends)])
        return np.stack([np.moveaxis(decode_flow(data[a:b]), 0, -1) for a, b in pairwise(ends)])


@pytest.mark.parametrize("count", [2, FLOW_CHUNK, FLOW_CHUNK + 1])
def test_t_frames_have_t_less_one_flow_steps_and_four_t_rows_of_sound(tmp_path, count):
    piece = Piece(write_video(tmp_path / "a.mkv", drift(count), track=sound(tone(count / 25)), codec="ffv1"))
    assert isinstance(piece.facts, Facts)
    assert piece.facts.streams == {"rgb": True, "flow": True, "audio": True}
    assert (piece.facts.frames, piece.facts.seconds) == (count, pytest.approx(count / 25))
    assert piece.frames("rgb").shape == (count, 32, 43, 3)
    assert piece.frames("flow").shape == (count - 1, 32, 43, 2)
    assert piece.data["audio/data"].shape == (4 * count, 64)
    assert piece.left == []


def test_a_flash_and_a_click_meet_in_the_store(tmp_path):
    times = [0.5 + k / 25 for k in range(15)]
    track = sound(click(1.2, times[8]))
    piece = Piece(write_video(tmp_path / "a.mkv", flash(15, 8), times=times, track=track, codec="ffv1"))
    assert piece.frames("rgb").mean(axis=(1, 2, 3)).argmax() == 8
    loudness = piece.data["audio/data"].astype(np.float32).mean(axis=1)
    assert abs(int(loudness.argmax()) - 4 * 8) <= 1


def test_log_mel_of_the_store_is_that_of_the_sound(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.4, 0.4, 12_800).astype(np.float32)
    piece = Piece(write_video(tmp_path / "a.mkv", drift(20), track=sound(samples), codec="ffv1"))
    np.testing.assert_allclose(piece.data["audio/data"], log_mel(samples)[:80], atol=0.02)


@pytest.mark.parametrize("bands", [40])
def test_the_number_of_bands_is_as_asked_for(tmp_path, bands):
    path = write_video(tmp_path / "a.mkv", drift(3), track=sound(tone(0.12)), codec="ffv1")
    piece = Piece(path, settings=PieceSettings(short_side=32, mel_bands=bands))
    assert piece.data["audio/data"].shape == (12, bands)


@pytest.mark.parametrize("step", [2, -2])
def test_flow_says_which_way_and_how_far_the_picture_moves(tmp_path, step):
    piece = Piece(write_video(tmp_path / "a.mkv", drift(10, step=step, size=(32, 48)), codec="ffv1"))
    flow = dequantise_flow(piece.frames("flow"))[:, 6:-6, 8:-8]
    assert np.median(flow[..., 0]) == pytest.approx(step, abs=0.3)
    assert np.abs(np.median(flow[..., 1])) < 0.2


def test_chunks_leave_no_seam_in_the_flow(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(FLOW_CHUNK + 8, size=(32, 48)), codec="ffv1")
    stored = dequantise_flow(Piece(path).frames("flow"))
    grey_frames = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in decode(path).frames])
    expected = dequantise_flow(quantise_flow(tvl1(grey_frames)))
    assert np.abs(stored - expected).mean(axis=(1, 2, 3)).max() < FLOW_BOUND / 127


def test_a_long_still_has_no_flow_and_needs_no_solver():
    one, other = drift(2, step=3)
    sinks = {name: Kept() for name in ("rgb", "flow", "mel")}
    watch = Stopwatch()
    encoder = VideoEncoder(SETTINGS, **sinks, watch=watch)
    for frame in (Frame(one, 200), Frame(other, 3)):
        encoder.push(frame)
    encoder.finish()
    assert [len(sinks[name]) for name in ("rgb", "flow")] == [203, 202]
    assert all((decode_flow(jpeg) == FLOW_ZERO).all() for jpeg in sinks["flow"])
    assert encoder.values == 202 * one[..., :2].size
    assert "flow" not in watch.seconds


def test_log_mel_comes_at_once_or_by_the_second_and_is_the_same():
    samples = tone(2.5)
    rows = {}
    for chunk in (1, 16_000):
        sinks = {name: Kept() for name in ("rgb", "flow", "mel")}
        encoder = VideoEncoder(SETTINGS, **sinks, watch=Stopwatch(), sound_chunk=chunk)
        for begin in range(0, len(samples), 700):
            encoder.push(Samples(samples[begin : begin + 700]))
        calls = len(sinks["mel"])
        encoder.finish()
        rows[chunk] = calls, np.concatenate(sinks["mel"])
    assert rows[1][0] == -(-len(samples) // 700) and rows[16_000][0] == 2
    for _, found in rows.values():
        np.testing.assert_allclose(found, log_mel(samples), atol=2.0**-8)


def test_notes_of_decoding_reach_the_index(tmp_path, shared_data):
    piece = Piece(Path(shutil.copy(shared_data("faults/restart.ts"), tmp_path)))
    assert "joined" in piece.facts.notes
    with h5py.File(piece.target, "r+") as file:
        assert facts_at(read_facts(file["index"]), 0)["notes"] == piece.facts.notes
        del file["index/notes"]  # as in a store of an older release
        assert facts_at(read_facts(file["index"]), 0)["notes"] == ""


def test_motion_beyond_the_bound_is_clipped_and_its_share_is_told(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mkv", [drift(1)[0]] * 5, codec="ffv1")
    assert Piece(path).attributes["flow"]["clipped_share"] == 0.0

    def fast(frames, **_):
        flow = np.zeros((len(frames) - 1, *frames.shape[1:], 2), np.float32)
        flow[..., 0] = 30.0
        return flow

    monkeypatch.setattr("preprocess.video.encoder.tvl1", fast)
    piece = Piece(path)
    assert piece.attributes["flow"]["clipped_share"] == 0.5
    assert piece.attributes["flow"]["bound"] == FLOW_BOUND
    assert piece.attributes["flow"]["zero"] == FLOW_ZERO
    np.testing.assert_allclose(dequantise_flow(piece.frames("flow")).mean(axis=(0, 1, 2)), (FLOW_BOUND, 0), atol=0.2)


@pytest.mark.parametrize(
    ("pictures", "times"), [(drift(1), None), (drift(2), [0.0, 0.01])], ids=["one picture", "two in one frame's time"]
)
def test_a_video_of_one_frame_has_no_flow_and_says_why(tmp_path, pictures, times):
    piece = Piece(write_video(tmp_path / "a.mkv", pictures, times=times, codec="ffv1"))
    assert piece.facts.streams["flow"] is False
    assert piece.facts.why["flow"] == "one frame"
    assert not any(name.startswith("flow") for name in piece.data)


def test_absent_sound_says_why_and_is_not_faked(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(5), track=sound(np.zeros(4000, np.float32)), codec="ffv1")
    piece = Piece(path)
    assert piece.facts.streams == {"rgb": True, "flow": True, "audio": False}
    assert piece.facts.why["audio"] == "silent"
    assert not any(name.startswith("audio") for name in piece.data)


def test_the_sound_says_when_the_track_had_samples(tmp_path):
    piece = Piece(write_video(tmp_path / "a.mkv", drift(20), track=sound(tone(0.3), start=0.2), codec="ffv1"))
    np.testing.assert_allclose(piece.attributes["audio"]["covered"], (0.2, 0.5), atol=0.002)
    assert len(piece.data["audio/data"]) == 80


def test_a_piece_tells_what_its_numbers_are_and_where_they_come_from(tmp_path):
    track = sound(tone(0.2, rate=44_100), rate=44_100, codec="aac")
    path = write_video(tmp_path / "a.mp4", drift(5), track=track, rotation=90)
    piece = Piece(path)
    video = piece.attributes[""]
    assert (video["source_video_codec"], video["source_audio_codec"], video["source_rotation"]) == (b"h264", b"aac", 90)
    assert (piece.facts.frames, piece.facts.height, piece.facts.width) == (5, 43, 32)
    assert b"JPEG" in piece.attributes["rgb"]["unit"]
    assert b"pixels a frame" in piece.attributes["flow"]["unit"]
    assert b"log" in piece.attributes["audio"]["unit"]
    assert [piece.attributes[name]["rate"] for name in ("rgb", "flow", "audio")] == [25, 25, 100]


def test_a_piece_is_sealed_and_knows_what_it_holds_and_how_it_was_made(tmp_path):
    track = sound(tone(0.2))
    piece = Piece(write_video(tmp_path / "a.mkv", drift(5), track=track, codec="ffv1"))
    verify(piece.target)
    with safe_hdf5.open_file(piece.target) as file:
        assert read_parameters(file) == SETTINGS.parameters()
        assert list(file["videos"]) == [CONTENT]
        columns = read_facts(safe_hdf5.group(file, "index"))
        assert len(columns["content"]) == 1
        assert Facts(**facts_at(columns, 0)) == piece.facts
        for name, stream in file[f"videos/{CONTENT}"].items():
            assert safe_hdf5.attribute(stream, "checksum") == stream_checksum(stream)
            assert piece.facts.bytes[name] == sum(data.nbytes for data in stream.values()) > 0
    assert piece.facts.content == CONTENT


def test_a_checksum_is_a_digest_of_the_datasets_one_after_the_other(tmp_path):
    """Computed here from what plain h5py reads, so that anybody else can."""
    piece = Piece(write_video(tmp_path / "a.mkv", drift(5), track=sound(tone(0.2)), codec="ffv1"))
    for name in ("rgb", "flow", "audio"):
        both = piece.data[f"{name}/data"].tobytes()
        both += piece.data[f"{name}/ends"].tobytes() if name != "audio" else b""
        expected = hashlib.blake2b(both, digest_size=16).hexdigest().encode()
        assert piece.attributes[name]["checksum"] == expected


def test_a_file_gives_the_same_piece_byte_for_byte_every_time(tmp_path):
    path = write_video(tmp_path / "a.mp4", drift(12), track=sound(tone(0.5, rate=44_100), rate=44_100, codec="aac"))
    first = Piece(path)
    before = first.target.read_bytes()
    assert Piece(path).facts == first.facts
    assert first.target.read_bytes() == before


@pytest.mark.parametrize(("content", "why"), [(b"", "corrupt: "), (b"not a video", "not media: ")])
def test_an_unusable_file_leaves_nothing_but_its_reason(tmp_path, content, why):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=why):
        Piece(path)
    assert os.listdir(tmp_path / "pieces") == []


def test_a_video_beyond_a_limit_leaves_nothing_though_half_of_it_was_decoded(tmp_path):
    path = write_video(tmp_path / "a.mkv", drift(50), codec="ffv1")
    with pytest.raises(Unusable, match="too long"):
        Piece(path, settings=PieceSettings(short_side=32, limits=Limits(max_seconds=1.0)))
    assert os.listdir(tmp_path / "pieces") == []


def test_a_piece_that_cannot_be_written_to_its_end_is_not_there(tmp_path, monkeypatch):
    """As when the disk is full at the very last."""
    path = write_video(tmp_path / "a.mkv", drift(5), codec="ffv1")
    monkeypatch.setattr(
        "preprocess.video.piece.write_columns", lambda *_: (_ for _ in ()).throw(OSError(28, "no space"))
    )
    with pytest.raises(OSError, match="no space"):
        Piece(path)
    assert os.listdir(tmp_path / "pieces") == []


def test_one_frame_at_a_very_high_rate_is_used_all_the_same(tmp_path):
    path = write_video(tmp_path / "a.mkv", [grey(90)], fps=250, track=sound(tone(0.1)), codec="ffv1")
    piece = Piece(path, settings=PieceSettings(short_side=32, fps=250))
    assert piece.facts.frames == 1


@pytest.mark.parametrize("fps", [10, 30])
def test_another_frame_rate_is_kept_in_all_streams(tmp_path, fps):
    path = write_video(tmp_path / "a.mkv", drift(25), track=sound(tone(1.0)), codec="ffv1")
    piece = Piece(path, settings=PieceSettings(short_side=32, fps=fps))
    assert len(piece.data["rgb/ends"]) == fps + 1
    assert len(piece.data["flow/ends"]) == fps
    assert len(piece.data["audio/data"]) == 100
