"""Databases in audformat, written by audformat itself."""

import logging
import math
from contextlib import contextmanager

import audformat
import pandas as pd
import pytest
import soundfile

from extract.config import ExtractConfig
from extract.datasets.audformat import AudFormat
from extract.run import extract
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, DatasetError
from tests.extract import layouts

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # how audformat calls pandas when it writes


@pytest.fixture
def root(tmp_path, spoken):
    return layouts.audformat_database(tmp_path / "db", spoken)


@contextmanager
def changed(root):
    """Give out the database, to be saved as it is changed."""
    database = audformat.Database.load(str(root), load_data=True)
    yield database
    database.save(str(root))


def add(database, name, index, **said):
    database[name] = audformat.Table(index if isinstance(index, pd.Index) else audformat.filewise_index(index))
    for column, values in said.items():
        database[name][column] = audformat.Column(scheme_id=column if column in database.schemes else None)
        database[name][column].set(values)


def test_tables_become_one_with_what_their_schemes_say(root):
    labels = AudFormat(root=root).read()
    table = labels.table
    assert table.index.tolist() == ["one/a", "one/b", "two/a", "two/gone"]
    assert table["path"].tolist() == list(layouts.AUDFORMAT_FILES)
    assert table["split"].tolist() == ["train", "train", "test", "test"]
    assert table["emotion"].tolist() == ["anger", "", "", "neutral"]
    assert table["emotion_code"].tolist() == ["W", "", "X", "N"]
    assert table["speaker"].tolist() == ["3", "8", "", "3"]
    assert table["gender"].tolist() == ["male", "female", "", "male"]
    assert table["age"].tolist() == pytest.approx([31, math.nan, math.nan, 31], nan_ok=True)
    assert table["transcript"].tolist() == [
        "Der Lappen liegt auf dem Eisschrank.",
        "",
        *table["transcript"][:1].tolist() * 2,
    ]
    assert table["transcript_code"].tolist() == ["a01", "", "a01", "a01"]
    assert table["V"].tolist() == pytest.approx([0.5, math.nan, -1, 0], nan_ok=True)
    assert table["A"].tolist() == pytest.approx([2, math.nan, 7, 1], nan_ok=True)
    assert table["acted"].tolist() == pytest.approx([1, math.nan, 0, 1], nan_ok=True)
    assert table["db_duration"].tolist() == [1.5] * 4
    assert labels.ranges == {"V": (-1.0, 1.0), "A": (1.0, 7.0)}


def test_it_is_extracted_and_what_is_missing_is_named(root, tmp_path):
    settings = ["dataset=audformat", f"dataset.root={root}", f"store={tmp_path / 's.zarr'}", "pitch={}"]
    summary = extract(load(ExtractConfig, [], settings))
    assert summary.utterances == 3
    assert summary.left_out == {"two/gone": f"no audio file {root / 'two/gone.wav'}"}


def test_the_table_that_is_named_says_which_files_and_the_others_what_it_lacks(root):
    table = AudFormat(root=root, table="emotion.held").read().table
    assert table.index.tolist() == ["two/a", "two/gone"]
    assert table["speaker"].tolist() == ["", "3"]
    assert set(AudFormat(root=root, table="emotion.*").read().table["split"]) == {"train", "test"}
    with pytest.raises(DatasetError, match=r"has no table 'emotion.hold'; did you mean 'emotion.held'\?"):
        AudFormat(root=root, table="emotion.hold").read()


def test_tables_that_contradict_each_other_are_refused_until_one_is_named(root, caplog):
    with changed(root) as database:
        add(database, "other", ["one/a.wav", "one/b.wav"], emotion=["N", "N"])
    message = (
        r"emotion of one/a.wav is angry \(table emotion.train\), neutral \(table other\); choose with dataset.table"
    )
    with pytest.raises(DatasetError, match=message):
        AudFormat(root=root).read()
    assert AudFormat(root=root, table="other").read().table["emotion"].tolist() == ["neutral", "neutral"]
    assert AudFormat(root=root, table="emotion.*").read().table["emotion"].tolist() == ["anger", "", "", "neutral"]
    with caplog.at_level(logging.WARNING):
        assert "emotion" not in AudFormat(root=root, table="files").read().table
    assert "left out the column emotion, on which tables disagree: emotion of one/a.wav is angry" in caplog.text


