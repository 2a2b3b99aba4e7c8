"""The whole extraction, from audio files to a committed store, beside its forward passes alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import soundfile
from ways import our_encoder

from extract.audio import SAMPLING_RATE, Wave
from extract.config import ExtractConfig
from extract.run import extract
from featurestore.shared.config import load


def whole(checkpoint: str, waves: Sequence[Wave], folder: Path, rounds: int) -> str:
    """Return a line that says how much longer the whole takes, the median of rounds that take turns."""
    labels = write_dataset(waves, folder)
    ratios = []
    for number in range(rounds):
        start = time.perf_counter()
        for _ in our_encoder(checkpoint, "float32").compute(waves):
            pass
        forward = time.perf_counter() - start
        settings = ["dataset=csv", f"dataset.root={labels}", f"encoder.checkpoint={checkpoint}", "workers=1"]
        start = time.perf_counter()
        extract(load(ExtractConfig, [], [*settings, f"store={folder / f'{number}.zarr'}"]))
        ratios.append((time.perf_counter() - start) / forward)
    return f"files to committed store (int8, weights loaded and hashed) over forward passes: {median(ratios):.2f}"


def write_dataset(waves: Sequence[Wave], folder: Path) -> Path:
    """Write the waveforms as files, and return their label file."""
    rows = ["name,audio_path,V,A,split_set"]
    for number, wave in enumerate(waves):
        soundfile.write(folder / f"{number}.wav", wave, SAMPLING_RATE)
        rows.append(f"{number},{number}.wav,3,3,train")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"
