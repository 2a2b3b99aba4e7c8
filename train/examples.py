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
from train.labels import EXAMPLES, Scale, clean_names, grouped, numbers, some
from train.model import Batch
from train.states import check_statistics, decode_into, is_damaged

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
        remarks: what is odd about them, a line each.
    """

    store: Store
    states: FeatureStore
    names: list[str]
    table: pd.DataFrame
    targets: torch.Tensor
    classes: list[str]
    ranges: dict[str, Scale]
    pitch: list[Floats] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

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

    @cached_property
    def _compared(self) -> set[int]:
        """The rows whose frames have been compared with what is stored of them."""
        return set()

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
        for row, frames, length in zip(chosen, stored, lengths, strict=True):
            decode_into(states[:, end : end + length], frames)
            self._compare(row, frames, states[:, end : end + length])
            end += length
        pitch = torch.from_numpy(np.concatenate([self.pitch[row] for row in chosen])) if self.pitch else None
        return Batch(rows, torch.tensor(lengths), states, pitch, self.targets[rows])

    def _compare(self, row: int, frames: Frames, values: torch.Tensor) -> None:
        """Look whether frames that are read for the first time are damaged."""
        if row in self._compared:
            return
        self._compared.add(row)
        mean, sd = (part[0] for part in self.states.pooled([self.names[row]]))
        if is_damaged(values, frames, mean, sd):
            raise SerError(
                f"{self.states.name} of {self.names[row]} is not what was written: "
                f"run ser-store verify {self.store.path}"
            )


def load_examples(store: Store, config: TrainConfig) -> Examples:
    """Return the utterances of a store that have what ``config`` asks for.

    Raises:
        SerError: if the store lacks a feature or a label, nothing is left, or what there is cannot be learned from.
    """
    states = store.feature(config.encoder or _only_encoder(store))
    pitch = _pitch(store, config.pitch.feature) if config.fusion.uses_pitch else None
    _check_targets(store, config)
    table, remarks = clean_names(store.utterances)
    ranges = {} if "emotion" in config.targets else {target: _scale(store, target) for target in config.targets}
    table = table.assign(**{target: numbers(table, target, scale) for target, scale in ranges.items()})
    skipped = _skipped([states, pitch] if pitch else [states], table, config.targets)
    names = [name for name in table.index if name not in skipped]
    if not names:
        raise SerError(f"{store.path}: nothing to train on: {'; '.join(grouped(skipped.items()))}")
    check_statistics(states, names)
    if not states.spec.hop:
        remarks.append(f"{states.name} has no clock: a frame is a token, or the whole utterance")
    table = table.loc[names]
    classes = [] if ranges else _classes(table["emotion"])
    targets = _scaled(table, ranges) if ranges else _class_numbers(table["emotion"], classes)
    aligned = _align_all(states, pitch, names, config.pitch) if pitch else []
    if pitch and not any(contour[:, 1].any() for contour in aligned):
        remarks.append(f"no frame of {pitch.name} is voiced: the fusion has nothing to work with")
    return Examples(store, states, names, table, targets, classes, ranges, aligned, skipped, remarks)


def _skipped(features: list[FeatureStore], table: pd.DataFrame, targets: Sequence[str]) -> dict[str, str]:
    """Return the utterances that lack a feature or a label, with the reason."""
    skipped = {name: reason for feature in features for name, reason in feature.failed.items()}
    for target in targets:
        missing = table[target] == "" if target == "emotion" else table[target].isna()
        skipped |= dict.fromkeys(table.index[missing], f"no label {target}")
    return skipped


def _scale(store: Store, target: str) -> Scale:
    scale = store.ranges.get(target)
    if scale is None or not (np.isfinite(scale).all() and scale[0] < scale[1]):
        found = f"{scale[0]:g} to {scale[1]:g}" if scale else "none"
        raise SerError(f"{store.path}: expected a scale for {target}, found {found}: extract it with dataset.ranges")
    return scale


def _classes(emotions: pd.Series) -> list[str]:
    classes = sorted(emotions.unique())
    if len(classes) < 2:
        raise SerError(f"all utterances have one emotion, {classes[0]}: expected two or more")
    return classes


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


def _scaled(table: pd.DataFrame, ranges: dict[str, Scale]) -> torch.Tensor:
    """Return the targets as shares of their declared ranges, (utterances, targets)."""
    columns = [(table[target].to_numpy() - low) / (high - low) for target, (low, high) in ranges.items()]
    return torch.tensor(np.stack(columns, axis=1), dtype=torch.float32)


def _pitch(store: Store, name: str) -> FeatureStore:
    """Return the feature with the pitch contour, whose first channel is F0 in Hz."""
    pitch = store.feature(name)
    spec = pitch.spec
    if spec.channels[:2] != ("f0", "voiced") or spec.layers != 1:
        held = ", ".join(spec.channels[:EXAMPLES]) or f"{spec.dim} channels without names"
        raise SerError(f"{name} holds {held}, expected f0 in Hz and voiced: choose pitch.feature, or extract pitch so")
    return pitch


def _align_all(states: FeatureStore, pitch: FeatureStore, names: list[str], config: PitchConfig) -> list[Floats]:
    """Return height and voicing of each utterance at the times of its hidden states."""
    aligned, bad = [], []
    for name in names:
        f0 = pitch.read(name).decode()[0, :, 0]
        if not (np.isfinite(f0) & (f0 >= 0)).all():
            bad.append(name)
            continue
        log_f0, voiced = align_pitch(f0, pitch.times(name), states.times(name))
        aligned.append(np.stack([_height(log_f0, voiced, config), voiced], axis=1).astype(np.float32))
    if bad:
        raise SerError(
            f"f0 in {pitch.name} of {some(bad)} is negative or not finite: it is damaged; run ser-store verify"
        )
    return aligned


def _height(log_f0: Floats, voiced: np.ndarray, config: PitchConfig) -> Floats:
    if config.normalize == "none":
        return np.exp(log_f0) * voiced / 100
    if config.normalize == "utterance" and voiced.any():
        heard = log_f0[voiced]
        return (log_f0 - heard.mean()) / max(float(heard.std()), 1e-3) * voiced
    return log_f0
