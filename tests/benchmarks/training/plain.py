"""The same model on a .npy file per utterance, as most people write it: python plain.py STORE FUSION FRAMES ORDER

A DataLoader in the same process reads float16 (layers, frames, dim), pads a batch in float32, and every layer is
normalised and weighted there. What comes after the layer sum, and the optimiser, are ours; with ORDER ``ours`` also
the batches, of similar lengths; otherwise they are shuffled.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from laps import Laps
from ours import training_of
from torch import nn
from torch.utils.data import DataLoader, Dataset

from train.models.model import Model
from train.models.schedule import epoch_order
from train.models.training import Training
from train.numerics.sequences import Sequences

SIZE = 32


@dataclass
class Padded:
    """A batch: hidden states (batch, layers, time, dim), pitch on their clock (batch, time, 2), or None."""

    states: torch.Tensor
    pitch: torch.Tensor | None
    mask: torch.Tensor
    targets: dict[str, torch.Tensor]
    mix: None = None
    """As a batch of ours has it, of which nothing is mixed."""


class Utterances(Dataset):
    """The first utterances of the examples, about ``frames`` frames of them, as files of a folder."""

    def __init__(self, training: Training, folder: Path, frames: int) -> None:
        self._folder, self._examples = folder, training._examples
        lengths = self._examples.lengths
        self.rows = np.arange(min(len(lengths), int(np.searchsorted(lengths.cumsum(), frames)) + 1))
        self._pitch: list[torch.Tensor] = []
        for row in self.rows.tolist():
            batch = self._examples.batch(np.array([row]))
            np.save(folder / f"{row}.npy", batch.streams["speech"].frames[0].decode().astype(np.float16))
            if "pitch" in batch.streams:
                pitch = batch.streams["pitch"]
                self._pitch.append(pitch.align(training.model.streams[1].front(pitch.frames)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[int, torch.Tensor, torch.Tensor | None]:
        states = torch.from_numpy(np.load(self._folder / f"{row}.npy"))
        return row, states, self._pitch[row] if self._pitch else None

    def collate(self, items: list[tuple[int, torch.Tensor, torch.Tensor | None]]) -> Padded:
        rows, states, pitch = zip(*items, strict=True)
        lengths = torch.tensor([one.shape[1] for one in states])
        layers, longest, dim = len(states[0]), int(lengths.max()), states[0].shape[2]
        padded = torch.zeros(len(rows), layers, longest, dim)
        for out, one in zip(padded, states, strict=True):
            out[:, : one.shape[1]] = one
        mask = torch.arange(longest) < lengths[:, None]
        targets = {task: values[list(rows)] for task, values in self._examples.targets.items()}
        return Padded(padded, nn.utils.rnn.pad_sequence(pitch, True) if self._pitch else None, mask, targets)


class Plain(nn.Module):
    """A model whose layer sum is torch's."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model, self.log_variances, self.absences = model, model.log_variances, model.absences
        self.dropout = nn.Dropout1d(model.streams[0].dropout)

    def hear(self, batch: Padded) -> Padded:
        return batch

    def encode(self, batch: Padded) -> torch.Tensor:
        speech, *others = self.model.streams
        layers = speech.front.layers
        with torch.no_grad():
            batch.states.sub_(layers.mean[:, None]).div_(layers.sd[:, None])  # a copy would be gigabytes
        utterances, count, longest, dim = batch.states.shape
        values = (layers.weights() @ batch.states.view(utterances, count, -1)).view(utterances, longest, dim)
        values = self.dropout(values.transpose(1, 2)).transpose(1, 2)
        heard = {"speech": Sequences(speech.embed(values, batch.mask), batch.mask)}
        for pitch in others:
            heard["pitch"] = Sequences(pitch.embed(batch.pitch, batch.mask), batch.mask)
        return self.model.pooling(*self.model.fusion(heard))

    def decide(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.model.decide(vectors)


def main(store: str, fusion: str, frames: str, order: str) -> None:
    training = training_of(store, fusion)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Utterances(training, Path(folder), int(frames))
        training.model = Plain(training.model)  # type: ignore[assignment]
        lengths, laps, epoch = training._examples.lengths, Laps(), 0
        while True:
            how: dict[str, Any] = {"batch_size": SIZE, "shuffle": True, "drop_last": True}
            if order == "ours":
                batches = epoch_order(data.rows, lengths, SIZE, np.random.default_rng(epoch))
                how = {"batch_sampler": [batch.tolist() for batch in batches]}
            done = 0
            for step, batch in enumerate(DataLoader(data, collate_fn=data.collate, **how)):
                training._step(1, step, batch, None)
                done += int(batch.mask.sum())
            laps(done)
            epoch += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
