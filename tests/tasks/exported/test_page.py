"""The page that runs an exported model, opened in a real browser from its file, without a network."""

import os
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from preprocess.common.errors import UserError
from preprocess.video.log_mel import HOP, WINDOW, log_mel
from streams.clip import ClipSettings, own_start, view_starts
from streams.registry import subset_name, subsets
from tasks.export import main
from tasks.exported.page import read_example, write_page
from tasks.exported.runtime import FILES, runtime_files
from tasks.exported.settings import ExportSettings
from tasks.exported.sound import REACH, LogMelPart
from tasks.exported.write import write_parts
from tests.support.videos import drift, sound, tone, write_video

PARITY = 1e-4
HOSTILE = "<img src=x onerror=\"document.title='hurt'\">&{page.js}.mp4"
READY = re.compile("The streams took|cannot")


@dataclass(frozen=True)
class Video:
    """What a clip's place depends on."""

    frames: int


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Three seconds of H.264 with sound under a hostile name."""
    path = tmp_path_factory.mktemp("exported") / HOSTILE
    return write_video(path, drift(75), track=sound(tone(3.0)), codec="libx264")


@pytest.fixture(scope="module")
def folder(model, video):
    pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")
    pytest.importorskip("onnxscript", reason="needs the 'onnx' extra")
    try:
        runtime = runtime_files()
    except UserError as error:
        if "is not the package" in str(error):  # npm works, and gave something else: no reason to skip
            raise
        pytest.skip(f"onnxruntime-web cannot be had: {error}")
    out = video.with_name("out")
    given = {"example": read_example(model, video), "runtime": runtime}
    write_parts(model, out, more=lambda part: write_page(part, model, **given))
    return out


@pytest.fixture
def page(browser, folder):
    """The page when it has answered about the example; it must have said nothing on its console at the end."""
    page, said = browser.new_context(offline=True).new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((folder / "index.html").as_uri())
    page.locator("#status").filter(has_text=READY).wait_for(timeout=120_000)
    yield page
    assert page.title() == "out" and said == []


@pytest.mark.slow
def test_the_browser_answers_as_python_does_for_every_subset_of_the_streams(page, model, video):
    for subset in subsets(model.streams):
        for name in model.streams:
            page.set_checked(f"#use-{name}", name in subset)
        assert page.inner_text("#status").count("largest difference") == 1
        expected = model.predict(video, views=1, streams=subset).classes
        found = page.evaluate("clip.found")
        assert found == pytest.approx([expected[name] for name in model.classes], abs=PARITY), subset_name(subset)
        assert page.evaluate("clip.difference") < PARITY
        assert page.locator("#alone tr").count() == len(subset)
    for name in model.streams:
        page.uncheck(f"#use-{name}")
    assert "no answer" in page.inner_text("#status") and page.evaluate("clip.found").count(0) == len(model.classes)


@pytest.mark.slow
def test_the_page_cuts_clips_of_a_video_where_python_does(page):
    for segments, frames, own in ((1, 8, 4), (1, 2, 16), (3, 4, 5), (8, 3, 3)):
        clip = ClipSettings(frames=frames, stride=2, segments=segments, clip_of=(f"rgb={own}x3x32",))
        theirs, shape = {"segments": segments, "span": clip.span}, {"frames": own, "stride": 3}
        lengths = range(1, 90)
        starts = [view_starts(Video(frames=length), clip, 1)[0] for length in lengths]
        asked = "([lengths, clip]) => lengths.map(length => startsOf(length, clip))"
        assert page.evaluate(asked, [[*lengths], theirs]) == [list(one) for one in starts]
        pairs = [(one[0], length) for one, length in zip(starts, lengths, strict=True)]
        asked = "([pairs, clip, own]) => pairs.map(([start, length]) => ownStart(start, clip, own, length))"
        assert page.evaluate(asked, [pairs, theirs, shape]) == [own_start(a, clip, clip.of("rgb"), b) for a, b in pairs]


@pytest.mark.slow
def test_a_video_of_ones_own_is_the_clip_that_python_would_read_but_for_its_decoder(page, video, tmp_path):
    page.evaluate("example = clip")
    page.set_input_files("#file", video)
    page.locator("#example").wait_for()
    apart = "([name, part]) => { const one = clip.inputs[name][part].data, other = example.inputs[name][part].data;"
    apart += "return one.reduce((sum, value, at) => sum + Math.abs(value - other[at]), 0) / other.length; }"
    assert page.evaluate(apart, ["rgb", "frames"]) < 3  # of 255
    assert page.evaluate(apart, ["audio", "mel"]) < 0.02  # nepers
    assert page.is_disabled("#use-flow") and page.is_checked("#use-audio")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    page.set_input_files("#file", tmp_path / "no.mp4")
    page.locator("#status").filter(has_text="cannot play no.mp4").wait_for()
    page.click("#example")
    page.locator("#status").filter(has_text="largest difference").wait_for()
    assert not page.is_visible("#example") and page.is_checked("#use-flow")


def test_a_video_that_cannot_be_read_ends_it_before_anything_is_written(run_folder, tmp_path):
    with pytest.raises(UserError, match=r"gone\.mp4"):
        main(ExportSettings(run_folder, tmp_path / "out", page=tmp_path / "gone.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_log_mel_without_an_fft_is_the_stores():
    random = np.random.default_rng(0)
    samples = (tone(1.0) + 0.01 * random.standard_normal(len(tone(1.0)))).astype(np.float32)
    samples[4000:6000] = 0
    expected = log_mel(samples, bands=64).astype(np.float32)
    inner = samples[: len(samples) // HOP * HOP]
    around = np.concatenate([np.zeros(REACH, np.float32), inner, np.zeros(REACH, np.float32)])
    with torch.no_grad():
        found = LogMelPart(bands=64)(torch.from_numpy(around)[None])[0].numpy().T
    assert len(found) == 1 + (len(around) - WINDOW) // HOP
    np.testing.assert_allclose(found, expected[: len(found)], atol=0.02)  # two steps of half precision


@pytest.mark.parametrize(("does", "says"), [("exit 3", "cannot fetch"), ("echo x > a.tgz", "not the package")])
def test_what_npm_does_not_give_is_one_line_and_leaves_nothing(does, says, tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text(f"#!/bin/sh\n{does}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=says):
        runtime_files()
    assert list((tmp_path / "cache" / "tristream").iterdir()) == []


def test_without_npm_what_is_kept_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"Node\.js"):
        runtime_files()
    kept = tmp_path / "tristream" / "onnxruntime-web-1.30.0"
    kept.mkdir(parents=True)
    for name in FILES:
        (kept / name).write_text("kept")
    assert runtime_files() == {name: kept / name for name in FILES}
