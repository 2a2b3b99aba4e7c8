"""Plans: which shard each utterance is in, and where its frames lie."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.format.plan import CHUNK_FRAMES, FeatureSpec, Plan, assign_shards, place_frames
from featurestore.shared.errors import StoreError

counts = st.lists(st.integers(1, 200), min_size=1, max_size=40).map(np.array)


@given(counts, st.integers(1, 400))
def test_shards_are_filled_in_order_up_to_their_length(durations, limit):
    shard = assign_shards([durations.astype(float)], [float(limit)])
    assert shard[0] == 0
    assert set(np.diff(shard)) <= {0, 1}
    filled = np.bincount(shard, durations)
    assert ((filled <= limit) | (np.bincount(shard) == 1)).all()
    first_of_next = durations[np.searchsorted(shard, np.arange(1, len(filled)))]
    assert (filled[:-1] + first_of_next > limit).all()


@given(counts, st.integers(1, 400))
def test_frames_start_on_chunks_keep_their_order_and_never_overlap_or_cross_a_shard(frames, limit):
    shard = assign_shards([frames.astype(float)], [float(limit)])
    start, shard_frames = place_frames(frames, shard)
    assert shard_frames % CHUNK_FRAMES == 0
    assert (start % CHUNK_FRAMES == 0).all()
    assert (start // shard_frames == shard).all()
    assert ((start + frames - 1) // shard_frames == shard).all()
    chunks_end = -(-(start + frames) // CHUNK_FRAMES) * CHUNK_FRAMES
    assert (chunks_end[:-1] <= start[1:]).all()


@given(counts, st.integers(1, 400))
def test_shards_have_no_more_padding_than_their_chunks(frames, limit):
    shard = assign_shards([frames.astype(float)], [float(limit)])
    start, shard_frames = place_frames(frames, shard)
    padded = -(-frames // CHUNK_FRAMES) * CHUNK_FRAMES
    assert shard_frames == np.bincount(shard, padded).max()
    alone = [place_frames(frames[shard == k], np.zeros((shard == k).sum(), int))[0] for k in range(shard[-1] + 1)]
    assert np.array_equal(start % shard_frames, np.concatenate(alone))


@given(counts, st.integers(1, 400), st.integers(1, 5))
def test_every_limit_of_a_shard_counts(durations, limit, most):
    shard = assign_shards([durations.astype(float), np.ones(len(durations))], [float(limit), most])
    assert np.bincount(shard).max() <= most
    assert ((np.bincount(shard, durations) <= limit) | (np.bincount(shard) == 1)).all()


@given(counts, st.integers(1, 400))
def test_slots_are_the_place_in_the_shard(durations, limit):
    table = pd.DataFrame({"duration": durations.astype(float)}, index=[f"u{i}" for i in range(len(durations))])
    plan = Plan.make(table, float(limit), dataset="x")
    slots = plan.table.groupby("shard").size().max()
    assert plan.table["slot"].is_unique
    assert (plan.table["slot"] // slots == plan.table["shard"]).all()
    for _, rows in plan.table.groupby("shard"):
        assert (rows["slot"] % slots).tolist() == list(range(len(rows)))
    pd.testing.assert_frame_equal(plan.table, Plan.make(table.copy(), float(limit), dataset="x").table)


def test_plan_keeps_the_table_and_its_order():
    table = pd.DataFrame({"duration": [2.0, 1.0, 2.0], "V": [3.0, np.nan, 1.0]}, index=["z", "a", "m"])
    before = table.copy()
    plan = Plan.make(table, 3.0, dataset="x", ranges={"V": (1.0, 5.0)}, left_out={"q": "why"})
    pd.testing.assert_frame_equal(plan.table[["duration", "V"]], before)
    pd.testing.assert_frame_equal(table, before)
    assert plan.table["shard"].tolist() == [0, 0, 1]
    assert plan.table["slot"].tolist() == [0, 1, 2]
    assert (plan.ranges, plan.left_out) == ({"V": (1.0, 5.0)}, {"q": "why"})


def test_duplicates_are_refused_by_name():
    table = pd.DataFrame({"duration": [1.0, 1.0, 1.0]}, index=["a", "b", "a"])
    with pytest.raises(StoreError, match=r"found names twice, expected unique ones: a$"):
        Plan.make(table, 3.0, dataset="x")


def test_no_utterance_is_refused():
    with pytest.raises(StoreError, match="no utterance"):
        Plan.make(pd.DataFrame({"duration": np.empty(0)}), 3.0, dataset="x")


def test_differences_of_features_name_the_setting_and_both_values():
    def spec(dim=4, dtype="int8", **provenance):
        return FeatureSpec(layers=3, dim=dim, hop=0.02, dtype=dtype, provenance=provenance)

    mine = spec(settings={"floor": 75}, weights="sha", versions={"torch": "1"})
    assert mine.differences(spec(settings={"floor": 75}, weights="sha", versions={"torch": "2"})) == []
    assert mine.differences(spec(5, "float16", settings={"floor": 60, "hop_ms": 5}, weights="other")) == [
        "dim: 4 in the store, 5 asked for",
        "dtype: int8 in the store, float16 asked for",
        "floor: 75 in the store, 60 asked for",
        "weights: sha in the store, other asked for",
        "hop_ms: None in the store, 5 asked for",
    ]
