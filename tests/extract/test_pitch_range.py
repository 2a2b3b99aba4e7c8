"""The range of pitch of a speaker, from all that the speaker says, and of nobody else."""

import os
from unittest.mock import Mock

import numpy as np
import parselmouth
import pytest
import soundfile

import featurestore
from extract.config import ExtractConfig
from extract.features.logmel import LogMelExtractor
from extract.features.pitch import Pitch, PitchExtractor, _in_processes
from extract.run import extract
from extract.speech import Manner, speak
from featurestore.operations.verify import verify
from featurestore.shared.config import load
from featurestore.shared.errors import ConfigError, SerError, StoreError
from tests.extract.samples import noise

PITCH = "pitch.two_pass=speaker"
TEXTS = ("The letter is lying on the table.", "She will be back in an hour.", "I told him about it on Monday.")
SPEAKERS = {"high": ("Female1", 1.6), "low": ("Male2", 0.7)}
WHISPERER, NOBODY = "quiet", ""


@pytest.fixture(scope="session")
def waves():
    return {
        f"{speaker}{i}": (speaker, speak(text, voice, Manner(pitch=pitch, rise=4 * i)))
        for speaker, (voice, pitch) in SPEAKERS.items()
        for i, text in enumerate(TEXTS)
    }


@pytest.fixture
def corpus(tmp_path, waves):
    """Two speakers of three utterances each, one of whom nothing is voiced, one utterance of nobody, one broken."""
    said = {**waves, "noise": (WHISPERER, noise(16_000, level=1e-3)), "unknown": (NOBODY, waves["low0"][1])}
    said["broken"] = ("high", noise(16_000))
    said["broken"][1][5] = np.nan
    rows = [add(tmp_path, name, *one) for name, one in said.items()]
    (tmp_path / "labels.csv").write_text("name,audio_path,V,A,split_set,speaker\n" + "".join(rows))
    return tmp_path / "labels.csv"


def add(folder, name, speaker, wave):
    soundfile.write(folder / f"{name}.wav", wave, 16_000, "FLOAT")
    return f"{name},{name}.wav,3,3,train,{speaker}\n"


def asked(root, store, *overrides):
    return load(ExtractConfig, [], ["dataset=csv", f"dataset.root={root}", f"store={store}", *overrides])


