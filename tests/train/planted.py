"""Stores of log-mel in which recordings have copies, and the ways in which recordings are copied."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile

import featurestore
from extract.audio import SAMPLING_RATE
from extract.features.logmel import LogMel
from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.format.plan import FeaturePlan, Plan
from train.examples.protocol import Protocol
from train.splits import Fold

Wave = npt.NDArray[np.float32]


def coded(wave: Wave, form: str, subtype: str, level: float | None = None) -> Wave:
    """Return a waveform after it has been written in a format of sound files, and read."""
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLING_RATE, format=form, subtype=subtype, compression_level=level)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def silence(samples: int) -> Wave:
    return np.zeros(samples, np.float32)


COPIES: dict[str, Callable[[Wave], Wave]] = {
    "the same samples": lambda wave: wave,
    "FLAC of 16 bits": lambda wave: coded(wave, "FLAC", "PCM_16"),
    "MP3": lambda wave: coded(wave, "MP3", "MPEG_LAYER_III"),
    "MP3, most compressed": lambda wave: coded(wave, "MP3", "MPEG_LAYER_III", 0.95),
    "Ogg Vorbis": lambda wave: coded(wave, "OGG", "VORBIS", 0.8),
    "3 dB louder": lambda wave: np.clip(10 ** (3 / 20) * wave, -1, 1),
    "shifted by 100 ms": lambda wave: np.concatenate([silence(1600), wave]),
    "shifted by 104.8 ms": lambda wave: np.concatenate([silence(1677), wave]),
    "a second cut at the start": lambda wave: wave[16_000:],
    "1.0048 s cut at the start": lambda wave: wave[16_077:],
    "a second cut at the end": lambda wave: wave[:-16_000],
    "0.7 s cut, 6 dB softer, MP3": lambda wave: coded(0.5 * wave[11_123:], "MP3", "MPEG_LAYER_III"),
}


def write_store(path: Path, waves: Mapping[str, Wave], table: pd.DataFrame, feature: LogMel | None = None) -> Store:
    """Write and return a store with the log-mel of some waveforms.

    Args:
        path: of the store.
        waves: by name.
        table: of the same names, in the same order.
        feature: log-mel with other settings.
    """
    extractor, writer = (feature or LogMel()).build(), StoreWriter(path)
    seconds = [len(wave) / SAMPLING_RATE for wave in waves.values()]
    places = [extractor.place(len(wave)) for wave in waves.values()]
    with writer.lock():
        ranges = {target: (1.0, 5.0) for target in "VAD" if target in table}
        writer.plan(Plan.make(table.assign(duration=seconds), 600.0, dataset="planted", ranges=ranges, left_out={}))
        frames, times = (np.array(values) for values in zip(*places, strict=True))
        writer.plan_feature("logmel", FeaturePlan(extractor.spec(), frames, times))
        for number in writer.pending("logmel"):
            with writer.shard("logmel", number) as shard:
                for name in shard.names:
                    shard.add(name, extractor.frames(np.ascontiguousarray(waves[name], np.float32))[None])
        writer.commit("logmel")
    return featurestore.open(path)


def every_pair(names: list[str]) -> Protocol:
    """Return folds by which every two utterances are in different parts of one of them."""
    bits = range(max(1, (len(names) - 1).bit_length()))
    parts = [[[name for row, name in enumerate(names) if (row >> bit) % 2 == side] for side in (0, 1)] for bit in bits]
    return Protocol("planted", [Fold(train, [], test) for train, test in parts])
