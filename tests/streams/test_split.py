"""Which videos train and which validate."""

from collections import Counter

import pytest

from preprocess.common.errors import UserError
from preprocess.store.index import Video
from streams.split import split_videos


def video(path: str, label: str | None = "a", *, group=None, split=None, content=None) -> Video:
    return Video(
        path=path,
        label=label,
        group=group,
        split=split,
        seconds=1.0,
        frames=25,
        height=36,
        width=48,
        content=content or path,
        damaged=0,
        streams={"rgb": True, "flow": True, "audio": True},
    )


def grouped(classes: int = 4, groups: int = 10, clips: int = 3) -> list[Video]:
    return [
        video(f"{c}/v_{c}_g{g:02d}_c{k:02d}.avi", str(c), group=f"v_{c}_g{g:02d}")
        for c in range(classes)
        for g in range(groups)
        for k in range(clips)
    ]


def test_no_group_lies_on_both_sides():
    videos = grouped()
    group = {video.path: video.group for video in videos}
    for seed in range(5):
        split = split_videos(videos, seed=seed)
        assert not {group[path] for path in split.train} & {group[path] for path in split.val}
        assert sorted(split.train + split.val) == sorted(group)


@pytest.mark.parametrize(("groups", "clips", "seed"), [(10, 3, 0), (25, 1, 1), (7, 4, 2)])
def test_a_fifth_of_each_class_validates(seed, groups, clips):
    videos = grouped(groups=groups, clips=clips)
    split = split_videos(videos, seed=seed)
    label = {video.path: video.label for video in videos}
    validate = Counter(label[path] for path in split.val)
    for count in validate.values():
        assert count / (groups * clips) == pytest.approx(0.2, abs=0.6 * clips / (groups * clips) + 1e-9)
    assert len(validate) == 4
    assert len(split.val) / len(videos) == pytest.approx(0.2, abs=0.09)


def test_files_of_equal_content_stay_together_though_their_groups_differ():
    videos = [video(f"{k}.mp4", group=f"g{k}", content=f"c{k // 2}") for k in range(40)]
    content = {video.path: video.content for video in videos}
    for seed in range(5):
        split = split_videos(videos, seed=seed)
        assert not {content[path] for path in split.train} & {content[path] for path in split.val}
        assert split.val and set(split.train_content) == {content[path] for path in split.train}
        assert set(split.val_content) == {content[path] for path in split.val}


def test_a_chain_of_groups_and_copies_is_one_whole():
    videos = [video(f"x{k}.mp4", group=f"g{k}", content=f"c{k}") for k in range(4)]
    videos += [video(f"y{k}.mp4", group=f"g{k + 1}", content=f"c{k}") for k in range(3)]  # ties g0 to g1 to g2 to g3
    videos += [video(f"z{k}.mp4") for k in range(20)]
    for seed in range(5):
        train = set(split_videos(videos, seed=seed).train)
        assert len({path in train for path in [f"x{k}.mp4" for k in range(4)] + [f"y{k}.mp4" for k in range(3)]}) == 1


def test_every_class_keeps_videos_to_train_on():
    videos = [*grouped(classes=2), video("alone/1.mp4", "alone", group="g"), video("alone/2.mp4", "alone", group="g")]
    for seed in range(5):
        split = split_videos(videos, seed=seed)
        assert {"alone/1.mp4", "alone/2.mp4"} <= set(split.train)


def test_the_split_is_decided_by_the_seed_and_not_by_the_order_of_the_videos():
    videos = grouped()
    assert split_videos(videos, seed=1) == split_videos(videos[::-1], seed=1)
    assert split_videos(videos, seed=1).val != split_videos(videos, seed=2).val


def test_the_split_column_is_obeyed_and_test_videos_are_left_alone():
    videos = [video(f"{k}.mp4", split=("train", "train", "val", "test")[k % 4]) for k in range(40)]
    split = split_videos(videos, seed=0)
    of = {video.path: video.split for video in videos}
    assert {of[path] for path in split.train} == {"train"} and {of[path] for path in split.val} == {"val"}
    assert len(split.train) == 20 and len(split.val) == 10
    assert "split column" in split.how


def test_without_validation_videos_in_the_column_some_training_groups_validate():
    videos = [video(f"{k}.mp4", group=f"g{k % 16}", split="train" if k % 16 < 12 else "test") for k in range(64)]
    split = split_videos(videos, seed=0)
    of = {video.path: video for video in videos}
    assert {of[path].split for path in split.train + split.val} == {"train"}
    assert not {of[path].group for path in split.train} & {of[path].group for path in split.val}
    assert len(split.train + split.val) == 48 and len(split.val) == pytest.approx(0.2 * 48, abs=4)
    assert "split column" in split.how and "12 groups" in split.how


def test_a_column_without_training_videos_is_an_error():
    with pytest.raises(UserError, match=r"out\.h5"):
        split_videos([video(f"{k}.mp4", split="test") for k in range(9)], seed=0, name="out.h5")


def test_it_says_how_many_groups_there_were():
    assert "by group (40 groups" in split_videos(grouped(), seed=0).how
    assert split_videos([video(f"{k}.mp4") for k in range(10)], seed=0).how.startswith("by video")


def test_videos_without_a_group_are_counted_apart():
    how = split_videos(grouped(classes=1) + [video(f"{k}.mp4") for k in range(7)], seed=0).how
    assert "10 groups" in how and "7 videos without one" in how


def test_videos_without_a_label_take_no_part():
    split = split_videos([*grouped(), video("odd.mp4", None)], seed=0)
    assert "odd.mp4" not in split.train + split.val


def test_a_store_without_labels_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match=r"out\.h5.*--labels"):
        split_videos([video("1.mp4", None)], seed=0, name="out.h5")


def test_one_group_a_class_is_an_error_that_says_what_to_do():
    with pytest.raises(UserError, match="group"):
        split_videos([video(f"{label}/{k}.mp4", label, group=label) for label in "ab" for k in range(5)], seed=0)


def test_two_videos_a_class_can_be_split():
    videos = [video(f"{label}/{k}.mp4", label) for label in "abc" for k in range(2)]
    split = split_videos(videos, seed=0)
    assert split.val and {path[0] for path in split.train} == set("abc")


def test_one_large_group_does_not_turn_the_split_upside_down():
    videos = [video(f"g/{k}.mp4", group="large") for k in range(40)] + [video(f"{k}.mp4") for k in range(40)]
    for seed in range(6):
        assert len(split_videos(videos, seed=seed).val) <= 40
