"""Checkpoints as they are published: with a head, with old names of weights, in half precision, or broken."""

import numpy as np
import pytest
import torch

from extract.features.encoder import Encoder
from featurestore.shared.errors import SerError
from tests.benchmarks.extraction.models import build, save
from tests.extract.samples import FAMILIES, computed, noise

HEADS = {
    "wav2vec2-group": "ForCTC",
    "wav2vec2-pre-norm": "ForPreTraining",
    "hubert-group": "ForCTC",
    "hubert-pre-norm": "ForCTC",
    "wavlm-group": "ForCTC",
    "wavlm-pre-norm": "ForCTC",
    "unispeech-sat-group": "ForCTC",
    "unispeech-sat-pre-norm": "ForPreTraining",
    "data2vec": "ForCTC",
    "w2v-bert": "ForCTC",
    "whisper": "ForConditionalGeneration",
}
WAVEFORM = [name for name in FAMILIES if name not in ("whisper", "w2v-bert")]
SPREAD = 0.05
"""Added to every weight, in standard deviations of 1."""
WEIGHT_NORM = [name for name in WAVEFORM if name != "data2vec"]


def states(folder, wave=None, **settings):
    wave = noise(12_345) if wave is None else wave
    (found,) = computed(Encoder(checkpoint=str(folder), **settings).build(), [wave])
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_on_the_encoder_is_ignored(family, tmp_path):
    model = build(*FAMILIES[family], SPREAD, kind=HEADS[family])
    inner = getattr(model, model.base_model_prefix)
    whole, alone = save(model, tmp_path / "whole"), save(inner, tmp_path / "alone")
    assert np.array_equal(states(whole), states(alone))


@pytest.mark.parametrize("family", WEIGHT_NORM)
def test_old_names_of_weights_in_a_pickle(family, tmp_path):
    model = build(*FAMILIES[family], SPREAD)
    new = save(model, tmp_path / "new")
    old = tmp_path / "old"
    save(model, old)
    (old / "model.safetensors").unlink()
    rename = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = model.state_dict()
    for now, before in rename.items():
        weights = {name.replace(now, before): weight for name, weight in weights.items()}
    assert any(name.endswith("conv.weight_g") for name in weights)
    torch.save(weights, old / "pytorch_model.bin")
    assert np.array_equal(states(old), states(new))


def test_weights_in_half_precision_are_computed_with_in_float32(tmp_path):
    model = build(*FAMILIES["hubert-group"], SPREAD).half()
    half, full = save(model, tmp_path / "half"), save(model.float(), tmp_path / "full")
    assert np.array_equal(states(half), states(full))


@pytest.mark.parametrize("family", WAVEFORM)
def test_with_the_final_norm_the_last_layer_is_the_last_hidden_state_of_the_library(family, tmp_path):
    model = build(*FAMILIES[family], SPREAD)
    folder, wave = save(model, tmp_path / "model"), noise(12_345)
    with torch.inference_mode():
        library = model(torch.from_numpy(wave)[None]).last_hidden_state[0].numpy()
    assert np.allclose(states(folder, wave, hidden_states="transformers4")[-1], library, atol=1e-5)
    raw = states(folder, wave)[-1]
    assert np.allclose(raw, library, atol=1e-5) == ("pre-norm" not in family)


@pytest.mark.parametrize("family", FAMILIES)
def test_float16_is_close(family, tmp_path):
    folder = save(build(*FAMILIES[family], SPREAD), tmp_path / "model")
    full = states(folder)
    error = np.linalg.norm(states(folder, precision="float16") - full) / np.linalg.norm(full)
    assert 0 < error <= 3e-3


@pytest.mark.parametrize("batch_seconds", [1.7, 6.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_shuffled_batches_of_any_size_change_nothing(family, batch_seconds, tmp_path):
    folder = save(build(*FAMILIES[family], SPREAD), tmp_path / "model")
    rng, least = np.random.default_rng(0), 560 if family == "w2v-bert" else 400
    lengths = rng.permutation([least, least, 719, *rng.integers(least, 48_000, 7)])
    waves = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    trim = family == "whisper"  # otherwise each of its windows is alone in batches of this size
    encoder = Encoder(checkpoint=str(folder), batch_seconds=batch_seconds, trim=trim).build()
    together = computed(encoder, waves)
    assert len(together) == len(waves)
    for i, wave in enumerate(waves):
        (single,) = computed(encoder, [wave])
        for ours, alone in zip(together[i], single, strict=True):
            assert np.linalg.norm(ours - alone) <= 5e-6 * np.linalg.norm(alone)
            assert np.abs(ours - alone).max() <= 3e-5 * max(1.0, alone.std())


@pytest.mark.parametrize("content", [None, b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"])
def test_weights_that_cannot_be_read_are_said(content, tmp_path):
    folder = save(build(*FAMILIES["hubert-group"], SPREAD), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(SerError, match="model cannot be loaded"):
        Encoder(checkpoint=str(folder)).build().spec()


def test_a_config_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(SerError, match="cannot be loaded"):
        Encoder(checkpoint=str(tmp_path)).build().place(16_000)
