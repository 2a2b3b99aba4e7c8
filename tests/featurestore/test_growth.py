"""Stores that grow, are merged, converted and exported, and get further labels."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.opening import open_backend
from featurestore.format.plan import FeaturePlan
from featurestore.operations.copying import copy_stores
from featurestore.operations.export import add_labels, export_frames, export_table
from featurestore.operations.growth import grow
from featurestore.operations.verify import verify
from featurestore.shared.errors import StoreError
from tests.featurestore.toy import DTYPES, FIRST, FRAMES, SHARD_SECONDS, Toy, place_of, tampered

MORE = {"d1": 30, "d2": 64, "d3": 3, "d4": 40}


def make_more(toy, **columns):
    """Return a table, plans of the features, and states, of utterances that the toy store does not have."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {"speaker": "d", "duration": [0.02 * n for n in MORE.values()], "V": 2.0, **columns},
        index=pd.Index(list(MORE), name="name"),
    )
    frames = np.array(list(MORE.values()))
    plans = {
        name: FeaturePlan(toy.feature_plan(name).spec, frames, np.full(len(MORE), FIRST))
        for name in ("states", "pitch")
    }
    values = {name: rng.normal(size=(3, count, 5)).astype(np.float32) for name, count in MORE.items()}
    return table, plans, values


def fill(writer, toy, values):
    for feature in ("states", "pitch"):
        for number in writer.pending(feature):
            with writer.shard(feature, number) as shard:
                for name in shard.names:
                    shard.add(name, values[name] if feature == "states" else values[name][:1, :, :1])
        writer.commit(feature)


@pytest.mark.parametrize("dataset", ["toy", "other"])
def test_utterances_are_added_without_rewriting(toy, tmp_path, suffix, dataset):
    path = toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))
    store = featurestore.open(path)
    before = {n: place_of(store, f, "data", n).read() for f in ("states",) for n in range(3)}
    frames = {name: store[name]["states"] for name in toy.readable}
    table, plans, values = make_more(toy)
    writer = StoreWriter(path)
    with writer.lock():
        assert grow(writer, toy.plan_of(table, dataset=dataset), plans, SHARD_SECONDS) == 4
        if suffix == ".zarr":
            with pytest.raises(StoreError, match="is unfinished"):
                featurestore.open(path).feature("states")
        else:  # the file stays what it is until all is written
            assert featurestore.open(path).names(["states"]) == toy.readable
        assert featurestore.open(path, partial=True).names(["states"]) == toy.readable
        assert writer.pending("states") == [3, 4, 5]
        fill(writer, toy, values)
    grown = featurestore.open(path)
    assert verify(grown) == []
    assert {n: place_of(grown, "states", "data", n).read() for n in range(3)} == before
    assert grown.names(["states"]) == [*toy.readable, *MORE]
    for name in toy.readable:
        assert np.array_equal(grown[name]["states"], frames[name])
    for name in MORE:
        assert np.allclose(grown[name]["states"], values[name], atol=0.02)
        assert grown.feature("states").times(name)[0] == FIRST
    if dataset == "other":
        assert grown.dataset == "toy+other"
        assert grown.utterances["dataset"].tolist() == ["toy"] * 9 + ["other"] * 4
    else:
        assert (grown.dataset, "dataset" in grown.utterances) == ("toy", False)
    with writer.lock():  # both are still what the store holds
        writer.plan(toy.plan_of(table, dataset=dataset) if dataset == "other" else toy.plan_of(_both(toy, table)))
        assert grow(writer, toy.plan_of(table, dataset=dataset), plans, SHARD_SECONDS) == 0


def _both(toy, table):
    return pd.concat([toy.table, table])


