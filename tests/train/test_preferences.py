"""Preferences of raters: golden cases, what holds of all ratings, and the command."""

import json
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from featurestore.shared.errors import SerError
from train.curves.preferences import agreement, prefer, ratings_of, read_pairs

RATINGS = some.lists(some.integers(1, 7), min_size=1, max_size=6)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def agreed(first, second, threshold=0.6):
    """Return what raters of two utterances agree on."""
    return int(agreement(tensor(first)[None], tensor(second)[None], threshold))


@pytest.mark.parametrize(
    ("first", "second", "threshold", "label"),
    [
        ([4, 5, 5], [3, 4, 5], 0.6, 0),  # 5 of 9 above, 1 below, 3 alike
        ([4, 5, 5], [3, 4, 5], 0.55, 1),
        ([3, 4, 5], [4, 5, 5], 0.55, -1),
        ([4, 4, 4], [4, 4, 4], 0.6, 0),  # all alike
        ([5, 5, 5], [1, 2, 3], 0.6, 1),
        ([1, 2, 4, 4, 4], [3, 3, 3], 0.6, 1),  # 9 of 15 are .6, which is enough
        ([5], [5, 4], 0.6, 0),
    ],
)
def test_qualitative_agreement(first, second, threshold, label):
    assert agreed(first, second, threshold) == label


@given(first=RATINGS, second=RATINGS, threshold=some.floats(0.51, 1))
def test_agreement_is_what_counting_gives(first, second, threshold):
    pairs = [(a, b) for a in first for b in second]
    up, down = sum(a > b for a, b in pairs) / len(pairs), sum(a < b for a, b in pairs) / len(pairs)
    expected = 1 if up >= threshold else -1 if down >= threshold else 0
    mine, others = [*first, np.nan], [np.nan, *second, np.nan]
    assert agreed(mine, others, threshold) == expected
    assert agreed(others, mine, threshold) == -expected


def test_who_has_no_rating_is_not_compared():
    assert agreed([np.nan], [1, 2]) == 0


def test_agreement_on_many_utterances_takes_little_memory():
    """Of 3000 utterances and 20 raters, the pairs of raters alone would be 29 GB."""
    said = np.random.default_rng(0).integers(1, 8, (3000, 20)).astype(float)
    said[said == 7] = np.nan
    before = getrusage(RUSAGE_SELF).ru_maxrss
    found = agreement(tensor(said), tensor(said))
    assert found.shape == (3000, 3000)
    assert (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1e6 < 1
    for first, second in np.random.default_rng(1).integers(0, 3000, (50, 2)):
        pairs = said[first][:, None] - said[second]
        shares = [(pairs > 0).sum() / np.isfinite(pairs).sum(), (pairs < 0).sum() / np.isfinite(pairs).sum()]
        assert int(found[first, second]) == int(shares[0] >= 0.6) - int(shares[1] >= 0.6)


def rated(**ratings):
    texts = {name: json.dumps([{"rater": "a", **one} for one in said]) for name, said in ratings.items()}
    return pd.DataFrame({"ratings": texts})


def test_ratings_of_a_store():
    table = rated(
        a=[{"V": 1, "emotion": "joy", "mode": "voice"}, {"V": 2.5, "emotion": "anger", "mode": "face"}],
        b=[{"A": 4}],
        c=[{"V": "3.0", "emotion": "anger"}],
    )
    table.loc["d"] = ""
    assert np.array_equal(ratings_of(table, "V"), [[1, 2.5], [np.nan] * 2, [3, np.nan], [np.nan] * 2], equal_nan=True)
    anger = [[0, 1], [np.nan] * 2, [1, np.nan], [np.nan] * 2]
    assert np.array_equal(ratings_of(table, "emotion=anger"), anger, equal_nan=True)
    only_face = ratings_of(table, "V", {"mode": "face"})
    assert np.array_equal(only_face, [[2.5], [np.nan], [np.nan], [np.nan]], equal_nan=True)


def test_a_rater_may_say_several_words():
    table = rated(a=[{"emotion": "anger; frustration"}, {"emotion": "joy"}, {"emotion": "frustration;anger"}])
    assert ratings_of(table, "emotion=anger").tolist() == [[1, 0, 1]]
    assert ratings_of(table, "emotion=frust").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("table", "target", "message"),
    [
        (pd.DataFrame({"V": [1.0]}), "V", "the store has no column ratings"),
        (pd.DataFrame({"ratings": ["{1"]}, ["x"]), "V", "the ratings of x are not JSON"),
        (pd.DataFrame({"ratings": ["[1]"]}, ["x"]), "V", "the ratings of x are not JSON"),
        (rated(x=[{"V": "high"}]), "V", r"a rater of x gave V as \['high'\]: expected numbers"),
        (rated(x=[{"V": 1}]), "D", "no rater of these 1 utterances said anything of D"),
    ],
)
def test_ratings_that_cannot_be(table, target, message):
    with pytest.raises(SerError, match=message):
        ratings_of(table, target)


def test_pairs_are_drawn_by_the_seed():
    names, ratings = [f"u{i}" for i in range(40)], np.random.default_rng(0).uniform(1, 5, (40, 3))
    pairs, compared = prefer(names, ratings, 0.6, 0.25, 31)
    assert compared == 40 * 10
    assert 0 < len(pairs) < compared
    assert not (pairs["Sentence1"] == pairs["Sentence2"]).any()
    assert not pairs.duplicated(["Sentence1", "Sentence2"]).any()
    assert pairs.equals(prefer(names, ratings, 0.6, 0.25, 31)[0])
    assert not pairs.equals(prefer(names, ratings, 0.6, 0.25, 32)[0])
    said = dict(zip(names, ratings, strict=True))
    for first, second, label in pairs.itertuples(index=False):
        assert agreed(said[first], said[second]) == (1 if label else -1)
    everything, compared = prefer(names, ratings, 0.6, 1.0, 31)
    assert compared == 40 * 39
    assert set(map(tuple, pairs.to_numpy())) <= set(map(tuple, everything.to_numpy()))


def test_the_command_writes_pairs(commands, rated_store, tmp_path):
    store = rated_store
    out = tmp_path / "new" / "A.csv"
    done = commands.run("prefer", "--store", store.path, "--target", "A", "--out", out, "--share", 0.5)
    assert done.returncode == 0, done.stderr
    pairs = read_pairs(out)
    assert f"{len(pairs)} of 4608 pairs of 96 utterances are agreed on" in done.stdout
    consensus = store.utterances["A"]
    right = (consensus.loc[pairs["Sentence1"]].to_numpy() > consensus.loc[pairs["Sentence2"]].to_numpy()) == (
        pairs["PreferLabel"] == 1
    )
    assert right.mean() > 0.95
    done = commands.run("prefer", "--store", store.path, "--target", "Q", "--out", out)
    assert done.returncode == 1
    assert "no rater of these 96 utterances said anything of Q" in done.stderr
    done = commands.run("prefer", "--store", store.path, "--target", "A", "--out", out, "--threshold", 0.5)
    assert "expected .5 < threshold <= 1" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sentence1,Sentence2\na,b\n", "has no column PreferLabel; it has Sentence1, Sentence2"),
        ("Sentence1,Sentence2,PreferLabel\na,b,2\n", "line 2: PreferLabel is '2', expected 1"),
    ],
)
def test_files_of_pairs_that_cannot_be(tmp_path, text, message):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(SerError, match=message):
        read_pairs(tmp_path / "pairs.csv")
