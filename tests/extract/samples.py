"""What several tests of extraction use: noise, the real data where it is, names in two datasets' formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from extract.features import Extractor
from tests.benchmarks.extraction.models import PRE_NORM
from tests.processes import Command

ser_extract = Command("extract")
"""The command, in a process of its own."""
SHARED = Path(__file__).parents[3] / "shared"
EMODB_CLIPS = ("03a01Fa", "03a01Wc", "08b09Na", "10a07Ta", "16b10Lb")
EMOTALE_CLIPS = ("DK_001_A_1", "DK_003_N_2", "EN_018_S_3")
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
W2V_BERT = {
    "vocab_size": 40,
    **{key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")},
}
FAMILIES = {
    "wav2vec2-group": ("Wav2Vec2", SMALL),
    "wav2vec2-pre-norm": ("Wav2Vec2", SMALL | PRE_NORM),
    "hubert-group": ("Hubert", SMALL),
    "hubert-pre-norm": ("Hubert", SMALL | PRE_NORM),
    "wavlm-group": ("WavLM", SMALL),
    "wavlm-pre-norm": ("WavLM", SMALL | PRE_NORM),
    "unispeech-sat-group": ("UniSpeechSat", SMALL),
    "unispeech-sat-pre-norm": ("UniSpeechSat", SMALL | PRE_NORM),
    "data2vec": ("Data2VecAudio", SMALL | {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 9}),
    "w2v-bert": ("Wav2Vec2Bert", W2V_BERT),
    "whisper": ("Whisper", WHISPER),
}


def shared(*parts: str) -> Path:
    """Return a path of the real data, or skip the test."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not beside the repository")
    return path


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def computed(extractor: Extractor, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the frames of each waveform, in their order."""
    return [one.frames for one in sorted(extractor.compute(waves), key=lambda one: one.position)]
