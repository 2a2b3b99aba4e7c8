"""Whether a model of speech and text bears that either is missing, where voice and words both say something.

python tests/benchmarks/spoken_words.py --text CHECKPOINT --folder runs/spoken_words

Praat speaks sentences. What somebody feels is drawn, the voice expresses it, and so do two adjectives; each is off by
chance, so neither says all. Four models are trained on the same folds of voices: of both streams, with a share of
the loss for each stream alone (``lost``) and without, of the speech, and of the text. Printed is the CCC over the test
voices of all folds, with its 95 % interval over voices: of both, and without either stream, beside the model that hears
only the other.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from cyclopts import App

import featurestore
from extract.audio import SAMPLING_RATE
from extract.config import ExtractConfig
from extract.datasets.demo import express
from extract.run import extract
from extract.speech import VOICES, speak
from featurestore.shared.command import run, say, say_table
from featurestore.shared.config import load
from train.commands.missing import missing_grid
from train.config import TrainConfig
from train.numerics.metrics import Floats
from train.running.run import run as train

app = App(name="spoken_words", help=__doc__)
WORDS = {
    (1, 1): ("thrilling", "amazing", "exciting", "fantastic", "glorious"),
    (1, -1): ("peaceful", "gentle", "calm", "pleasant", "cosy"),
    (-1, -1): ("sad", "gloomy", "lonely", "dull", "dreary"),
    (-1, 1): ("horrible", "terrifying", "violent", "shocking", "awful"),
    (0, 0): ("ordinary", "usual", "average", "normal", "typical"),
}
"""Adjectives by the valence and arousal that they say."""
SUBJECTS = (
    "The evening",
    "Her letter",
    "The journey",
    "Our meeting",
    "The film",
    "His answer",
    "That house",
    "The day",
)
OFF = 0.35
"""Standard deviation of what the voice, and the words, say from what is felt, which is from -1 to 1."""
CONFIG = Path(__file__).parents[2] / "configs/train/emotale_multiscale.yaml"
SETTINGS = [
    "streams.speech.feature=logmel",
    "streams.speech.front={name: standardize, normalize: speaker}",
    "targets=[V,A]",
    "splits.k=3",
    "baseline=false",
    "plots=false",
    "audit=table",
]


@app.default
def main(*, folder: Path, text: str, clips: int = 80, lost: float = 0.8, epochs: int = 80, seed: int = 0) -> None:
    """Speak what is not there, train, and print what is left without each stream.

    Args:
        folder: for the speech, its store, and the runs.
        text: checkpoint of a text encoder.
        clips: of each of the nine voices.
        lost: share of the loss of each stream alone.
        epochs: of each model.
        seed: of all that is drawn.
    """
    speech = folder / f"speech_{clips}_{seed}"
    if not (speech / "labels.csv").exists():
        speak_all(speech, clips, seed)
    words = [f"dataset.root={speech / 'labels.csv'}", f"store={speech}.zarr", f"text.checkpoint={text}"]
    extract(load(ExtractConfig, [], ["dataset=csv", "logmel={}", "text={}", *words]))
    store = featurestore.open(f"{speech}.zarr")
    both = {"with": [f"fusion.lost={lost}"], "without": ["fusion.lost=0"]}
    single = {"speech": ["fusion.lost=0", "streams.text=null"], "text": ["fusion.lost=0", "streams.speech=null"]}
    common = [*SETTINGS, f"optim.epochs={epochs}", f"runs={folder}", f"seed={seed}"]
    runs = {
        name: train(store, load(TrainConfig, [CONFIG], [*common, *settings]), say)
        for name, settings in (both | single).items()
    }
    grid = missing_grid(*(runs[name][0] for name in both))
    figures = grid[grid["missing"] == "utterances"].set_index(["run", "stream", "rate", "target"])
    rows = []
    for name, (stream, other), target in product(both, (("speech", "text"), ("text", "speech")), ("V", "A")):
        whole, missing = (dict(figures.loc[(str(runs[name][0]), stream, rate, target)]) for rate in (0.0, 1.0))
        alone = runs[other][1]["results"]["model"][target]
        cells = [f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in (whole, missing, alone)]
        rows.append((name, stream, target, *cells, f"{missing['value'] - alone['value']:+.3f}"))
    say_table(("lost", "is missing", "target", "nothing missing", "missing", "the other alone", "difference"), rows)


def speak_all(folder: Path, clips: int, seed: int) -> None:
    """Write the speech of all voices, and its labels."""
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(clips * len(VOICES)):
        rng, voice = np.random.default_rng([seed, number]), VOICES[number % len(VOICES)]
        felt = rng.uniform(-1, 1, 2)
        name, said = f"{voice}_{number // len(VOICES):03d}", sentence(felt + rng.normal(0, OFF, 2), rng)
        valence, arousal = np.clip(felt + rng.normal(0, OFF, 2), -1, 1)
        wave = speak(said, voice, express(valence, arousal, rng), seed=number)
        soundfile.write(folder / "wav" / f"{name}.wav", wave, SAMPLING_RATE, subtype="PCM_16")
        rows.append((name, f"wav/{name}.wav", *(3 + 2 * felt).round(2), voice, said))
    columns = ["name", "audio_path", "V", "A", "speaker", "transcript"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "labels.csv", index=False)


def sentence(felt: Floats, rng: np.random.Generator) -> str:
    """Return a sentence with two adjectives of the kind that is nearest to a valence and arousal, (2,)."""
    kinds = np.array(list(WORDS))
    kind = kinds[((kinds * 0.6 - felt) ** 2).sum(axis=1).argmin()]
    first, second = rng.permutation(WORDS[tuple(kind)])[:2]
    return f"{rng.choice(SUBJECTS)} was {first} and {second}."


if __name__ == "__main__":
    run(app)
