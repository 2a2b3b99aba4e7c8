import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.shared.errors import SerError
from train.splits import Splits


def table(speakers):
    names = [f"u{i}" for i in range(len(speakers))]
    split = [("train", "dev", "test")[int(s) % 3] for s in speakers]
    columns = {"speaker": [f"s{s}" for s in speakers], "session": [f"S{s // 2}" for s in speakers], "split": split}
    return pd.DataFrame(columns, index=pd.Index(names, name="name"))


@pytest.mark.parametrize("name", [name for name in Splits.names() if name not in ("datasets", "random")])
@given(st.lists(st.integers(0, 9), max_size=60))
def test_every_split_divides_whole_speakers(name, more):
    data = table([*range(10), *more])
    folds = Splits.kind(name)().folds(data)
    for fold in folds:
        assert sorted(fold.train + fold.dev + fold.test) == sorted(data.index)
        speakers = [set(data["speaker"].loc[part]) for part in (fold.train, fold.dev, fold.test)]
        assert sum(map(len, speakers)) == len(set.union(*speakers)) == 10
    if name != "given":
        tested = [utterance for fold in folds for utterance in fold.test]
        assert sorted(tested) == sorted(data.index)


def test_k_folds_are_of_similar_size_and_the_dev_part_is_the_next_test_part():
    folds = Splits.kind("kfold")(k=4).folds(table(np.arange(80) % 8))
    assert [len(fold.test) for fold in folds] == [20] * 4
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert fold.dev == following.test


def test_a_seed_deals_the_speakers_out_differently():
    data = table(np.arange(80) % 8)
    first, same, other = (Splits.kind("kfold")(k=4, seed=s).folds(data) for s in (1, 1, 2))
    assert first == same != other


def test_what_is_missing_is_said():
    with pytest.raises(SerError, match="3 folds need at least as many speakers, the store has 2"):
        Splits.kind("kfold")(k=3).folds(table([0, 1]))
    with pytest.raises(SerError, match="found it for 0 of 2"):
        Splits.kind("kfold")(k=3).folds(table([0, 1]).drop(columns="speaker"))
    with pytest.raises(SerError, match="gives no utterance of dev, test"):
        Splits.kind("given")().folds(table([0, 0]))
    with pytest.raises(SerError, match="needs 3 or more, found 2"):
        Splits.kind("leave_one_out")().folds(table([0, 1]))


@pytest.mark.parametrize("seed", [None, 1])
def test_stratified_folds_have_similar_shares_of_an_emotion(seed):
    data = table(np.repeat(np.arange(20), 10))
    by_speaker = ["joy" if row // 10 % 4 == 0 else "calm" for row in range(200)]  # five speakers are joyful
    folds = Splits.kind("kfold")(k=5, stratify="emotion", seed=seed).folds(data.assign(emotion=by_speaker))
    for fold in folds:
        assert [by_speaker[int(name[1:])] for name in fold.test].count("joy") == 10
        assert len(fold.test) == 40
    numbers = np.where(np.array(by_speaker) == "joy", 5.0, 1.0) + np.random.default_rng(0).uniform(0, 0.2, 200)
    for fold in Splits.kind("kfold")(k=5, stratify="V", seed=seed).folds(data.assign(V=numbers)):
        assert np.mean([numbers[int(name[1:])] for name in fold.test]) == pytest.approx(2.1, abs=0.1)


def test_what_cannot_be_stratified_is_said():
    data = table(np.arange(20) % 10)
    with pytest.raises(SerError, match=r"splits\.stratify=mood: the store has no such column; found speaker, session"):
        Splits.kind("kfold")(stratify="mood").folds(data)
    with pytest.raises(SerError, match="5 folds cannot be stratified by text: "):
        Splits.kind("kfold")(stratify="text").folds(data.assign(text=data.index))


def test_sessions_as_of_iemocap():
    """Five sessions of two speakers: the next session is dev, or the other speaker of the session."""
    data = table(np.arange(100) % 10)
    after = Splits.kind("sessions")().folds(data)
    assert [set(data["session"].loc[fold.test]) for fold in after] == [{f"S{i}"} for i in range(5)]
    assert [set(data["session"].loc[fold.dev]) for fold in after] == [{f"S{i}"} for i in (1, 2, 3, 4, 0)]
    within = Splits.kind("sessions")(dev="speaker").folds(data)
    assert [set(data["speaker"].loc[fold.test]) for fold in within] == [{f"s{i}"} for i in range(10)]
    assert [set(data["speaker"].loc[fold.dev]) for fold in within] == [{f"s{i ^ 1}"} for i in range(10)]
    for fold in within:
        assert len(fold.train) == 80
        assert set(data["session"].loc[fold.train]).isdisjoint(data["session"].loc[fold.test])
    with pytest.raises(SerError, match="session S0 has one speaker, s0"):
        Splits.kind("sessions")(dev="speaker").folds(data[data["speaker"] != "s1"])
    with pytest.raises(SerError, match="needs 3 sessions or more, found 2"):
        Splits.kind("sessions")().folds(data[data["session"] < "S2"])


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(3, 10))
def test_groups_of_speakers_roll_whatever_each_has_said(more, k):
    data = table([*range(10), *more])
    folds = Splits.kind("rolling_speakers")(k=k).folds(data)
    groups = [sorted(set(data["speaker"].loc[fold.test])) for fold in folds]
    assert [speaker for group in groups for speaker in group] == sorted(set(data["speaker"]))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    assert [fold.dev for fold in folds] == [fold.test for fold in folds[1:] + folds[:1]]


@pytest.mark.parametrize("within", ["kfold", "leave_one_out", "rolling_speakers"])
def test_inner_folds_divide_train_and_dev(within):
    data = table(np.arange(100) % 10)
    splits = Splits.kind("nested")(within=Splits.kind(within)())
    assert splits.folds(data) == Splits.kind("kfold")().folds(data)
    for fold in splits.folds(data):
        inner = splits.inner(data, fold)
        tested = [name for one in inner for name in one.test]
        assert sorted(tested) == sorted(fold.train + fold.dev)
        for one in inner:
            assert sorted(one.train + one.dev + one.test) == sorted(fold.train + fold.dev)
            speakers = [set(data["speaker"].loc[part]) for part in (one.train, one.dev, one.test)]
            assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]


def test_random_splits_take_no_notice_of_speakers():
    data = table(np.arange(100) % 10)
    folds = Splits.kind("random")().folds(data)
    assert sorted(name for fold in folds for name in fold.test) == sorted(data.index)
    assert all(set(data["speaker"].loc[fold.test]) & set(data["speaker"].loc[fold.train]) for fold in folds)
    assert Splits.kind("nested")(outer="random").unsafe == "random_splits"
