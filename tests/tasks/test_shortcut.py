"""What the facts of files tell."""

import numpy as np
import pytest

from tasks.shortcut import FACTS, answer_from_facts, encode_facts, prior, read_facts
from tests.support.stores import Spec, make_store


def test_the_prior_is_the_most_frequent_label_and_of_several_the_first_by_name():
    assert prior(["b", "a", "b"]) == "b"
    assert prior(["c", "b", "a", "b", "a"]) == "a"


def test_a_class_in_the_middle_of_a_number_is_told_from_those_beside_it():
    rng = np.random.default_rng(1)
    seconds = rng.uniform(0, 9, 900)
    labels = [("short", "middle", "long")[int(value // 3)] for value in seconds]
    facts = [{"seconds": float(value)} for value in seconds]
    answers = answer_from_facts(facts[:600], labels[:600], facts[600:])
    assert np.mean([a == b for a, b in zip(answers, labels[600:], strict=True)]) > 0.9


def test_numbers_are_standardised_by_the_training_videos_and_cut():
    train = [{"x": value} for value in (1.0, 2.0, 3.0)]
    columns, asked = encode_facts(train, [{"x": 2.0}, {"x": 1e9}, {"x": "odd"}])
    np.testing.assert_allclose(columns[:, 0], [-(1.5**0.5), 0, 1.5**0.5])
    np.testing.assert_allclose(asked[:, 0], [0, 3, 0])
    np.testing.assert_array_equal(columns[:, 1:].sum(axis=1), np.ones(3))


def test_what_is_missing_is_a_kind_of_its_own_and_unknown_kinds_are_none():
    train = [{"codec": "h264"}, {"codec": "vp9"}, {}]
    columns, asked = encode_facts(train, [{}, {"codec": "av1"}])
    np.testing.assert_array_equal(columns, np.eye(3)[[0, 2, 1]])  # h264, missing, vp9
    np.testing.assert_array_equal(asked, [[0, 1, 0], [0, 0, 0]])


def test_without_facts_the_answer_is_the_prior():
    assert answer_from_facts([{}, {}, {}], ["b", "a", "b"], [{}, {}]) == ["b", "b"]


def test_with_one_class_or_no_video_asked_there_is_nothing_to_learn():
    assert answer_from_facts([{"x": 1.0}, {"x": 2.0}], ["a", "a"], [{"x": 1.0}]) == ["a"]
    assert answer_from_facts([{"x": 1.0}, {"x": 2.0}], ["a", "b"], []) == []


def test_the_facts_are_those_of_the_index_and_of_the_file_and_each_is_of_one_kind(tmp_path):
    source = {"fps": 29.97, "container": "avi", "width": 320}
    store = make_store(tmp_path / "s.h5", [Spec("a.mp4", frames=10, streams=("rgb", "audio"), source=source)])
    (facts,) = read_facts(store, store.videos)
    expected = {"has_audio": "True", "has_flow": "False", "frames": 10, "seconds": 0.4, "height": 36, "width": 48}
    expected |= {"source_fps": 29.97, "source_container": "avi", "source_width": 320}
    assert {name: facts[name] for name in expected} == pytest.approx(expected)
    begins = [begin for kind in FACTS.values() for begin in kind]
    assert all(sum(name.startswith(begin) for begin in begins) == 1 for name in facts)
    assert not any("bytes" in name for name in facts)
