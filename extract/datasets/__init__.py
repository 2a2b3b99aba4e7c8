"""Datasets: one module each, from a raw layout on disk to one table of utterances and labels."""

from __future__ import annotations

import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pandas as pd

from extract.audio_files import AudioFiles, split_suffix
from extract.labels import Labels, Scale, find_audio, name_emotions, readable, tidy
from featurestore.shared.config import Component
from featurestore.shared.errors import DatasetError


class Dataset(Component, ABC):
    """A dataset in its raw layout."""

    root: Path | None = None
    """The folder of the dataset."""
    label_csv: Path | None = None
    """A label file, or a folder of them, as dataset csv reads them; takes the place of the labels of the raw layout."""
    split: str | None = None
    """Only the utterances of this part, e.g. ``test``; all when absent. The others can be added later: grow=true."""
    allow_partial: bool = False
    """Go on when utterances of the dataset are not there."""

    takes_file: ClassVar[bool] = False
    """Whether ``root`` may be a file."""
    layout: ClassVar[str]
    """What ``root`` must hold, for the message when it does not."""
    CLIPS: ClassVar[int | None] = None
    """The number of utterances of the whole dataset, where there is one release of it."""
    RANGES: ClassVar[dict[str, Scale]] = {}
    """The scale on which the dataset declares V, A and D."""
    EMOTIONS: ClassVar[dict[str, str]] = {}
    """The common words by what the dataset calls its emotions."""

    def read(self) -> Labels:
        """Return the labels, from the raw layout or from ``label_csv``, each with the audio file that is there.

        Raises:
            DatasetError: if the layout or the label file cannot be used at all.
        """
        if self.label_csv is None:
            labels = self.labels()
        else:
            from extract.datasets.csv import read_label_csv

            labels = read_label_csv(self)
        labels = tidy(labels)
        given = labels.table
        labels = self.complete(labels)
        _say_replaced(given, labels.table)
        return find_audio(labels, self.audio_folder())

    def complete(self, labels: Labels) -> Labels:
        """Return the labels with what the dataset adds to them, from whatever file they are."""
        return labels

    @abstractmethod
    def labels(self) -> Labels:
        """Return the table of utterances and labels of the raw layout.

        Raises:
            DatasetError: if the layout or the label file cannot be used at all.
        """

    def labels_of_names(
        self, folders: Iterable[Path], pattern: re.Pattern[str], example: str, passed_over: str = "(?!)"
    ) -> Labels:
        """Return what the names of the audio files say: a column for each group of ``pattern``, one is the emotion.

        Args:
            folders: of the files, below the root; where two have a file of the same stem, that of the first counts.
            pattern: of the stems.
            example: of a stem, for the reason why one that is not of this form is left out.
            passed_over: the pattern of stems that are not of the dataset.

        Raises:
            DatasetError: if no name is of this form.
        """
        rows: dict[str, dict[str, str]] = {}
        left_out: dict[str, str] = {}
        again, seen, files = 0, set(), AudioFiles()
        for folder in folders:
            for stem, names in files.stems(folder).items():
                again += stem in seen
                seen.add(stem)
                if match := pattern.fullmatch(stem):
                    file = folder / (names[0] if len(names) == 1 else stem)
                    rows.setdefault(stem, {"path": str(file.relative_to(self.folder())), **match.groupdict()})
                elif not re.fullmatch(passed_over, stem):
                    suffix = split_suffix(names[0])[1]
                    left_out[readable(stem)] = f"the file name {names[0]!r} is not of the form {example}{suffix}"
        if not rows:
            raise DatasetError(
                f"dataset {self.name}: no file in {self.folder()} has a name like {example}; expected {self.layout}"
            )
        if again:
            message = "%s: %d files have the name of another one nearer to %s, which is used"
            logging.getLogger(__name__).warning(message, self.name, again, self.folder())
        table = pd.DataFrame.from_dict(dict(sorted(rows.items())), orient="index").rename_axis("name")
        return Labels(name_emotions(table, self.EMOTIONS), left_out=left_out)

    def lacking(self, labels: Labels) -> str:
        """Return a message if the dataset is not whole; empty if it is."""
        found = len(labels.table) + len(labels.left_out)
        if self.CLIPS is None or found == self.CLIPS:
            return ""
        return f"dataset {self.name}: found {found} utterances in {self.folder()}, the whole dataset has {self.CLIPS}"

    def audio_folder(self) -> Path:
        """Return the folder that relative audio paths start from: the root, or that of the label file it names."""
        root = self.folder()
        return root if root.is_dir() else root.parent

    def folder(self) -> Path:
        """Return the root.

        Raises:
            DatasetError: if it was not given, is not there, or is a file where a folder is expected.
        """
        if self.root is None:
            raise DatasetError(f"dataset {self.name} needs --root DIR: {self.layout}")
        if not os.path.exists(self.root):
            raise DatasetError(f"dataset {self.name}: no {self.root}; expected {self.layout}")
        if not self.takes_file and not self.root.is_dir():
            raise DatasetError(f"dataset {self.name}: {self.root} is a file, expected {self.layout}")
        return self.root


def _say_replaced(given: pd.DataFrame, table: pd.DataFrame) -> None:
    """Warn of the columns of the labels that a dataset has replaced."""
    before = given.loc[table.index].drop(columns="flags", errors="ignore")
    replaced = [str(column) for column in before if before[column].tolist() != table[column].tolist()]
    replaced = [column for column in replaced if not pd.api.types.is_numeric_dtype(before[column])]
    if replaced:
        message = "the labels' columns %s are replaced by what the names of the utterances say"
        logging.getLogger(__name__).warning(message, ", ".join(replaced))
