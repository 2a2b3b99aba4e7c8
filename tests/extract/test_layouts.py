"""The parsers of raw layouts, on datasets with the oddities of the real ones, and on the real ones where they are."""

import json

import pandas as pd
import pytest

from extract.audio import AudioError, count_samples
from extract.config import ExtractConfig
from extract.datasets import Dataset
from extract.datasets.ccsemo import CCSEMO
from extract.datasets.crema_d import CremaD
from extract.datasets.emotale import EmoTale
from extract.datasets.iemocap import IEMOCAP
from extract.datasets.msp_podcast import MSPPodcast
from extract.datasets.ravdess import RAVDESS
from extract.run import extract
from featurestore.shared.config import load
from featurestore.shared.errors import DatasetError
from tests.extract import layouts
from tests.extract.samples import shared


def ratings(table, name):
    return json.loads(table.loc[name, "ratings"])


def test_iemocap_turns(tmp_path, spoken):
    labels = IEMOCAP(root=layouts.iemocap(tmp_path, spoken)).read()
    table = labels.table
    assert table.index.tolist() == [
        "Ses01F_impro01_F000",
        "Ses01F_impro01_M000",
        "Ses01F_impro01_F001",
        "Ses05M_script01_1b_F000",
    ]
    assert table["speaker"].tolist() == ["Ses01F", "Ses01M", "Ses01F", "Ses05F"]  # not the letter of the dialogue
    assert table["session"].tolist() == ["Ses01"] * 3 + ["Ses05"]
    assert table["script"].tolist() == ["impro01"] * 3 + ["script01_1b"]
    assert table["emotion"].tolist() == ["neutral", "excitement", "", "frustration"]
    assert table["emotion_4"].tolist() == ["neutral", "happiness", "", ""]
    assert table["transcript"].tolist() == ["Excuse me.", "Do you have your forms: [BREATHING] yes?", "Yeah.", "Well."]
    assert table.loc["Ses01F_impro01_M000", ["start", "end"]].tolist() == [7.5712, 10.475]
    (where,) = labels.left_out
    assert where.startswith("Ses01F_impro01.txt line ")
    assert labels.left_out[where].startswith("expected [START - END] NAME EMOTION [V, A, D], found [12.0000 - 13.0000]")


def test_iemocap_values_outside_the_scale_are_kept_and_flagged(tmp_path, spoken):
    table = IEMOCAP(root=layouts.iemocap(tmp_path, spoken)).read().table
    assert table.loc["Ses01F_impro01_M000", [*"VAD"]].tolist() == [5.5, 2.0, 0.5]
    assert table["flags"].tolist() == ["", "V=5.5 is outside 1 to 5; D=0.5 is outside 1 to 5", "", ""]


def test_iemocap_keeps_what_each_rater_said(tmp_path, spoken):
    table = IEMOCAP(root=layouts.iemocap(tmp_path, spoken)).read().table
    assert ratings(table, "Ses01F_impro01_F000") == [
        {"rater": "C-E2", "emotion": "Neutral"},
        {"rater": "C-E3", "emotion": "Neutral; Frustration", "comment": "a little impatient"},
        {"rater": "C-F1", "emotion": "Neutral"},
        {"rater": "A-E3", "V": 3.0, "A": 2.0, "D": 2.0},
        {"rater": "A-E4", "V": 2.0, "A": 3.0, "comment": "mixed"},  # has left out dominance
        {"rater": "A-F1", "V": 3.0, "A": 2.0, "D": 1.0},
    ]
    assert ratings(table, "Ses01F_impro01_F001") == []


def test_iemocap_elsewhere(tmp_path):
    with pytest.raises(DatasetError, match=r"no turn in .*; expected a folder with Session1"):
        IEMOCAP(root=tmp_path).read()


def test_iemocap_alignments_where_asked(tmp_path, spoken):
    root = layouts.iemocap(tmp_path, spoken)
    assert "words" not in IEMOCAP(root=root).read().table
    table = IEMOCAP(root=root, alignments=True).read().table
    assert table["words"].tolist() == ['[["EXCUSE",0.2,0.45],["ME",0.5,0.58]]', "", "", "[]"]
    flag = "the alignment Ses01F_impro01_M000.wdseg cannot be used: line 2 is '0\\t   19\\t  -11664', expected SFrm"
    assert [flag in one for one in table["flags"]] == [False, True, False, False]
    assert table.loc["Ses01F_impro01_M000", "flags"].startswith("V=5.5 is outside 1 to 5; ")


