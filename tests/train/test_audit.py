"""Planted leaks are caught, each by its name, and what is no leak is not."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from extract.speech import Manner, speak
from featurestore.access.statistics import corpus_statistics
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.train.planted import COPIES, every_pair, write_store
from train.audit import audit
from train.audit.agreement import agreement
from train.audit.contours import alikeness
from train.audit.findings import Audited
from train.audit.near_duplicates import find_copies
from train.config import TrainConfig
from train.examples.protocol import Protocol, make_protocol, read_protocol
from train.running.opened import Run
from train.running.run import run
from train.shared.tensors import read_tensors
from train.splits import Fold, Splits

VOICES = ("Female1", "Female4", "Male1", "Male4")
SENTENCES = ("The letter is lying on the table beside the door.", "She will be back with my brother in an hour.")
NAMES = [f"{voice}_{sentence}_{take}" for voice in VOICES for sentence in (0, 1) for take in (0, 1)]
QUICK = ["width=8", "fusion=none", "optim.epochs=1", "workers=1", "baseline=false", "targets=[V]", "plots=false"]
QUICK += ["streams.speech.feature=logmel"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four voices say two sentences twice, each at a rate of its own, the second take faster; of the first one there
    are all kinds of copies, said to be of another speaker.
    """
    waves = {}
    for name in NAMES:
        voice, sentence, take = name.split("_")
        manner = Manner(words_per_minute=110 + 12 * VOICES.index(voice) + 20 * int(take), pitch=1 + 0.05 * int(take))
        waves[name] = speak(SENTENCES[int(sentence)], voice, manner)
    copies = {f"copy: {kind}": kind for kind in COPIES}
    waves |= {name: COPIES[kind](waves[NAMES[0]]) for name, kind in copies.items()}
    table = pd.DataFrame(
        {
            "speaker": [name.split("_")[0] for name in NAMES] + ["someone"] * len(copies),
            "transcript": [SENTENCES[int(name.split("_")[1])] for name in NAMES] + [""] * len(copies),
            "emotion": ["joy", "calm"] * (len(NAMES) // 2) + ["joy"] * len(copies),
            "V": np.random.default_rng(0).uniform(1, 5, len(waves)),
        },
        index=pd.Index(list(waves), name="name"),
    )
    return write_store(tmp_path_factory.mktemp("stores") / "planted.zarr", waves, table)


def protocol_with(*more):
    """Return a fold of three parts of whole speakers, with more in the test part."""
    parts = [[name for name in NAMES if name.startswith(voices)] for voices in (VOICES[:2], VOICES[2], VOICES[3])]
    return Protocol("planted", [Fold(parts[0], parts[1], [*parts[2], *more])])


def found(store, protocol):
    """Return the leaks of a protocol."""
    return audit(store, store.utterances.loc[protocol.utterances], protocol).leaks


def test_nothing_leaks_between_speakers_who_say_the_same(store):
    checked = audit(store, store.utterances.loc[NAMES], protocol_with())
    assert checked.leaks == []
    assert checked.summary() == "nothing leaks (shared_speakers, shared_sessions, same_audio, near_duplicates)"
    assert (
        checked.remarks[0] == "4 of 4 test utterances have the transcript of a training utterance: words may be learned"
    )


def test_takes_of_a_sentence_are_no_copies(store):
    assert list(find_copies(Audited(store, store.utterances.loc[NAMES], every_pair(NAMES), []))) == []


def test_pairs_are_looked_at_in_parts(store, monkeypatch):
    names = [*NAMES, *(f"copy: {kind}" for kind in COPIES)]
    audited = Audited(store, store.utterances.loc[names], every_pair(names), [])
    together = list(find_copies(audited))
    assert together
    monkeypatch.setattr(sys.modules[find_copies.__module__], "AT_ONCE", 50)
    monkeypatch.setattr(sys.modules[find_copies.__module__], "MOST_KEPT", 2)
    assert list(find_copies(audited)) == together


def test_pairs_with_most_in_common_are_compared_where_there_are_too_many(store, monkeypatch):
    names = [*NAMES, *(f"copy: {kind}" for kind in COPIES)]
    audited = Audited(store, store.utterances.loc[names], every_pair(names), [])
    every = set(find_copies(audited))
    assert not audited.remarks
    monkeypatch.setattr(sys.modules[find_copies.__module__], "MOST_SUSPECTS", 1)
    some = set(find_copies(audited))
    assert len(some) <= len(names)
    assert len(some & every) > 0.9 * len(names)
    (remark,) = audited.remarks
    assert "pairs of utterances that have least in common were not compared" in remark


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_another_part_is_caught(store, kind):
    (leak,) = found(store, protocol_with(f"copy: {kind}"))
    assert leak.name == ("same_audio" if kind == "the same samples" else "near_duplicates")
    assert (leak.fold, leak.parts, leak.count) == ("fold 0", ("train", "test"), 1)
    assert leak.examples[0].startswith(f"{NAMES[0]} and copy: {kind}")


def test_a_copy_in_the_same_part_is_no_leak(store):
    protocol = protocol_with()
    protocol.folds[0].train.append("copy: MP3")
    assert found(store, protocol) == []


def test_a_file_that_extraction_found_twice_is_caught(store):
    table = store.utterances.loc[NAMES].assign(flags="")
    table.loc[NAMES[-1], "flags"] = f"clipped; the same audio as {NAMES[0]}; silent"
    (leak,) = audit(store, table, protocol_with()).leaks
    assert (leak.name, leak.examples) == ("same_audio", [f"{NAMES[0]} and {NAMES[-1]}"])


def test_a_speaker_in_two_parts_is_caught(store):
    table = store.utterances.loc[NAMES]
    table.loc[NAMES[-1], "speaker"] = "Female1"
    (leak,) = audit(store, table, protocol_with()).leaks
    assert str(leak) == "shared_speakers: fold 0: 1 speakers are in train and in test (Female1)"


def test_sessions_are_caught_only_where_they_are_kept_apart(store):
    table = store.utterances.loc[NAMES].assign(session=["a", "b"] * 8)
    protocol = protocol_with()
    assert audit(store, table, protocol).leaks == []
    claimed = Protocol("planted", protocol.folds, apart={"session": ["train/test"]})
    (leak,) = audit(store, table, claimed).leaks
    assert str(leak) == "shared_sessions: fold 0: 2 values of session are in train and in test (a, b)"


def test_a_leak_into_an_inner_fold_is_caught(store):
    outer = protocol_with()
    fold = outer.folds[0]
    inner = [[Fold([*fold.train], [*fold.dev], []), Fold([*fold.dev], [*fold.train, "copy: MP3"], [])]]
    assert found(store, Protocol("planted", outer.folds, inner)) == []
    inner[0][0].dev.append("copy: MP3")
    (leak,) = found(store, Protocol("planted", outer.folds, inner))
    assert (leak.name, leak.fold, leak.parts) == ("near_duplicates", "fold 0, inner fold 0", ("train", "dev"))


@pytest.mark.parametrize(("parts", "name"), [(("dev", "test"), "select_on_test"), (("train", "test"), "train_on_test")])
def test_a_protocol_that_uses_test_utterances_is_refused_by_name(store, tmp_path, parts, name):
    protocol, file = protocol_with(), tmp_path / "protocol.json"
    getattr(protocol.folds[0], parts[0])[:] = protocol.folds[0].test
    file.write_text(protocol.to_json())
    with pytest.raises(SerError, match=f"{name}: fold 0 has 4 utterances .* in {parts[0]} and in {parts[1]}"):
        read_protocol(file)


def trained(store, tmp_path, protocol, *settings):
    """Return the folder of a run, and what it printed."""
    file, lines = tmp_path / "protocol.json", []
    file.write_text(protocol.to_json())
    config = load(TrainConfig, [], [*QUICK, f"protocol={file}", f"runs={tmp_path / 'runs'}", *settings])
    folder, _ = run(store, config, lines.append)
    return folder, lines


def test_a_run_refuses_a_leak_and_is_stamped_where_it_is_meant(store, tmp_path):
    protocol = protocol_with("copy: MP3")
    with pytest.raises(SerError) as error:
        trained(store, tmp_path, protocol)
    assert str(error.value).startswith(
        "near_duplicates: fold 0: 1 pairs of copies of a recording have one in train and"
    )
    assert str(error.value).endswith("allow it with unsafe.near_duplicates=true")
    assert not (tmp_path / "runs").exists()
    folder, lines = trained(store, tmp_path, protocol, "unsafe.near_duplicates=true")
    assert lines.count("UNSAFE: near_duplicates: not comparable") == 2
    assert (folder / "UNSAFE.txt").read_text() == "UNSAFE: near_duplicates: not comparable\n"
    metrics, note = (json.loads((folder / file).read_text()) for file in ("metrics.json", "run.json"))
    assert metrics["unsafe"] == note["unsafe"] == ["near_duplicates"]
    assert metrics["audit"] == note["audit"]
    assert [leak["name"] for leak in note["audit"]["leaks"]] == ["near_duplicates"]
    assert set(pd.read_csv(folder / "predictions.csv")["unsafe"]) == {"near_duplicates"}
    assert set(Run.open(folder).predict(store)["unsafe"]) == {"near_duplicates"}
    assert next(iter(pd.read_excel(folder / "report.xlsx", sheet_name=None))) == "unsafe"


def test_a_safe_run_is_not_stamped(store, tmp_path):
    folder, lines = trained(store, tmp_path, protocol_with())
    assert not [line for line in lines if "UNSAFE" in line]
    assert not (folder / "UNSAFE.txt").exists()
    assert "unsafe" not in pd.read_csv(folder / "predictions.csv")
    metrics, note = (json.loads((folder / file).read_text()) for file in ("metrics.json", "run.json"))
    assert (metrics["unsafe"], metrics["audit"]["leaks"]) == ([], [])
    assert note["statistics"] == {"speech": "the training part of each fold"}


def test_random_splits_need_their_name(store, tmp_path):
    settings = [*QUICK, "splits={name: random, k: 3}", f"runs={tmp_path}"]
    with pytest.raises(SerError, match=r"splits=random has the same speakers .* give unsafe\.random_splits=true"):
        run(store, load(TrainConfig, [], settings), lambda _: None)
    allowed = [*settings, "unsafe.random_splits=true"]
    with pytest.raises(SerError, match="same_audio: fold 0"):  # the copies
        run(store, load(TrainConfig, [], allowed), lambda _: None)


def mean_of(folder):
    tensors, _ = read_tensors(folder / "models/fold_0_member_0.safetensors")
    (mean,) = (tensor for name, tensor in tensors.items() if name.endswith("layers.mean"))
    return mean.numpy()


def test_statistics_of_all_parts_are_taken_only_where_asked_for(store, tmp_path):
    fold = protocol_with().folds[0]
    expected = {
        "": (fold.train, "the training part of each fold"),
        "unsafe.statistics_of_all=true": ([*fold.train, *fold.dev, *fold.test], "all parts of each fold"),
    }
    for setting, (names, said) in expected.items():
        folder, _ = trained(store, tmp_path, protocol_with(), *filter(None, [setting]))
        assert np.array_equal(mean_of(folder), corpus_statistics(store.feature("logmel"), names)[0])
        assert json.loads((folder / "run.json").read_text())["statistics"] == {"speech": said}


def test_the_test_part_selects_and_trains_only_where_asked_for(store, tmp_path):
    """By the statistics of what trained, and by the dev score, which is that of the part that selects."""
    fold = protocol_with().folds[0]
    folder, _ = trained(store, tmp_path, protocol_with(), "unsafe.select_on_test=true")
    assert np.array_equal(mean_of(folder), corpus_statistics(store.feature("logmel"), fold.train + fold.dev)[0])
    swapped, _ = trained(
        store,
        tmp_path,
        Protocol("planted", [Fold(fold.train + fold.dev, fold.test, ["copy: MP3", "copy: Ogg Vorbis"])]),
        "unsafe.near_duplicates=true",
    )
    scores = [json.loads((one / "metrics.json").read_text())["models"][0]["best_score"] for one in (folder, swapped)]
    assert scores[0] == scores[1]
    folder, _ = trained(store, tmp_path, protocol_with(), "unsafe.train_on_test=true")
    assert np.array_equal(mean_of(folder), corpus_statistics(store.feature("logmel"), fold.train + fold.test)[0])
    with pytest.raises(SerError, match=r"optim\.refit trains on what selects"):
        load(TrainConfig, [], ["optim.refit=true", "unsafe.select_on_test=true"])


def test_protocols_are_made_shown_and_checked_by_commands(commands, store, tmp_path):
    file = tmp_path / "protocols" / "mine.json"
    settings = ["--store", store.path, "targets=[V]", "streams.speech.feature=logmel", "fusion=none"]
    made = commands.run("protocol", "make", *settings, "splits=rolling_speakers", "--name", "mine", "--out", file)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"{file}: mine of planted, {len(store.utterances)} utterances, 5 folds, sha256 ")
    shown = commands.run("protocol", "show", file, "--store", store.path)
    assert shown.stdout.splitlines()[1].split() == ["fold", "part", "utterances", "speakers", "calm", "joy"]
    assert len(shown.stdout.splitlines()) == 3 + 15
    assert "speakers" not in commands.run("protocol", "show", file).stdout
    checked = commands.run("protocol", "check", file, "--store", store.path)
    assert checked.returncode == 3
    assert "same_audio: fold 0: 1 recordings are under two names in " in checked.stdout
    folds = [
        Fold(*([n for n in NAMES if n in getattr(fold, p)] for p in ("train", "dev", "test")))
        for fold in read_protocol(file).folds
    ]
    file.write_text(Protocol("planted", folds[:4]).to_json())
    checked = commands.run("protocol", "check", file, "--store", store.path)
    assert checked.returncode == 0, checked.stdout