def test_growth_keeps_columns_of_either_side(toy, tmp_path, suffix):
    path = toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))
    table, plans, _ = make_more(toy, emotion="joy", age=3.5)
    writer = StoreWriter(path)
    with writer.lock():
        grow(writer, toy.plan_of(table, dataset="other"), plans, SHARD_SECONDS)
    utterances = featurestore.open(path).utterances
    assert utterances["emotion"].tolist() == [""] * 9 + ["joy"] * 4
    assert utterances["age"].isna().tolist() == [True] * 9 + [False] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fewer features", "which new utterances need, found .*: ask for exactly those of the store"),
        ("settings", "has states with other settings: dtype"),
        ("ranges", "labels on different scales belong in different stores"),
        ("long", "d1 has 3000 frames of states, a shard of .* has room for .*ser-store merge"),
        ("labels", r"the columns \['V'\] have changed"),
    ],
)
def test_growth_that_contradicts_the_store_is_refused_and_changes_nothing(toy, copied_toy, tree, change, message):
    table, plans, _ = make_more(toy)
    ranges = {"V": (0.0, 1.0)} if change == "ranges" else {"V": (1.0, 5.0)}
    if change == "fewer features":
        del plans["pitch"]
    if change == "settings":
        plans["states"] = FeaturePlan(
            toy.feature_plan(dtype="int4").spec, plans["states"].frames, plans["states"].times
        )
    if change == "long":
        plans["states"] = FeaturePlan(plans["states"].spec, plans["states"].frames * 100, plans["states"].times)
    if change == "labels":
        table = pd.concat([table, toy.table.assign(V=1.0)])
        plans = {
            k: FeaturePlan(p.spec, np.resize(p.frames, len(table)), np.resize(p.times, len(table)))
            for k, p in plans.items()
        }
    before = tree(copied_toy)
    with pytest.raises(StoreError, match=message):
        grow(StoreWriter(copied_toy), toy.plan_of(table, ranges=ranges), plans, SHARD_SECONDS)
    assert tree(copied_toy) == before


@pytest.mark.parametrize("harm", ["root", "table/V", "features/states/start", "features/pitch/zarr.json"])
def test_a_damaged_store_does_not_grow_and_gets_no_new_checksum(toy, copied_toy, tree, harm):
    backend = open_backend(copied_toy)
    with tampered(copied_toy) as change:
        if harm == "root":
            change.group("", {**backend.attributes(), "left_out": {}})
        elif harm.endswith("zarr.json"):
            change.group("features/pitch", {**backend.attributes("features/pitch"), "channels": ["Hz"]})
        else:
            values = backend.array(harm).copy()
            values[1] += 16
            change.array(harm, values, "utterance")
    table, plans, _ = make_more(toy)
    if harm.endswith("zarr.json"):
        changed = plans["pitch"].spec.model_copy(update={"channels": ("Hz",)})
        plans["pitch"] = FeaturePlan(changed, plans["pitch"].frames, plans["pitch"].times)
    before = tree(copied_toy)
    with pytest.raises(
        StoreError, match=r"is damaged, its table|(start of states|attributes of pitch) in .* changed since"
    ):
        grow(StoreWriter(copied_toy), toy.plan_of(table), plans, SHARD_SECONDS)
    assert tree(copied_toy) == before
    if harm in ("root", "table/V"):
        with pytest.raises(StoreError, match="is damaged, its table"):
            StoreWriter(copied_toy).replace_table(toy.table)


def test_growth_with_other_versions_of_libraries(toy, copied_toy):
    table, plans, values = make_more(toy)
    provenance = {**plans["states"].spec.provenance, "versions": {"torch": "3.0"}}
    newer = plans["states"].spec.model_copy(update={"provenance": provenance})
    plans["states"] = FeaturePlan(newer, plans["states"].frames, plans["states"].times)
    writer = StoreWriter(copied_toy)
    with writer.lock():
        grow(writer, toy.plan_of(table), plans, SHARD_SECONDS)
        fill(writer, toy, values)
    assert verify(featurestore.open(copied_toy)) == []


def test_truth_values_that_some_utterances_lack_become_numbers(toy, tmp_path, suffix):
    labels = toy.table.assign(acted=[True, False, True] * 3)
    writer = StoreWriter(tmp_path / f"toy{suffix}")
    table, plans, _ = make_more(toy)
    with writer.lock():
        writer.plan(toy.plan_of(labels))
        for name in plans:
            writer.plan_feature(name, toy.feature_plan(name))
        grow(writer, toy.plan_of(table, dataset="other"), plans, SHARD_SECONDS)
        writer.plan(toy.plan_of(labels))  # these are still the labels of the first
    acted = featurestore.open(writer.path).utterances["acted"]
    assert acted.dtype == float
    assert acted.tolist()[:3] == [1.0, 0.0, 1.0]
    assert acted.isna().tolist() == [False] * 9 + [True] * 4


