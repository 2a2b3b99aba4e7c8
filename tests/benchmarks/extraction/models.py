"""Checkpoints of full size with random weights, each moved away from where its initialisation leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
WHISPER_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 1,
    "decoder_attention_heads": 8,
}
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "wav2vec2-base": ("Wav2Vec2", {}, True),
    "wav2vec2-large": ("Wav2Vec2", LARGE, True),
    "wav2vec2-large-robust": ("Wav2Vec2", LARGE | PRE_NORM, True),
    "hubert-base": ("Hubert", {}, True),
    "hubert-large": ("Hubert", LARGE | PRE_NORM, True),
    "wavlm-base-plus": ("WavLM", {}, False),
    "wavlm-large": ("WavLM", LARGE | PRE_NORM, True),
    "unispeech-sat-base": ("UniSpeechSat", {}, False),
    "unispeech-sat-large": ("UniSpeechSat", LARGE | PRE_NORM, True),
    "data2vec-audio-base": ("Data2VecAudio", {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}, True),
    "data2vec-audio-large": ("Data2VecAudio", LARGE | {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}, True),
    "w2v-bert-2.0": ("Wav2Vec2Bert", {"num_hidden_layers": 24}, True),
    "whisper-base": ("Whisper", WHISPER_BASE, False),
}
"""The class of transformers, its settings where they are not the defaults, and whether waveforms are normalised."""
SPREAD = 0.01
"""Added to every weight, in standard deviations of 1: large enough that no bias and no norm is trivial."""


def make(name: str, folder: Path) -> Path:
    """Write a checkpoint of one of `MODELS` into ``folder``, in Hugging Face's layout, and return where it is."""
    family, settings, normalize = MODELS[name]
    return save(build(family, settings, SPREAD), folder / name, normalize)


def build(family: str, settings: dict[str, Any], spread: float, kind: str = "Model") -> Any:
    """Return a model with random weights, each moved by ``spread`` standard deviations of 1."""
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}{kind}")(getattr(transformers, f"{family}Config")(**settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return model


def save(model: Any, folder: Path, normalize: bool = False) -> Path:
    """Write a checkpoint in Hugging Face's layout, and return where it is."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalize}))
    return folder
