"""The configs of the methods: each trains on a store of its shape, and has its row in the page of methods."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featurestore
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.shared.config import load
from train.config import TrainConfig
from train.examples.protocol import make_protocol
from train.models.schedule import count_batches
from train.running.run import run

ROOT = Path(__file__).parents[2]
CONFIGS = {file.stem: file for file in sorted((ROOT / "configs/train").glob("*.yaml"))}
OTHERS = {name for name in CONFIGS if any(word in name for word in ("curves", "ranker", "multiscale"))}
"""Configs of chunks and their curves, which rest on each other's runs, and are trained in tests of their own."""
SPEAKERS = 20


def states(layers, dim):
    return FeatureSpec(layers=layers, dim=dim, hop=0.02, dtype="int8")


def spectrogram(bands, hop):
    return FeatureSpec(layers=1, dim=bands, hop=hop, dtype="float16")


PITCH = FeatureSpec(layers=1, dim=2, hop=0.01, dtype="float32", channels=("f0", "voiced"))
FUNCTIONALS = FeatureSpec(layers=1, dim=88, hop=0.0, dtype="float32")
STORES = {
    "ccsemo": {"wav2vec2-large-robust": states(25, 1024), "pitch": PITCH},
    "crema_d": {"hubert-base": states(13, 768), "logmel": spectrogram(128, 0.02)},
    "conformer": {"wavlm-base-plus": states(13, 768), "logmel": spectrogram(64, 0.01), "opensmile": FUNCTIONALS},
    "emodb": {"hubert-base": states(13, 768), "logmel": spectrogram(128, 0.032)},
    "whisper": {"whisper-base": states(7, 512), "pitch": PITCH},
}
"""The features of the stores, by what `configs/extract` makes of them."""
OF = {
    "ccsemo_base": "ccsemo",
    "ccsemo_discrete": "ccsemo",
    "ccsemo_exp": "ccsemo",
    "conformer": "conformer",
    "demo": "whisper",
    "emodb": "whisper",
    "emotale": "whisper",
    "emotale_emotion": "whisper",
    "hubert_mlp": "crema_d",
    "logmel_cnn": "conformer",
    "logmel_transformer": "conformer",
    "mel_and_hubert": "crema_d",
    "mel_cnn": "crema_d",
    "tim_net": "emodb",
    "tim_net_mix": "emodb",
    "two_stream": "conformer",
    "wavlm_bilstm": "conformer",
}
"""On which of them each config is tried."""


