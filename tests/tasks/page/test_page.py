"""The page of a video, opened in a real browser from its file."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest

from tasks.events.event import Event
from tasks.page.page import write_page
from tasks.sources import open_source
from tasks.timeline import timelines
from tests.support.videos import drift, sound, tone, write_video

HOSTILE = "</script><img src=x onerror=\"document.title='hurt'\">&{page.js}"
EVENTS = [Event("v", 1.0, 1.8, "jump", 0.9), Event("v", 2.0, 2.6, HOSTILE, 0.4)]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """An H.264 file of three seconds with sound, that any browser plays."""
    path = tmp_path_factory.mktemp("page") / "v.mp4"
    write_video(path, drift(75), track=sound(tone(3.0)), codec="libx264")
    return path


@pytest.fixture(scope="module")
def written(model, video):
    """Writes a page of the video, as its name and with what differs."""

    def write(path, **changes):
        with open_source(video, video=None, parameters=model.parameters) as opened:
            (line,) = timelines(model, opened.store, length=0.32, hop=0.16)
            line = replace(line, video=changes.pop("name", "v.mp4"))
            given = {"file": video, "events": EVENTS, "known": EVENTS[:1]} | changes
            write_page(path, store=opened.store, video=opened.videos[0], timeline=line, **given)
        return path

    return write


def opened(browser, path, **settings):
    """The page in a new window without a network, and what it says on its console."""
    page, said = browser.new_context(offline=True, **settings).new_page(), []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    return page, said


def test_a_page_holds_all_that_it_shows_and_names_end_nothing(written, tmp_path):
    text = written(tmp_path / "page.html", name=HOSTILE).read_text()
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<img src" not in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    data = json.loads(unescape(re.search(r'application/json">(.*?)</script>', text, re.DOTALL)[1]))
    assert data["name"] == HOSTILE and data["source"].startswith("data:video/mp4;base64,")
    assert [event["label"] for event in data["events"]] == ["jump", HOSTILE]
    assert set(data["timeline"]["streams"]) == {"rgb", "flow", "audio"}


def test_a_large_file_is_linked_from_where_the_page_lies(written, video, tmp_path):
    page = written(tmp_path / "pages" / "page.html", embed_below=0)
    source = json.loads(re.search(r'application/json">(.*?)</script>', page.read_text(), re.DOTALL)[1])["source"]
    assert not source.startswith("data:") and (page.parent / source).resolve() == video.resolve()


def test_a_click_on_an_event_seeks_the_player_and_keys_work(browser, written, tmp_path):
    page, said = opened(browser, written(tmp_path / "page.html", name=HOSTILE))
    page.wait_for_function("document.getElementById('player').readyState >= 2")
    page.click("#rows .event:not(.known) >> nth=0")
    page.wait_for_function("Math.abs(document.getElementById('player').currentTime - 1.0) < 0.05")
    assert page.inner_text("#clock") == "1.00 s"
    page.click("#list button >> nth=1")
    page.wait_for_function("Math.abs(document.getElementById('player').currentTime - 2.0) < 0.05")
    page.focus("#rows")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Math.abs(document.getElementById('player').currentTime - 2.16) < 0.05")
    before = page.inner_text("#range")
    page.keyboard.press("+")
    assert page.inner_text("#range") != before
    assert page.locator("#opinions tbody tr").count() == 4
    lit = "id => new Set(document.getElementById(id).getContext('2d').getImageData(0, 0, 99, 60).data).size > 2"
    assert all(page.evaluate(lit, name) for name in ("frame", "flow", "mel"))
    assert page.title() != "hurt" and said == []


def test_where_the_browser_cannot_play_the_file_stills_stand_in(browser, written, tmp_path):
    (tmp_path / "v.avi").write_bytes(b"RIFF no browser plays this")
    page, said = opened(browser, written(tmp_path / "page.html", file=tmp_path / "v.avi"), color_scheme="dark")
    page.wait_for_selector("#unplayable:not([hidden])")
    page.click("#rows .event >> nth=0")
    assert page.inner_text("#clock") == "1.00 s" and page.is_visible("#stand-in")
    assert said == []
