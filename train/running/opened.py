"""A run that is opened again: its models predict any store that has the features."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import featurestore
from featurestore.shared.errors import SerError
from train.config import TrainConfig
from train.evaluation.curve_tables import curves_table
from train.evaluation.evaluate import columns_of
from train.examples.examples import Examples, load_examples
from train.models.inference import Outputs, make_model, predict_alone
from train.models.model import Model
from train.reading.corpora import AnyStore
from train.running.folder import ModelKey, RunFolder
from train.shared.tensors import read_tensors


class Run:
    """A run with its models.

    >>> predictions = Run.open("runs/emotale/whisper-base/attention/exp_1").predict("stores/new.zarr")  # doctest: +SKIP
    """

    def __init__(self, folder: RunFolder, device: str | None = None) -> None:
        self.folder = folder
        self._config = folder.config.model_copy(update={"device": device or folder.config.device})

    @classmethod
    def open(cls, path: str | Path, device: str | None = None) -> Run:
        """Return the run in a folder.

        Args:
            path: of the folder.
            device: that predicts; when absent the one of the run.

        Raises:
            SerError: if it is no run, or one of its models is missing.
        """
        folder = RunFolder(Path(path))
        missing = [key.name for key in folder.models if not folder.model(key).exists()]
        if missing:
            raise SerError(f"{path} is unfinished: it lacks {', '.join(missing)}; ser-train resume {path} goes on")
        return cls(folder, device)

    @cached_property
    def examples(self) -> Examples:
        """The utterances of the run."""
        return load_examples(self.folder.open_store(), self._config, self.folder.goals, labelled=True)

    def predict(self, store: AnyStore | str | Path, names: list[str] | None = None) -> pd.DataFrame:
        """Return predictions by name, in the units of the dataset the models were trained on; see also `curves`.

        An utterance of a test part of the run is predicted by the models of that fold, exactly as the run did; any
        other one by all models of the run, which are averaged.

        Args:
            store: with the features of the run, in any data type.
            names: of the utterances; all that have the features when absent.

        Returns:
            For each utterance ``fold``, whose models predicted it (empty: all), ``part``, in which part of the run it
            was (empty: none), and for each target ``TARGET_model``, of categories the probability of each,
            ``TARGET_model_CLASS``; where there are several models ``TARGET_sd``, their deviation, or
            ``TARGET_agreement``, the share of them that chose the same; ``unsafe``, the faults that the run
            allows, if any.

        Raises:
            SerError: if a feature of the store is not what the models were trained on, naming what differs.
        """
        return self._predict_store(store, names)[0]

    def predict_all(self, store: AnyStore | str | Path) -> tuple[pd.DataFrame, dict[str, str]]:
        """Return predictions for all utterances that have the features, and the others with the reason."""
        return self._predict_store(store, None)

    def curves(self, store: AnyStore | str | Path, names: list[str] | None = None) -> pd.DataFrame:
        """Return what the models predict of each chunk of utterances, by name and chunk, with its times in seconds.

        An utterance is predicted by the models that `predict` takes for it.

        Args:
            store: with the features of the run, in any data type.
            names: of the utterances; all that have the features when absent.

        Returns:
            See `train.evaluation.curve_tables.curves_table`.

        Raises:
            SerError: as `predict` does, and if the run hears no chunks.
        """
        examples, wanted, parts = self._wanted(store, names)
        tables = []
        for group, _, outputs in self._by_fold(examples, wanted, parts):
            means = {task: represented.mean(dim=0) for task, represented in outputs.items()}
            tables.append(curves_table(examples, self._config, group, means))
        found = [table for table in tables if table is not None]
        if not found:
            raise SerError(
                f"{self.folder.path} has no curves: expected a run with pooling=chunks and the task sequence"
            )
        return pd.concat(found).loc[wanted]

    def _wanted(
        self, store: AnyStore | str | Path, names: list[str] | None
    ) -> tuple[Examples, list[str], dict[str, tuple[str, int | None]]]:
        """Return what is to be predicted, and the part and fold of each utterance that the run had."""
        store = featurestore.open(store) if isinstance(store, str | Path) else store
        self.folder.check_features(store, same_type=False)
        examples = load_examples(store, self._config, self.folder.goals)
        wanted = examples.names if names is None else names
        examples.rows(wanted)  # an error if one is not there
        ours, theirs = (sorted(one.split("+")) for one in (self.folder.protocol.dataset, store.dataset))  # in any order
        return examples, wanted, self._parts() if ours == theirs else {}

    def _by_fold(
        self, examples: Examples, names: list[str], parts: dict[str, tuple[str, int | None]]
    ) -> Iterator[tuple[list[str], int | None, Outputs]]:
        """Yield the utterances that the models of each fold predict, and what these predict."""
        torch.set_num_threads(1)
        with threadpool_limits(1), torch.random.fork_rng(devices=[]):
            for fold, group in self._groups(names, parts).items():
                yield group, fold, self.outputs(examples, group, fold)

    def _predict_store(
        self, store: AnyStore | str | Path, names: list[str] | None
    ) -> tuple[pd.DataFrame, dict[str, str]]:
        examples, wanted, parts = self._wanted(store, names)
        tables = [_table(examples, *found) for found in self._by_fold(examples, wanted, parts)]
        table = pd.concat(tables).loc[wanted]
        table.insert(1, "part", [parts.get(name, ("", None))[0] for name in wanted])
        if any(lacks := [examples.lacks(name) for name in wanted]):
            table.insert(2, "lacks", lacks)
        if self._config.unsafe.names:
            table["unsafe"] = " ".join(self._config.unsafe.names)
        return table, examples.skipped

    def _groups(self, names: list[str], parts: dict[str, tuple[str, int | None]]) -> dict[int | None, list[str]]:
        """Return which utterances the models of each fold predict; None stands for all folds."""
        groups: dict[int | None, list[str]] = {}
        for name in names:
            groups.setdefault(parts.get(name, ("", None))[1], []).append(name)
        return groups

    def _parts(self) -> dict[str, tuple[str, int | None]]:
        """Return the part in which each utterance of the run was, and the fold that tested it."""
        found: dict[str, tuple[str, int | None]] = {}
        folds = dict.fromkeys(key.fold for key in self.folder.models)
        for part in ("train", "dev", "test"):
            for fold in folds:
                names = getattr(self.folder.protocol.folds[fold], part)
                found |= dict.fromkeys(names, (part, fold if part == "test" else None))
        return found

    def outputs(self, examples: Examples, names: list[str], fold: int | None) -> Outputs:
        """Return what the models of a fold, or all of them, predict for utterances, each alone.

        Returns:
            For each task what `Goal.represent` gives, (models, utterances, outputs).
        """
        found = [
            predict_alone(open_model(self.folder, self._config, examples, key), examples, names)
            for key in self.folder.models
            if fold is None or key.fold == fold
        ]
        return {
            task: goal.represent(torch.stack([output[task] for output in found]))
            for task, goal in examples.goals.items()
        }


def _table(examples: Examples, names: list[str], fold: int | None, outputs: Outputs) -> pd.DataFrame:
    columns: dict[str, Any] = {"fold": "" if fold is None else str(fold)}
    for task, goal in examples.goals.items():
        columns |= columns_of(goal, outputs[task], "model")
    return pd.DataFrame(columns, index=pd.Index(names, name="name"))


def open_model(folder: RunFolder, config: TrainConfig, examples: Examples, key: ModelKey) -> Model:
    """Return a model of a run.

    Args:
        folder: of the run.
        config: its settings, perhaps with another device.
        examples: what it will predict.
        key: which one.

    Raises:
        SerError: if it does not fit the settings.
    """
    tensors, _ = read_tensors(folder.model(key))
    model = make_model(examples, config, 0)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise SerError(f"{folder.model(key)} does not fit the config of its run: {problem}") from None
    return model
