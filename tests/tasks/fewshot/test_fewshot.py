"""Classes of which only a few videos are known."""

import json
from collections import Counter
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from preprocess.common.errors import UserError
from tasks.fewshot.__main__ import main
from tasks.fewshot.classify import Warping, classify, prototypes, unit, warped
from tasks.fewshot.embed import Embedded, embed
from tasks.fewshot.episodes import Episode, draw_episodes, read_episodes
from tasks.fewshot.settings import FewShotSettings
from tests.support.cases import case
from tests.support.stores import Spec, make_store, three_bit

LABELS = ["a", "b", "c"] * 6


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Eight classes of six videos in three groups."""
    specs = three_bit(48, frames=10)
    specs = [replace(spec, group=f"g{at // 8 // 2}-{spec.label}") for at, spec in enumerate(specs)]
    return make_store(tmp_path_factory.mktemp("few") / "few.h5", [*specs, Spec("no-label.mp4", frames=10)])


def vectors(seed: int, *, size: int = 5, apart: float = 0.0) -> Embedded:
    """18 videos in a stream, whose classes are so far apart."""
    rng = np.random.default_rng(seed)
    centres = {name: rng.normal(size=size) for name in "abc"}
    values = np.stack([apart * centres[label] + rng.normal(size=size) for label in LABELS])
    return Embedded(values, [value + 0.1 * rng.normal(size=(4, size)) for value in values], np.ones(18, bool))


def test_at_one_shot_a_prototype_is_the_nearest_neighbour():
    one = vectors(0)
    episode = Episode(support=(4, 2, 9), query=(0, 7, 8, 10, 11, 12))
    known = unit(one.vectors)[list(episode.support)]
    oracle = KNeighborsClassifier(1, metric="cosine").fit(
        known - known.mean(axis=0), [LABELS[row] for row in episode.support]
    )
    expected = oracle.predict(unit(one.vectors)[list(episode.query)] - known.mean(axis=0)).tolist()
    assert classify({"rgb": one}, LABELS, episode, score=prototypes) == expected and len(set(expected)) > 1


@pytest.mark.parametrize("score", [prototypes, Warping()], ids=["prototypes", "dtw"])
def test_streams_that_tell_are_heard_and_together_they_tell_more(score):
    episodes = [Episode(tuple(range(at, at + 3)), tuple(range(at + 3, at + 9))) for at in range(9)]

    def right(streams) -> float:
        asked = [(classify(streams, LABELS, one, score=score), [LABELS[row] for row in one.query]) for one in episodes]
        return np.mean([said == true for answers in asked for said, true in zip(*answers, strict=True)])

    noise, some, more = vectors(1), vectors(2, apart=1.0, size=40), vectors(3, apart=1.0, size=40)
    assert right({"rgb": noise}) < 0.6 < right({"flow": some}) <= right({"flow": some, "audio": more})


def test_an_absent_stream_says_nothing_of_a_video_nor_of_a_class():
    told = vectors(4, apart=8.0)
    deaf = replace(vectors(5), present=np.array([label != "a" for label in LABELS]))
    hollow = replace(deaf, vectors=np.where(deaf.present[:, None], deaf.vectors, 1e9))
    episode = Episode(support=(0, 1, 2, 3, 4, 5), query=(6, 9, 12))
    for score in (prototypes, Warping()):
        assert classify({"rgb": told, "audio": hollow}, LABELS, episode, score=score) == ["a", "a", "a"]
    silent = replace(hollow, present=np.zeros(18, bool))
    assert len(classify({"audio": silent}, LABELS, episode, score=prototypes)) == 3  # a guess


def test_a_stream_that_is_trusted_less_yields_to_another():
    one, other = vectors(2, apart=1.0, size=40), vectors(6)
    episode = Episode(support=(0, 1, 2), query=tuple(range(3, 18)))

    def said(streams, **trust):
        return classify(streams, LABELS, episode, score=prototypes, trust=trust)

    both = {"rgb": one, "audio": other}
    assert said(both, audio=1e-6) == said({"rgb": one}) != said(both) == said(both, audio=2.0, rgb=2.0)
    assert said(both, rgb=1e-6) == said({"audio": other})


def least_by_definition(cost: np.ndarray) -> float:
    """The best of all paths, one by one."""

    @lru_cache
    def best(row: int, column: int) -> float:
        if (row, column) == (0, 0):
            return 2 * cost[0, 0]
        ways = [(row - 1, column - 1, 2), (row - 1, column, 1), (row, column - 1, 1)]
        return min(best(a, b) + weight * cost[row, column] for a, b, weight in ways if a >= 0 and b >= 0)

    return best(cost.shape[0] - 1, cost.shape[1] - 1) / sum(cost.shape)


def test_warping_is_the_best_of_all_paths_and_knows_order_but_not_speed():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (3, 5), (6, 2)):
        cost = rng.random(shape)
        assert warped(cost) == pytest.approx(least_by_definition(cost))
    steps = rng.normal(size=(6, 8))
    slow, backwards = steps.repeat(2, axis=0), steps[::-1]
    one = Embedded(np.zeros((3, 8)), [steps, slow, backwards], np.ones(3, bool))
    same, turned = Warping()(one, np.array([0]), [np.array([1]), np.array([2])])[0]
    assert same == pytest.approx(1.0) and turned < 0.9


def test_drawn_episodes_are_the_same_for_a_seed_and_share_no_group(grouped):
    shape = {"way": 4, "shot": 2, "queries": 2, "count": 20}
    drawn = draw_episodes(grouped, **shape, seed=3)
    assert drawn == draw_episodes(grouped, **shape, seed=3) != draw_episodes(grouped, **shape, seed=4)
    ((name, episodes),) = drawn.sets.items()
    assert name == "4-way 2-shot" and len(episodes) == 20
    for one in episodes:
        for rows in (one.support, one.query):
            assert sorted(Counter(drawn.labels[row] for row in rows).values()) == [2] * 4 and len(set(rows)) == 8
        groups = [{drawn.videos[row].group for row in rows} for rows in (one.support, one.query)]
        assert not groups[0] & groups[1]


def test_features_are_the_mean_over_a_videos_clips(model, toy):
    videos = [toy.find(name) for name in ("v000", "v003", "v001", "v005")]
    found = embed(model, toy, videos, ("rgb", "audio", "flow"), of="features", views=2, batch=3)
    expected = [list(model.clips(toy, [video], views=2)) for video in videos]
    for name, one in found.items():
        for row, (part,) in enumerate(expected):
            assert one.present[row] == part.present[name].all()
            if one.present[row]:
                np.testing.assert_allclose(one.vectors[row], part.features[name].mean(dim=0), atol=1e-5)
                np.testing.assert_allclose(one.sequences[row], part.sequences[name].flatten(0, 1), atol=1e-5)
            else:
                assert not one.vectors[row].any() and not len(one.sequences[row])
    assert found["flow"].present.tolist() == [True, False, True, True] and not found["audio"].present[3]
    towers = embed(model, toy, videos, ("rgb",), of="towers", views=1, batch=4)["rgb"]
    assert towers.vectors.shape == (4, model.network.encoders["rgb"].tower.features)


def test_the_command_judges_fixed_episodes_and_says_what_was_learned(run_folder, grouped, tmp_path, capsys):
    clips = [path.rpartition("/")[2].removesuffix(".mp4") for path in grouped.columns["path"] if "/" in path][:24]
    labels = [grouped.find(clip).label for clip in clips]
    sets = {"two": [{"support": [0, 23], "query": [1, 22]}], "one": [{"support": [5], "query": [4]}] * 3}
    (tmp_path / "e.json").write_text(json.dumps({"clips": clips, "labels": labels, "sets": sets}))
    settings = FewShotSettings(run_folder, grouped.path, views=1, device="cpu", out=tmp_path / "out.json")
    main(replace(settings, episodes=tmp_path / "e.json"))
    shown = capsys.readouterr()
    found = json.loads((tmp_path / "out.json").read_text())
    assert [len(found[name]) for name in sets] == [1, 3] and found["one"] == [[labels[5]]] * 3
    right = np.mean([said == labels[row] for said, row in zip(found["two"][0], (1, 22), strict=True)])
    assert found["accuracy"]["two"]["accuracy"] == right and f"two: {right:.1%}" in shown.out
    assert found["accuracy"]["one"]["interval"] == 0 and "has learned" in shown.err
    main(replace(settings, way=3, count=5, by="dtw"))
    assert json.loads((tmp_path / "out.json").read_text())["accuracy"]["3-way 1-shot"]["episodes"] == 5


def test_wrong_episodes_are_named(grouped, tmp_path):
    given = {"clips": ["v000", "v001"], "labels": ["a", "b"], "sets": {"s": [{"support": [0, 1], "query": [0]}]}}
    for change, named in (
        ({"clips": ["v000", "gone"]}, "gone"),
        ({"labels": ["a"]}, "1 label"),
        ({"sets": {"s": [{"support": [0], "query": [2]}]}}, "no clip 2"),
        ({"sets": {"s": [{"support": [0], "query": [1]}]}}, "asks about b"),
        ({"labels": ["a", "a"], "sets": {"s": [{"support": [0], "query": [0]}]}}, "that it knows"),
        ({"sets": {}}, "no episodes"),
        ({"sets": {"s": [{"support": ["x"], "query": [0]}]}}, "no episodes"),
    ):
        with case((change, named)):
            (tmp_path / "e.json").write_text(json.dumps(given | change))
            with pytest.raises(UserError, match=named):
                read_episodes(tmp_path / "e.json", grouped)


def test_wrong_input_is_named(run_folder, grouped, tmp_path):
    settings = FewShotSettings(run_folder, grouped.path, device="cpu", out=tmp_path / "out.json")
    (tmp_path / "no.json").write_text("[1, 2")
    for wrong, named in (
        ({"way": 9}, "8 classes"),
        ({"shot": 5}, "--shot 5"),
        ({"count": 0}, "count"),
        ({"streams": "smell"}, "smell"),
        ({"trust": ("audio=0",)}, "audio=0"),
        ({"trust": ("audio=1",), "streams": "rgb"}, "audio=1"),
        ({"episodes": tmp_path / "gone.json"}, "gone.json"),
        ({"episodes": tmp_path / "no.json"}, "no.json"),
        ({"out": tmp_path / "gone" / "out.json"}, "gone"),
    ):
        with pytest.raises(UserError, match=named):
            main(replace(settings, **wrong))
        assert not (tmp_path / "out.json").exists()
