"""Figures as files, and the letters in them."""

import warnings

import cv2
import numpy as np
import pytest

from preprocess.common.errors import UserError
from preprocess.common.figures import FAMILY, as_drawn, families, figure_file
from tests.support.cases import case

UNUSUAL = "㐀"  # a letter that no font on this machine need have


def drawn(path, text: str) -> np.ndarray:
    """The picture of a figure with this text as title and as tick; a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with figure_file(path, size=(4, 1), dpi=60, names=text) as figure:
            axes = figure.subplots()
            axes.set_xticks([0], [text])
            axes.set_title(text)
    return cv2.imread(str(path))


@pytest.fixture
def font(tmp_path):
    """An installed font whose one letter, UNUSUAL, is a black square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    for place, move in enumerate([(0, 0), (0, 900), (900, 900), (900, 0)]):
        (pen.lineTo if place else pen.moveTo)(move)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(UNUSUAL): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(str(tmp_path / "squares.ttf"))
    yield "Squares"
    font_manager.fontManager.ttflist[:] = before


def test_any_name_is_drawn_and_none_warns_or_is_read_as_a_formula(tmp_path):
    for text in ("$5_bill^2", "a$b^$c", r"$\frac$ {x}_{y}", r"a\b", r"\$", "бег", "跑步", "\t", UNUSUAL):
        with case(text):
            assert drawn(tmp_path / "a.png", text).std() > 5


def test_signs_of_formulas_are_drawn_as_letters(tmp_path):
    assert not np.array_equal(drawn(tmp_path / "a.png", "$x_y$"), drawn(tmp_path / "b.png", "x_y"))
    assert not np.array_equal(drawn(tmp_path / "a.png", r"\$"), drawn(tmp_path / "b.png", "$"))


def test_a_font_that_has_the_letters_is_found_and_drawn_with(tmp_path, font, monkeypatch):
    monkeypatch.setattr("preprocess.common.figures._installed", lambda: [FAMILY, "not installed", font])
    assert families("abc бег") == [FAMILY]
    assert families(f"abc {UNUSUAL}") == [FAMILY, font]
    with_it = drawn(tmp_path / "a.png", UNUSUAL)
    monkeypatch.setattr("preprocess.common.figures._installed", lambda: [])
    without = drawn(tmp_path / "b.png", UNUSUAL)
    assert (with_it < 50).sum() > 1.5 * (without < 50).sum()


def test_bytes_that_are_no_text_line_breaks_and_long_names_are_one_short_line():
    assert as_drawn("a\udcffb\nc") == r"a\udcffb\nc"
    assert as_drawn("x" * 50, longest=10) == "x" * 9 + "…"


def test_a_suffix_that_is_no_picture_is_named(tmp_path):
    for name in ("a.gif", "a", "a.txt"):
        with case(name):
            says = rf"{name} .*\.png, \.jpg"
            with pytest.raises(UserError, match=says), figure_file(tmp_path / name, size=(1, 1), dpi=50):
                pass
            assert list(tmp_path.iterdir()) == []


def test_a_figure_that_fails_leaves_neither_file_nor_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), figure_file(tmp_path / "new" / "a.png", size=(1, 1), dpi=50):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []
