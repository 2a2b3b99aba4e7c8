import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import SerError
from train.splits import Splits


def table(speakers):
    names = [f"u{i}" for i in range(len(speakers))]
    split = [("train", "dev", "test")[int(s) % 3] for s in speakers]
    return pd.DataFrame({"speaker": [f"s{s}" for s in speakers], "split": split}, index=pd.Index(names, name="name"))


@pytest.mark.parametrize("name", Splits.names())
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
