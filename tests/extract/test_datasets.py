import pandas as pd
import pytest
import soundfile
from conftest import EMODB_CLIPS, EMOTALE_CLIPS, shared
from hypothesis import given
from hypothesis import strategies as st

from extract.audio import count_samples
from extract.datasets import Dataset
from extract.datasets.csv import CSV, SPLITS
from extract.datasets.demo import Demo
from extract.datasets.emodb import EmoDB
from extract.datasets.emotale import EmoTale
from featurestore.errors import DatasetError

EMODB_COUNTS = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}


@pytest.mark.parametrize("name", Dataset.names())
def test_every_dataset_gives_a_table_of_labels(name, request, tmp_path_factory):
    needs = {"emodb": "emodb", "emotale": "emotale", "csv": "labelled"}
    if name == "demo":
        settings = {"root": tmp_path_factory.mktemp("demo") / "demo", "clips": 1}
    else:
        settings = {"root": request.getfixturevalue(needs[name])}
    dataset = Dataset.kind(name)(**settings)
    labels = dataset.labels()
    assert labels.left_out == {}
    assert labels.table.index.is_unique
    assert labels.table.index.name == "name"
    assert not labels.table.isna().any().any()
    for path in labels.table["path"]:
        assert count_samples(dataset.audio_folder() / path) > 1000
    assert (labels.table["speaker"] != "").all()
    if "split" in labels.table:
        assert set(labels.table["split"]) <= {"train", "dev", "test"}
    for target, (low, high) in labels.ranges.items():
        assert labels.table[target].between(low, high).all()


@pytest.mark.parametrize("name", [name for name in Dataset.names() if name != "demo"])
def test_without_a_root_the_message_says_what_it_should_hold(name, tmp_path):
    kind = Dataset.kind(name)
    with pytest.raises(DatasetError, match=f"dataset {name} needs --root DIR: a "):
        kind().labels()
    with pytest.raises(DatasetError, match=f"dataset {name}: no .*nothing; expected a "):
        kind(root=tmp_path / "nothing").labels()


def test_emodb_file_names(emodb, spoken, caplog):
    soundfile.write(emodb / "wav/notes.wav", spoken[0], 16_000)
    labels = EmoDB(root=emodb).labels()
    assert labels.table["emotion"].tolist() == ["happiness", "anger", "neutral", "sadness", "boredom"]
    assert labels.table["speaker"].tolist() == [name[:2] for name in EMODB_CLIPS]
    assert labels.table["gender"].tolist() == ["male", "male", "female", "male", "female"]
    assert labels.left_out == {"notes": "the file name 'notes.wav' is not of the form 03a01Fa.wav"}
    assert "found 6 clips, the whole dataset has 535" in caplog.text


def test_emodb_of_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"no wav/\*\.wav in"):
        EmoDB(root=tmp_path).labels()


def test_emotale_ratings(emotale):
    table = EmoTale(root=emotale).labels().table
    assert table.index.tolist() == list(EMOTALE_CLIPS)
    assert table["V"].tolist() == pytest.approx([2.0, 2.5, 3.0])
    assert table.loc["EN_018_S_3", ["a1_V", "a3_D"]].tolist() == [2.5, 3.5]
    assert table["emotion"].tolist() == ["anger", "neutral", "sadness"]
    assert table["language"].tolist() == ["DK", "DK", "EN"]


def test_emotale_without_a_column(emotale):
    file = emotale / "annotations.csv"
    file.write_text(file.read_text().replace("a2_V", "a2_W"))
    with pytest.raises(DatasetError, match=r"annotations\.csv lacks the columns a2_V: found file, a1_A"):
        EmoTale(root=emotale).labels()


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


def test_csv_ranges_are_declared(labelled):
    ranges = {"V": (0.0, 7.0), "A": (1.0, 5.0)}
    assert leave_out(labelled, "low,clip1.wav,0.5,1,train,s0,", ranges=ranges) == {}
    assert CSV(root=labelled, ranges=ranges).labels().ranges == ranges


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
        (b"", "is not a table of comma-separated values"),
        (b"\xff\xfe\x00\x01", "is not a table"),
        (b"name,file,V\nu,u.wav,1\n", r"lacks the columns audio_path, split_set, A: found name, file, V"),
    ],
)
def test_csv_files_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        CSV(root=tmp_path).labels()
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


def test_the_real_emodb(caplog):
    table = EmoDB(root=shared("corpora", "emodb")).labels().table
    assert len(table) == 535
    assert table["speaker"].nunique() == 10
    assert table["emotion_code"].value_counts().to_dict() == EMODB_COUNTS
    assert caplog.text == ""


def test_the_real_emotale():
    dataset = EmoTale(root=shared("corpora", "emotale"))
    labels = dataset.labels()
    assert len(labels.table) == 800
    assert labels.table["speaker"].nunique() == 18
    assert all(labels.table[target].between(1, 5).all() for target in "VAD")
    assert all((dataset.audio_folder() / path).exists() for path in labels.table["path"])
    assert isinstance(labels.table["a1_V"].iloc[0], float)
    assert pd.api.types.is_float_dtype(labels.table["V"])