@pytest.mark.parametrize(
    ("starts", "ends", "found"),
    [(["0.5s"], [pd.NaT], "from 0.5 s to its end"), (["0s"], ["0.1s"], "from 0 s to 0.1 s")],
)
def test_parts_of_files_are_refused(root, starts, ends, found):
    with changed(root) as database:
        add(database, "parts", audformat.segmented_index(["one/a.wav"], starts, ends))
    with pytest.raises(DatasetError, match=f"parts of .* has segments of files, e.g. one/a.wav {found}, expected"):
        AudFormat(root=root).read()
    wave, rate = soundfile.read(root / "one/a.wav")
    soundfile.write(root / "one/a.flac", wave, rate)
    (root / "one/a.wav").unlink()
    with pytest.raises(DatasetError, match=r"parts of .* has segments of files"):  # of a file that was converted, too
        AudFormat(root=root).read()
    assert len(AudFormat(root=root, table="files").read().table) == 4


def test_a_scale_that_no_scheme_declares_is_asked_for(root):
    with changed(root) as database:
        add(database, "more", ["one/a.wav", "one/b.wav"], dominance=[1, None])
    with pytest.raises(DatasetError, match=r"no minimum and maximum for D: say dataset.ranges.D=\[LOW,HIGH\]"):
        AudFormat(root=root).read()
    labels = AudFormat(root=root, ranges={"D": (1, 5)}).read()
    assert labels.ranges["D"] == (1, 5)
    assert labels.table["D"].tolist() == pytest.approx([1, *[math.nan] * 3], nan_ok=True)


def test_values_outside_a_scale_are_kept_and_flagged(root):
    table = AudFormat(root=root, ranges={"V": (-0.5, 1)}).read().table
    assert table["flags"].tolist() == ["", "", "V=-1 is outside -0.5 to 1", ""]


def test_columns_are_chosen_by_name(root):
    table = AudFormat(root=root, columns={"V": "arousal"}).read().table
    assert table["V"].tolist() == pytest.approx([2, math.nan, 7, 1], nan_ok=True)
    assert table["valence"].tolist() == pytest.approx([0.5, math.nan, -1, 0], nan_ok=True)
    with pytest.raises(DatasetError, match=r"lacks the columns valense: .* did you mean 'valence'\?"):
        AudFormat(root=root, columns={"V": "valense"}).read()


@pytest.mark.parametrize("setting", ["dataset.ranges.V=[2,1]", "dataset.columns.X=valence", "dataset.tables=files"])
def test_settings_that_cannot_be_meant_are_refused(root, setting):
    with pytest.raises(ConfigError):
        load(ExtractConfig, [], ["dataset=audformat", f"dataset.root={root}", setting])


def test_files_that_differ_in_their_suffix_keep_it(root):
    with changed(root) as database:
        add(database, "more", ["one/a.flac"])
    expected = ["one/a.flac", "one/a.wav", "one/b", "two/a", "two/gone"]
    assert AudFormat(root=root).read().table.index.tolist() == expected


def test_speakers_in_a_table_of_their_own(root):
    with changed(root) as database:
        database["people"] = audformat.MiscTable(pd.Index(["s1", "s2"], name="who"))
        database.schemes["age"] = audformat.Scheme("int")
        database["people"]["age"] = audformat.Column(scheme_id="age")
        database["people"]["age"].set([40, None])
        database.schemes["who"] = audformat.Scheme("str", labels="people")
        add(database, "who", ["one/a.wav", "one/b.wav"], who=["s1", "s2"])
    table = AudFormat(root=root, table="who", columns={"speaker": "who"}).read().table
    assert table["speaker"].tolist() == ["s1", "s2"]
    assert table["age"].tolist() == pytest.approx([40, math.nan], nan_ok=True)


@pytest.mark.parametrize("damage", ["", "tables: [", "name: x\ntables:\n  files: {type: filewise}\n"])
def test_a_damaged_database_is_one_line(root, damage):
    (root / "db.yaml").write_text(damage)
    for file in root.glob("db.files.*"):
        file.unlink()
    with pytest.raises(DatasetError, match="cannot be read as audformat"):
        AudFormat(root=root).read()
    (root / "db.yaml").unlink()
    with pytest.raises(DatasetError, match=r"no .*db.yaml; expected a folder with db.yaml"):
        AudFormat(root=root).read()