def test_a_protocol_says_what_it_rests_on(store):
    table = store.utterances.loc[NAMES]
    made = make_protocol(Splits.kind("kfold")(k=4, stratify="transcript"), table, "planted")
    assert (made.name, made.columns) == ("kfold", ["speaker", "emotion", "V", "transcript"])
    assert made.splits["stratify"] == "transcript"
    nested = make_protocol(Splits.kind("nested")(outer="leave_one_out"), table, "planted", "mine")
    assert len(nested.inner) == 4
    assert nested.sha256 != Protocol("planted", nested.folds).sha256


def test_agreement_is_that_of_scikit_learn():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    a, b = (pd.Series(rng.choice(list("xyz"), 50)) for _ in range(2))
    assert agreement(a, b) == pytest.approx(cohen_kappa_score(a, b))
    x, y = (pd.Series(rng.normal(size=50)) for _ in range(2))
    assert agreement(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])


def test_alikeness_is_the_correlation_at_a_lag():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(60, 5)).astype(np.float32)
    assert alikeness(first, 3 * first[7:] + 2, -7, 10) == (pytest.approx(1.0), -7)
    assert alikeness(first[7:], first, 8, 10) == (pytest.approx(1.0), 7)
    assert alikeness(first, first, 0, 61) == (0.0, 0)
