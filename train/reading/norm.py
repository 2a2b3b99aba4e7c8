"""Means and deviations of the training part as files of the published form: ``feat_norm_means.mat`` and so on.

Each is a MATLAB file with one variable, ``normal_para``. Training reads those of the feature alone; those of the
labels, ``act``, ``dom`` and ``val``, are written for the published code: here labels are on their declared range.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.io import loadmat, savemat

from featurestore.shared.errors import SerError
from train.reading.labels import numbers
from train.reading.sources import Moments
from train.shared.files import write_whole

VARIABLE = "normal_para"
FEATURE = "feat"
EVERYWHERE = (-np.inf, np.inf)
"""A scale outside of which no label is."""
LABELS = {"A": "act", "D": "dom", "V": "val"}


def read_norm(folder: Path, dim: int) -> Moments:
    """Return the mean and the deviation of each channel of a feature, (1, dim).

    Raises:
        SerError: if the files are not there, or of a feature with another number of channels.
    """
    mean, sd = (_read(folder / f"{FEATURE}_norm_{word}.mat") for word in ("means", "stds"))
    for word, found in (("means", mean), ("stds", sd)):
        if found.size != dim or not np.isfinite(found).all():
            file = folder / f"{FEATURE}_norm_{word}.mat"
            broken = int((~np.isfinite(found)).sum())
            held = f"{found.size} numbers" + (f", {broken} of them not finite" if broken else "")
            raise SerError(f"{file} holds {held}, expected {dim}: one of each channel")
    if (sd < 0).any():
        raise SerError(f"{folder / f'{FEATURE}_norm_stds.mat'}: expected deviations of 0 or more, found {sd.min():g}")
    return mean.reshape(1, dim), sd.reshape(1, dim)


def _read(file: Path) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(loadmat(BytesIO(file.read_bytes()))[VARIABLE], np.float32)
    except OSError as error:
        raise SerError(f"norm {file} cannot be read: {error.strerror}; ser-train norm writes it") from None
    except Exception as error:  # whatever a file that is damaged makes the reader raise
        raise SerError(f"{file} is no MATLAB file with the variable {VARIABLE}: {error}") from None


def write_norm(folder: Path, moments: Moments, table: pd.DataFrame) -> list[Path]:
    """Write the mean and deviation of a feature, (1, dim), and of the labels A, D and V, and return the files.

    Args:
        folder: for them.
        moments: of the feature.
        table: with the labels.
    """
    values = {FEATURE: moments}
    for target, word in LABELS.items():
        labels = numbers(table, target, EVERYWHERE).dropna().to_numpy() if target in table else np.empty(0)
        if len(labels):
            values[word] = labels.mean(keepdims=True), labels.std(keepdims=True)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for word, (mean, sd) in values.items():
        for kind, found in (("means", mean), ("stds", sd)):
            content = BytesIO()
            savemat(content, {VARIABLE: np.asarray(found, np.float64).reshape(1, -1)})
            files.append(folder / f"{word}_norm_{kind}.mat")
            write_whole(files[-1], content.getvalue())
    return files
