"""Export a store to files of common formats (.npy, safetensors, CSV), and add labels from CSV."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pandas as pd

from featurestore.access.feature import FeatureStore
from featurestore.access.store import Store
from featurestore.format.atomic import naming
from featurestore.format.codec import Floats
from featurestore.format.plan import PLACES
from featurestore.operations.joining import join_tables
from featurestore.operations.verify import problem_of
from featurestore.shared.errors import StoreError
from featurestore.shared.label_files import read_csv

MISSING = ("", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "none", "null")
"""The texts that stand for a missing number in label files."""
LONGEST_NAME = 250
"""The most bytes of a file name, without the suffix, for any file system."""
ExportFormat = Literal["npy", "safetensors"]
Report = Callable[[float, float], None]


def export_frames(
    store: Store,
    folder: Path,
    features: Sequence[str] = (),
    kind: ExportFormat = "npy",
    report: Report = lambda *_: None,
) -> list[str]:
    """Write the frames of every utterance, (layers, frames, dim) as float32, into ``folder/FEATURE/``.

    Args:
        store: to read from.
        folder: to write into.
        features: to write; all that are complete when empty.
        kind: ``npy``, one file per utterance, NAME.npy with the name quoted as in a URL, a name that is too long for a
            file cut and ended by a part of its SHA-256; or ``safetensors``, one file per shard, N.safetensors, with a
            tensor per utterance under its name.
        report: told how many utterances are done, and of how many.

    Returns:
        What was left out, with the reason: failed utterances, and damaged frames.

    Raises:
        StoreError: if a feature is missing or not finished.
        OSError: if something cannot be read or written; no partial file stays.
    """
    chosen = list(features) or list(store.features)
    done, total, left_out = 0, len(chosen) * len(store.index.names), []
    for key in chosen:
        feature = store.feature(key)
        (folder / key).mkdir(parents=True, exist_ok=True)
        for shard in range(feature.shards):
            names = feature.names_in(shard)
            reasons = {name: reason for name in names if (reason := _why_not(feature, name, kind))}
            left_out += [f"{key} of {name}: {reason}" for name, reason in reasons.items()]
            _WRITERS[kind](folder / key, shard, feature, [name for name in names if name not in reasons])
            done += len(names)
            report(done, total)
    return left_out


def _why_not(feature: FeatureStore, name: str, kind: ExportFormat) -> str:
    """Return why an utterance is left out; empty if it is exported."""
    if name in feature.failed:
        return feature.failed[name]
    if kind == "safetensors" and name == "__metadata__":
        return "safetensors keeps that name for itself: export it with --kind npy"
    return problem_of(feature, name)


def export_table(store: Store, file: Path) -> None:
    """Write the utterance table as CSV, the names in the first column."""
    _write(file, store.utterances.drop(columns=[*PLACES]).to_csv().encode())


def add_labels(table: pd.DataFrame, file: Path, replace: bool) -> pd.DataFrame:
    """Return ``table`` with the columns of a CSV file, joined by its column ``name``.

    A new column becomes numeric if all of its values are numbers or missing; codes such as 007 stay text. An utterance
    that is not in the file keeps its values, and is empty in a new column.

    Raises:
        StoreError: if the file is not a table, a name is unknown or given twice, or the store has a column already.
    """
    labels = read_csv(file, StoreError)
    if "name" not in labels:
        raise StoreError(f"{file} has the columns {', '.join(map(str, labels.columns))}; expected name and the labels")
    labels = labels.set_index("name")
    twice = labels.index[labels.index.duplicated()]
    unknown = labels.index.difference(table.index)
    for problem, names in (("occur twice", twice), ("are not in the store", unknown)):
        if len(names):
            raise StoreError(f"{file}: {len(names)} names {problem}, e.g. {', '.join(map(str, names[:3]))}")
    there = [str(column) for column in labels if column in table]
    fixed = [str(column) for column in labels if column in (*PLACES, "duration", "path", "dataset")]
    if fixed or (there and not replace):
        hint = "they belong to the frames, and cannot be replaced" if fixed else "--replace replaces them"
        raise StoreError(f"{file}: the store has the columns {', '.join(fixed or there)} already; {hint}")
    others = table.loc[table.index.difference(labels.index), there]
    texts = [column for column in others if len(others) and not pd.api.types.is_numeric_dtype(others[column])]
    numbers = labels.drop(columns=texts).apply(_as_numbers)
    joined = join_tables([labels.assign(**numbers), others]).reindex(table.index)
    return table.assign(**{str(column): joined[column] for column in joined})


def _as_numbers(texts: pd.Series[str]) -> pd.Series[Any]:
    """Return numbers, or truth values, if every text is one or stands for a missing one; else the texts."""
    lower = texts.str.lower()
    missing = lower.isin(MISSING)
    given = texts[~missing]
    if given.str.match(r"[+-]?0\d").any():
        return texts
    if len(given) and lower[~missing].isin(["true", "false"]).all():
        truths = lower == "true"
        return truths.where(~missing, np.nan).astype(float) if missing.any() else truths
    numbers = pd.to_numeric(given, errors="coerce")
    return texts if numbers.isna().any() else numbers.reindex(texts.index)


def _write_npy(folder: Path, _: int, feature: FeatureStore, names: Sequence[str]) -> None:
    for name in names:
        content = io.BytesIO()
        np.save(content, _frames(feature, name))
        _write(folder / f"{_file_name(name)}.npy", content.getbuffer())


def _file_name(name: str) -> str:
    quoted = quote(name, safe=" ")
    if len(quoted) <= LONGEST_NAME:
        return quoted
    return f"{quoted[: LONGEST_NAME - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _write_safetensors(folder: Path, shard: int, feature: FeatureStore, names: Sequence[str]) -> None:
    try:
        from safetensors.numpy import save
    except ImportError:
        raise StoreError("safetensors is not installed: pip install safetensors") from None
    _write(folder / f"{shard}.safetensors", save({name: _frames(feature, name) for name in names}))


def _write(file: Path, content: bytes | memoryview) -> None:
    """Write a file; if that fails, an existing file stays as it is."""
    temporary = file.with_name(f".{file.name[:200]}.{os.getpid()}.tmp")
    try:
        with naming(file):
            temporary.write_bytes(content)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _frames(feature: FeatureStore, name: str) -> Floats:
    return feature.read(name).decode()


_WRITERS = {"npy": _write_npy, "safetensors": _write_safetensors}
