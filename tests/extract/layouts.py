"""Datasets in their raw layouts: spoken by Praat, the label files invented in the exact format with its oddities."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import audformat
import numpy as np
import pandas as pd
import soundfile

from extract.audio import SAMPLING_RATE

Waves = Sequence[np.ndarray]
EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral; Frustration;\t(a little impatient)
C-F1:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()
A-E4:\tval 2; act 3; dom  ;\t(mixed)
A-F1:\tval 3; act 2; dom  1;\t()

[7.5712 - 10.4750]\tSes01F_impro01_M000\texc\t[5.5000, 2.0000, 0.5000]
C-E2:\tExcited;\t()
A-M1:\tval 3; act 2; dom  1;\t()

[10.0100 - 11.3925]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]
[12.0000 - 13.0000]\tSes01F_impro01_F002\tneu [2.5000, 2.5000
"""
SCRIPTED = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0000 - 2.0000]\tSes05M_script01_1b_F000\tfru\t[1.5000, 3.5000, 3.0000]
C-E1:\tFrustration;\t()
"""
TRANSCRIPTIONS = {
    "Session1/dialog/transcriptions/Ses01F_impro01.txt": (
        "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
        "Ses01F_impro01_M000 [007.5712-010.4750]: Do you have your forms: [BREATHING] yes?\n"
        "F: (from off camera)\n"
        "Ses01F_impro01_FXX0 [009.0000-009.5000]: Mmhmm\n"
        "Ses01F_impro01_F001 [010.0100-011.3925]: Yeah.\n"
    ),
    "Session5/dialog/transcriptions/Ses05M_script01_1b.txt": ("Ses05M_script01_1b_F000 [001.0000-002.0000]: Well.\n"),
}


ALIGNMENTS = {
    "Ses01F_impro01_F000": (
        "\t SFrm\t EFrm\t   SegAScr Word\n"
        "\t    0\t   19\t  -1166431 <s>\n"
        "\t   20\t   44\t  -2351012 EXCUSE(2)\n"
        "\t   45\t   49\t   -160243 <sil>\n"
        "\t   50\t   57\t   -880126 ME\n"
        "\t   58\t   60\t     12004 ++BREATHING++\n"
        "\t   61\t   61\t   -160243 </s>\n"
        " Total score:\t   -4706061\n"
    ),
    "Ses01F_impro01_M000": "\t SFrm\t EFrm\t   SegAScr Word\n\t    0\t   19\t  -11664",
    "Ses05M_script01_1b_F000": "\t SFrm\t EFrm\t   SegAScr Word\n\t    0\t   99\t  -1166431 <sil>\n",
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")


def record(root: Path, paths: Sequence[str], waves: Waves) -> Path:
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / path, waves[i % len(waves)], SAMPLING_RATE)
    return root


def iemocap(root: Path, waves: Waves) -> Path:
    """Two dialogues; the file that macOS leaves, a turn that is cut short, values outside the scale.

    Of the alignments one is cut short, one is absent, and one has no word.
    """
    evaluations = {
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": EVALUATION,
        "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt": "\0\5\26\7 of macOS",
        "Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt": "Ses01F_impro01_F000 :Neutral state; ()",
        "Session5/dialog/EmoEvaluation/Ses05M_script01_1b.txt": SCRIPTED,
    }
    write(root, evaluations | TRANSCRIPTIONS)
    for turn, content in ALIGNMENTS.items():
        write(root, {f"Session{turn[4]}/sentences/ForcedAlignment/{turn.rpartition('_')[0]}/{turn}.wdseg": content})
    turns = [f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav" for turn in ("F000", "M000", "F001")]
    return record(root, [*turns, "Session5/sentences/wav/Ses05M_script01_1b/Ses05M_script01_1b_F000.wav"], waves)


MSP_TURNS = [f"MSP-PODCAST_{podcast:04d}_{turn:04d}.wav" for podcast, turn in ((1, 8), (1, 9), (2, 33), (3, 1), (4, 7))]
MSP_SPLITS = ("Train", "Development", "Test1", "Test2", "Test3")
WORKERS = {
    "WORKER00000001": ("Neutral", "Neutral,Concerned", 2.0, 4.0, 3.0),
    "WORKER00000002": ("Other-Bored", "Bored", 1.0, 4.0, 2.0),
}


def msp_podcast(root: Path, waves: Waves, layout: str = "1.11") -> Path:
    """Five turns in the layout of a release: where the attributes are in another order, and Test3 has no labels."""
    {"1.6": _msp_1_6, "1.11": _msp_1_11, "json": _msp_json, "columns": _msp_columns}[layout](root)
    write(root, {f"Transcripts/{MSP_TURNS[0][:-4]}.txt": "so that was it\n"})
    grids = [textgrid("words", MSP_WORDS), textgrid("phones", MSP_WORDS), 'File type = "ooTextFile"']
    write(root, {f"ForceAligned/{turn[:-4]}.TextGrid": grid for turn, grid in zip(MSP_TURNS, grids, strict=False)})
    return record(root, [f"{'Audio' if layout == '1.6' else 'Audios'}/{turn}" for turn in MSP_TURNS], waves)


MSP_WORDS = (("", 0.0, 0.11), ("so", 0.11, 0.2), ('say ""hi""', 0.2, 0.3), ("sp", 0.3, 0.4), ("it", 0.4, 0.5))


def textgrid(tier: str, words: Sequence[tuple[str, float, float]]) -> str:
    """A TextGrid in Praat's long form: a tier of points, then the words; quotes in them are doubled."""
    end = words[-1][2]
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {end}\ntiers? <exists>\nsize = 2\n'
    span = f"xmin = 0\nxmax = {end}\n"
    lines = f'item []:\nitem [1]:\nclass = "TextTier"\nname = "clicks"\n{span}points: size = 0\n'
    lines += f'item [2]:\nclass = "IntervalTier"\nname = "{tier}"\n{span}intervals: size = {len(words)}\n'
    for number, (word, begin, stop) in enumerate(words, 1):
        lines += f'intervals [{number}]:\nxmin = {begin}\nxmax = {stop}\ntext = "{word}"\n'
    return head + lines