def test_numbers_and_text_do_not_become_one_column(toy, copied_toy, tmp_path, tree):
    table, plans, values = make_more(toy, V="3,5")
    before, writer = tree(copied_toy), StoreWriter(copied_toy)
    with writer.lock(), pytest.raises(StoreError, match=r"\['V'\] are numbers of some utterances, and text of others"):
        grow(writer, toy.plan_of(table, dataset="other"), plans, SHARD_SECONDS)
    assert tree(copied_toy) == before
    other = StoreWriter(tmp_path / "other.zarr")
    with other.lock():
        other.plan(toy.plan_of(table, left_out={}))
        for name, plan in plans.items():
            other.plan_feature(name, plan)
        fill(other, toy, values)
    with pytest.raises(StoreError, match="and text of others"):
        copy_stores([featurestore.open(copied_toy), featurestore.open(other.path)], tmp_path / "merged.zarr")


@pytest.fixture
def copied_toy(toy, tmp_path, suffix):
    return toy.write(tmp_path / f"toy{suffix}", features=("states", "pitch"))


@pytest.mark.parametrize("target", [".zarr", ".h5"])
def test_converting_copies_bit_by_bit(toy, written, tmp_path, target, tree):
    path = copy_stores([featurestore.open(written)], tmp_path / f"copy{target}", shard_seconds=SHARD_SECONDS)
    mine, theirs = featurestore.open(path), featurestore.open(written)
    assert verify(mine) == []
    pd.testing.assert_frame_equal(mine.utterances, theirs.utterances)
    for dtype in (*DTYPES, "states", "pitch"):
        assert mine.feature(dtype).failed == theirs.feature(dtype).failed
        for name in theirs.names([dtype]):
            assert np.array_equal(mine[name][dtype], theirs[name][dtype])
        names = theirs.names([dtype])
        assert all(map(np.array_equal, mine.feature(dtype).pooled(names), theirs.feature(dtype).pooled(names)))
    again = copy_stores([mine], tmp_path / f"again{written.suffix}", shard_seconds=SHARD_SECONDS)
    if written.is_dir():  # the order in which features came into an HDF5 file shows in its bytes
        assert tree(again) == tree(written)


@pytest.mark.parametrize("dtype", DTYPES)
def test_converting_to_another_data_type_is_the_same_as_writing_it(toy, tmp_path, suffix, dtype, tree):
    exact = toy.write(tmp_path / f"exact{suffix}", "float32")
    path = copy_stores(
        [featurestore.open(exact)], tmp_path / f"{dtype}{suffix}", dtype=dtype, shard_seconds=SHARD_SECONDS
    )
    assert tree(path) == tree(toy.write(tmp_path / f"direct{suffix}", dtype))


def test_a_copy_into_the_archive_form_and_back(toy, tmp_path, tree):
    path = toy.write(tmp_path / "toy.zarr")
    packed = copy_stores(
        [featurestore.open(path)], tmp_path / "packed.zarr", compress="zstd", shard_seconds=SHARD_SECONDS
    )
    back = copy_stores([featurestore.open(packed)], tmp_path / "back.zarr", shard_seconds=SHARD_SECONDS)
    assert tree(back) == tree(path)


def test_a_copy_that_its_form_cannot_hold_is_refused_before_anything_is_written(toy, tmp_path):
    path = toy.write(tmp_path / "toy.zarr")
    with pytest.raises(StoreError, match=r"cannot hold states with compress=zstd.*give a path that ends in .zarr"):
        copy_stores([featurestore.open(path)], tmp_path / "packed.h5", compress="zstd")
    assert not (tmp_path / "packed.h5").exists()


def test_stores_are_merged(toy, tmp_path, suffix):
    one = toy.write(tmp_path / "one.zarr", features=("states", "pitch"))
    table, plans, values = make_more(toy)
    writer = StoreWriter(tmp_path / "two.h5")
    with writer.lock():
        writer.plan(toy.plan_of(table, dataset="other", left_out={}))
        for name, plan in plans.items():
            writer.plan_feature(name, plan)
        fill(writer, toy, values)
    stores = [featurestore.open(one), featurestore.open(tmp_path / "two.h5")]
    merged = featurestore.open(copy_stores(stores, tmp_path / f"merged{suffix}"))
    assert merged.dataset == "toy+other"
    assert list(merged.index.names) == [*FRAMES, *MORE]
    assert verify(merged) == []
    for store in stores:
        for name in store.names(["states"]):
            assert np.array_equal(merged[name]["states"], store[name]["states"])
    assert merged.feature("states").failed == stores[0].feature("states").failed