def test_alignments_that_are_not_there_are_said(tmp_path, spoken):
    root = layouts.iemocap(tmp_path, spoken)
    for file in root.rglob("*.wdseg"):
        file.unlink()
    expected = r"found no alignment file, expected e.g. .*Session1/sentences/ForcedAlignment/Ses01F_impro01"
    with pytest.raises(DatasetError, match=expected):
        IEMOCAP(root=root, alignments=True).read()


def test_msp_podcast_alignments_where_asked(tmp_path, spoken):
    root = layouts.msp_podcast(tmp_path, spoken)
    assert "words" not in MSPPodcast(root=root).read().table
    table = MSPPodcast(root=root, alignments=True).read().table
    words = [["so", 0.11, 0.2], ['say "hi"', 0.2, 0.3], ["it", 0.4, 0.5]]
    assert json.loads(table["words"].iloc[0]) == words
    assert table["words"].tolist()[1:] == [""] * 4
    assert table["flags"].iloc[1].endswith("found the tiers clicks, phones, expected an interval tier called words")
    assert "0002_0033.TextGrid cannot be used: it is not a TextGrid: " in table["flags"].iloc[2]
    assert table["flags"].tolist()[3:] == ["", ""]


@pytest.mark.parametrize("layout", ["1.11", "1.6", "json", "columns"])
def test_msp_podcast_releases(tmp_path, spoken, layout):
    """The attributes go by their names: their order differs between the releases."""
    dataset = MSPPodcast(root=layouts.msp_podcast(tmp_path, spoken, layout))
    table = dataset.read().table
    first = table.loc["MSP-PODCAST_0001_0008"]
    assert first[[*"VAD"]].tolist() == [4.0, 2.2, 7.5]
    assert first["flags"] == "D=7.5 is outside 1 to 7"
    assert first["transcript"] == "so that was it"
    assert table["speaker"].tolist()[:4] == ["30", "", "39", ""]
    assert table["split"].tolist()[:4] == ["train", "dev", "test", "test2"]
    if layout != "1.6":
        assert table["emotion"].tolist()[:4] == ["neutral", "", "contempt", "anger"]
    worker = {"rater": "WORKER00000001", "emotion": "Neutral", "emotions": "Neutral,Concerned"}
    assert ratings(table, "MSP-PODCAST_0001_0008")[0] == worker | {"V": 4.0, "A": 2.0, "D": 3.0}
    assert ratings(table, "MSP-PODCAST_0002_0033") == []
    assert all((dataset.audio_folder() / path).exists() for path in table["path"])


def test_msp_podcast_test3_has_no_labels(tmp_path, spoken):
    table = MSPPodcast(root=layouts.msp_podcast(tmp_path, spoken)).read().table
    last = table.loc["MSP-PODCAST_0004_0007"]
    assert (last["split"], last["emotion"], last["flags"]) == ("test3", "", "")
    assert last[[*"VAD"]].isna().all()


def test_msp_podcast_a_rating_without_a_number(tmp_path, spoken):
    table = MSPPodcast(root=layouts.msp_podcast(tmp_path, spoken)).read().table
    (rating,) = ratings(table, "MSP-PODCAST_0001_0009")
    assert rating == {"rater": "WORKER00000003", "emotion": "Happy", "emotions": "Happy", "V": 5.0, "D": 4.0}


@pytest.mark.parametrize("said", ["", "X", "n/a", "nan"])
@pytest.mark.parametrize("layout", ["columns", "1.11"])
def test_msp_podcast_what_a_rater_left_out_is_missing(tmp_path, spoken, layout, said):
    root = layouts.msp_podcast(tmp_path, spoken, layout)
    file = root / "Labels/labels_detailed.csv"
    row = f",W9,,Angry,{said},5,4" if layout == "columns" else f',"W9; ; Angry; A:{said}; V:5; D:4;"'
    file.write_text(f"{file.read_text()}\n{layouts.MSP_TURNS[1]}{row}\n")
    *_, rating = ratings(MSPPodcast(root=root).read().table, "MSP-PODCAST_0001_0009")
    assert rating == {"rater": "W9", "emotion": "", "emotions": "Angry", "V": 5.0, "D": 4.0}


def test_msp_podcast_details_without_names(tmp_path, spoken):
    root = layouts.msp_podcast(tmp_path, spoken)
    (root / "Labels/labels_detailed.csv").write_text("File,EmoDetail\na,b\n")
    with pytest.raises(DatasetError, match=r"labels_detailed\.csv.*FileName"):
        MSPPodcast(root=root).read()


