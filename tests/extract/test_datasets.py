import csv
import json
import os

import pandas as pd
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from extract.audio import count_samples
from extract.config import ExtractConfig
from extract.datasets import Dataset
from extract.datasets.csv import CSV, SPLITS
from extract.datasets.demo import Demo
from extract.datasets.emodb import EmoDB
from extract.datasets.emotale import EmoTale
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, DatasetError
from tests.extract.layouts import LAYOUTS
from tests.extract.samples import EMODB_CLIPS, EMOTALE_CLIPS, shared

HEADER = "name,audio_path,V,A,split_set\n"
EMODB_COUNTS = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}


@pytest.mark.parametrize("name", Dataset.names())
def test_every_dataset_gives_a_table_of_labels(name, request, tmp_path_factory):
    needs = {"emodb": "emodb", "emotale": "emotale", "csv": "labelled", "folder": "labelled"}
    if name == "demo":
        settings = {"root": tmp_path_factory.mktemp("demo") / "demo", "clips": 1}
    elif name in LAYOUTS:
        settings = {"root": LAYOUTS[name](tmp_path_factory.mktemp(name), request.getfixturevalue("spoken"))}
    else:
        root = request.getfixturevalue(needs[name])
        settings = {"root": root.parent if name == "folder" else root}
    dataset = Dataset.kind(name)(**settings)
    labels = dataset.read()
    table = labels.table
    assert table.index.is_unique
    assert table.index.name == "name"
    assert not table.select_dtypes("str").isna().any().any()
    assert not set(labels.left_out) & set(table.index)
    for path in table["path"].drop(["1076_MTI_SAD_XX", "two/gone"], errors="ignore"):
        assert count_samples(dataset.audio_folder() / path) > 1000
    assert "speaker" in table or name == "folder"
    if "gender" in table:
        assert set(table["gender"]) <= {"female", "male", ""}
    if "split" in table:
        assert set(table["split"]) <= {"train", "dev", "test", "test2", "test3"}
    if "emotion_code" in table:
        assert set(table["emotion"]) <= {*dataset.EMOTIONS.values(), ""}
    for rating in [rating for ratings in table.get("ratings", []) for rating in json.loads(ratings)]:
        assert isinstance(rating["rater"], str)
        assert all(isinstance(rating[target], float) for target in "VAD" if target in rating)
    for target, (low, high) in labels.ranges.items():
        outside = ~table[target].between(low, high) & table[target].notna()
        assert table["flags"][outside].str.contains(f"{target}=").all() if outside.any() else True


@pytest.mark.parametrize("name", [name for name in Dataset.names() if name != "demo"])
def test_without_a_root_the_message_says_what_it_should_hold(name, tmp_path):
    kind = Dataset.kind(name)
    with pytest.raises(DatasetError, match=f"dataset {name} needs --root DIR: a "):
        kind().labels()
    with pytest.raises(DatasetError, match=f"dataset {name}: .*nothing does not exist; expected a "):
        kind(root=tmp_path / "nothing").labels()


def test_emodb_file_names(emodb, spoken):
    soundfile.write(emodb / "wav/notes.wav", spoken[0], 16_000)
    dataset = EmoDB(root=emodb)
    labels = dataset.labels()
    assert labels.table["emotion"].tolist() == ["happiness", "anger", "neutral", "sadness", "boredom"]
    assert labels.table["speaker"].tolist() == [name[:2] for name in EMODB_CLIPS]
    assert labels.table["gender"].tolist() == ["male", "male", "female", "male", "female"]
    assert labels.left_out == {"notes": "the file name 'notes.wav' is not of the form 03a01Fa.wav"}
    assert dataset.lacking(labels).endswith("the whole dataset has 535")


def test_emodb_has_ten_speakers(emodb, spoken):
    soundfile.write(emodb / "wav/99a01Fa.wav", spoken[0], 16_000)
    assert list(EmoDB(root=emodb).labels().left_out) == ["99a01Fa"]


def test_a_file_name_that_is_not_utf_8_is_left_out(emodb, tmp_path):
    (emodb / "wav" / os.fsdecode(b"caf\xe9.wav")).touch()
    assert "caf\\xe9" in EmoDB(root=emodb).labels().left_out


def test_emodb_of_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"no file in .* has a name like 03a01Fa; expected a folder with"):
        EmoDB(root=tmp_path).labels()


