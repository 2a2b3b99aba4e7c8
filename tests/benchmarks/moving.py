"""Whether curves follow an arousal that rises and falls: Praat speaks it so, in voices that no model has heard.

python tests/benchmarks/moving.py --folder runs/moving

An utterance is six phrases, each spoken with an arousal of its own; its raters give the mean over its time, and nothing
else is taught. The chain is the published one: rankers of chunks, the order of the chunks by them, and a model from
sequence to sequence that is taught these curves. Printed is, within each utterance of the test voices, Spearman's
correlation of the curve with the arousal that each chunk has heard; that of the ranks, and of their published trend;
and that of the level of the voice, which is taught nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from cyclopts import App
from scipy.stats import spearmanr

import featurestore
from extract.audio import SAMPLING_RATE
from extract.config import ExtractConfig
from extract.datasets.demo import SPLIT, express
from extract.labels import as_ratings
from extract.run import extract
from extract.speech import VOICES, speak
from featurestore.shared.command import run, say, say_table
from featurestore.shared.config import load
from train.config import TrainConfig
from train.curves.curve import smooth, trend
from train.numerics.metrics import Floats
from train.plots.voice import level_of
from train.running.curve_results import write_ranks
from train.running.run import run as train

app = App(name="moving", help=__doc__)
PHRASES = (
    "the children went home", "on the other side", "nobody had seen it", "before the winter came", "with a red lamp",
    "she opened the window", "and the dog was there", "in the old kitchen", "they called him again", "under the bridge",
    "it was a long way", "at half past nine",
)  # fmt: skip
PIECES = 6
SHAPES = {
    "rises": [-1, -0.6, -0.2, 0.2, 0.6, 1],
    "falls": [1, 0.6, 0.2, -0.2, -0.6, -1],
    "rises, then falls": [-1, -0.2, 0.6, 1, 0.2, -0.6],
    "falls, then rises": [1, 0.2, -0.6, -1, -0.2, 0.6],
}
SETTINGS = [
    "streams.voice={feature: logmel, front: {name: layer_sum, normalize: speaker}}",
    "streams.pitch={feature: pitch, front: {name: log_f0, normalize: speaker}}",
    "fusion=concat",
    "pooling={name: chunks, longest: 11, each: statistics}",
    "splits=given",
    "baseline=false",
    "plots=false",
    "audit=table",
    "workers=1",
]
Piece = tuple[float, float]
"""When a phrase ends, in seconds, and its arousal, from -1 to 1."""


@app.default
def main(*, folder: Path, clips: int = 40, epochs: int = 20, seed: int = 0) -> None:
    """Speak what is not there, train, and print how well the curves follow.

    Args:
        folder: for the speech, its store, and the runs.
        clips: of each of the nine voices.
        epochs: of each model.
        seed: of all that is drawn.
    """
    speech = folder / f"speech_{clips}_{seed}"
    if not (speech / "labels.csv").exists():
        speak_all(speech, clips, seed)
    words = [f"dataset.root={speech / 'labels.csv'}", f"store={speech}.zarr"]
    extract(load(ExtractConfig, [], ["dataset=csv", "logmel={}", "pitch={}", *words]))
    store = featurestore.open(f"{speech}.zarr")
    settings = [*SETTINGS, f"runs={folder}", f"seed={seed}", f"optim.epochs={epochs}"]
    ranker, found = train(store, load(TrainConfig, [], [*settings, "tasks.r={name: ranking, targets: [A]}"]), say)
    say(f"the order of whole utterances: Spearman {found['figures']['model']['A']['Spearman']['value']:.3f}")
    write_ranks(ranker, ranker / "ranks", say)
    taught = f"tasks.s={{name: sequence, targets: [A], ranks: {ranker / 'ranks'}}}"
    sequence, _ = train(store, load(TrainConfig, [], [*settings, taught]), say)
    orders, curves = (pd.read_csv(one / "curves.csv", index_col="name") for one in (ranker, sequence))
    pieces = json.loads((speech / "pieces.json").read_text())
    rows = []
    for name in dict.fromkeys(curves.index):
        curve, order = curves.loc[name], orders.loc[name]
        heard = arousal(pieces[name]["pieces"], curve)
        level = level_of(store, name)
        assert level is not None
        loud = [
            float(level.values[(level.times >= start) & (level.times < end)].mean())
            for start, end in curve[["start", "end"]].to_numpy()
        ]
        ranks = order["A_rank"].to_numpy(float)
        follows = [spearmanr(one, heard).statistic for one in (curve["A"], smooth(-ranks), smooth(trend(ranks)), loud)]
        rows.append((pieces[name]["shape"], name.split("_")[0], *follows))
    systems = ["sequence", "ranks", "trend", "level"]
    table = pd.DataFrame(rows, columns=["arousal", "voice", *systems])
    lines = [
        (by, word, len(of), *(f"{of[system].mean():.3f} (least {of[system].min():.2f})" for system in systems))
        for by in ("arousal", "voice")
        for word, of in [("all", table)] * (by == "arousal") + list(table.groupby(by, sort=False))
    ]
    say_table(("by", "", "utterances", *systems), lines)


def speak_all(folder: Path, clips: int, seed: int) -> None:
    """Write the speech of all voices, its labels, and what each piece is."""
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    rows, pieces = [], {}
    for number in range(clips * len(VOICES)):
        rng, voice = np.random.default_rng([seed, number]), VOICES[number % len(VOICES)]
        name, shape = f"{voice}_{number // len(VOICES):03d}", list(SHAPES)[number // len(VOICES) % len(SHAPES)]
        height, reach, valence = rng.uniform(-0.4, 0.4), rng.uniform(0.4, 0.6), rng.uniform(-1, 1)
        wave, found = speak_pieces(voice, valence, height + reach * np.array(SHAPES[shape]), [seed, number])
        soundfile.write(folder / "wav" / f"{name}.wav", wave, SAMPLING_RATE, subtype="PCM_16")
        mean = 3 + 2 * float(np.average([a for _, a in found], weights=np.diff([0, *(end for end, _ in found)])))
        said = np.clip(np.round(2 * (mean + rng.normal(0, 0.3, 3))) / 2, 1, 5)
        ratings = as_ratings({"rater": f"r{rater}", "A": float(value)} for rater, value in enumerate(said))
        rows.append((name, f"wav/{name}.wav", float(said.mean()), voice, SPLIT[voice], ratings))
        pieces[name] = {"shape": shape, "pieces": found}
    (folder / "pieces.json").write_text(json.dumps(pieces))
    columns = ["name", "audio_path", "A", "speaker", "split_set", "ratings"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "labels.csv", index=False)


def speak_pieces(voice: str, valence: float, arousals: Floats, seed: list[int]) -> tuple[Floats, list[Piece]]:
    """Return phrases spoken one after another, each with its arousal; by chance all of them vary alike."""
    order = np.random.default_rng(seed).permutation(len(PHRASES))[:PIECES]
    waves = [
        speak(PHRASES[place], voice, express(valence, arousal, np.random.default_rng([*seed, 1])), seed=int(place))
        for place, arousal in zip(order, arousals, strict=True)
    ]
    ends = np.cumsum([len(wave) for wave in waves]) / SAMPLING_RATE
    return np.concatenate(waves), list(zip(ends.tolist(), arousals.tolist(), strict=True))


def arousal(pieces: list[Piece], chunks: pd.DataFrame) -> Floats:
    """Return the mean arousal over the time of each chunk, (chunks,)."""
    times = np.arange(0, pieces[-1][0], 0.005)
    ends, values = np.array(pieces).T
    at = values[np.searchsorted(ends, times, side="right").clip(max=len(ends) - 1)]
    return np.array([at[(times >= start) & (times < end)].mean() for start, end in chunks[["start", "end"]].to_numpy()])


if __name__ == "__main__":
    run(app)