def _msp_1_11(root: Path) -> None:
    consensus = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    consensus += [
        f"{MSP_TURNS[0]},N,2.2,4.0,7.5,30,Male,Train",
        f"{MSP_TURNS[1]},X,4.0,3.5,3.8,Unknown,Unknown,Development",
        f"{MSP_TURNS[2]},C,4.2,4.9,4.1,39.0,Female,Test1",
        f"{MSP_TURNS[3]},A,3.0,3.75,3.2,-1,Female,Test2",
        f"{MSP_TURNS[4]},,,,,,,Test3",
    ]
    detailed = ["FileName,EmoDetail"]
    for worker, (emotion, others, a, v, d) in WORKERS.items():
        detailed.append(f'{MSP_TURNS[0]},"{worker}; {emotion}; {others}; A:{a:f}; V:{v:f}; D:{d:f};"')
    detailed.append(f'{MSP_TURNS[1]},"WORKER00000003; Happy; Happy; A:; V:5.000000; D:4.000000;"')
    write(
        root, {"Labels/labels_consensus.csv": "\n".join(consensus), "Labels/labels_detailed.csv": "\n".join(detailed)}
    )


def _msp_columns(root: Path) -> None:
    """As 1.11, but each part of a rating has a column of its own."""
    _msp_1_11(root)
    rows = ["FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
    for worker, (emotion, others, a, v, d) in WORKERS.items():
        rows.append(f'{MSP_TURNS[0]},{worker},{emotion},"{others}",{a},{v},{d}')
    write(root, {"Labels/labels_detailed.csv": "\n".join(rows)})


def _msp_1_6(root: Path) -> None:
    """Dominance before valence, the misspelt name, text files for the rest."""
    values = ["2.2,7.5,4.0", "4.0,3.8,3.5", "4.2,4.1,4.9", "3.0,3.2,3.75"]
    consensus = [f"{turn},{one}" for turn, one in zip(MSP_TURNS, values, strict=False)]
    lines = []
    for worker, (emotion, others, a, v, d) in WORKERS.items():
        lines.append(f"{worker}; {emotion}; {others}; A:{a:f}; V:{v:f}; D:{d:f};")
    blocks = f"{MSP_TURNS[0]}; N; A:2.2; V:4.0; D:7.5;\n" + "\n".join(lines) + f"\n\n{MSP_TURNS[1]}; X; A:4.0; V:3.5;\n"
    partitions = "\n".join(f"{split}; {turn}" for split, turn in zip(MSP_SPLITS, MSP_TURNS, strict=True))
    speakers = f"{MSP_TURNS[0]}; 30\n{MSP_TURNS[1]}; Unknown\n{MSP_TURNS[2]}; 39\n"
    write(
        root,
        {
            "labels_concensus.csv": "FileName,EmoAct,EmoDom,EmoVal\n" + "\n".join(consensus),
            "labels.txt": blocks,
            "partitions.txt": partitions,
            "Speaker_ids.txt": speakers,
        },
    )


def _msp_json(root: Path) -> None:
    numbers = [(2.2, 4.0, 7.5), (4.0, 3.5, 3.8), (4.2, 4.9, 4.1), (3.0, 3.75, 3.2)]
    consensus = {
        turn: {"EmoClass": emotion, "EmoAct": a, "EmoVal": v, "EmoDom": d, "SpkrID": speaker, "Split_Set": split}
        for turn, emotion, (a, v, d), speaker, split in zip(
            MSP_TURNS, "NXCA", numbers, ("30", "Unknown", "39", "-1"), MSP_SPLITS, strict=False
        )
    }
    detailed = {
        MSP_TURNS[0]: {
            worker: {"EmoClass_Major": e, "EmoClass_Second": others, "EmoAct": a, "EmoVal": v, "EmoDom": d}
            for worker, (e, others, a, v, d) in WORKERS.items()
        }
    }
    consensus[MSP_TURNS[4]] = {"Split_Set": "Test3"}
    names = ("Labels/labels_consensus.json", "Labels/labels_detailed.json")
    write(root, dict(zip(names, map(json.dumps, (consensus, detailed)), strict=True)))


CREMA_CLIPS = ("1001_IEO_ANG_HI", "1001_TIE_NEU_XX", "1002_DFA_SAD_XX", "1040_ITH_SAD_X")
EMPTY_CLIP = "1076_MTI_SAD_XX"


def crema_d(root: Path, waves: Waves) -> Path:
    """Three clips, the one whose name lacks an X, the one that is empty; a vote that is a tie; a file of macOS."""
    record(root, [f"AudioWAV/{clip}.wav" for clip in CREMA_CLIPS], waves)
    record(root, [f"AudioWAV/{EMPTY_CLIP}.wav"], [np.zeros(0)])
    write(root, {"AudioWAV/._1001_IEO_ANG_HI.wav": "of macOS"})
    votes = ["A", "N", "N:S", "F", "S"]
    rows = [
        f'"{i}","{clip}","{vote}","69.1","A","92","A:D","64.78"'
        for i, (clip, vote) in enumerate(zip([*CREMA_CLIPS[:3], "1040_ITH_SAD_XX", EMPTY_CLIP], votes, strict=True), 1)
    ]
    header = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"'
    answers = (
        '"","localid","pos","ans","ttr","queryType","numTries","clipNum","questNum","subType","clipName","sessionNums"'
        ',"respEmo","respLevel","dispEmo","dispVal","dispLevel"\n'
        '"1","u1_01","1","A_80","2000","1","0","7","12","4","1001_IEO_ANG_HI","1","A","80","A","HI","80"\n'
        '"2","u2_01","2","N_31","2000","3","0","7","12","4","1001_IEO_ANG_HI","1","N","31","A","HI","80"\n'
    )
    actors = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
    files = {
        "processedResults/summaryTable.csv": "\n".join([header, *rows]),
        "finishedResponses.csv": answers,
        "VideoDemographics.csv": actors,
    }
    write(root, files)
    return root


RAVDESS_CLIPS = ("03-01-06-01-02-01-12", "03-01-01-01-01-02-01", "03-01-08-02-01-01-24")


def ravdess(root: Path, waves: Waves) -> Path:
    """Three clips of speech and a song; all of it a second time in a folder of its own."""
    clips = [*RAVDESS_CLIPS, "03-02-03-01-02-01-12"]
    paths = [f"Actor_{clip[-2:]}/{clip}.wav" for clip in clips]
    return record(root, [*paths, *(f"audio_speech_actors_01-24/{path}" for path in paths)], waves)


def ccsemo(root: Path, waves: Waves) -> Path:
    """Three clips; names with the suffix, paths of another machine, an emotion in another word."""
    clips = ("spk11-1-1-103.wav", "spk11-2-1-7.wav", "spk369-1-1-20.wav")
    record(root, [f"audio/{clip}" for clip in clips], waves)
    values = (
        "-0.5,3.0,F,9.19,neutral,train,然后",
        "1.333,4.0,F,4.8,happy,val,我是",
        "0.0,2.833,M,5.1,sadness,test,好",
    )
    rows = [f"/elsewhere/CCSEMO/audio/{clip},{clip},{one}" for clip, one in zip(clips, values, strict=True)]
    header = "audio_path,name,V,A,gender,duration,discrete_emotion,split_set,transcript"
    write(root, {"ccsemo_label.csv": "\n".join([header, *rows])})
    return root


AUDFORMAT_FILES = ("one/a.wav", "one/b.wav", "two/a.wav", "two/gone.wav")


def audformat_database(root: Path, waves: Waves) -> Path:
    """Four files, one missing, two of the same stem; codes that schemes explain, missing labels, two kinds of split."""
    database = audformat.Database("toy")
    people = {3: {"gender": "male", "age": 31}, 8: {"gender": "female"}}
    emotions = {"W": {"name": "angry"}, "N": {"name": "neutral"}, "X": {"name": "no_agreement"}}
    schemes = {
        "emotion": audformat.Scheme(labels=emotions),
        "valence": audformat.Scheme("float", minimum=-1, maximum=1),
        "arousal": audformat.Scheme("int", minimum=1, maximum=7),
        "speaker": audformat.Scheme(labels=people),
        "transcription": audformat.Scheme(labels={"a01": "Der Lappen liegt auf dem Eisschrank."}),
        "duration": audformat.Scheme("time"),
        "acted": audformat.Scheme("bool"),
    }
    for name, scheme in schemes.items():
        database.schemes[name] = scheme
    database.splits["held-out"] = audformat.Split("test")
    _add_table(database, "emotion.train", AUDFORMAT_FILES[:2], {"emotion": ["W", None], "valence": [0.5, None]})
    held_out = {"emotion": ["X", "N"], "valence": [-1.0, 0.0]}
    _add_table(database, "emotion.held", AUDFORMAT_FILES[2:], held_out, split_id="held-out")
    said = {
        "speaker": [3, 8, None, 3],
        "transcription": ["a01", None, "a01", "a01"],
        "arousal": [2, None, 7, 1],
        "duration": [pd.Timedelta(seconds=1.5)] * 4,
        "acted": [True, None, False, True],
    }
    _add_table(database, "files", AUDFORMAT_FILES, said)
    database["whole"] = audformat.Table(audformat.segmented_index(AUDFORMAT_FILES[:1], ["0s"], [pd.NaT]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        database.save(str(root))
    return record(root, AUDFORMAT_FILES[:3], waves)


def _add_table(database: audformat.Database, name: str, files: Sequence[str], said: dict, **settings: str) -> None:
    database[name] = audformat.Table(audformat.filewise_index(list(files)), **settings)
    for column, values in said.items():
        database[name][column] = audformat.Column(scheme_id=column)
        database[name][column].set(values)


LAYOUTS: dict[str, Callable[[Path, Waves], Path]] = {
    "iemocap": iemocap,
    "msp_podcast": msp_podcast,
    "crema_d": crema_d,
    "ravdess": ravdess,
    "ccsemo": ccsemo,
    "audformat": audformat_database,
}
