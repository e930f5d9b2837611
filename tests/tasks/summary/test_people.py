"""Agreement with people, against SciPy and the published figures, and learning from them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from preprocess.common.errors import UserError
from tasks.summary.evidence import Evidence
from tasks.summary.people import (
    Scores,
    between_people,
    kendall_tau_b,
    learn,
    load_learned,
    middle_matters,
    read_scores,
    save_learned,
    spearman_rho,
    with_people,
)
from tests.support.data import SHARED

TVSUM = SHARED / "tasks" / "summary" / "tvsum_annotations.npz"


def evidence(*, seed: int, windows: int = 60, size: int = 12) -> Evidence:
    """Random features; nothing else is known."""
    features = np.random.default_rng(seed).normal(size=(windows, size))
    begin = np.arange(windows) * 0.5
    return Evidence(
        seconds=windows / 2 + 0.5,
        times=np.stack([begin, begin + 1], axis=1),
        features=features,
        classes=[],
        answer=np.zeros((windows, 0)),
        loudness=None,
        shots=np.array([0.0, windows / 2 + 0.5]),
        events=None,
    )


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlations_are_those_of_scipy_also_with_ties(levels):
    rng = np.random.default_rng(0)
    for length in (2, 7, 4100):  # more rows than are compared at once
        one, two = rng.integers(0, levels, (2, length))
        assert kendall_tau_b(one, two) == pytest.approx(kendalltau(one, two)[0], nan_ok=True)
        assert spearman_rho(one, two) == pytest.approx(spearmanr(one, two)[0], nan_ok=True)
    assert np.isnan(kendall_tau_b(np.ones(5), np.arange(5))) and np.isnan(spearman_rho(np.ones(5), np.arange(5)))


@pytest.mark.slow
def test_people_agree_on_tvsum_as_published():
    if not TVSUM.is_file():
        pytest.skip(f"TVSum's annotations are not at {TVSUM}")
    with np.load(TVSUM) as held:
        people = {name: held[name].astype(np.float64) for name in held.files}
    between = between_people(people)
    assert between.tau == pytest.approx(0.1774, abs=5e-5) and between.rho == pytest.approx(0.2042, abs=5e-5)
    floor = with_people({name: middle_matters(scores.shape[1]) for name, scores in people.items()}, people)
    assert floor.tau == pytest.approx(0.100, abs=5e-4) and floor.rho == pytest.approx(0.130, abs=5e-4)


def test_what_people_like_is_learned_and_kept(tmp_path):
    rng, wish = np.random.default_rng(1), np.random.default_rng(2).normal(size=12)
    videos = [evidence(seed=seed) for seed in range(8)]
    said = []
    for one in videos:
        liking = one.unlike @ wish
        said.append(Scores(one.middles, np.stack([liking + 0.3 * rng.normal(size=len(one)) for _ in range(3)])))
    save_learned(tmp_path / "importance.npz", learn(videos[:6], said[:6], run="runs/a"))
    learned = load_learned(tmp_path / "importance.npz")
    new = {str(k): learned.predict(videos[k]) for k in (6, 7)}
    agreement = with_people(new, {str(k): said[k].scores for k in (6, 7)})
    people = between_people({str(k): said[k].scores for k in (6, 7)})
    assert agreement.tau > 0.9 * people.tau > 0.3
    other = replace(videos[0], features=np.ones((60, 5)))
    with pytest.raises(UserError, match="runs/a"):
        learned.predict(other)


def test_scores_are_read_by_person_and_wrong_ones_are_named(tmp_path):
    table = tmp_path / "scores.csv"
    table.write_text("video,time,score,person\nv,1,2,a\nv,0,3,a\nv,0,5,b\nv,1,4,b\n")
    found = read_scores(table)
    assert found["v"].times.tolist() == [0, 1] and found["v"].scores.tolist() == [[3, 2], [5, 4]]
    for text, named in (
        ("video,score\nv,1\n", "time"),
        ("video,time,score\nv,1,good\n", "line 2"),
        ("video,time,score\n", "no score"),
        ("video,time,score,person\nv,1,2,a\nv,2,2,a\nv,1,1,b\n", "b left out"),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=named):
            read_scores(table)
    (tmp_path / "not.npz").write_text("no")
    with pytest.raises(UserError, match=r"not\.npz"):
        load_learned(tmp_path / "not.npz")
