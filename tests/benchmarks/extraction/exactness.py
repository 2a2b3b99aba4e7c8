"""The gate at full depth: every family in shuffled batches, beside transformers on each utterance alone, in float32.

python tests/benchmarks/extraction/exactness.py [MODEL ...] [--checkpoint DIR]

MODEL is one of models.py, with random weights (all of them when neither is given); DIR a checkpoint with real ones.
Speech from 25 ms (w2v-BERT: 50 ms) to 30 s; the worst layer of the worst utterance is printed. Exit code 1 if one
family is not within the limits. Where float32 itself is less precise than that (large values, or a network that
amplifies rounding), what counts is the error beside transformers in float64: ours, and in brackets that of
transformers' own float32, which ours may not exceed by more than half.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from cyclopts import App
from models import MODELS, make

from extract.audio import SAMPLING_RATE, Wave
from extract.encoders.checkpoint import find, load_model
from extract.features.encoder import Encoder
from extract.selftest import compute_shuffled, errors, speech_for, within_limits
from featurestore.shared.command import run, say, say_table

app = App(name="exactness", help=__doc__)
EXTRACTORS = {
    "whisper": transformers.WhisperFeatureExtractor,
    "wav2vec2-bert": transformers.SeamlessM4TFeatureExtractor,
}
AS_PRECISE = 1.5
"""Times the error of transformers' own float32: rounding is a matter of chance."""


@app.default
def main(*models: str, checkpoint: Path | None = None) -> int:
    """Check every family, or what is named.

    Args:
        models: names of models.py.
        checkpoint: a folder with real weights.
    """
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in models or (() if checkpoint else tuple(MODELS)):
            made = make(name, Path(folder))
            rows.append(row(name, made))
            (made / "model.safetensors").unlink()
            say(" ".join(map(str, rows[-1])))
    if checkpoint:
        rows.append(row(checkpoint.name, checkpoint))
    say_table(("model", "layers", "frames", "relative L2", "largest / sd", "beside float64", "exact"), rows)
    return 0 if all(one[-1] == "yes" for one in rows) else 1


def row(name: str, folder: Path) -> tuple[object, ...]:
    encoder = Encoder(checkpoint=str(folder), batch_seconds=100, hidden_states="transformers5").build()
    waves = speech_for(encoder)
    together = compute_shuffled(encoder, waves)
    model = load_model(find(str(folder)))
    worst, good, precise = (0.0, 0.0), True, "-"
    for i, wave in enumerate(waves):
        ours = together[i]
        alone = states_of(model, folder, wave, torch.float32)[:, : ours.shape[1]]
        found = errors(ours, alone)
        worst = max(worst[0], found[0]), max(worst[1], found[1])
        if not within_limits("float32", *found):
            exact = states_of(model, folder, wave, torch.float64)[:, : ours.shape[1]]
            own, theirs = errors(ours, exact), errors(alone, exact)
            precise = f"{own[0]:.1e}, {own[1]:.1e} ({theirs[0]:.1e}, {theirs[1]:.1e})"
            good &= all(a <= AS_PRECISE * b for a, b in zip(own, theirs, strict=True))
    frames, layers = sum(states.shape[1] for states in together.values()), together[0].shape[0]
    return name, layers, frames, f"{worst[0]:.1e}", f"{worst[1]:.1e}", precise, "yes" if good else "NO"


def states_of(model: Any, folder: Path, wave: Wave, precision: torch.dtype) -> np.ndarray:
    """Return the hidden states (layers, frames, dim) that transformers alone gives of one waveform."""
    kind = EXTRACTORS.get(model.config.model_type, transformers.Wav2Vec2FeatureExtractor)
    extractor = kind.from_pretrained(folder) if kind is transformers.Wav2Vec2FeatureExtractor else kind()
    inputs = extractor(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    inputs = {key: value.to(precision) if value.is_floating_point() else value for key, value in inputs.items()}
    with torch.inference_mode():
        found = model.to(precision)(**inputs, output_hidden_states=True).hidden_states
    return torch.stack(found)[:, 0].float().numpy()


if __name__ == "__main__":
    run(app)
