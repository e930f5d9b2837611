"""The page of an explanation, opened in a real browser from its file."""

import json
import re
from dataclasses import replace

import pytest

from tasks.explain.explain import explain
from tasks.explain.page import write_page
from tasks.sources import open_source
from tests.support.videos import drift, sound, tone, write_video

HOSTILE = "</script><img src=x onerror=\"document.title='hurt'\">&{page.js}"


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    """A page of three seconds of H.264 with sound, under a hostile name."""
    folder = tmp_path_factory.mktemp("why")
    video = write_video(folder / "v.mp4", drift(75), track=sound(tone(3.0)), codec="libx264")
    with open_source(video, video=None, parameters=model.parameters) as opened:
        found = explain(model, opened.store, opened.videos[0], views=3, steps=2, measure=True, name=HOSTILE)
    write_page(folder / "why.html", found, file=video)
    write_page(folder / "linked.html", replace(found, label=HOSTILE), file=video, embed_below=0)
    return folder / "why.html"


def test_a_page_holds_all_that_it_shows_and_names_end_nothing(page):
    text = page.read_text()
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<img src" not in text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    data = json.loads(re.search(r'application/json">(.*?)</script>', text, re.DOTALL)[1])
    assert data["video"] == HOSTILE and data["check"]["similarity"]
    assert all(stream["heat"] != stream["plain"] for stream in data["streams"].values())
    linked = json.loads(re.search(r'application/json">(.*?)</script>', page.with_name("linked.html").read_text())[1])
    assert linked["source"] == "v.mp4"


def test_a_click_on_a_stream_goes_to_where_its_map_is_strongest(browser, page):
    window, said = browser.new_context(offline=True).new_page(), []
    window.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    window.on("pageerror", lambda error: said.append(str(error)))
    window.goto(page.as_uri())
    peaks = json.loads(window.inner_text("#data") or window.evaluate("document.getElementById('data').textContent"))
    for row, (name, peak) in enumerate(peaks["peaks"].items()):
        window.click(f"#shares tbody tr >> nth={row}")
        assert window.inner_text("#clock") == f"{peak['seconds']:.2f} s"
        lit = "id => new Set(document.getElementById(id).getContext('2d').getImageData(0, 0, 99, 60).data).size > 2"
        window.wait_for_function(f"({lit})('still-{name}')")
    drawn = "document.getElementById('still-rgb').toDataURL()"
    hot = window.evaluate(drawn)
    window.uncheck("#heat")
    window.wait_for_function(f"hot => {drawn} != hot", arg=hot)  # drawn with the next picture
    window.focus("#rows")
    window.keyboard.press("End")
    assert window.inner_text("#clock") == "3.00 s"
    assert window.title() != "hurt" and said == []
