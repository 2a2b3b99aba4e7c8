"""The gate at full depth: every family in shuffled batches, beside transformers on each utterance alone, in float32.

python tests/benchmarks/extract/exactness.py [MODEL ...] [--checkpoint DIR]

MODEL is one of models.py, with random weights (all of them when neither is given); DIR a checkpoint with real ones.
Speech from 25 ms (w2v-BERT: 50 ms) to 30 s; the worst layer of the worst utterance is printed. Exit code 1 if one
family is not within the limits. Where the values are large float32 itself is not more precise: then the limit is the
error of transformers' own float32 beside its float64.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from cyclopts import App
from models import MODELS, make

from extract.audio import SAMPLING_RATE, Wave
from extract.features.encoder import Encoder
from extract.selftest import LARGEST, LIMITS, SEED, errors, speech_for
from featurestore.command import run, say, say_table

app = App(name="exactness", help=__doc__)
EXTRACTORS = {
    "whisper": transformers.WhisperFeatureExtractor,
    "wav2vec2-bert": transformers.SeamlessM4TFeatureExtractor,
}
Library = Callable[[Wave, torch.dtype], np.ndarray]


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
    say_table(("model", "layers", "frames", "relative L2", "largest / sd", "transformers' own", "exact"), rows)
    return 0 if all(one[-1] == "yes" for one in rows) else 1


def row(name: str, folder: Path) -> tuple[object, ...]:
    encoder = Encoder(checkpoint=str(folder), batch_seconds=100)
    waves = speech_for(encoder)
    order = np.random.default_rng(SEED).permutation(len(waves))
    together = {int(order[one.position]): one.frames for one in encoder.compute([waves[i] for i in order])}
    library = load(folder)
    relative = largest = own = 0.0
    for i, wave in enumerate(waves):
        alone = library(wave, torch.float32)[:, : together[i].shape[1]]
        found = errors(together[i], alone)
        relative, largest = max(relative, found[0]), max(largest, found[1])
    if largest > LARGEST:
        own = max(own_error(library, waves))
    good = relative <= LIMITS["float32"] and largest <= max(LARGEST, own)
    frames, layers = sum(states.shape[1] for states in together.values()), together[0].shape[0]
    precise = f"{own:.1e}" if own else "-"
    return name, layers, frames, f"{relative:.1e}", f"{largest:.1e}", precise, "yes" if good else "NO"


def own_error(library: Library, waves: Sequence[Wave]) -> list[float]:
    exact = [library(wave, torch.float64) for wave in waves]
    return [errors(library(wave, torch.float32), one)[1] for wave, one in zip(waves, exact, strict=True)]


def load(folder: Path) -> Library:
    """Return what gives the hidden states (layers, frames, dim) of one waveform by transformers alone."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    kind = EXTRACTORS.get(model.config.model_type, transformers.Wav2Vec2FeatureExtractor)
    extractor = kind.from_pretrained(folder) if kind is transformers.Wav2Vec2FeatureExtractor else kind()
    encoder = model.encoder if model.config.model_type == "whisper" else model

    def states(wave: Wave, precision: torch.dtype) -> np.ndarray:
        inputs = extractor(wave, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        inputs = {key: value.to(precision) if value.is_floating_point() else value for key, value in inputs.items()}
        with torch.inference_mode():
            found = encoder.to(precision)(**inputs, output_hidden_states=True).hidden_states
        return torch.stack(found)[:, 0].float().numpy()

    return states


if __name__ == "__main__":
    run(app)
