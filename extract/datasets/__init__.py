"""Datasets: one module each, from a raw layout on disk to one table of utterances and labels."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pandas as pd

from extract.labels import Labels, Scale, name_emotions
from featurestore.config import Component
from featurestore.errors import DatasetError


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

    layout: ClassVar[str]
    """What ``root`` must hold, for the message when it does not."""
    CLIPS: ClassVar[int | None] = None
    """The number of utterances of the whole dataset, where there is one release of it."""
    RANGES: ClassVar[dict[str, Scale]] = {}
    """The scale on which the dataset declares V, A and D."""
    EMOTIONS: ClassVar[dict[str, str]] = {}
    """The common words by what the dataset calls its emotions."""

    def read(self) -> Labels:
        """Return the labels, from the raw layout or from ``label_csv``.

        Raises:
            DatasetError: if the layout or the label file cannot be used at all.
        """
        if self.label_csv is None:
            return self.labels()
        from extract.datasets.csv import read_label_csv

        return read_label_csv(self)

    @abstractmethod
    def labels(self) -> Labels:
        """Return the table of utterances and labels of the raw layout.

        Raises:
            DatasetError: if the layout or the label file cannot be used at all.
        """

    def labels_of_names(self, files: Iterable[Path], pattern: re.Pattern[str], example: str) -> Labels:
        """Return what the names of the audio files say: a column for each group of ``pattern``, one is the emotion.

        Args:
            files: below the root.
            pattern: of the names without their suffix.
            example: of a name, for the reason why one that is not of this form is left out.

        Raises:
            DatasetError: if no name is of this form.
        """
        rows, left_out = {}, {}
        for file in files:
            match = pattern.fullmatch(file.stem)
            if match:
                rows[file.stem] = {"path": str(file.relative_to(self.folder())), **match.groupdict()}
            else:
                name = os.fsencode(file.stem).decode(errors="backslashreplace")  # it may not be UTF-8
                left_out[name] = f"the file name {file.name!r} is not of the form {example}{file.suffix}"
        if not rows:
            raise DatasetError(
                f"dataset {self.name}: no file in {self.folder()} has a name like {example}; expected {self.layout}"
            )
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")
        return Labels(name_emotions(table, self.EMOTIONS), left_out=left_out)

    def lacking(self, labels: Labels) -> str:
        """Return what is said when the dataset is not whole; empty if it is."""
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
            DatasetError: if it was not given or is not there.
        """
        if self.root is None:
            raise DatasetError(f"dataset {self.name} needs --root DIR: {self.layout}")
        if not self.root.exists():
            raise DatasetError(f"dataset {self.name}: no {self.root}; expected {self.layout}")
        return self.root
