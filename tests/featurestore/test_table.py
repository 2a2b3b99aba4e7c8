"""The utterance table: every value comes back, and its digest knows every change."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.format.opening import open_backend_to_write
from featurestore.format.table import read_table, table_digest, write_table
from featurestore.shared.errors import StoreError

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
columns = {
    "str": text,
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(),
    "bool": st.booleans(),
}


@st.composite
def tables(draw):
    names = draw(st.lists(text, unique=True, min_size=1, max_size=6))
    kinds = draw(
        st.dictionaries(st.sampled_from(["V", "a/b", "x.y", "ü 2", "%2F"]), st.sampled_from(list(columns)), min_size=1)
    )
    values = {
        column: pd.Series(draw(st.lists(columns[kind], min_size=len(names), max_size=len(names))), names, dtype=kind)
        for column, kind in kinds.items()
    }
    return pd.DataFrame(values, index=pd.Index(names, name="name", dtype="str"))


def stored(path, table):
    """Write a table alone as a store, and open it."""
    backend = open_backend_to_write(path)
    with backend.change() as change:
        write_table(change, table)
        change.group("", {})
    return backend


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "speaker": ["s1", "", "s3"],
            "session": [1, -2, 2**62],
            "V": [1.5, np.nan, -0.0],
            "acted": [True, False, True],
            "a/b.c": ["one\ntwo", "'\"", "日本"],
        },
        index=pd.Index(["x", "y/z", "ü"], name="name"),
    )


@settings(max_examples=40)
@given(tables())
def test_round_trip(tmp_path_factory, suffix, table):
    again = read_table(stored(tmp_path_factory.mktemp("round") / f"store{suffix}", table))
    pd.testing.assert_frame_equal(again, table, check_dtype=True, check_exact=True)
    assert table_digest(again) == table_digest(table)


def test_missing_text_is_the_empty_string(tmp_path, suffix):
    table = pd.DataFrame({"emotion": ["joy", None, np.nan]}, index=pd.Index(["a", "b", "c"], name="name"))
    assert read_table(stored(tmp_path / f"store{suffix}", table))["emotion"].tolist() == ["joy", "", ""]


@pytest.mark.parametrize("column", ["", ".", "attributes", "zarr.json"])
def test_columns_with_names_that_mean_something_else_are_refused(tmp_path, suffix, table, column):
    with pytest.raises(StoreError, match="a column of the table cannot be named"):
        stored(tmp_path / f"store{suffix}", table.assign(**{column: 1.0}))


@pytest.mark.parametrize("text", ["a\0b", "a\0"])
def test_a_text_with_nul_is_refused(tmp_path, suffix, table, text):
    with pytest.raises(StoreError, match=r"'speaker' holds 'a.x00.*' in row 2: text cannot hold a NUL"):
        stored(tmp_path / f"store{suffix}", table.assign(speaker=["s1", text, "s3"]))
    with pytest.raises(StoreError, match="'name' holds"):
        stored(tmp_path / f"store{suffix}", table.rename(index={"x": text}))


def test_a_text_with_half_a_character_is_refused(tmp_path, suffix, table):
    files = pd.Series(["a", "file\udce4", "b"], table.index, dtype=object)
    with pytest.raises(StoreError, match=r"'path' holds 'file.udce4' in row 2: .* bytes that are not UTF-8"):
        stored(tmp_path / f"store{suffix}", table.assign(path=files))


def test_numbers_that_may_be_missing_come_back_as_float64(tmp_path, suffix):
    table = pd.DataFrame(
        {"session": pd.array([1, None], "Int64"), "acted": pd.array([True, None], "boolean")},
        index=pd.Index(["a", "b"], name="name"),
    )
    again = read_table(stored(tmp_path / f"store{suffix}", table))
    assert again.dtypes.tolist() == [np.float64, np.float64]
    assert again.isna().to_numpy().tolist() == [[False, False], [True, True]]


def test_one_long_text_does_not_make_the_others_long(table):
    rows = 20_000
    many = pd.DataFrame(
        {"words": ["x" * 20_000, *[""] * (rows - 1)]}, index=pd.Index(map(str, range(rows)), name="name")
    )
    tracemalloc.start()
    table_digest(many)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


@pytest.mark.parametrize("narrow", ["int32", "uint8", "Int64"])
def test_narrow_integers_come_back_as_int64(tmp_path, suffix, narrow):
    table = pd.DataFrame({"session": pd.array([1, 2], narrow)}, index=pd.Index(["a", "b"], name="name"))
    again = read_table(stored(tmp_path / f"store{suffix}", table))
    assert again["session"].dtype == np.int64
    assert table_digest(table) == table_digest(again)


@pytest.mark.parametrize(
    ("column", "value"),
    [("speaker", "s"), ("session", -3), ("V", 0.0), ("acted", True), ("a/b.c", "'"), ("speaker", " ")],
)
def test_digest_changes_with_a_value(table, column, value):
    changed = table.copy()
    changed.loc["y/z", column] = value
    assert table_digest(changed) != table_digest(table)


def test_digest_changes_with_names_order_and_columns(table):
    others = [
        table.rename(index={"x": "x2"}),
        table.iloc[::-1],
        table.rename(columns={"V": "A"}),
        table.drop(columns="V"),
        table[table.columns[::-1]],
        table.astype({"acted": int}),
    ]
    digests = {table_digest(other) for other in [table, *others]}
    assert len(digests) == 1 + len(others)


def test_digest_keeps_neighbouring_values_apart(table):
    pairs = [["ab", "", "c"], ["a", "b", "c"], ["", "ab", "c"]]
    assert len({table_digest(table.assign(speaker=pair)) for pair in pairs}) == 3


def test_digest_does_not_change_otherwise(table):
    assert table_digest(table.copy()) == table_digest(table)
    assert table_digest(table.astype({"speaker": object, "a/b.c": "category"})) == table_digest(table)


def test_golden_digest(table):
    assert table_digest(table) == "758f31fd0481d93dad545531077dcf2453f478f1acd2aafef6ed783672cd16b5"


def test_zarr_python_opens_it(tmp_path, table):
    stored(tmp_path / "store.zarr", table)
    group = zarr.open_group(tmp_path / "store.zarr/table", mode="r")
    assert list(group.attrs["columns"]) == ["name", *table.columns]
    assert group.attrs["columns"]["V"] == "float64"
    assert group["session"][:].tolist() == table["session"].tolist()
    assert np.array_equal(group["V"][:], table["V"], equal_nan=True)
    assert group["acted"][:].tolist() == [True, False, True]
    content, offsets = group["a%2Fb.c/bytes"][:].tobytes(), group["a%2Fb.c/offsets"][:]
    assert [content[a:b].decode() for a, b in pairwise(offsets)] == table["a/b.c"].tolist()


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("V/zarr.json", lambda content: content.replace(b"float64", b"floau64")),
        ("V/zarr.json", lambda _: b"{}"),
        ("V/zarr.json", lambda content: content.replace(b'"shape"', b'"shapf"')),
        ("zarr.json", lambda content: content.replace(b'"name"', b'"nama"')),
        ("zarr.json", lambda _: b'{"attributes": {}}'),
        ("V/c/0", None),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, table, file, change):
    backend = stored(tmp_path / "store.zarr", table)
    path = tmp_path / "store.zarr/table" / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(StoreError, match="damaged"):
        read_table(backend)


@pytest.mark.parametrize("file", ["V/c/0", "speaker/bytes/c/0", "name/offsets/c/0"])
def test_truncated_column_is_refused(tmp_path, table, file):
    backend = stored(tmp_path / "store.zarr", table)
    path = tmp_path / "store.zarr/table" / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 8 // 2 * 8])
    with pytest.raises(StoreError, match="damaged"):
        read_table(backend)