def write_store(path, dataset, features):
    """Write a store of two utterances of each speaker, with every label that a config asks for."""
    rng = np.random.default_rng(0)
    names = [f"u{number:02d}" for number in range(2 * SPEAKERS)]
    numbers, durations = np.arange(len(names)), rng.uniform(0.4, 0.9, len(names))
    table = pd.DataFrame(
        {
            "speaker": [f"s{number // 2:02d}" for number in numbers],
            "split": [("train", "train", "dev", "test")[number // 2 % 4] for number in numbers],
            "emotion": [("anger", "happiness", "neutral", "sadness")[number % 4] for number in numbers],
            "duration": durations,
            **{target: rng.uniform(1, 5, len(names)) for target in "VAD"},
        },
        index=pd.Index(names, name="name"),
    )
    writer = StoreWriter(path)
    with writer.lock():
        writer.plan(Plan.make(table, 30.0, dataset=dataset, ranges=dict.fromkeys("VAD", (1.0, 5.0)), left_out={}))
        for feature, spec in features.items():
            frames = (durations / spec.hop).astype(int) if spec.hop else np.ones(len(names), int)
            writer.plan_feature(feature, FeaturePlan(spec, frames, np.full(len(names), spec.hop / 2)))
            for shard_number in writer.pending(feature):
                with writer.shard(feature, shard_number) as shard:
                    for name in shard.names:
                        shard.add(name, values_of(spec, frames[names.index(name)], rng))
            writer.commit(feature)
    return path


def values_of(spec, frames, rng):
    if spec.channels[:2] == ("f0", "voiced"):
        f0 = rng.uniform(100, 300, frames) * (rng.random(frames) > 0.3)
        return np.stack([f0, f0 > 0], axis=-1).astype(np.float32)[None]
    return rng.normal(size=(spec.layers, frames, spec.dim)).astype(np.float32)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Return the path of a store by its name, written when it is first wanted."""
    folder, written = tmp_path_factory.mktemp("methods"), {}

    def find(name):
        if name not in written:
            dataset = "crema_d" if name in ("crema_d", "conformer") else name
            written[name] = write_store(folder / f"{name}.zarr", dataset, STORES[name])
        return written[name]

    return find


def trained(stores, tmp_path, config, *overrides):
    """Train the first fold for an epoch of two steps, test it, and return the folder of the run."""
    store, files = featurestore.open(stores(OF[config])), [CONFIGS[config]]
    (fold, *_) = make_protocol(load(TrainConfig, files).splits, store.utterances, store.dataset).folds
    size = -(-len(fold.train) // 2)
    assert count_batches(len(fold.train), size) == 2
    quick = [f"optim.batch_size={size}", "optim.epochs=1", "folds=[0]", "members=1", "workers=1", "plots=false"]
    quick += ["baseline=false", "audit=table", "optim.refit=false", f"runs={tmp_path}"]
    folder, _ = run(store, load(TrainConfig, files, [*overrides, *quick]), lambda _: None)
    (epoch,) = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert np.isfinite(epoch["loss"])
    return folder


@pytest.mark.parametrize("config", sorted(set(CONFIGS) - OTHERS))
def test_a_method_trains_and_predicts(stores, tmp_path, config):
    folder = trained(stores, tmp_path, config)
    predicted = pd.read_csv(folder / "predictions.csv", index_col="name")
    assert len(predicted) >= 2
    assert predicted.filter(like="_model").notna().all(axis=None)


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("ccsemo_exp", ["targets=[V]", "streams.pitch.embedding={name: cnn, layers: 3}"]),
        ("ccsemo_exp", ["targets=[A]", "streams.pitch.front.normalize=none", "streams.speech.layers=-1"]),
        ("ccsemo_discrete", ["loss.weights=balanced"]),
        ("hubert_mlp", ["categories=six"]),
        (
            "mel_and_hubert",
            [
                "fusion=gated",
                "streams.mel.temporal={name: chain, steps: [mel_cnn, {name: dilated_cnn, width: 768}]}",
                "streams.speech.width=768",
            ],
        ),
        ("tim_net", ["temporal.filters=128", "temporal.kernel=3", "temporal.stacks=3", "temporal.dropout=0.4"]),
        ("tim_net_mix", ["pooling={name: pyramid, levels: [1, 2, 4]}"]),
        ("two_stream", ["fusion=cross_attention"]),
    ],
)
def test_other_forms_that_a_config_names(stores, tmp_path, config, overrides):
    """The overrides that the comments of configs give."""
    text = CONFIGS[config].read_text(encoding="utf-8")
    assert all(one.partition("=")[0] in text or one.startswith("streams.speech.width") for one in overrides)
    assert trained(stores, tmp_path, config, *overrides)


def test_the_page_of_methods_has_every_config_and_no_other():
    page = (ROOT / "train/METHODS.md").read_text(encoding="utf-8")
    assert set(re.findall(r"configs/train/(\w+)\.yaml", page)) == set(CONFIGS) - {"demo"}


def test_fused_frames_are_896_wide(stores):
    """128 mel bands and the 768 of HuBERT."""
    from train.examples.examples import load_examples
    from train.models.inference import make_model

    config = load(TrainConfig, [CONFIGS["tim_net"]])
    model = make_model(load_examples(featurestore.open(stores("emodb")), config), config, 0)
    assert model.fusion.dim == 896