def test_a_merge_can_be_repeated_and_another_order_of_the_sources_is_the_same(toy, tmp_path, suffix):
    """The plan of the target stands; what a second command copies into it goes where that says."""
    one = toy.write(tmp_path / "one.zarr")
    table, plans, values = make_more(toy)
    writer = StoreWriter(tmp_path / "two.zarr")
    with writer.lock():
        writer.plan(toy.plan_of(table, dataset="other", left_out={}))
        writer.plan_feature("states", plans["states"])
        for number in writer.pending("states"):
            with writer.shard("states", number) as shard:
                for name in shard.names:
                    shard.add(name, values[name])
        writer.commit("states")
    stores = [featurestore.open(one), featurestore.open(tmp_path / "two.zarr")]
    target = tmp_path / f"merged{suffix}"
    copy_stores(stores, target, features=[], shard_seconds=SHARD_SECONDS)
    copy_stores(stores, target, features=[], shard_seconds=SHARD_SECONDS)
    repair_all = StoreWriter(target)
    with repair_all.lock():
        repair_all.drop("states", set(range(99)))
    copy_stores([stores[0], stores[1]], target, shard_seconds=SHARD_SECONDS)
    merged = featurestore.open(target)
    for store in stores:
        for name in store.names(["states"]):
            assert np.array_equal(merged[name]["states"], store[name]["states"])


def test_the_root_of_merged_stores(toy, tmp_path):
    """Datasets are named once, and what one store had to leave out is not left out if another has it."""
    table, _, _ = make_more(toy)
    parts = {"a+b": toy.table, "b": table}
    for number, (dataset, rows) in enumerate(parts.items()):
        StoreWriter(tmp_path / f"{number}.zarr").plan(
            toy.plan_of(rows, dataset=dataset, left_out={"d1": "broken", "e": "x"})
        )
    stores = [featurestore.open(tmp_path / f"{number}.zarr") for number in range(2)]
    merged = featurestore.open(copy_stores(stores, tmp_path / "merged.zarr"))
    assert merged.dataset == "a+b"
    assert merged.left_out == {"e": "x"}


def test_a_value_that_the_new_data_type_cannot_hold_is_named(tmp_path, suffix):
    large = Toy()
    large.states["c1"] += 1e6
    path = large.write(tmp_path / f"toy{suffix}", "float32")
    with pytest.raises(StoreError, match=r"states of c1: found the value 1e\+06, float16 holds at most 65504"):
        copy_stores([featurestore.open(path)], tmp_path / f"copy{suffix}", dtype="float16")


def test_merging_refuses_what_does_not_fit(toy, tmp_path):
    one = featurestore.open(toy.write(tmp_path / "one.zarr"))
    four = featurestore.open(toy.write(tmp_path / "four.zarr", "int4"))
    more = featurestore.open(toy.write(tmp_path / "more.zarr", features=("states", "pitch")))
    for sources, message in (
        ([one, four], "states of .*four.zarr is not that of .*one.zarr: dtype: int8"),
        ([one, more], "pitch of .*more.zarr is not in .*one.zarr: choose some with --features"),
        ([one, one], "9 names are in more than one store, e.g. a1"),
        ([], "give the stores from which the new one is made"),
    ):
        with pytest.raises(StoreError, match=message):
            copy_stores(sources, tmp_path / "merged.zarr")
    assert not (tmp_path / "merged.zarr").exists()


def test_export_to_npy_and_safetensors(toy, written, tmp_path):
    store = featurestore.open(written)
    left_out = export_frames(store, tmp_path / "npy", ["states", "bfloat16"])
    assert left_out == [f"{f} of b2: the encoder ran out of memory" for f in ("states", "bfloat16")]
    export_frames(store, tmp_path / "tensors", ["states"], kind="safetensors")
    tensors = {k: v for file in sorted((tmp_path / "tensors/states").iterdir()) for k, v in load_file(file).items()}
    assert set(tensors) == set(toy.readable)
    for name in toy.readable:
        assert np.array_equal(tensors[name], store[name]["states"])
        file = name.replace("/", "%2F").replace("ä", "%C3%A4")
        assert np.array_equal(np.load(tmp_path / f"npy/bfloat16/{file}.npy"), store[name]["bfloat16"])


