"""New audio is extracted as a store was; somebody else's checkpoint runs no code, and loading prints nothing."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import featurestore
from extract.config import ExtractConfig
from extract.encoders.checkpoint import Checkpoint, load_config, load_model, load_normalize
from extract.features.encoder import Encoder
from extract.features.text import Text
from extract.like import compare
from extract.run import extract
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from tests.benchmarks.extraction.models import build, save
from tests.extract.samples import FAMILIES, ser_extract
from tests.extract.test_text import write_checkpoint

SETTINGS = [
    "encoder.layers=[1,3]",
    "encoder.dtype=float16",
    "encoder.time_pool=2",
    "encoder.window=0.4",
    "encoder.overlap=0.1",
    "pitch.floor=60",
    "pitch.unit=log",
    "logmel.n_mels=40",
    "logmel.unit=db",
    "hnr={}",
    "formants={}",
    "opensmile.level=functionals",
]


@pytest.fixture
def recordings(tmp_path, spoken):
    """Two folders; a clip is in both, as two and as deep/again.

    The other clip of each folder has the same length in both, because the last bits of an encoder's states depend on
    the lengths of what is in the batch.
    """
    for path, wave in (("old/one.wav", spoken[0]), ("old/two.wav", spoken[2]), ("new/deep/again.wav", spoken[2])):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / path, wave, 16_000)
    soundfile.write(tmp_path / "new/more.flac", spoken[0][::-1], 16_000)
    return tmp_path


def made(root, store, *overrides):
    config = load(
        ExtractConfig, [], ["dataset=folder", f"dataset.root={root}", f"store={store}", "workers=1", *overrides]
    )
    extract(config)
    return config, featurestore.open(store)


def same(old, new):
    assert set(old.features) == set(new.features)
    for key, spec in old.features.items():
        assert spec.differences(new.features[key]) == []
        assert np.array_equal(old["two"][key], new["deep/again"][key])


def test_what_is_in_both_is_the_same_to_the_bit(recordings):
    folder = str(save(build(*FAMILIES["wavlm-pre-norm"], 0.05), recordings / "models/wavlm-tiny"))
    stores = [recordings / "a.zarr", recordings / "b.h5"]
    settings = [*SETTINGS, f"encoder.checkpoint={folder}"]
    _, old = made(recordings / "old", stores[0], *settings)
    result = ser_extract("--dataset", "folder", "--root", recordings / "new", "--like", stores[0], "--store", stores[1])
    assert result.returncode == 0, result.stderr
    same(old, featurestore.open(stores[1]))
    assert "differs from" not in result.stdout


@pytest.mark.parametrize(("family", "trim"), [("whisper", False), ("whisper", True), ("w2v-bert", False)])
def test_settings_that_are_found_out_are_the_same_again(recordings, family, trim):
    folder = str(save(build(*FAMILIES[family], 0.05), recordings / f"models/{family}"))
    own = ["encoder.trim=true"] if trim else []
    _, old = made(recordings / "old", recordings / "a.zarr", f"encoder.checkpoint={folder}", *own)
    config, new = made(recordings / "new", recordings / "b.zarr", f"like={recordings / 'a.zarr'}")
    assert compare(config.like, config.build()) == []
    same(old, new)


@pytest.mark.usefixtures("warm_workers")
def test_workers_need_no_such_store(recordings):
    _, old = made(recordings / "old", recordings / "a.zarr", "logmel.n_mels=40", "pitch.floor=60")
    _, new = made(
        recordings / "new", recordings / "b.zarr", f"like={recordings / 'a.zarr'}", "workers=2", "shard_seconds=0.5"
    )
    same(old, new)


def test_tokens_are_those_of_the_store(tmp_path, spoken):
    folder = str(write_checkpoint(tmp_path / "roberta-tiny"))
    soundfile.write(tmp_path / "u.wav", spoken[0], 16_000)
    (tmp_path / "labels.csv").write_text('name,audio_path,transcript,words\nu,u.wav,Yes.,"[[""yes"",0.1,0.2]]"\n')
    base = ["dataset=csv", f"dataset.root={tmp_path / 'labels.csv'}", "workers=1"]
    extract(load(ExtractConfig, [], [*base, f"store={tmp_path / 'a.h5'}", f"text.checkpoint={folder}", "words={}"]))
    config = load(ExtractConfig, [], [*base, f"store={tmp_path / 'b.h5'}", f"like={tmp_path / 'a.h5'}"])
    extract(config)
    assert compare(config.like, config.build()) == []
    old, new = (featurestore.open(tmp_path / f"{name}.h5") for name in "ab")
    for key in ("text", "words"):
        assert np.array_equal(old["u"][key], new["u"][key])


def test_what_is_asked_for_otherwise_wins_and_is_said(recordings):
    store = recordings / "a.zarr"
    _, old = made(recordings / "old", store, "encoder.checkpoint=hubert-tiny-untrained", "pitch.floor=60", "logmel={}")
    base = ["--dataset", "folder", "--root", recordings / "new", "--like", store]
    result = ser_extract(*base, "--store", recordings / "b.zarr", "pitch.ceiling=500", "encoder.dtype=float32")
    assert result.returncode == 0, result.stderr
    said = f"pitch differs from the one in {store}: ceiling: 600.0 in the store, 500.0 asked for"
    assert said in result.stdout.splitlines()
    new = featurestore.open(recordings / "b.zarr")
    assert set(new.features) == set(old.features)
    settings = new.features["pitch"].provenance["settings"]
    assert (settings["floor"], settings["ceiling"]) == (60, 500)
    assert new.features["hubert-tiny-untrained"].dtype == "float32"
    result = ser_extract(*base, "--store", recordings / "c.zarr", "--features", "logmel")
    assert set(featurestore.open(recordings / "c.zarr").features) == {"hubert-tiny-untrained", "logmel"}


def test_other_weights_under_the_same_name_are_refused_in_one_line(recordings):
    for number in (0, 1):
        model = build(*FAMILIES["hubert-group"], 0.05 + number)
        save(model, recordings / f"models{number}/hubert-x")
    store = recordings / "a.zarr"
    made(recordings / "old", store, f"encoder.checkpoint={recordings / 'models0/hubert-x'}")
    base = ["--dataset", "folder", "--root", recordings / "new", "--like", store, "--store", recordings / "b.zarr"]
    result = ser_extract(*base, "--encoder", recordings / "models1/hubert-x")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"hubert-x differs from the one in {store}: weights: " in line
    assert not (recordings / "b.zarr").exists()
    shutil.rmtree(recordings / "models0")
    result = ser_extract(*base)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"{store} was made with the checkpoint hubert-x in {recordings / 'models0/hubert-x'}, which does not" in line
    result = ser_extract(*base[:-4], "--like", "nowhere.zarr", "--store", recordings / "b.zarr")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


def test_of_two_encoders_one_is_chosen(recordings):
    store = recordings / "a.zarr"
    folders = [save(build(*FAMILIES["hubert-group"], 0.05), recordings / f"models/{name}") for name in ("one", "two")]
    for number, folder in enumerate(folders):
        made(recordings / "old", store, f"encoder.checkpoint={folder}", f"encoder.layers=[{number}]")
    like = ["dataset=folder", f"dataset.root={recordings / 'new'}", f"like={store}"]
    with pytest.raises(SerError, match="has encoder features one, two: say which one with --encoder NAME"):
        load(ExtractConfig, [], like)
    config = load(ExtractConfig, [], [*like, f"encoder.checkpoint={folders[1]}"])
    assert config.features()["two"].layers == (1,)
    assert compare(config.like, config.build()) == []
    with pytest.raises(SerError, match="has encoder features one, two"):
        load(ExtractConfig, [], [*like, "encoder.checkpoint=3"])


PYTHON = "from pathlib import Path\nPath({trace!r}).touch()\n"


def with_code(folder, trace, **config):
    """Put Python files into a checkpoint's folder, and name them wherever transformers looks for such."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "theirs.py").write_text(PYTHON.format(trace=str(trace)))
    kinds = ("AutoConfig", "AutoModel", "AutoFeatureExtractor", "AutoProcessor", "AutoTokenizer")
    auto_map = dict.fromkeys(kinds, "theirs.Their")
    for name in ("config.json", "preprocessor_config.json", "tokenizer_config.json", "processor_config.json"):
        file = folder / name
        content = json.loads(file.read_text()) if file.exists() else {}
        tokenizer = {"AutoTokenizer": ["theirs.Their", "theirs.Their"]} if name.startswith("tokenizer") else {}
        file.write_text(json.dumps(content | {"auto_map": auto_map | tokenizer} | config))
    return folder


