"""The weights over time of a pooling that has some, for chosen utterances, as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.examples.clock import pooled_times
from train.examples.examples import Examples
from train.examples.protocol import Protocol
from train.models.inference import predict_alone
from train.models.model import Model
from train.plots.drawing import as_label, blank, save
from train.reading.labels import first_of
from train.running.folder import RunFolder
from train.running.opened import open_model

Floats = npt.NDArray[np.float64]


def check_attention(config: TrainConfig, protocol: Protocol) -> None:
    """Check before anything is trained that the utterances of ``attention_of`` can be shown.

    Raises:
        SerError: if the pooling has no weights, or an utterance is in no test part.
    """
    if not config.attention_of:
        return
    if not config.pooling.weighs:
        raise SerError(f"attention_of needs a pooling that weighs frames: found {config.pooling.name}, take attention")
    numbers = range(len(protocol.folds)) if config.folds is None else config.folds
    tested = {name for number in numbers for name in protocol.folds[number].test}
    absent = [name for name in config.attention_of if name not in tested]
    if absent:
        raise SerError(
            f"attention_of: {first_of(absent)} in no test part of the run; expected utterances that it tests"
        )


def plot_attention(folder: RunFolder, examples: Examples) -> None:
    """Write ``attention_NAME`` for each utterance of ``attention_of``, by the models of the fold that tested it."""
    for name in folder.config.attention_of:
        weights = attention_weights(folder, examples, name)
        times, known = pooled_times(examples.streams, folder.config, name)
        figure = blank(6, 2.4)
        axes = figure.subplots()
        for member in weights if len(weights) > 1 else ():
            axes.plot(times, member, color="tab:blue", alpha=0.35, linewidth=0.7)
        axes.plot(times, weights.mean(axis=0), color="tab:blue", linewidth=1.2)
        axes.axhline(1 / len(times), color="grey", linewidth=0.8, linestyle=":")
        axes.set(xlabel="time (s)" if known else "frame", ylabel="weight of the frame", title=as_label(name))
        axes.set_ylim(bottom=0)
        save(figure, folder.path / "plots", f"attention_{name}")


def attention_weights(folder: RunFolder, examples: Examples, name: str) -> Floats:
    """Return the weight of each frame of an utterance, (members, frames); the sum of each row is 1.

    Args:
        folder: of a run that is trained.
        examples: its data.
        name: an utterance of a test part; of several the first counts.
    """
    tested = (key.fold for key in folder.models if name in folder.protocol.folds[key.fold].test)
    fold = next(tested)
    with torch.random.fork_rng(devices=[]):
        found = [
            _weights(open_model(folder, folder.config, examples, key), examples, name)
            for key in folder.models
            if key.fold == fold
        ]
    return np.stack(found)


def _weights(model: Model, examples: Examples, name: str) -> Floats:
    """Return the weights; where each target has a view of its own, their mean over the targets."""
    found: list[Any] = []
    model.pooling.register_forward_hook(lambda pooling, given, _: found.append(pooling.weights(*given)))
    predict_alone(model, examples, [name])
    return np.asarray(found[0].double().mean(dim=0).cpu().numpy())
