"""The page of a live source: who may see it, and what it shows."""

import json
from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.video.capture import capture
from tasks.live_answers import LiveAnswers
from tasks.page.live import LivePage
from tasks.page.server import live_data, serve
from tasks.timeline import Timeline, joined


@dataclass
class State:
    name: str = "camera"
    windows: int = 3

    def timeline(self) -> Timeline | None:
        if not self.windows:
            return None
        count = self.windows
        times = np.stack([np.arange(count), np.arange(count) + 1.0], axis=1)
        answer = np.tile([0.25, 0.75], (count, 1))
        here = np.ones(count, bool)
        return Timeline("camera", ["bark", "jump"], times, answer, {"rgb": answer}, {"rgb": here}, {"rgb": here / 4})

    def still(self) -> bytes | None:
        return b"\xff\xd8still" if self.windows else None


def asked(url: str, **headers: str) -> bytes:
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        return answer.read()


def test_loopback_needs_no_token_but_a_loopback_name():
    state = State()
    with serve(state) as url:
        assert b"<!doctype html>" in asked(url)
        data = json.loads(asked(f"{url}data.json"))
        assert data["live"] and data["seconds"] == 3 and data["timeline"]["fused"] == [["jump", 0.75]] * 3
        assert asked(f"{url}frame.jpg") == b"\xff\xd8still"
        state.windows = 0
        assert json.loads(asked(f"{url}data.json"))["timeline"]["times"] == []
        for path, headers, status in (("", {"Host": "evil.example:80"}, 403), ("frame.jpg", {}, 404), ("etc", {}, 404)):
            with pytest.raises(HTTPError) as caught:
                asked(url + path, **headers)
            assert caught.value.code == status


def test_another_address_needs_the_token():
    with serve(State(), host="0.0.0.0") as url:
        port, token = url.split(":")[2].split("/")[0], url.split("token=")[1]
        assert json.loads(asked(f"http://127.0.0.1:{port}/data.json?token={token}"))["live"]
        for query in ("", "?token=", "?token=wrong"):
            with pytest.raises(HTTPError) as caught:
                asked(f"http://127.0.0.1:{port}/data.json{query}")
            assert caught.value.code == 403


def test_a_port_that_is_taken_is_one_line():
    with serve(State()) as url, pytest.raises(UserError, match="--port"):
        port = int(url.split(":")[2].strip("/"))
        with serve(State(), port=port):
            pass


def test_the_page_follows_a_live_source(browser):
    state = State()
    with serve(state) as url:
        page, said = browser.new_context(bypass_csp=True).new_page(), []  # its waiting needs eval
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        page.wait_for_function("document.getElementById('about').textContent.includes('3 windows')")
        state.windows = 5
        page.wait_for_function("document.getElementById('about').textContent.includes('5 windows')")
        assert page.locator("#opinions tbody tr").count() == 2 and said == []


def test_a_running_live_source_is_what_its_page_shows(model, videos):
    source = capture(str(videos / "both.mkv"), parameters=model.parameters)
    answers = LiveAnswers(model, source, length=0.32, hop=0.16)
    state = LivePage("both.mkv", answers, source)
    assert state.timeline() is None and state.still() is None
    found = joined([part for part, _ in answers])
    np.testing.assert_array_equal(state.timeline().answer, found.answer)
    assert live_data(state)["seconds"] == pytest.approx(found.seconds)
    assert cv2.imdecode(np.frombuffer(state.still(), np.uint8), cv2.IMREAD_COLOR).shape == (36, 48, 3)
