"""The tables of an ablation."""

import csv
import io
import re
import shutil
import statistics
import subprocess
from collections import Counter
from dataclasses import replace

import pytest

from tasks.ablation.findings import METHODS, Ablation, Difference, Missing
from tasks.ablation.tables import Table, csv_text, escape, latex, markdown, mean_and_deviation, tables
from tasks.audit import Audit, Leak, Shortcut
from tasks.bootstrap import Interval

NASTY = r"50 % of a_b & c#1 {x} ~ ^ \emph <|> $x$ ± − – … é 视频"


@pytest.fixture
def result() -> Ablation:
    """What an ablation of two streams and two seeds may have found."""
    shortcut = Shortcut(0.3, Interval(0.05, 0.01, 0.09), above=True)
    leak = Leak("a|b", ["train", "test"], ["x|y.mp4", "z.mp4"])
    return Ablation(
        data="s.h5",
        chance=0.25,
        which=f"16 test videos of {NASTY}.h5",
        seeds="mean ± standard deviation over 2 seeds",
        ceilings={"rgb": 0.25},
        top1={
            "trained": {"rgb": [0.5, 0.7], "audio": [0.25, 0.25], "rgb+audio": [0.8, 0.9]},
            "joint": {"rgb": [0.4, 0.5], "audio": [0.2, 0.3], "rgb+audio": [0.8, 0.9]},
            "mean": {"rgb+audio": [0.6, 0.6]},
            "weighted": {"rgb+audio": [0.7, 0.8]},
            "stacked": {"rgb+audio": [0.6, 0.9]},
        },
        best_single="rgb",
        chosen_on="the validation videos",
        fitted_on="the validation videos",
        empty=0.125,
        shapley={"trained": {"rgb": [0.4, 0.5], "audio": [-0.1, -0.2]}},
        differences=[
            Difference("rgb+audio", "mean", [0.2, 0.3], 0.25, -0.05, 0.31),
            Difference("rgb+audio", "one", [0.2, 0.3], 0.25, None, None),
        ],
        missing=[
            Missing("rgb", [0.8, 0.9], [0.5, 0.6], [0.2, 0.3], [0.25, 0.25]),
            Missing("audio", [0.8, 0.9], [0.6, 0.7], [0.4, 0.5], None),
        ],
        bootstrap_by="group",
        audit=Audit(
            videos={"train": 30, "test": 16},
            groups=[leak] * 5,
            identical=[leak],
            judged=16,
            prior=0.125,
            shortcuts={"presence": shortcut, "all of these": shortcut},
        ),
    )


def test_the_top1_table_has_a_row_a_subset_and_a_column_a_method(result):
    table = tables(result)[0]
    assert table.head == ["streams", *METHODS.values(), "ceiling"]
    assert [row[0] for row in table.rows] == ["rgb", "audio", "rgb+audio", "best single: rgb"]
    assert table.rows[0] == ["rgb", "60.0 ± 14.1", "45.0 ± 7.1", "–", "–", "–", "25.0"]
    assert table.rows[2][3:] == ["60.0 ± 0.0", "75.0 ± 7.1", "75.0 ± 21.2", "–"]


def test_the_other_tables_tell_what_is_missing_values_differences_and_the_audit(result):
    _, missing, values, differences, audit = tables(result)
    assert missing.rows[0] == ["rgb", "85.0 ± 7.1", "55.0 ± 7.1", "25.0 ± 7.1", "25.0 ± 0.0"]
    assert missing.rows[1][0] == "audio" and missing.rows[1][4] == "–"
    assert values.rows == [["rgb", "45.0 ± 7.1"], ["audio", "−15.0 ± 7.1"]] and "12.5 %" in values.caption
    assert differences.rows[0] == ["rgb+audio", "mean", "+25.0 ± 7.1", "−5.0 to +31.0"]
    assert differences.rows[1][3] == "–"
    assert audit.caption.count("warning: ") == 3
    assert any("and 2 more" in cell for row in audit.rows for cell in row)


@pytest.mark.parametrize(("key", "empty"), [("missing", []), ("shapley", {}), ("differences", [])])
def test_a_table_of_which_nothing_is_known_is_left_out(result, key, empty):
    assert len(tables(result)) == 5 and len(tables(replace(result, **{key: empty}))) == 4


def test_the_deviation_is_the_samples_own():
    values = [0.5, 0.7, 0.75]
    assert mean_and_deviation(values) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    assert mean_and_deviation([0.4]) == pytest.approx((0.4, 0.0))


def test_every_line_of_a_markdown_table_has_as_many_cells_as_its_head(result):
    for block in re.findall(r"(?:^\|.*\n)+", markdown(tables(result)), flags=re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert len({*cells}) == 1 and len(cells) > 2


def test_the_csv_has_every_number_with_the_seeds_that_it_is_the_mean_of(result):
    rows = list(csv.DictReader(io.StringIO(csv_text(result), newline="")))
    kinds = Counter(row["what"] for row in rows)
    missing = "top1, missing from half"
    assert kinds == {"top1": 9, missing: 2, "shapley": 2, "difference": 2, "prior": 1, "shortcut": 2}
    for row in rows:
        values = [float(value) for value in row["of_each_seed"].split()]
        assert len(values) == int(row["seeds"])
        assert float(row["mean"]) == pytest.approx(statistics.mean(values))
        assert float(row["std"]) == pytest.approx(statistics.stdev(values) if len(values) > 1 else 0)
    found = {(row["what"], row["streams"], row["method"]): row for row in rows}
    assert found["top1", "rgb", "trained"]["ceiling"] == "0.25"
    assert found[missing, "audio", "joint"]["of_each_seed"] == "0.6 0.7"
    assert found["difference", "rgb+audio", "mean"]["low"] == "-0.05"
    assert found["difference", "rgb+audio", "one"]["low"] == ""


def test_latex_is_balanced_and_every_row_has_as_many_cells_as_columns(result):
    text = latex(tables(result))
    body = re.sub(r"\\[\\&%$#_{}]", "", text)  # without what is escaped
    assert body.count("{") == body.count("}") and body.count("$") % 2 == 0
    assert "%" not in body.split("\n", 1)[1] and "#" not in body and "_" not in body
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        stack.append(name) if kind == "begin" else stack.remove(stack[-1] if stack[-1] == name else None)
    assert not stack and text.count(r"\begin{tabular}") == 5
    for columns, rows in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        assert [rows.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
        lines = [line for line in rows.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}


def test_numbers_are_to_the_right_and_words_to_the_left():
    text = latex([Table("c", ["a", "b", "c"], [["x", "1.0 ± 0.1", "+3"], ["y", "–", "−2 to +1"]])])
    assert r"\begin{tabular}{lrr}" in text


def test_whatever_a_name_holds_is_escaped():
    assert escape(r"a_b & 50 % {#} $ \ ~ ^") == (
        r"a\_b \& 50 \% \{\#\} \$ \textbackslash{} \textasciitilde{} \textasciicircum{}"
    )
    assert escape("±–é视\n\x07") == r"$\pm$--é?\textbackslash{}n?"


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no pdflatex here")
def test_latex_compiles_whatever_the_names_hold(result, tmp_path):
    every = "".join(map(chr, range(0x250)))
    (tmp_path / "table.tex").write_text(latex([*tables(result), Table(NASTY, [NASTY], [[every]])]))
    paper = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table}"
    (tmp_path / "paper.tex").write_text(paper + r"\end{document}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