def test_msp_podcast_says_how_much_audio_is_there(tmp_path, spoken):
    dataset = MSPPodcast(root=layouts.msp_podcast(tmp_path, spoken))
    assert dataset.lacking(dataset.read()) == ""
    (tmp_path / "Audios" / layouts.MSP_TURNS[2]).unlink()
    assert "found the audio of 4 turns" in dataset.lacking(dataset.read())
    assert "its labels name 5" in dataset.lacking(dataset.read())


def test_msp_podcast_a_value_that_is_no_number_is_flagged(tmp_path, spoken):
    root = layouts.msp_podcast(tmp_path, spoken)
    file = root / "Labels/labels_consensus.csv"
    file.write_text(file.read_text().replace(",X,4.0,", ",X,four,"))
    row = MSPPodcast(root=root).read().table.loc["MSP-PODCAST_0001_0009"]
    assert row["flags"] == "A='four' is not a number"
    assert pd.isna(row["A"])


@pytest.mark.parametrize(("content", "message"), [("[1, 2]", "holds a list, expected an object"), ("{", "is not JSON")])
def test_msp_podcast_labels_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "labels_consensus.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        MSPPodcast(root=tmp_path).read()


def test_crema_d_what_was_acted_and_what_was_heard(tmp_path, spoken):
    labels = CremaD(root=layouts.crema_d(tmp_path, spoken)).read()
    table = labels.table
    assert labels.left_out == {}
    assert table["emotion"].tolist() == ["anger", "neutral", "sadness", "sadness", "sadness"]
    assert table["level"].tolist() == ["HI", "XX", "XX", "XX", "XX"]
    assert table["emotion_voice"].tolist() == ["anger", "neutral", "", "fear", "sadness"]  # the third is a tie
    assert table["VoiceVote"].tolist() == ["A", "N", "N:S", "F", "S"]
    assert table["transcript"].tolist()[:2] == ["It's eleven o'clock", "That is exactly what happened"]
    assert table["gender"].tolist() == ["male", "male", "", "", ""]
    assert table["age"].tolist() == pytest.approx([51, 51, *[float("nan")] * 3], nan_ok=True)
    assert ratings(table, "1001_IEO_ANG_HI") == [
        {"rater": "u1_01", "mode": "voice", "emotion": "anger", "level": "80"},
        {"rater": "u2_01", "mode": "audiovisual", "emotion": "neutral", "level": "31"},
    ]


def test_crema_d_has_an_empty_clip(tmp_path, spoken):
    root = layouts.crema_d(tmp_path, spoken)
    with pytest.raises(AudioError, match="holds no samples"):
        count_samples(root / "AudioWAV" / f"{layouts.EMPTY_CLIP}.wav")


def test_crema_d_without_its_tables(tmp_path, spoken):
    root = layouts.crema_d(tmp_path, spoken)
    for file in root.rglob("*.csv"):
        file.unlink()
    table = CremaD(root=root).read().table
    assert table["emotion"].tolist() == ["anger", "neutral", "sadness", "sadness", "sadness"]
    assert not {"ratings", "gender", "VoiceVote"} & set(table.columns)


def test_ravdess_once_and_without_songs(tmp_path, spoken, caplog):
    dataset = RAVDESS(root=layouts.ravdess(tmp_path, spoken))
    table = dataset.read().table
    assert table.index.tolist() == sorted(layouts.RAVDESS_CLIPS)
    assert table["emotion"].tolist() == ["neutral", "fear", "surprise"]
    assert table["speaker"].tolist() == ["01", "12", "24"]
    assert table["gender"].tolist() == ["male", "female", "female"]
    assert not table["path"].str.contains("audio_speech").any()
    assert "4 files have the same name as a file nearer to" in caplog.text


def test_ccsemo_finds_the_audio_of_another_machine(tmp_path, spoken):
    labels = CCSEMO(root=layouts.ccsemo(tmp_path, spoken)).read()
    assert labels.table.index.tolist() == ["spk11-1-1-103", "spk11-2-1-7", "spk369-1-1-20"]
    assert labels.table["speaker"].tolist() == ["spk11", "spk11", "spk369"]
    assert labels.table["emotion"].tolist() == ["neutral", "happiness", "sadness"]
    assert labels.table["split"].tolist() == ["train", "dev", "test"]
    assert labels.ranges == {"V": (-2.0, 2.0), "A": (1.0, 5.0)}
    assert (labels.table["path"] == [str(tmp_path / f"audio/{name}.wav") for name in labels.table.index]).all()


