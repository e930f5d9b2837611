"""From boxes to tracks, and how good they are."""

import importlib.util

import numpy as np
import pytest

from preprocess.common.errors import UserError
from tasks.tracking.boxes import Boxes, make_boxes, read_boxes, write_coco, write_mot
from tasks.tracking.library import track
from tasks.tracking.metrics import average_precision, judge
from tasks.tracking.settings import FollowSettings
from tasks.tracking.tracker import follow
from tests.support.commands import ROOT

SCORER = ROOT.parent / "shared/data/tasks/tracking/score_tracking.py"


def walkers(*, hidden: range = range(0), faint: range = range(0)) -> Boxes:
    """Two boxes that walk towards each other and cross; the first is hidden, or has a low score, for a while."""
    rows = []
    for frame in range(60):
        if frame not in hidden:
            rows.append((frame, [10 + 3 * frame, 20, 20, 40], 0.2 if frame in faint else 0.9, 1))
        rows.append((frame, [200 - 3 * frame, 40, 20, 44], 0.95, 2))
    frames, xywh, scores, ids = zip(*rows, strict=True)
    return make_boxes(frames, xywh, scores=scores, ids=ids)


@pytest.mark.parametrize("seen", [walkers(hidden=range(20, 40)), walkers(faint=range(20, 40))], ids=["hidden", "faint"])
def test_who_crosses_another_or_is_hidden_stays_who_it_is(seen):
    false = make_boxes([5, 6, 7], [[100, 100, 30, 30]] * 3, scores=[0.9] * 3)  # too few for a track
    given = make_boxes(
        np.concatenate([seen.frames, false.frames]),
        np.concatenate([seen.xywh, false.xywh]),
        scores=np.concatenate([seen.scores, false.scores]),
    )
    tracks, truth = follow(given, fps=25, settings=FollowSettings()), walkers()
    assert sorted(tracks.tracks) == [1, 2]
    scores = judge(tracks, truth)
    assert (scores.switches, scores.false, scores.missed) == (0, 0, 0) and scores.idf1 == scores.mota == 1
    np.testing.assert_allclose(tracks.xywh, truth.xywh, atol=1e-6)  # the gap is filled where it was


def test_a_gap_longer_than_patience_parts_a_track_and_one_box_around_two_is_none():
    parted = follow(walkers(hidden=range(20, 40)), fps=25, settings=FollowSettings(patience=0.5))
    assert len(parted.tracks) == 3 and not (parted.frames == 30).sum() > 1
    both = make_boxes(range(26, 36), [[80, 15, 50, 75]] * 10)
    seen = walkers()
    crowd = make_boxes(np.concatenate([seen.frames, both.frames]), np.concatenate([seen.xywh, both.xywh]))
    assert len(follow(crowd, fps=25, settings=FollowSettings()).tracks) == 2


def trembling(seed: int) -> tuple[Boxes, Boxes]:
    """True tracks, and what a poor tracker made of them: boxes that tremble, are missing, false, or change numbers."""
    rng, truth, found = np.random.default_rng(seed), [], []
    for number in range(1, 6):
        start, speed, size = rng.uniform(0, 200, 2), rng.uniform(-3, 3, 2), rng.uniform(15, 40, 2)
        for frame in range(rng.integers(0, 10), rng.integers(30, 50)):
            truth.append((frame, [*(start + speed * frame), *size], number, 1.0))
            if rng.random() < 0.85:
                shaken = np.array(truth[-1][1]) + rng.normal(0, 2.5, 4)
                found.append((frame, shaken, number + 10 * (frame > 25 and number < 3), rng.random()))
    for number in range(30, 34):
        found += [(frame, [*rng.uniform(0, 200, 2), 20, 20], number, rng.random()) for frame in range(0, 40, 3)]
    make = [
        make_boxes(*zip(*[r[:2] for r in rows], strict=True), ids=[r[2] for r in rows], scores=[r[3] for r in rows])
        for rows in (truth, found)
    ]
    return make[0], make[1]


