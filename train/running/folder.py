"""The folder of a run: all that it takes to go on with it, to open it again, and to make its figures anew."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from featurestore.format.opening import from_anywhere
from featurestore.format.plan import FeatureSpec
from featurestore.shared.command import printable
from featurestore.shared.config import load
from featurestore.shared.errors import SerError
from train.audit import Audit
from train.config import TrainConfig
from train.examples.examples import Examples
from train.examples.hearing import Hearing
from train.examples.protocol import Protocol, read_protocol
from train.maps import read_map
from train.reading.corpora import AnyStore, Corpora, open_stores
from train.shared.files import read_note, write_whole
from train.splits import Fold, share_of
from train.tasks import Goal
from train.unsafe import UNSAFE, stamp

LIBRARIES = ("ser-featurestore", "torch", "numpy", "numba")


@dataclass(frozen=True)
class ModelKey:
    """One model of a run: a member on a fold."""

    fold: int
    member: int

    @property
    def name(self) -> str:
        """Its name among the files of the run."""
        return f"fold_{self.fold}_member_{self.member}"

    def __str__(self) -> str:
        return f"fold {self.fold}, member {self.member}"


class RunFolder:
    """A folder of a run.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(
        self,
        config: TrainConfig,
        examples: Examples,
        protocol: Protocol,
        warnings: list[str],
        audit: Audit,
        parameters: int,
    ) -> None:
        """Write what is known before anything is trained; ``run.json`` last, without which it is no run."""
        store = examples.store
        tree = config.model_copy(
            update={
                "streams": {name: hearing.stream for name, hearing in examples.streams.items()},
                "tasks": {name: goal.task for name, goal in examples.goals.items()},
                "targets": None,
                "loss": None,
                "protocol": None,
            }
        ).to_dict()
        tree = {key: value for key, value in tree.items() if value is not None}
        stores = " ".join(f"--store {printable(path)}" for path in _paths(store))
        head = f"# ser-train {stores} --config {printable(str(self.path / 'config.yaml'))}\n"
        write_whole(self.path / "config.yaml", head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
        write_whole(self.path / "protocol.json", protocol.to_json())
        note = {
            "stores": _paths(store),
            "dataset": store.dataset,
            "table_sha256": store.table_sha256,
            "protocol_sha256": protocol.sha256,
            "features": {name: hearing.source.spec.to_dict() for name, hearing in examples.streams.items()},
            "categories": read_map(config.categories).model_dump() if config.categories else None,
            "goals": {name: goal.described() for name, goal in examples.goals.items()},
            "versions": {library: version(library) for library in LIBRARIES},
            "stored_bytes": examples.stored_bytes,
            "parameters": parameters,
            "skipped": examples.skipped,
            "warnings": warnings,
            "statistics": {name: _statistics_of(hearing, config) for name, hearing in examples.streams.items()},
            "audit": audit.to_dict(),
            "unsafe": config.unsafe.names,
        }
        if config.unsafe.names:
            write_whole(self.path / UNSAFE, stamp(config.unsafe.names) + "\n")
        write_whole(self.path / "run.json", json.dumps(note, indent=1, ensure_ascii=False) + "\n")

    @property
    def written(self) -> tuple[bytes, int]:
        """What tells the run from another one that has been in the same folder: its settings, and when it was made."""
        return self._there("config.yaml").read_bytes(), self._there("run.json").stat().st_mtime_ns

    @cached_property
    def config(self) -> TrainConfig:
        """The settings, with all that was left open."""
        return load(TrainConfig, [self._there("config.yaml")])

    @cached_property
    def protocol(self) -> Protocol:
        """The folds."""
        return read_protocol(self._there("protocol.json"))

    def fold(self, number: int) -> Fold:
        """Return a fold with what trains of its training part."""
        fold = self.protocol.folds[number]
        share = self.config.train_share
        return fold if share == 1 else replace(fold, train=share_of(fold.train, share))

    @cached_property
    def note(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        return read_note(self._there("run.json"), warnings=list, goals=dict)

    @cached_property
    def goals(self) -> dict[str, Goal]:
        """The tasks, with their categories and ranges."""
        return {name: task.goal(self.note["goals"][name]) for name, task in self.config.tasks.items()}

    def open_store(self) -> AnyStore:
        """Return the store of the run.

        Raises:
            SerError: if it is not the one that it was.
        """
        store = open_stores(self.note["stores"])
        if store.table_sha256 != self.note["table_sha256"]:
            raise SerError(f"{store.path} has changed since {self.path} began: its table is another one")
        if self.config.categories and read_map(self.config.categories).sha256 != self.note["categories"]["sha256"]:
            raise SerError(f"categories={self.config.categories} has changed since {self.path} began")
        self.check_features(store)
        return store

    def check_features(self, store: AnyStore, same_type: bool = True) -> None:
        """Check that the features of a store are those that the models were trained on.

        Args:
            store: to be read.
            same_type: whether the data type in which they are stored must be the same, too.

        Raises:
            SerError: naming what differs.
        """
        for name, stream in self.config.streams.items():
            before = FeatureSpec(**self.note["features"][name])
            found = store.feature(str(stream.feature)).spec
            if not same_type:
                before, found = (
                    spec.model_copy(update={"dtype": "float32", "compress": None}) for spec in (before, found)
                )
            different = [
                line.replace("in the store", "in the run").replace("asked for", "in the store")
                for line in before.differences(found)
            ]
            if different:
                raise SerError(
                    f"{stream.feature} in {store.path} is not what {self.path} was trained on: {'; '.join(different)}"
                )

    @property
    def models(self) -> list[ModelKey]:
        """All models of the run."""
        wanted = self.config.folds
        numbers = range(len(self.protocol.folds)) if wanted is None else wanted
        return [ModelKey(fold, member) for fold in numbers for member in range(self.config.members)]

    def checkpoint(self, key: ModelKey) -> Path:
        """Return where a model in training is kept."""
        return self.path / "checkpoints" / f"{key.name}.safetensors"

    def model(self, key: ModelKey) -> Path:
        """Return where a model is kept."""
        return self.path / "models" / f"{key.name}.safetensors"

    def outputs(self, key: ModelKey) -> Path:
        """Return where what a model predicts for its test part is kept."""
        return self.path / "outputs" / f"{key.name}.safetensors"

    def ridge(self, fold: int) -> Path:
        """Return where what the baseline predicts for the test part of a fold is kept."""
        return self.path / "outputs" / f"ridge_fold_{fold}.safetensors"

    def _there(self, name: str) -> Path:
        if not (self.path / name).is_file():
            raise SerError(f"{self.path} is no run of ser-train: it has no {name}")
        return self.path / name


def _paths(store: AnyStore) -> list[str]:
    """Return where each store is found, from whichever folder the run is gone on with."""
    return [from_anywhere(path) for path in (store.paths if isinstance(store, Corpora) else [store.path])]


def _statistics_of(hearing: Hearing, config: TrainConfig) -> str:
    """Return by which utterances' statistics a stream is standardised; labels are used for none of them."""
    norm = getattr(hearing.front, "norm", None)
    if norm is not None:
        return f"the files in {norm}"
    by = str(getattr(hearing.front, "normalize", "none"))
    if by == "train":
        return "all parts of each fold" if config.unsafe.statistics_of_all else "the training part of each fold"
    return {"speaker": "the speaker's utterances", "corpus": "the corpus", "utterance": "the utterance itself"}.get(
        by, "none"
    )


def make_run_folder(config: TrainConfig, dataset: str, feature: str) -> Path:
    """Make and return the next free ``runs/DATASET/FEATURE/METHOD/exp_N``.

    Raises:
        SerError: if it cannot be made.
    """
    parent = config.runs / _as_folder(dataset) / _as_folder(feature) / (config.method or config.fusion.name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.name[4:]) for p in parent.glob("exp_*") if p.name[4:].isdecimal()), default=0)
        while (parent / f"exp_{number}").exists() or not _made(parent / f"exp_{number}"):
            number += 1
    except (OSError, ValueError) as error:  # the latter of a name with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise SerError(f"no folder for the run can be made in {parent}: {reason}; choose another with runs=") from None
    return parent / f"exp_{number}"


def _as_folder(name: str) -> str:
    """Return a name that a store gives as that of one folder."""
    safe = name.replace("/", "_").replace("\0", "_")
    return "_" if safe in ("", ".", "..") else safe


def _made(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:  # another run was faster
        return False
    return True