def test_emotale_ratings(emotale):
    table = EmoTale(root=emotale).labels().table
    assert table.index.tolist() == list(EMOTALE_CLIPS)
    assert table["V"].tolist() == pytest.approx([2.0, 2.5, 3.0])
    assert table.loc["EN_018_S_3", ["a1_V", "a3_D"]].tolist() == [2.5, 3.5]
    assert table["emotion"].tolist() == ["anger", "neutral", "sadness"]
    assert table["language"].tolist() == ["DK", "DK", "EN"]
    dk, dk_too, en = table["transcript"]
    assert (dk, dk_too) == (
        "Dugen ligger på køleskabet.",
        "Det sorte ark papir er placeret deroppe ved siden af tømmerstykket.",
    )
    assert en == "They just carried it upstairs and now they are going down again."


def test_emotale_speakers(emotale):
    assert not {"gender", "age"} & set(EmoTale(root=emotale).labels().table.columns)
    (emotale / "speaker_info.csv").write_text("speaker,gender,age\n001,F,22\n003,M,23\n")
    table = EmoTale(root=emotale).labels().table
    assert table["gender"].tolist() == ["female", "male", ""]
    assert table["age"].tolist() == pytest.approx([22, 23, float("nan")], nan_ok=True)


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        ("hello.wav{}", "hello", "the file name hello.wav is not of the form DK_001_A_1.wav"),
        ("DK_001_A_2.wav,x{}", "DK_001_A_2", "annotations.csv line 5 has a rating that is not a number from 1 to 5"),
        ("DK_001_A_2.wav,5.5{}", "DK_001_A_2", "annotations.csv line 5 has a rating that is not a number from 1 to 5"),
        ("DK_001_A_1.wav{}", "DK_001_A_1", "not unique, it stands in annotations.csv line 2, annotations.csv line 5"),
    ],
)
def test_emotale_names_what_it_leaves_out(emotale, row, name, reason):
    with (emotale / "annotations.csv").open("a") as file:
        file.write(row.format(",3" * (13 - row.count(","))) + "\n")
    labels = EmoTale(root=emotale).labels()
    assert list(labels.left_out) == [name]
    assert labels.left_out[name].endswith(reason)
    assert len(labels.table) == len({*EMOTALE_CLIPS} - {name})


def test_emotale_of_rows_that_are_all_left_out(emotale):
    file = emotale / "annotations.csv"
    file.write_text(file.read_text().replace("DK_", "XX_").replace("EN_", "XX_"))
    labels = EmoTale(root=emotale).labels()
    assert (len(labels.table), len(labels.left_out)) == (0, 3)


def test_emotale_without_a_column(emotale):
    file = emotale / "annotations.csv"
    file.write_text(file.read_text().replace("a2_V", "a2_W"))
    with pytest.raises(DatasetError, match=r"annotations\.csv lacks the columns a2_V: found file, a1_A"):
        EmoTale(root=emotale).labels()


@pytest.mark.parametrize(
    ("found", "replacement"),
    [
        ("DK_001_A_1.wav,1.5,", "DK_001_A_1.wav,,"),
        ("DK_001_A_1.wav,1.5,", "DK_001_A_1.wav,high,"),
        ("DK_001_A_1.wav,1.5,", "DK_001_A_1.wav,55,"),
        ("DK_003_N_2.wav", "notes.wav"),
        ("DK_003_N_2.wav", "DK_001_A_1.wav"),
        (",N\n", ",Q\n"),
    ],
    ids=["missing rating", "text", "out of range", "file name", "file twice", "emotion"],
)
def test_emotale_rows_that_are_wrong_do_not_break_the_table(emotale, found, replacement):
    """A rater may be missing, an emotion unknown: what counts is that the table keeps what `Labels` promises."""
    file = emotale / "annotations.csv"
    before = file.read_text()
    file.write_text(before.replace(found, replacement))
    assert file.read_text() != before
    labels = EmoTale(root=emotale).labels()
    assert labels.table.index.is_unique
    assert labels.table[["V", "A", "D"]].map(lambda value: 1 <= value <= 5).all().all()
    assert labels.table[["speaker", "language", "sentence", "emotion"]].notna().all().all()


def test_csv_keeps_names_and_text_as_they_are(labelled):
    labelled.write_bytes(b"\xef\xbb\xbf" + labelled.read_bytes().replace(b"003,", b"nan.WAV,"))
    table = CSV(root=labelled).labels().table
    assert table.index.tolist() == ["000", "001", "002", "nan"]
    assert table["split"].tolist() == ["train", "dev", "test", "dev"]
    assert table["transcript"].iloc[0] == "jå nein"


def leave_out(labelled, *rows, **settings):
    with labelled.open("a") as file:
        file.writelines(f"{row}\n" for row in rows)
    labels = CSV(root=labelled, **settings).labels()
    assert set(labels.table.index) >= {"001", "002", "003"}
    return labels.left_out