def test_label_files_take_the_place_of_a_raw_layout(tmp_path, spoken):
    root = layouts.iemocap(tmp_path / "raw", spoken)
    header = "audio_path,session,dialog,name,start_time,end_time,discrete_emotion,V,A,D,transcription"
    for part, turns in {"train": ["F000", "M000"], "val": ["F001"]}.items():
        rows = [
            f"/elsewhere/IEMOCAP_full_release/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav,Session1,"
            f"Ses01F_impro01,Ses01F_impro01_{turn},6.2901,8.2357,exc,5.5,2.5,2.5,Excuse me."
            for turn in turns
        ]
        layouts.write(tmp_path, {f"labels/IEMOCAP/{part}.csv": "\n".join([header, *rows])})
    dataset = IEMOCAP(root=root, label_csv=tmp_path / "labels/IEMOCAP")
    table = dataset.read().table
    assert table["split"].tolist() == ["train", "train", "dev"]
    assert table["speaker"].tolist() == ["Ses01F", "Ses01M", "Ses01F"]
    assert table["emotion"].tolist() == ["excitement"] * 3
    assert table["emotion_4"].tolist() == ["happiness"] * 3
    assert (table["flags"] == "V=5.5 is outside 1 to 5").all()
    assert table["transcript"].tolist() == ["Excuse me."] * 3
    assert all(count_samples(root / path) for path in table["path"])


@pytest.mark.parametrize("name", ["iemocap", "crema_d", "ccsemo"])
def test_a_label_file_needs_no_emotion(tmp_path, name):
    """The columns that it has are kept: a speaker, a flag; V and A are numbers."""
    header, row = "name,audio_path,V,A,speaker,flags", "Ses01F_impro01_F000,a.wav,1.5,2,s1,noisy"
    layouts.write(tmp_path, {"labels.csv": f"{header}\n{row}"})
    table = Dataset.kind(name)(root=tmp_path, label_csv=tmp_path).read().table
    assert table["V"].tolist() == [1.5]
    assert table["flags"].tolist() == ["noisy"]
    assert "emotion" not in table
    assert table["speaker"].tolist() == ["Ses01F" if name == "iemocap" else "s1"]


def test_a_dataset_that_is_not_whole_is_refused_unless_asked(tmp_path, spoken):
    root = layouts.crema_d(tmp_path / "raw", spoken)
    settings = [f"dataset.root={root}", f"store={tmp_path / 'store.zarr'}", "logmel={}"]
    config = load(ExtractConfig, [], ["dataset.name=crema-d", *settings])
    with pytest.raises(DatasetError, match=r"found 5 utterances in .*, the whole dataset has 7442: complete it, or go"):
        extract(config)
    assert not (tmp_path / "store.zarr").exists()
    summary = extract(load(ExtractConfig, [], ["dataset.name=crema-d", *settings, "dataset.allow_partial=true"]))
    assert (summary.utterances, list(summary.left_out)) == (4, [layouts.EMPTY_CLIP])


def test_the_real_labels_of_whiser():
    table = MSPPodcast(root=shared("corpora", "whiser")).read().table
    assert len(table) == 5427
    assert sum(len(json.loads(rating)) for rating in table["ratings"]) == 27_156
    assert table["emotion_code"].value_counts().to_dict()["N"] == 3492
    first = table.loc["001-105.1-2_14"]
    assert first[[*"VAD"]].tolist() == [3.6, 3.4, 3.6]
    mean = pd.DataFrame(json.loads(first["ratings"]))[[*"VAD"]].mean()
    assert mean.tolist() == pytest.approx([3.6, 3.4, 3.6])


def test_the_real_votes_of_crema_d():
    dataset = CremaD(root=shared("corpora", "crema-d"))
    table = dataset.read().table
    assert len(table) == 12
    assert table["speaker"].unique().tolist() == ["1001", "1002"]
    assert (table["VoiceVote"] != "").all()
    assert "the whole dataset has 7442" in dataset.lacking(dataset.read())


def test_the_real_emotale_has_three_raters():
    table = EmoTale(root=shared("corpora", "emotale")).read().table
    assert {len(json.loads(one)) for one in table["ratings"]} == {3}
    first = json.loads(table["ratings"].iloc[0])
    assert first[0] == {"rater": "a1", "emotion": "A", "V": 1.5, "A": 4.0, "D": 4.5}
