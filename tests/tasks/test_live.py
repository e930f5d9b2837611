"""Answers about live video."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.video.arrival import paced
from preprocess.video.buffer import LiveBuffer
from preprocess.video.capture import capture
from preprocess.video.decoded import Absent, Frame, Samples
from tasks.live import main
from tasks.live_answers import LiveAnswers
from tasks.newest import newest
from tasks.settings import LiveSettings
from tasks.timeline import joined, timelines
from tests.support.commands import assert_one_line_error, run
from tests.support.live import FakeClock
from tests.support.videos import drift, sound, tone, write_video
from tests.tasks.test_windows import WINDOW, decoded


def answered(model, items):
    """The answers about items that come in time, on a clock that a test need not wait for."""
    clock = FakeClock()
    source = LiveBuffer(paced(items, fps=25, clock=clock), name="live", fps=25, patience=5, lossless=True)
    answers = LiveAnswers(model, source, **WINDOW)
    return joined([part for part, _ in answers]), answers


@pytest.mark.parametrize("name", ["both.mkv", "mute.mkv", "part.mkv"])
def test_a_paced_file_is_answered_as_the_file_is(model, videos, name, tmp_path):
    file = videos / name
    if name == "part.mkv":  # its sound begins late and ends early
        file = write_video(tmp_path / name, drift(48), track=sound(tone(0.6), start=0.6), codec="ffv1")
    (expected,) = timelines(model, file, **WINDOW)
    found, answers = answered(model, decoded(model, file))
    assert expected.present["audio"].any() == (name != "mute.mkv")
    assert expected.present["audio"].all() == (name == "both.mkv")
    np.testing.assert_array_equal(found.times, expected.times)
    np.testing.assert_allclose(found.answer, expected.answer, atol=1e-6)
    for stream in model.streams:
        np.testing.assert_array_equal(found.present[stream], expected.present[stream])
        np.testing.assert_allclose(found.streams[stream], expected.streams[stream], atol=1e-6)
        np.testing.assert_allclose(found.shares[stream], expected.shares[stream], atol=1e-6)
    assert [part.times.tolist() for part in answers.recent] == [[times] for times in expected.times.tolist()]
    for stage in answers.quantiles().values():
        assert 0 <= stage["p50"] <= stage["p95"]


def test_windows_beside_a_gap_are_as_without_it_and_those_in_it_say_what_is_missing(model, videos):
    (expected,) = timelines(model, videos / "both.mkv", **WINDOW)

    def with_gap():
        frames = 0
        for item in decoded(model, videos / "both.mkv"):
            if isinstance(item, Frame):
                frames += item.count
                yield Absent(frames=item.count) if 20 < frames <= 30 else item
            else:
                yield item

    found, _ = answered(model, with_gap())
    np.testing.assert_array_equal(found.times, expected.times)
    begin, end = (found.times * 25).round().T
    beside = (end <= 19) | (begin >= 30)
    assert beside.sum() >= 6 and (~beside).sum() >= 3
    np.testing.assert_allclose(found.answer[beside], expected.answer[beside], atol=1e-6)
    assert (found.present["rgb"] == ((end <= 20) | (begin >= 30))).all()
    assert (found.present["flow"] == beside | (end <= 19)).all()
    assert found.present["audio"].all()
    np.testing.assert_allclose(found.streams["audio"], expected.streams["audio"], atol=1e-6)


def test_a_sound_that_stops_is_absent_while_pictures_go_on_and_comes_back(model):
    pictures, voice = drift(150), tone(6.0)

    def items():
        for k, picture in enumerate(pictures):
            yield Frame(picture, 1)
            if not 50 <= k < 100:
                yield Absent(samples=50 * 640) if k == 100 else Absent()
                yield Samples(voice[k * 640 : (k + 1) * 640])

    found, _ = answered(model, items())
    begin, end = found.times.T
    assert found.present["rgb"].all() and found.present["flow"].all()
    assert found.present["audio"][end <= 2.0].all() and found.present["audio"][begin >= 4.0].all()
    assert not found.present["audio"][(begin > 2.1) & (end < 3.9)].any()
    assert not found.shares["audio"][(begin > 2.1) & (end < 3.9)].any()


def test_of_the_items_of_a_thread_the_newest_is_next_and_its_errors_are_raised():
    made, go_on = threading.Event(), threading.Event()

    def items():
        yield 0
        go_on.wait(5)
        yield from (1, 2, 3)
        made.set()
        raise UserError("it broke")

    found = newest(items())
    assert next(found) == 0
    go_on.set()
    made.wait(5)
    threading.Event().wait(0.05)
    assert next(found) == 3
    with pytest.raises(UserError, match="broke"):
        next(found)


@pytest.fixture
def film(tmp_path):
    """A short video with sound, as broadcasts are sent."""
    return write_video(tmp_path / "film.ts", drift(20), track=sound(tone(0.8), codec="mp2", rate=16_000))


@pytest.fixture
def camera(film):
    """An address that sends the film to who asks, twice at most, without its length; then it refuses."""
    asked = []

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) > 2:
                self.send_error(503)
                return
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            self.wfile.write(film.read_bytes())

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/live", asked
    server.shutdown()
    server.server_close()


def test_an_address_is_asked_again_when_it_is_lost_and_time_goes_on(model, camera):
    address, asked = camera
    told = []
    source = capture(address, parameters=model.parameters, in_time=True, reconnect=1.2, note=told.append)
    before, between, after = [], [], []
    for item in source:
        if isinstance(item, Frame):
            (after if between else before).append(item.count)
        elif isinstance(item, Absent) and not after:
            between.append(item.frames)
    assert sum(before) == sum(after) == 20 and sum(between) >= 0.4 * 25
    assert len(asked) == 3 and source.dropped == 0
    assert any("lost" in text for text in told) and "not found again" in told[-1]


def test_a_list_from_the_network_names_no_file_of_this_machine(model, film, tmp_path):
    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.apple.mpegurl")
            self.end_headers()
            text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{film}\n"
            self.wfile.write(text.encode())

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Lists)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/list.m3u8"
    with pytest.raises(UserError, match=r"list\.m3u8"):
        list(capture(address, parameters=model.parameters, patience=2))
    server.shutdown()
    server.server_close()


def test_a_source_that_sends_nothing_or_is_not_there_is_one_line(run_folder, model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=address):
            list(capture(address, parameters=model.parameters, patience=0.5))
    for source, named in (
        (tmp_path / "gone.mp4", "gone.mp4"),
        (tmp_path, "folder"),
        ("97", "/dev/video97"),
        ("file:///etc/passwd", "file://"),
        ("http://127.0.0.1:1/x", "127.0.0.1:1"),
    ):
        with pytest.raises(UserError, match=named):
            list(capture(str(source), parameters=model.parameters, patience=2))
    for settings, named in (
        ({"patience": 0.0}, "patience"),
        ({"seconds": 0.0}, "seconds"),
        ({"reconnect": -1.0}, "rec"),
    ):
        with pytest.raises(UserError, match=named):
            capture("0", parameters=model.parameters, **settings)
    with pytest.raises(UserError, match="smell"):
        main(LiveSettings(run_folder, "0", streams="smell"))


@pytest.mark.slow
def test_the_command_answers_line_by_line_and_says_how_long_it_took(run_folder, videos, tmp_path, capsys):
    log = tmp_path / "answers.jsonl"
    arguments = {"length": 0.32, "hop": 0.16, "device": "cpu"}
    main(LiveSettings(run_folder, str(videos / "both.mkv"), json=True, log=log, **arguments))
    *answers, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert answers[0]["begin"] == 0 and answers[-1]["end"] == 1.92 and len(answers) == 11
    assert set(answers[0]["streams"]) == {"rgb", "flow", "audio"} and answers[0]["delay"]["total"] >= 0
    assert last["summary"]["answers"] == 11 and last["summary"]["dropped"] == 0
    assert log.read_text().splitlines() == [*map(json.dumps, answers), json.dumps(last)]
    main(LiveSettings(run_folder, str(videos / "mute.mkv"), paced=True, seconds=0.8, **arguments))
    shown = capsys.readouterr().out
    assert "audio –" in shown and "p95" in shown and "flow and log-mel" in shown
    assert_one_line_error(
        run("tasks.live", run_folder, "rtsp://127.0.0.1:1/x", "--device", "cpu"), "rtsp://127.0.0.1:1/x"
    )
