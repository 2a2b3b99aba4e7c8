"""The dataset to extract: labels joined with audio headers, and the number of frames of each feature."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.audio import SAMPLING_RATE, AudioError, count_samples, file_size
from extract.config import ExtractConfig
from extract.features import Extractor, Extractors
from extract.labels import Labels, join_notes, readable
from extract.reasons import EXAMPLES, group, write_list
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.shared.errors import DatasetError, SerError


@dataclass(frozen=True)
class Places:
    """The frames of a feature for some utterances.

    Attributes:
        frames: how many each utterance has, 0 where the feature cannot be computed.
        times: of the first frame, in seconds.
        failed: the utterances of which it cannot be computed, with the reason.
    """

    frames: np.ndarray
    times: np.ndarray
    failed: dict[str, str]

    def plan(self, spec: FeatureSpec) -> FeaturePlan:
        """Return the plan of the feature."""
        return FeaturePlan(spec, self.frames, self.times)


@dataclass(frozen=True)
class Source:
    """A dataset whose audio headers have been read.

    Attributes:
        extractors: of the features to extract.
        plan: what the store should hold.
        paths: of the audio, by name.
        places: of each feature the frames of the utterances of the plan.
        lacking: a message if utterances of the dataset are missing; empty if it is complete.
    """

    extractors: Extractors
    plan: Plan
    paths: dict[str, Path]
    places: dict[str, Places]
    lacking: str

    def plans(self, specs: Mapping[str, FeatureSpec]) -> dict[str, FeaturePlan]:
        """Return the plan of each feature for the utterances of the dataset, given its spec."""
        return {key: places.plan(specs[key]) for key, places in self.places.items()}


class Measured(NamedTuple):
    """The samples of an audio file at 16 kHz, and its bytes."""

    samples: int
    size: int


def read_source(config: ExtractConfig, extractors: Extractors) -> Source:
    """Read the labels and the audio headers; an utterance without usable audio is left out, with the reason.

    The plan does not depend on the features, so that others can be added later: an utterance of which a feature cannot
    be computed is in the store without frames of that feature.

    Raises:
        SerError: if no feature is asked for, or none can be computed of any utterance.
    """
    if not extractors:
        raise SerError("nothing to extract: give --encoder NAME|DIR, or --features NAME,NAME")
    labels = config.dataset.read()
    lacking = config.dataset.lacking(labels)
    labels = _only(labels, config.dataset.split)
    left_out = dict(labels.left_out)
    folder = config.dataset.audio_folder()
    paths = {name: folder / path for name, path in zip(labels.table.index, labels.table["path"], strict=True)}
    measured = _measure(paths, left_out)
    table = _without_surveyed(labels.table.loc[list(measured)], extractors)
    table = table.assign(duration=np.array([one.samples for one in measured.values()]) / SAMPLING_RATE)
    table = _flag_copies(table, paths, measured)
    places = {key: place(extractor, table) for key, extractor in extractors.items()}
    if all(len(one.failed) == len(table) for one in places.values()):
        raise SerError(_nothing_left(config, left_out | next(iter(places.values())).failed))
    plan = Plan.make(table, config.shard_seconds, dataset=config.dataset.name, ranges=labels.ranges, left_out=left_out)
    return Source(extractors, plan, paths, places, lacking)


def _without_surveyed(table: pd.DataFrame, extractors: Extractors) -> pd.DataFrame:
    """Return the table without the columns that features compute; a warning says which ones the labels had."""
    found = [column for one in extractors.values() for column in one.feature.surveyed if column in table]
    if found:
        message = "the labels' columns %s are not used: they are computed from the audio"
        logging.getLogger(__name__).warning(message, ", ".join(found))
    return table.drop(columns=found)


def _nothing_left(config: ExtractConfig, reasons: dict[str, str]) -> str:
    kinds = group(reasons)
    said = "; ".join(map(str, kinds[:EXAMPLES]))
    said += f"; {sum(len(one.of) for one in kinds[EXAMPLES:])} for other reasons" if len(kinds) > EXAMPLES else ""
    where = f"; {write_list(config.store_path(), {'left out': reasons})}" if len(reasons) > EXAMPLES else ""
    return f"dataset {config.dataset.name}: no utterance can be used ({len(reasons)}): {said}{where}"


def _only(labels: Labels, split: str | None) -> Labels:
    """Return the labels of one split of the dataset, or of all of it."""
    if split is None:
        return labels
    splits = labels.table["split"] if "split" in labels.table else labels.table.index.map(lambda _: "")
    if not (splits == split).any():
        found = ", ".join(sorted({str(one) for one in splits} - {""})) or "none"
        raise DatasetError(f"dataset.split={split}: no utterance is in it; the dataset has the splits {found}")
    return replace(labels, table=labels.table[splits == split])


def place(extractor: Extractor, table: pd.DataFrame) -> Places:
    """Return the number of frames of a feature for each utterance, 0 where it cannot be computed."""
    frames, times, failed = np.zeros(len(table), np.int64), np.zeros(len(table)), {}
    samples = np.rint(table["duration"].to_numpy() * SAMPLING_RATE).astype(np.int64).tolist()
    rows = rows_of(table, extractor.feature.columns)
    for i, (name, count) in enumerate(zip(table.index, samples, strict=True)):
        try:
            frames[i], times[i] = extractor.place(count, rows[i])
        except ValueError as error:
            failed[name] = str(error)
    return Places(frames, times, failed)


def rows_of(table: pd.DataFrame, columns: Iterable[str]) -> list[dict[str, Any]]:
    """Return the values of each row, by column, in those of ``columns`` that the table has."""
    found = [column for column in columns if column in table]
    if not found:
        return [{}] * len(table)
    return [dict(zip(found, values, strict=True)) for values in table[found].itertuples(index=False, name=None)]


def _flag_copies(table: pd.DataFrame, paths: dict[str, Path], measured: dict[str, Measured]) -> pd.DataFrame:
    """Return the table with a flag on utterances whose file has the content of an earlier one."""
    by_size: dict[int, list[str]] = {}
    for name, one in measured.items():
        by_size.setdefault(one.size, []).append(name)
    suspects = [name for names in by_size.values() if len(names) > 1 for name in names]
    first: dict[bytes, str] = {}
    flags = dict(table["flags"]) if "flags" in table else dict.fromkeys(table.index, "")
    with ThreadPoolExecutor() as pool:
        files = list(dict.fromkeys(paths[name] for name in suspects))
        digests = dict(zip(files, pool.map(_digest, files), strict=True))
    for name in suspects:
        original = first.setdefault(digests[paths[name]], name)
        if original != name:
            flags[name] = join_notes(flags[name], f"the same audio as {original}")
    return table.assign(flags=list(flags.values()))


def _digest(path: Path) -> bytes:
    """Return the SHA-256 of a file; if it cannot be read, of its path: decoding will report the error."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return hashlib.sha256(os.fsencode(path)).digest()


def _measure(paths: dict[str, Path], left_out: dict[str, str]) -> dict[str, Measured]:
    """Return the length at 16 kHz and the size of each utterance; those that cannot be read are left out."""
    found: dict[str, Measured] = {}
    files = list(dict.fromkeys(paths.values()))
    with ThreadPoolExecutor() as pool:
        measured = dict(zip(files, pool.map(_try_measure, files), strict=True))
    for name, path in paths.items():
        result = measured[path]
        if isinstance(result, str):
            left_out[name] = result
        else:
            found[name] = result
    return found


def _try_measure(path: Path) -> Measured | str:
    try:
        return Measured(count_samples(path), file_size(path))
    except AudioError as error:
        return readable(str(error))
