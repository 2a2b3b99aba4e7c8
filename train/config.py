"""What ser-train is asked for: features, targets, the parts of the model, how it is trained and divided."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from featurestore.config import Config
from train.fusions import Fusion
from train.fusions.attention import Attention
from train.heads import Head
from train.heads.mlp import MLP
from train.layers import WIDEST
from train.losses import Loss
from train.losses.ccc import CCC
from train.poolings import Pooling
from train.poolings.mean import Mean
from train.splits import Splits
from train.splits.kfold import KFold


class PitchConfig(Config):
    """How the pitch contour enters a model."""

    feature: str = "pitch"
    """Its name in the store."""
    normalize: Literal["train", "utterance", "none"] = "train"
    """``train``: log-F0 less the mean of the training part, by its sd; ``utterance``: by the utterance's own, as
    system after system does; ``none``: F0 in hundreds of Hz."""


class OptimConfig(Config):
    """How a model is trained."""

    epochs: int = Field(default=30, ge=1, le=100_000)
    """Most passes over the training part."""
    patience: int = Field(default=10, ge=1)
    """Epochs without a better dev score after which training stops."""
    refit: bool = False
    """Train again on train and dev together, for the epochs that dev chose, as the ridge baseline does."""
    batch_size: int = Field(default=32, ge=2, le=1_000_000)
    """Utterances in a training step, on average over the folds, which share every read."""
    lr: float = Field(default=2e-3, gt=0, le=1e30)
    """Peak learning rate of AdamW; it rises over the first ``warmup`` epochs and falls to zero with a cosine."""
    layer_lr: float = Field(default=1e-2, gt=0, le=1e30)
    """Peak learning rate of the layer weights."""
    warmup: float = Field(default=2.0, ge=0, le=100_000)
    """Epochs over which the learning rate rises."""
    weight_decay: float = Field(default=1e-2, ge=0, le=1000)
    """Of AdamW; the layer weights have none."""
    clip: float = Field(default=1.0, gt=0, le=1e30)
    """Largest norm of the gradient."""


class TrainConfig(Config):
    """The settings of ser-train."""

    encoder: str | None = None
    """The feature with the hidden states; the store's only one with layers when absent."""
    targets: tuple[str, ...] = ("V", "A", "D")
    """Any of V, A, D; or ``[emotion]``."""
    pitch: PitchConfig = PitchConfig()
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of audio channels that a training step leaves out, the same in all frames of an utterance."""
    width: int = Field(default=128, gt=0, le=WIDEST)
    """Channels that the audio is projected to, which the fusion works on."""
    fusion: Fusion = Attention()
    pooling: Pooling = Mean()
    head: Head = MLP()
    loss: Loss = CCC()
    optim: OptimConfig = OptimConfig()
    splits: Splits = KFold()
    baseline: bool = True
    """Also fit a ridge on mean-pooled states, on the same folds."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of initial weights, order and dropout."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads; all cores when absent."""
    device: str | None = None
    """``cpu``, ``cuda`` …; the first GPU where there is one when absent."""
    runs: Path = Path("runs")
    """Where run folders go."""
    method: str | None = Field(default=None, max_length=200)
    """The name of the run's folder; the fusion's when absent."""

    @field_validator("method")
    @classmethod
    def _is_a_folder(cls, method: str | None) -> str | None:
        if method is not None and (method in ("", ".", "..") or {"/", "\0"} & {*method}):
            raise ValueError(f"expected the name of a folder, found {method!r}")
        return method