def test_csv_names_what_it_leaves_out(labelled):
    left_out = leave_out(
        labelled,
        "000,clip1.wav,1,1,train,s0,again",
        ",clip1.wav,1,1,train,s0,",
        "high,clip1.wav,5.01,1,train,s0,",
        "text,clip1.wav,high,1,train,s0,",
        "missing,clip1.wav,1,,train,s0,",
        "split,clip1.wav,1,1,trian,s0,",
    )
    declare = r"expected 1 to 5 (another range: dataset.ranges.{}=[LOW,HIGH])"
    assert left_out == {
        "000": "the name is not unique, it stands in labels.csv line 2, labels.csv line 6",
        "labels.csv line 7": "it has no name",
        "high": f"labels.csv line 8 has V=5.01, {declare.format('V')}",
        "text": f"labels.csv line 9 has V=high, {declare.format('V')}",
        "missing": f"labels.csv line 10 has A=, {declare.format('A')}",
        "split": "labels.csv line 11 has split_set=trian, expected train, dev (val) or test",
    }


def test_csv_of_rows_that_are_all_left_out_is_an_empty_table(tmp_path):
    for row, reason in (("u,u.wav,2,2,trian", "split_set=trian"), ("u,u.wav,9,2,train", "V=9")):
        (tmp_path / "labels.csv").write_text(f"name,audio_path,V,A,split_set\n{row}\n")
        labels = CSV(root=tmp_path).labels()
        assert list(labels.left_out) == ["u"]
        assert reason in labels.left_out["u"]
        assert labels.table.empty


def test_csv_of_a_header_alone(tmp_path):
    (tmp_path / "labels.csv").write_text("name,audio_path,V,A,split_set\n")
    with pytest.raises(DatasetError, match=r"labels\.csv has a header, but no rows"):
        CSV(root=tmp_path).labels()


@pytest.mark.parametrize("before", ["\n", 'first,u.wav,2,2,train,"two\nlines"\n'])
def test_csv_says_the_line_as_an_editor_counts_it(tmp_path, before):
    good = "good,u.wav,2,2,train,\n"
    (tmp_path / "labels.csv").write_text(
        f"name,audio_path,V,A,split_set,transcript\n{good}{before}bad,u.wav,9,2,train,\n"
    )
    line = 1 + (tmp_path / "labels.csv").read_text().split("bad,")[0].count("\n")
    assert CSV(root=tmp_path).labels().left_out["bad"].startswith(f"labels.csv line {line} has V=9")


@pytest.mark.parametrize(("column", "same"), [("path", "audio_path"), ("split", "split_set")])
def test_csv_with_two_columns_for_one_thing_is_refused(tmp_path, column, same):
    (tmp_path / "labels.csv").write_text(f"name,audio_path,V,A,split_set,{column}\nu,u.wav,2,2,train,theirs\n")
    with pytest.raises(DatasetError, match=f"has both {same} and {column}"):
        CSV(root=tmp_path).labels()


def test_csv_keeps_a_column_called_where(tmp_path):
    (tmp_path / "labels.csv").write_text("name,audio_path,V,A,split_set,where\nu,u.wav,2,2,train,theirs\n")
    assert CSV(root=tmp_path).labels().table.loc["u", "where"] == "theirs"


def test_csv_names_stay_text(tmp_path):
    names = ["001", "1e5", "nan", "NA", "None", "true", "å b"]
    rows = "".join(f"{name},u.wav,2,2,train\n" for name in names)
    (tmp_path / "labels.csv").write_text(f"name,audio_path,V,A,split_set\n{rows}", encoding="utf-8")
    assert CSV(root=tmp_path).labels().table.index.tolist() == names


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0.99", "5.01", "1,5", "three"])
def test_csv_values_that_are_no_ratings(tmp_path, value):
    rows = f'bad,u.wav,"{value}",2,train\ngood,u.wav,2,2,train\n'
    (tmp_path / "labels.csv").write_text(f"name,audio_path,V,A,split_set\n{rows}")
    labels = CSV(root=tmp_path).labels()
    assert labels.table.index.tolist() == ["good"]
    assert f"has V={value}, expected 1 to 5" in labels.left_out["bad"]


