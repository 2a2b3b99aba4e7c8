"""What ser-train is asked for: streams, targets, the parts of the model, how it is trained and divided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from featurestore.shared.config import Config
from train.augmentations import Augmentation
from train.fusions import Fusion
from train.fusions.attention import Attention
from train.heads import Head
from train.heads.mlp import MLP
from train.losses import Loss
from train.maps import names as map_names
from train.numerics.adaptation import LMMD
from train.numerics.layers import WIDEST
from train.poolings import Pooling
from train.poolings.chunks import Chunks
from train.poolings.mean import Mean
from train.splits import Splits
from train.splits.kfold import KFold
from train.streams import Stream
from train.tasks import Task
from train.temporal import Temporal
from train.temporal.none import NoTemporal
from train.unsafe import UnsafeConfig

MOST_MEMBERS = 1000


class OptimConfig(Config):
    """How a model is trained."""

    epochs: int = Field(default=30, ge=1, le=100_000)
    """Most passes over the training part."""
    patience: int = Field(default=10, ge=1)
    """Epochs without a better dev score after which training stops."""
    refit: bool = False
    """Train again on train and dev together, for the epochs that dev chose, as the ridge baseline does."""
    batch_size: int = Field(default=32, ge=2, le=1_000_000)
    """Utterances in a training step at most; batches are of sizes as even as can be."""
    window: float = Field(default=2000, gt=0, le=1e9)
    """Megabytes of stored frames among which an epoch shuffles; a store of less is shuffled whole, a larger one is read
    window by window, so that models that are trained together read it from the disk once."""
    lr: float = Field(default=2e-3, gt=0, le=1e30)
    """Peak learning rate of AdamW; it rises over the first ``warmup`` epochs, and then follows the schedule."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls to zero at the end of the epochs, or that it stays."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Of AdamW: how much of the mean of the gradient and of its square stays from step to step."""
    layer_lr: float = Field(default=1e-2, gt=0, le=1e30)
    """Peak learning rate of the layer weights."""
    warmup: float = Field(default=2.0, ge=0, le=100_000)
    """Epochs over which the learning rate rises."""
    weight_decay: float = Field(default=1e-2, ge=0, le=1000)
    """Of AdamW; the layer weights have none."""
    clip: float = Field(default=1.0, gt=0, le=1e30)
    """Largest norm of the gradient."""

    @property
    def most_epochs(self) -> int:
        """Epochs that a model takes at most; with ``refit`` it is trained a second time."""
        return 2 * self.epochs if self.refit else self.epochs


class TrainConfig(Config):
    """The settings of ser-train."""

    streams: dict[str, Stream] = Field(default={})
    """The features that are heard, the first of which gives the clock; when absent the hidden states as ``speech``.
    Where there is one and the fusion takes two, ``pitch`` is heard beside it."""
    targets: tuple[str, ...] | None = None
    """Any columns of labels: numbers with a declared range are regressed, categories classified; [V,A,D] if absent."""
    loss: Loss | None = None
    """Of the targets; when absent ccc of numbers, cross_entropy of categories."""
    tasks: dict[str, Task] = Field(default={})
    """Tasks with settings of their own, instead of targets and loss."""
    categories: str | None = None
    """A map of the emotions of several datasets onto those that they share: its name, or that of a YAML file; see
    ``ser-train maps``."""
    missing: Literal["skip", "mask"] = "skip"
    """What becomes of an utterance that lacks a label: it is left out, or trains and tests the targets that it has."""
    weights: Literal["fixed", "learned"] = "fixed"
    """Of several tasks: as each task says, or learned as the uncertainty of each (Kendall, Gal and Cipolla 2018)."""
    augment: tuple[Augmentation, ...] = ()
    """What training steps change of what is heard, one after another, e.g. [mixup, {name: noise, sd: 0.02}]."""
    width: int = Field(default=128, gt=0, le=WIDEST)
    """Channels at which the fusion takes the streams."""
    fusion: Fusion = Attention()
    temporal: Temporal = NoTemporal()
    """Model over time of what is fused; a stream may have one of its own."""
    pooling: Pooling = Mean()
    head: Head = MLP()
    optim: OptimConfig = OptimConfig()
    lmmd: LMMD | None = None
    """Domain adaptation of one classification to a corpus whose labels are not used; see splits=datasets."""
    splits: Splits = KFold()
    audit: Literal["frames", "table"] = "frames"
    """What leaks are looked for by: ``frames`` also finds copies of a recording, for which it reads all frames of one
    feature; ``table`` reads none."""
    protocol: Path | None = None
    """A file of folds, made by ``ser-train protocol make`` or protocol.json of another run, instead of ``splits``."""
    unsafe: UnsafeConfig = UnsafeConfig()
    folds: tuple[int, ...] | None = None
    """The numbers, from 0, of the folds that are trained and tested, as in [0,1]; all when absent."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of each training part that trains, for a curve over the size of the data: a smaller one is part of a larger
    one, and dev and test stay whole."""
    members: int = Field(default=1, ge=1, le=MOST_MEMBERS)
    """Models that are trained on each fold, with seeds one after another; their predictions are averaged."""
    baseline: bool = True
    """Also fit a ridge on the mean over time of the first stream, on the same folds."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of initial weights, order and dropout."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes of one thread each; as many as there are cores, and something to do, when absent."""
    scheduler: str | None = None
    """The address of a dask scheduler whose workers see the same files, instead of processes of this machine."""
    device: str | None = None
    """``cpu``, ``cuda`` …; the first GPU where there is one when absent."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which streams, fusion and temporal models compute, in training and in predicting; weights, LSTMs, pooling,
    heads and losses are in float32. bfloat16 is faster on a CPU that has it; one without AVX-512 takes several times as
    long. On a GPU it is not measured."""
    attention_of: tuple[str, ...] = ()
    """The names of tested utterances whose weights over time are plotted, with pooling=attention."""
    curves_of: tuple[str, ...] = ()
    """The names of tested utterances whose curves are drawn, with pooling=chunks and a task that hears chunks."""
    plots: bool = True
    """Draw the figures of the run, which takes a second or two; sweeps of many variants do without."""
    log: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the finished run for TensorBoard, or for Weights & Biases, offline: ``wandb sync`` sends it."""
    runs: Path = Path("runs")
    """Where run folders go."""
    method: str | None = Field(default=None, max_length=200)
    """The name of the run's folder; the fusion's when absent."""

    @field_validator("augment", mode="before")
    @classmethod
    def _are_several(cls, augment: Any) -> Any:
        return [augment] if isinstance(augment, str | dict) else augment

    @field_validator("categories")
    @classmethod
    def _is_found_from_anywhere(cls, categories: str | None) -> str | None:
        """Take the file of a map that does not come along, as `AnyPath` does."""
        own = categories is not None and categories not in map_names() and Path(categories).is_file()
        return str(Path(str(categories)).absolute()) if own else categories

    @field_validator("method")
    @classmethod
    def _is_a_folder(cls, method: str | None) -> str | None:
        if method is not None and (method in ("", ".", "..") or {"/", "\0"} & {*method}):
            raise ValueError(f"expected the name of a folder, found {method!r}")
        return method

    @model_validator(mode="after")
    def _chunks_are_there_and_weighed(self) -> Self:
        if not isinstance(self.pooling, Chunks):
            return self
        if self.fusion.pools:
            raise ValueError(
                f"fusion={self.fusion.name} gives one frame of an utterance, and pooling=chunks cuts many: take "
                "another pooling, such as mean"
            )
        tasks, attention = self.tasks.values(), self.pooling.attention
        if attention.weighs and tasks and not any(task.trains_whole for task in tasks):
            raise ValueError(
                f"pooling.attention={attention.name} weighs the chunks of an utterance, and only chunks train "
                f"{' and '.join(self.tasks)}, so no loss would train the weights: take pooling.attention=mean or self, "
                "or sequence with share below 1"
            )
        return self

    @model_validator(mode="after")
    def _mixup_beside_adaptation(self) -> Self:
        if self.lmmd and any(one.name == "mixup" for one in self.augment):
            raise ValueError("mixup leaves no utterance of one class, which lmmd compares: leave one of them out")
        return self

    @model_validator(mode="after")
    def _refit_beside_unsafe(self) -> Self:
        if self.unsafe.select_on_test and self.optim.refit:
            raise ValueError("optim.refit trains on what selects, which unsafe.select_on_test makes the test part")
        return self
