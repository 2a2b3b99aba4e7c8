"""Datasets: each module turns a raw layout on disk into one table of utterances and labels."""

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
    """A label file, or a folder of them, in the format of dataset csv; it replaces the labels of the raw layout."""
    split: str | None = None
    """Extract only the utterances of this split, e.g. ``test``; all when absent. grow=true adds others later."""
    allow_partial: bool = False
    """Go on although utterances of the dataset are missing."""

    takes_file: ClassVar[bool] = False
    """Whether ``root`` may be a file."""
    layout: ClassVar[str]
    """What ``root`` must hold, for error messages."""
    CLIPS: ClassVar[int | None] = None
    """The number of utterances of the whole dataset, where there is one release of it."""
    RANGES: ClassVar[dict[str, Scale]] = {}
    """The scale on which the dataset declares V, A and D."""
    EMOTIONS: ClassVar[dict[str, str]] = {}
    """The common name of each emotion by the dataset's own."""

    def read(self) -> Labels:
        """Return the labels from the raw layout or from ``label_csv``, with the path of each existing audio file.

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
        """Return the labels with what the dataset adds to them, whichever file they come from."""
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
        """Return the labels in the names of the audio files: a column per group of ``pattern``, one is ``emotion``.

        Args:
            folders: that hold the files, below the root; of two files with one stem, that in the earlier folder counts.
            pattern: matches the stems; a file that it does not match is left out.
            example: a stem that matches, for messages.
            passed_over: matches stems that do not belong to the dataset.

        Raises:
            DatasetError: if no name matches.
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
            message = "%s: %d files have the same name as a file nearer to %s, and are not used"
            logging.getLogger(__name__).warning(message, self.name, again, self.folder())
        table = pd.DataFrame.from_dict(dict(sorted(rows.items())), orient="index").rename_axis("name")
        return Labels(name_emotions(table, self.EMOTIONS), left_out=left_out)

    def lacking(self, labels: Labels) -> str:
        """Return a message if utterances of the dataset are missing; empty if it is complete."""
        found = len(labels.table) + len(labels.left_out)
        if self.CLIPS is None or found == self.CLIPS:
            return ""
        return f"dataset {self.name}: found {found} utterances in {self.folder()}, the whole dataset has {self.CLIPS}"

    def audio_folder(self) -> Path:
        """Return the folder where relative audio paths start: the root, or its folder if the root is a label file."""
        root = self.folder()
        return root if root.is_dir() else root.parent

    def folder(self) -> Path:
        """Return the root.

        Raises:
            DatasetError: if it was not given, does not exist, or is a file where a folder is expected.
        """
        if self.root is None:
            raise DatasetError(f"dataset {self.name} needs --root DIR: {self.layout}")
        if not os.path.exists(self.root):
            raise DatasetError(f"dataset {self.name}: {self.root} does not exist; expected {self.layout}")
        if not self.takes_file and not self.root.is_dir():
            raise DatasetError(f"dataset {self.name}: {self.root} is a file, expected {self.layout}")
        return self.root


def _say_replaced(given: pd.DataFrame, table: pd.DataFrame) -> None:
    """Warn about columns of the labels that the dataset has replaced."""
    before = given.loc[table.index].drop(columns="flags", errors="ignore")
    replaced = [str(column) for column in before if before[column].tolist() != table[column].tolist()]
    replaced = [column for column in replaced if not pd.api.types.is_numeric_dtype(before[column])]
    if replaced:
        message = "the labels' columns %s are replaced by what the names of the utterances say"
        logging.getLogger(__name__).warning(message, ", ".join(replaced))