def test_export_of_the_table_comes_back_as_a_label_file(toy, written, tmp_path):
    export_table(featurestore.open(written), tmp_path / "table.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv", index_col="name"), toy.table)


def test_labels_are_added_by_name(toy, copied_toy, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("name,emotion,A\nc1,joy,2.5\na1,anger,1\n")
    writer = StoreWriter(copied_toy)
    with writer.lock():
        writer.replace_table(add_labels(writer.table, file, replace=False))
    store = featurestore.open(copied_toy)
    assert store.utterances.loc[["a1", "a2", "c1"], "emotion"].tolist() == ["anger", "", "joy"]
    assert store.utterances.loc[["a1", "c1"], "A"].tolist() == [1.0, 2.5]
    assert np.isnan(store.utterances.loc["a2", "A"])
    assert verify(store) == []
    with writer.lock():
        writer.plan(toy.plan)  # the dataset's own labels are still the same
    assert json.loads(json.dumps(store.left_out)) == {"d1": "no audio file d1.wav"}


def test_labels_are_what_stands_in_the_file(toy, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(
        "name,code,emotion,A,acted,checked,session,D\n"
        "a1,007,None,2.50,TRUE,True,1,\n"
        "a2,012,anger,#N/A,FALSE,,2,\n" + "".join(f"{n},013,joy,NA,TRUE,False,3,\n" for n in toy.names[2:])
    )
    labels = add_labels(toy.table, file, replace=False)
    assert labels["code"].tolist()[:2] == ["007", "012"]
    assert labels["emotion"].tolist()[:3] == ["None", "anger", "joy"]
    assert labels["A"].dropna().to_dict() == {"a1": 2.5}
    assert (labels["acted"].dtype, labels["acted"].tolist()[:2]) == (bool, [True, False])
    assert labels["checked"].tolist()[0] == 1.0
    assert np.isnan(labels["checked"].tolist()[1])
    assert labels["session"].dtype == np.int64
    assert np.isnan(labels["D"]).all()
    assert labels.index.tolist() == toy.names


def test_replacing_some_labels_leaves_the_others(toy, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("name,V,note\na2,3,new\n")
    labels = add_labels(toy.table, file, replace=True)
    assert labels["V"].tolist() == [toy.table["V"].iloc[0], 3.0, *toy.table["V"].iloc[2:]]
    assert labels["note"].tolist() == ["", "new", *[""] * 7]
    file.write_text("name,V,speaker\na2,,3\n")
    labels = add_labels(toy.table, file, replace=True)
    assert np.isnan(labels.loc["a2", "V"])
    assert labels["speaker"].tolist()[:3] == ["a", "3", "a"]
    file.write_text("name,V\na2,high\n")
    with pytest.raises(StoreError, match="and text of others"):
        add_labels(toy.table, file, replace=True)


def test_space_around_labels_is_stripped_and_said(toy, tmp_path, caplog):
    file = tmp_path / "labels.csv"
    file.write_text("name,note\na1 ,x\u00a0\n\u200ba2,x\n", encoding="utf-8")
    labels = add_labels(toy.table, file, replace=False)
    assert labels["note"].tolist()[:2] == ["x", "x"]
    assert "stripped the space around values, by column: name 2, note 1" in caplog.text


def test_a_name_that_looks_like_a_missing_value(toy, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("name,A\nNA,2\n")
    labels = add_labels(toy.table.rename(index={"a1": "NA"}), file, replace=False)
    assert labels["A"].iloc[0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,A\nzz,1\n", "1 names are not in the store, e.g. zz"),
        ("name,A\na1,1\na1,2\n", "1 names occur twice, e.g. a1"),
        ("id,A\na1,1\n", "has the columns id, A; expected name"),
        ("name,V\na1,1\n", "the store has the columns V already; --replace replaces them"),
        ("name,A\n", "has a header, but no rows"),
        ("name,A,A\na1,1,2\n", "has more than one column A"),
        ("name,A,B\na1,1\n", "line 2 has 2 values, expected 3 as in its header"),
        ("name;A\na1;1\n", "seems to be separated by semicolons"),
        ("name,duration\na1,1\n", "has the columns duration already; they belong to the frames"),
        ("", "is empty"),
    ],
)
def test_labels_that_do_not_fit_are_refused(toy, tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(StoreError, match=message):
        add_labels(toy.table, file, replace=False)