@pytest.mark.parametrize("model_type", ["theirs", "hubert"])
def test_code_in_the_folder_of_a_checkpoint_never_runs(model_type, recordings):
    trace = recordings / "it ran"
    folder = with_code(recordings / "models/theirs", trace, model_type=model_type, architectures=["Their"])
    features = [
        ["--encoder", folder],
        ["--features", "text,words", f"text.checkpoint={folder}"],
    ]
    for asked in features:
        arguments = ["--dataset", "folder", "--root", recordings / "new", *asked, "--store", recordings / "b.zarr"]
        result = ser_extract(*arguments, stdin="y\n" * 100)
        assert result.returncode == 1
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert "[y/N]" not in result.stdout + result.stderr
    assert not trace.exists()


def test_code_beside_weights_that_can_be_loaded_never_runs(tmp_path):
    trace = tmp_path / "it ran"
    folder = with_code(save(build(*FAMILIES["hubert-group"], 0.05), tmp_path / "hubert"), trace)
    checkpoint = Checkpoint(id=str(folder))
    assert load_config(checkpoint).model_type == "hubert"
    assert load_normalize(checkpoint) in (True, False)
    load_model(checkpoint)
    Encoder(checkpoint=str(folder)).build().spec()
    text = with_code(write_checkpoint(tmp_path / "roberta-tiny"), trace)
    row = {"transcript": "Yes."}
    assert Text(checkpoint=str(text)).build().place(16_000, row)[0] > 2
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": 1}',
        '{"weight_map": {"a": "model-1.safetensors"}}',
        '{"metadata": {}, "weight_map": {"a": "../x.safetensors"}}',
    ],
)
def test_a_bad_index_of_weights_is_one_line(tmp_path, content):
    folder = save(build(*FAMILIES["hubert-group"], 0.05), tmp_path / "hubert")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(SerError, match=r"the checkpoint in .* cannot be loaded: ") as error:
        Encoder(checkpoint=str(folder)).build().spec()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "1", '{"model_type": 3}', '{"model_type": ["hubert"]}', "{}", "\0"])
def test_a_bad_config_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(SerError) as error:
        Encoder(checkpoint=str(tmp_path)).build().place(16_000)
    assert "\n" not in str(error.value)


def test_offline_the_client_of_the_hub_prints_nothing(recordings):
    """Nothing listens at the address, and nothing is in the cache; the retries take a while."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(recordings / "cache")}
    code = "import time; time.sleep = lambda seconds: None\nfrom extract.cli import main; main()"
    arguments = ["--dataset", "folder", "--root", recordings / "new", "--encoder", "hubert-base"]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("ser-extract: the checkpoint facebook/hubert-base-ls960 cannot be loaded: ")
    assert "hf download facebook/hubert-base-ls960" in line


def test_the_client_of_the_hub_speaks_again_afterwards(tmp_path):
    from huggingface_hub.utils import logging as hub

    before = hub.get_verbosity()
    load_config(Checkpoint(id=str(save(build(*FAMILIES["hubert-group"], 0.05), tmp_path / "hubert"))))
    assert hub.get_verbosity() == before