def test_csv_absolute_paths(labelled, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "labels.csv"
    elsewhere.write_text(labelled.read_text().replace(",clip", f",{labelled.parent}/clip"))
    dataset = CSV(root=elsewhere, audio_root="nowhere")
    for i, path in enumerate(dataset.labels().table["path"]):
        assert dataset.audio_folder() / path == labelled.parent / f"clip{i}.wav"


def test_csv_ranges_are_declared(labelled):
    ranges = {"V": (0.0, 7.0), "A": (1.0, 5.0)}
    assert leave_out(labelled, "low,clip1.wav,0.5,1,train,s0,", ranges=ranges) == {}
    assert CSV(root=labelled, ranges=ranges).labels().ranges == ranges


def test_csv_range_of_one_target_leaves_the_others(tmp_path):
    (tmp_path / "labels.csv").write_text(f"{HEADER}u1,a,-2,5,train\nu2,b,2,5.5,train\n")
    overrides = ["dataset=csv", f"dataset.root={tmp_path}", "dataset.ranges.V=[-2,2]"]
    labels = load(ExtractConfig, overrides=overrides).dataset.labels()
    assert labels.ranges == {"V": (-2.0, 2.0), "A": (1.0, 5.0)}
    assert labels.table[["V", "A"]].to_numpy().tolist() == [[-2.0, 5.0]]
    assert list(labels.left_out) == ["u2"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ranges.V=[2,-2]", r"\[2,-2\] is not a scale, expected two finite numbers, the lower one first"),
        ("ranges.X=[1,7]", "unknown key 'dataset.ranges.X'"),
    ],
)
def test_csv_ranges_that_are_none(override, message):
    with pytest.raises(ConfigError, match=message):
        load(ExtractConfig, overrides=["dataset=csv", f"dataset.{override}"])


@pytest.mark.parametrize("value", ["x", "nan", "inf", "0.99", "5.01", "1,5"])
@pytest.mark.parametrize("target", ["V", "A", "D"])
def test_csv_values_that_cannot_be_used(tmp_path, target, value):
    values = ",".join(f'"{value}"' if t == target else "3" for t in "VAD")
    rows = f"name,audio_path,V,A,D,split_set\nu1,a,{values},train\nu2,b,1,5,2,train\n"
    (tmp_path / "labels.csv").write_text(rows)
    labels = CSV(root=tmp_path).labels()
    assert labels.table.index.tolist() == ["u2"]
    assert labels.left_out["u1"].startswith(f"labels.csv line 2 has {target}={value}, expected 1 to 5")


def test_csv_lines_are_those_of_the_file(tmp_path):
    (tmp_path / "labels.csv").write_text(f'{HEADER}u1,"two\nlines",1,1,train\n\n  ,b,1,1,train\n.wav,b,1,1,train\n')
    left_out = CSV(root=tmp_path).labels().left_out
    assert left_out == {"labels.csv line 5": "it has no name", "labels.csv line 6": "it has no name"}


@pytest.mark.parametrize("row", [",a,1,1,train", "u,a,1,1,tset", "u,a,9,1,train", "u,a,1,9,train"])
def test_csv_of_rows_that_are_all_left_out(tmp_path, row):
    (tmp_path / "labels.csv").write_text(f"{HEADER}{row}\n")
    labels = CSV(root=tmp_path).labels()
    assert (len(labels.table), len(labels.left_out)) == (0, 1)


def test_csv_with_blanks_an_index_and_a_column_called_where(tmp_path):
    header = f", {HEADER.strip()}, where".replace(",", ", ")
    (tmp_path / "labels.csv").write_text(f"{header}\n0, u1, a.wav, 1, 5, val , home\n")
    row = CSV(root=tmp_path).labels().table.loc["u1"].to_dict()
    assert row == {"column 1": "0", "path": "a.wav", "V": 1.0, "A": 5.0, "split": "dev", "where": "home"}


def test_csv_dominance_may_be_missing_and_all_three_where_there_is_an_emotion(tmp_path):
    (tmp_path / "labels.csv").write_text(f"{HEADER[:-1]},D\nu1,a,1,1,train,\nu2,b,,1,train,2\n")
    labels = CSV(root=tmp_path).labels()
    assert labels.table["D"].isna().tolist() == [True]
    assert list(labels.left_out) == ["u2"]
    (tmp_path / "labels.csv").write_text(f"{HEADER[:-1]},emotion\nu1,a,,,train,joy\nu2,b,9,1,train,joy\n")
    labels = CSV(root=tmp_path).labels()
    assert labels.table[["V", "A"]].isna().all(axis=None)
    assert list(labels.left_out) == ["u2"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20))
def test_csv_gives_any_text_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [[*HEADER.strip().split(","), "transcript"], ["u", "u.wav", "1", "1", "train", text]]
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    assert CSV(root=path).labels().table.loc["u", "transcript"] == text