@pytest.mark.skipif(not SCORER.exists(), reason="no scorer at ../shared/data/tasks/tracking")
def test_scores_are_those_of_an_independent_scorer(tmp_path):
    spec = importlib.util.spec_from_file_location("scorer", SCORER)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    for seed in range(3):
        truth, found = trembling(seed)
        rows = zip(truth.frames, truth.ids, truth.xywh, strict=True)
        lines = [f"{frame + 1},{number},{','.join(map(str, box))},1,1,1\n" for frame, number, box in rows]
        (tmp_path / "a_gt.txt").write_text("".join(lines))
        write_mot(tmp_path / "a.txt", found)
        expected = scorer.mot(str(tmp_path), str(tmp_path))["a"]
        scores = judge(read_boxes(tmp_path / "a.txt"), truth)
        assert (scores.switches, scores.false, scores.missed) == (
            expected["id_switches"],
            expected["fp"],
            expected["fn"],
        )
        assert [scores.mota, scores.idf1, scores.hota] == pytest.approx(
            [expected[name] for name in ("mota", "idf1", "hota")], abs=1e-12
        )
        one_a_frame = truth[truth.ids == 1]
        for name, boxes in (("t.csv", one_a_frame), ("f.csv", found)):
            rows = zip(boxes.frames, boxes.xywh, boxes.scores, strict=True)
            lines = [f"v,{frame},{','.join(map(str, box))},{score}\n" for frame, box, score in rows]
            (tmp_path / name).write_text("video,frame,x,y,w,h,score\n" + "".join(lines))
        judged = scorer.detect(str(tmp_path / "f.csv"), str(tmp_path / "t.csv"))
        assert average_precision(found, one_a_frame) == pytest.approx(judged["ap50"], abs=1e-12)


def test_average_precision_of_a_case_done_by_hand():
    truth = make_boxes([0, 1], [[0, 0, 10, 10]] * 2)
    found = make_boxes(
        [0, 0, 1, 1], [[0, 0, 10, 10], [1, 0, 10, 10], [50, 0, 10, 10], [0, 1, 10, 10]], scores=[0.9, 0.8, 0.7, 0.6]
    )  # right, a second one on the same, wrong, right: precisions at the two hits are 1 and 2 / 4
    assert average_precision(found, truth) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_a_file_gives_back_what_was_written_in_both_forms(tmp_path):
    boxes = follow(walkers(), fps=25, settings=FollowSettings())
    labelled = Boxes(boxes.frames, boxes.xywh, boxes.scores, boxes.ids, np.where(boxes.ids == 1, "cat", "dog"))
    write_mot(tmp_path / "a.txt", boxes)
    write_coco(tmp_path / "a.json", labelled, video="a", fps=25)
    for name, labels in (("a.txt", boxes.labels), ("a.json", labelled.labels)):
        read = read_boxes(tmp_path / name)
        np.testing.assert_array_equal(read.frames, boxes.frames)
        np.testing.assert_allclose(read.xywh, boxes.xywh, atol=0.006)
        np.testing.assert_array_equal(read.ids, boxes.ids)
        np.testing.assert_array_equal(read.labels, labels)
    results = '[{"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]'  # COCO's list of results
    (tmp_path / "b.json").write_text(results)
    assert read_boxes(tmp_path / "b.json").frames.tolist() == [2]


def test_a_wrong_file_is_one_line_that_says_where(tmp_path):
    for name, text, named in (
        ("a.txt", "1,1,0,0,5,5\n2,1,0,0,5\n", "line 2"),
        ("a.txt", "0,1,0,0,5,5\n", "line 1"),
        ("a.txt", "1,1,0,0,-5,5\n", "line 1"),
        ("a.txt", "1,4,0,0,5,5\n1,4,9,9,5,5\n", "id 4"),
        ("a.json", '{"annotations": [{"image_id": 7, "bbox": [0, 0, 1, 1]}], "images": [{"id": 1}]}', "annotation 0"),
        ("a.json", "{", "a.json"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=named):
            read_boxes(tmp_path / name)


def test_trackers_of_the_library_answer_to_their_names():
    pytest.importorskip("trackers", reason="Roboflow's trackers are not installed")
    for name in ("sort", "bytetrack", "ocsort"):
        tracks = track(walkers(), tracker=name, fps=25, settings=FollowSettings(patience=1))
        assert judge(tracks, walkers()).idf1 > 0.9, name