def files(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def praat(wave, floor=75.0, ceiling=600.0):
    found = parselmouth.Sound(wave.astype(np.float64), 16_000).to_pitch_ac(0.01, floor, pitch_ceiling=ceiling)
    return found.xs(), found.selected_array["frequency"]


def expected_range(waves):
    f0 = np.concatenate([praat(wave)[1] for wave in waves])
    low, high = np.quantile(f0[f0 > 0], [0.25, 0.75])
    return max(75.0, 0.75 * low), min(600.0, 1.5 * high)


def ranges(store):
    return featurestore.open(store).utterances[["pitch_floor", "pitch_ceiling"]]


def test_the_range_is_that_of_the_speaker(corpus, waves, tmp_path):
    summary = extract(asked(corpus, tmp_path / "s.zarr", PITCH, "workers=1"))
    assert summary.failed == {"broken (pitch)": "1 of 16000 samples are NaN or infinite"}
    assert summary.flagged["unknown"] == (
        "the same audio as low0; its speaker is not known: its pitch has the range of this utterance alone"
    )
    store = featurestore.open(tmp_path / "s.zarr")
    found = ranges(tmp_path / "s.zarr")
    assert found.loc["noise"].tolist() == [75, 600]
    assert found.loc["unknown"].isna().all()
    for speaker in SPEAKERS:
        mine = {name: wave for name, (who, wave) in waves.items() if who == speaker}
        span = expected_range(mine.values())
        for name, wave in mine.items():
            assert found.loc[name].tolist() == pytest.approx(span, abs=1e-9)
            times, f0 = praat(wave, *span)
            ours = store[name]["pitch"][0, :, 0]
            for time, value in zip(store.feature("pitch").times(name), ours, strict=True):
                near = np.abs(times - time) <= np.abs(times - time).min() + 1e-6
                assert np.isclose(f0[near], value, rtol=1e-6).any()
    assert found.loc["broken"].equals(found.loc["high0"])
    assert found.loc["high0", "pitch_floor"] > found.loc["low0", "pitch_floor"] + 10


def test_of_an_unknown_speaker_the_utterance_has_its_own_range(corpus, waves, tmp_path):
    extract(asked(corpus, tmp_path / "s.zarr", PITCH))
    extract(asked(corpus, tmp_path / "own.zarr", "pitch.two_pass=true"))
    both = [featurestore.open(tmp_path / name)["unknown"]["pitch"] for name in ("s.zarr", "own.zarr")]
    assert np.array_equal(*both)
    assert "pitch_floor" not in featurestore.open(tmp_path / "own.zarr").utterances


def test_two_processes_find_the_same(corpus, tmp_path):
    for workers in (1, 2):
        config = asked(corpus, tmp_path / f"{workers}.zarr", PITCH, f"workers={workers}", "shard_seconds=4")
        report = Mock()
        extract(config, report)
        said = [call.args for call in report.call_args_list]
        assert said[:3] == [(done, 3, "looking for the pitch range of each speaker") for done in (1, 2, 3)]
    assert files(tmp_path / "1.zarr") == files(tmp_path / "2.zarr")


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_store_gets_the_ranges_with_the_feature(corpus, tmp_path, suffix):
    store = tmp_path / f"s{suffix}"
    extract(asked(corpus, store, "logmel={}"))
    extract(asked(corpus, store, PITCH))
    assert verify(featurestore.open(store)) == []
    extract(asked(corpus, tmp_path / "once.zarr", "logmel={}", PITCH))
    assert ranges(store).equals(ranges(tmp_path / "once.zarr"))
    parts, once = featurestore.open(store), featurestore.open(tmp_path / "once.zarr")
    assert all(np.array_equal(parts[name]["pitch"], once[name]["pitch"]) for name in once.names(["pitch"]))
    before = store.read_bytes() if store.is_file() else files(store)
    extract(asked(corpus, store, PITCH, "logmel={}"))
    assert before == (store.read_bytes() if store.is_file() else files(store))


def test_what_is_added_has_the_range_that_its_speaker_has_in_the_store(corpus, waves, tmp_path):
    store = tmp_path / "s.zarr"
    extract(asked(corpus, store, PITCH))
    before = ranges(store)
    rows = [add(tmp_path, "more", "low", waves["high1"][1]), add(tmp_path, "new", "third", waves["high1"][1])]
    corpus.write_text(corpus.read_text() + "".join(rows))
    extract(asked(corpus, store, PITCH, "grow=true"))
    after = ranges(store)
    assert after.loc[before.index].equals(before)
    assert after.loc["more"].equals(before.loc["low0"])
    assert after.loc["new"].tolist() == pytest.approx(expected_range([waves["high1"][1]]))


def test_other_words_are_refused():
    with pytest.raises(ConfigError, match="two_pass: Input should be False, True or 'speaker'"):
        load(ExtractConfig, [], ["dataset=csv", "pitch.two_pass=speakers"])
    assert Pitch(two_pass=True).columns == ()


def forbid_survey(monkeypatch):
    monkeypatch.setattr(PitchExtractor, "_range_of", lambda *_: pytest.fail("the audio of all was read"))


def refuse(*_):
    raise SerError("it cannot be loaded")


def test_growth_that_is_refused_leaves_the_ranges(corpus, waves, tmp_path, monkeypatch):
    store = tmp_path / "s.zarr"
    extract(asked(corpus, store, PITCH))
    before = files(store)
    (tmp_path / "other").mkdir()
    rows = [add(tmp_path / "other", "high0", "another", waves["low0"][1])]
    labels = tmp_path / "other" / "labels.csv"
    labels.write_text("name,audio_path,V,A,split_set,speaker\n" + "".join(rows))
    forbid_survey(monkeypatch)
    with pytest.raises(StoreError, match=r"other labels: the columns \['speaker', 'duration'\] have changed"):
        extract(asked(labels, store, PITCH, "grow=true"))
    assert files(store) == before


@pytest.mark.parametrize("values", [("mine",), ("mine", "yours")])
def test_labels_can_have_a_column_dataset(corpus, waves, tmp_path, monkeypatch, values):
    store = tmp_path / "s.zarr"
    header, *rows = corpus.read_text().splitlines()
    rows = [f"{row},{values[i % len(values)]}" for i, row in enumerate(rows)]
    corpus.write_text("\n".join([f"{header},dataset", *rows]) + "\n")
    extract(asked(corpus, store, PITCH))
    before = ranges(store)
    forbid_survey(monkeypatch)
    more = add(tmp_path, "more", "low", waves["high1"][1]).strip()
    corpus.write_text(corpus.read_text() + f"{more},{values[0]}\n")
    extract(asked(corpus, store, PITCH, "grow=true"))
    after = ranges(store)
    assert after.loc[before.index].equals(before)
    assert after.loc["more"].equals(before.loc["low0"])
    extract(asked(corpus, store, PITCH))


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ("pitch={}", (PITCH,), "pitch with other settings: two_pass: False in the store, speaker asked for"),
        ("pitch={}", (PITCH, "grow=true"), "pitch with other settings: two_pass: False"),
        ("intensity={}", (PITCH, "intensity={}", "grow=true"), "which new utterances need, found"),
        ("intensity={}", (PITCH, "logmel={}"), "it cannot be loaded"),
    ],
)
def test_what_is_refused_is_refused_before_audio_is_read(corpus, waves, tmp_path, monkeypatch, first, then, message):
    store = tmp_path / "s.zarr"
    extract(asked(corpus, store, first))
    before = files(store)
    if "grow=true" in then:
        corpus.write_text(corpus.read_text() + add(tmp_path, "more", "low", waves["high1"][1]))
    monkeypatch.setattr(LogMelExtractor, "spec", refuse)
    forbid_survey(monkeypatch)
    with pytest.raises(SerError, match=message):
        extract(asked(corpus, store, *then))
    assert files(store) == before


def test_what_labels_say_of_the_ranges_plays_no_part(corpus, tmp_path, monkeypatch):
    extract(asked(corpus, tmp_path / "without.zarr", PITCH))
    header, *rows = corpus.read_text().splitlines()
    corpus.write_text("\n".join([f"{header},pitch_floor,pitch_ceiling", *(f"{row},80,90" for row in rows)]) + "\n")
    extract(asked(corpus, tmp_path / "s.zarr", PITCH))
    assert ranges(tmp_path / "s.zarr").equals(ranges(tmp_path / "without.zarr"))
    before = files(tmp_path / "s.zarr")
    forbid_survey(monkeypatch)
    extract(asked(corpus, tmp_path / "s.zarr", PITCH))
    extract(asked(corpus, tmp_path / "s.zarr", PITCH, "grow=true"))
    assert files(tmp_path / "s.zarr") == before


def test_a_process_that_ends_is_named():
    with pytest.raises(SerError, match=r"died while looking for .*: if memory was exhausted, use fewer --workers"):
        list(_in_processes(os._exit, [1, 1], workers=2))