@given(st.sampled_from(sorted(SPLITS)), st.lists(st.booleans(), min_size=11, max_size=11))
def test_csv_splits_in_any_case(tmp_path_factory, split, upper):
    spelled = "".join(c.upper() if up else c for c, up in zip(split, upper, strict=False))
    file = tmp_path_factory.mktemp("csv") / "labels.csv"
    file.write_text(f"name,audio_path,V,A,split_set\nu,u.wav,1,1,{spelled}\n")
    assert CSV(root=file).labels().table["split"].tolist() == [SPLITS[split]]


def test_csv_of_three_files(labelled):
    lines = labelled.read_text().splitlines()
    header = lines[0].replace(",split_set", "")
    for i, part in enumerate(("train", "val", "test")):
        row = ",".join(cell for j, cell in enumerate(lines[1 + i].split(",")) if j != 4)
        (labelled.parent / f"{part}.csv").write_text(f"{header}\n{row}\n")
    labelled.unlink()
    table = CSV(root=labelled.parent).labels().table
    assert table["split"].to_dict() == {"000": "train", "001": "dev", "002": "test"}


def test_csv_of_categories_alone(tmp_path):
    (tmp_path / "labels.csv").write_text("name,audio_path,emotion,split_set\nu,u.wav,joy,train\n")
    labels = CSV(root=tmp_path).labels()
    assert (labels.ranges, labels.table["emotion"].tolist()) == ({}, ["joy"])


def test_csv_audio_elsewhere(labelled, tmp_path_factory):
    assert CSV(root=labelled, audio_root="elsewhere").audio_folder().name == "elsewhere"
    assert CSV(root=labelled).audio_folder() == labelled.parent


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "labels.csv is empty"),
        (b"\xef\xbb\xbf\n\n", "labels.csv is empty"),
        (HEADER.encode(), "labels.csv has a header, but no rows"),
        (b"\xff\xfe\x00\x01", "is not a table of comma-separated values: .*utf-8"),
        (HEADER.encode() + b'u1,"a,1,1,train\nu2,b,1,1,train\n', "is not a table .*: unexpected end of data"),
        (HEADER.encode() + b"u1,a,1,1,train\nu2,b,1,1\n", "labels.csv line 3 has 4 values, expected 5"),
        (HEADER.encode() + b"u1,a,1,1,train,more\n", "labels.csv line 2 has 6 values, expected 5"),
        (b"name,V,V,A,audio_path,split_set\nu,1,1,1,a,train\n", "labels.csv has more than one column V"),
        (HEADER[:-1].encode() + b",split\nu,a,1,1,train,1\n", "both split_set and split, which mean the same"),
        (b"name,audio_pth,V,A,split_set\nu,a,1,1,train\n", r"audio_path: found .*; did you mean 'audio_pth'\?"),
        (b"name;V;A\nu;1;1\n", "seems to be separated by semicolons, expected commas: its header is 'name;V;A'"),
        (b"name;V;A\nu;1,5;1,5\n", "seems to be separated by semicolons"),
        (b"name\taudio_path\nu\tu.wav\n", "seems to be separated by tabs"),
        (b"name,file,V\nu,u.wav,1\n", r"lacks the columns audio_path: found name, file, V"),
    ],
)
def test_csv_files_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message) as error:
        CSV(root=tmp_path).labels()
    assert "\n" not in str(error.value)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DatasetError, match="no label file in"):
        CSV(root=tmp_path).labels()


def test_the_demo_is_the_same_every_time(tmp_path):
    for folder in ("a", "b"):
        Demo(root=tmp_path / folder, clips=1).labels()
    files = [sorted((tmp_path / folder).rglob("*.*")) for folder in ("a", "b")]
    assert len(files[0]) == 10
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_the_demo_leaves_other_files_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DatasetError, match=r"holds files but no labels\.csv"):
        Demo(root=tmp_path, clips=1).labels()
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_the_real_emodb(caplog):
    table = EmoDB(root=shared("corpora", "emodb")).labels().table
    assert len(table) == 535
    assert table["speaker"].nunique() == 10
    assert table["emotion_code"].value_counts().to_dict() == EMODB_COUNTS
    assert caplog.text == ""


def test_the_real_emotale():
    dataset = EmoTale(root=shared("corpora", "emotale"))
    labels = dataset.read()
    assert len(labels.table) == 800
    assert labels.table["speaker"].nunique() == 18
    assert all(labels.table[target].between(1, 5).all() for target in "VAD")
    assert all((dataset.audio_folder() / path).exists() for path in labels.table["path"])
    assert isinstance(labels.table["a1_V"].iloc[0], float)
    assert labels.table.groupby("gender")["speaker"].nunique().to_dict() == {"female": 12, "male": 6}
    assert pd.api.types.is_float_dtype(labels.table["V"])
