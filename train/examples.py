"""The examples: utterances of a store that have every feature and label asked for, joined by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from featurestore.batches import Batch as StoredBatch
from featurestore.codec import Frames
from featurestore.errors import SerError
from featurestore.feature import FeatureStore
from featurestore.store import Store
from train.align import Floats, align_pitch
from train.config import PitchConfig, TrainConfig
from train.model import Batch

DIMENSIONS = ("V", "A", "D")


@dataclass(frozen=True)
class Examples:
    """What a model learns from.

    Attributes:
        store: that they come from.
        states: the feature with the hidden states.
        names: of the utterances; a row is a position in it.
        table: the utterance table of these.
        targets: scaled to the declared range, (utterances, targets); or class numbers, (utterances,).
        classes: the categories by class number; empty for a regression.
        ranges: the declared range of each target of a regression.
        pitch: aligned with the states, (frames, 2) of each utterance: height and voicing; empty if not used.
        skipped: utterances of the store that are not among the examples, with the reason.
    """

    store: Store
    states: FeatureStore
    names: list[str]
    table: pd.DataFrame
    targets: torch.Tensor
    classes: list[str]
    ranges: dict[str, tuple[float, float]]
    pitch: list[Floats] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """How many numbers a model predicts."""
        return len(self.classes) or self.targets.shape[1]

    def rows(self, names: Sequence[str]) -> torch.Tensor:
        """Return the rows of some names."""
        return torch.from_numpy(self._index.get_indexer(pd.Index(names)))

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(self.names)

    def batches(self, rows: torch.Tensor, size: int, seed: int | None = None) -> Iterator[Batch]:
        """Yield batches of ``size`` of the rows, read ahead in a thread.

        Args:
            rows: of the utterances.
            size: utterances in a batch.
            seed: of the order; by length when absent.
        """
        names = [self.names[row] for row in rows.tolist()]
        return self.store.batches(
            names, [self.states.name], utterances=size, seed=seed, collate=self._collate, copy=False, threads=1
        )

    def _collate(self, batch: StoredBatch) -> Batch:
        rows, stored = self.rows(batch.names), batch.frames[self.states.name]
        chosen = rows.tolist()
        lengths = [frames.values.shape[1] for frames in stored]
        states = torch.empty(self.states.spec.layers, sum(lengths), self.states.spec.dim)
        end = 0
        for frames, length in zip(stored, lengths, strict=True):
            decode_into(states[:, end : end + length], frames)
            end += length
        pitch = torch.from_numpy(np.concatenate([self.pitch[row] for row in chosen])) if self.pitch else None
        return Batch(rows, torch.tensor(lengths), states, pitch, self.targets[rows])


def load_examples(store: Store, config: TrainConfig) -> Examples:
    """Return the utterances of a store that have what ``config`` asks for.

    Raises:
        SerError: if the store lacks a feature or a label, or nothing is left.
    """
    encoder = config.encoder or _only_encoder(store)
    features = [encoder, config.pitch.feature] if config.fusion.uses_pitch else [encoder]
    _check_targets(store, config)
    table = store.utterances
    skipped = {name: reason for f in features for name, reason in store.feature(f).failed.items()}
    for target in config.targets:
        missing = table[target].isna() if target in DIMENSIONS else table[target] == ""
        skipped |= dict.fromkeys(table.index[missing], f"no label {target}")
    names = [name for name in table.index if name not in skipped]
    if not names:
        raise SerError(f"{store.path}: no utterance has {', '.join([*features, *config.targets])}")
    table = table.loc[names]
    states = store.feature(encoder)
    classes = sorted(table["emotion"].unique()) if config.loss.task == "classification" else []
    ranges = {} if classes else {target: store.ranges[target] for target in config.targets}
    targets = _class_numbers(table["emotion"], classes) if classes else _scaled(table, ranges)
    pitch = _align_all(states, store.feature(config.pitch.feature), names, config.pitch) if len(features) > 1 else []
    return Examples(store, states, names, table, targets, classes, ranges, pitch, skipped)


def _only_encoder(store: Store) -> str:
    layered = [name for name, part in store.parts.items() if part.spec.layers > 1]
    if len(layered) != 1:
        found = ", ".join(layered) or "none"
        raise SerError(f"{store.path}: found {found} with hidden states, expected one: choose with encoder=NAME")
    return layered[0]


def _check_targets(store: Store, config: TrainConfig) -> None:
    regression = config.loss.task == "regression"
    known = DIMENSIONS if regression else ("emotion",)
    wrong = [target for target in config.targets if target not in known]
    if wrong or not config.targets or len(set(config.targets)) < len(config.targets):
        kind = "any of V, A, D, each once" if regression else "[emotion]"
        raise SerError(f"loss={config.loss.name} takes targets={kind}, found targets=[{','.join(config.targets)}]")
    absent = [target for target in config.targets if target not in store.utterances]
    if absent:
        there = [label for label in (*DIMENSIONS, "emotion") if label in store.utterances]
        raise SerError(f"{store.path} has no labels {', '.join(absent)}; it has {', '.join(there) or 'none'}")


def _class_numbers(emotions: pd.Series, classes: list[str]) -> torch.Tensor:
    return torch.from_numpy(pd.Index(classes).get_indexer(pd.Index(emotions)))


def _scaled(table: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> torch.Tensor:
    """Return the targets as shares of their declared ranges, (utterances, targets)."""
    columns = [(table[target].to_numpy() - low) / (high - low) for target, (low, high) in ranges.items()]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def _align_all(states: FeatureStore, pitch: FeatureStore, names: list[str], config: PitchConfig) -> list[Floats]:
    """Return height and voicing of each utterance at the times of its hidden states."""
    if {"log_f0", "semitones"} & {*pitch.spec.channels}:
        raise SerError(
            f"{pitch.name} holds {', '.join(pitch.spec.channels)}, expected f0 in Hz: extract it so (pitch.unit)"
        )
    aligned = []
    for name in names:
        f0 = pitch.read(name).decode()[0, :, 0]
        log_f0, voiced = align_pitch(f0, pitch.times(name), states.times(name))
        aligned.append(np.stack([_height(log_f0, voiced, config), voiced], axis=1).astype(np.float32))
    return aligned


def _height(log_f0: Floats, voiced: np.ndarray, config: PitchConfig) -> Floats:
    if config.normalize == "none":
        return np.exp(log_f0) * voiced / 100
    if config.normalize == "utterance" and voiced.any():
        heard = log_f0[voiced]
        return (log_f0 - heard.mean()) / max(float(heard.std()), 1e-3) * voiced
    return log_f0


def decode_into(out: torch.Tensor, frames: Frames) -> None:
    """Write the values of stored frames into ``out`` (layers, frames, dim), which may be on a GPU."""
    values = torch.from_numpy(np.array(frames.values))  # a copy: the map that it views is read-only
    if frames.dtype == "bfloat16":
        values = values.view(torch.bfloat16)
    if frames.dtype == "int4":
        values = torch.stack([values & 0xF, values >> 4], dim=-1).flatten(-2)[..., : frames.dim]
    if frames.scale is None or frames.offset is None:
        out.copy_(values)
        return
    scale, offset = (torch.from_numpy(np.array(part))[:, None] for part in (frames.scale, frames.offset))
    torch.addcmul(offset, values.to(torch.float32), scale, out=out)
