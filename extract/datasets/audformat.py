"""Any database in audformat: a header db.yaml with its tables, which is also what audb.load_to leaves on disk.

ser-extract --dataset audformat --root data/emodb-audb --encoder hubert-large
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, get_args

import pandas as pd
from pydantic import Field
from typing_extensions import override
from yaml import YAMLError

from extract.audio import SAMPLING_RATE, AudioError, count_samples
from extract.audio_files import AudioFiles
from extract.datasets import Dataset
from extract.datasets.csv import SPLITS, UNKNOWN_SPEAKERS
from extract.labels import Labels, Scale, check_columns, flag_outside, name_emotions, name_genders
from featurestore.shared.config import suggest
from featurestore.shared.errors import DatasetError, SerError

Target = Literal["V", "A", "D"]
TARGETS: tuple[Target, ...] = get_args(Target)
Common = Literal["V", "A", "D", "emotion", "speaker", "session", "gender", "transcript", "split"]
WELL_KNOWN: dict[Common, tuple[str, ...]] = {
    "V": ("valence",),
    "A": ("arousal", "activation"),
    "D": ("dominance",),
    "emotion": ("emotion",),
    "speaker": ("speaker",),
    "session": ("session",),
    "gender": ("gender", "sex"),
    "transcript": ("transcript", "transcription"),
    "split": ("split",),
}
OURS = ("name", "path", "duration", "shard", "slot", "dataset", "flags", "ratings")
"""Columns of our table; a database's column with one of these names means something else."""
TOLERANCE = 0.01
"""Seconds by which the end of a segment may miss the end of its file."""


class AudFormat(Dataset):
    """Every file of the tables is an utterance, named by its path without the suffix, with labels from all tables.

    Codes are resolved by their scheme: a code becomes its ``name`` (the code itself stays as ``…_code``), and its other
    fields, such as the gender and age of a speaker, become columns. The split is a column, else the split of the table,
    else taken from the table's name, such as ``emotion.train``.
    """

    table: str = "*"
    """The table, or a pattern such as ``emotion.*``, whose files are the utterances. The other tables only add columns
    that these lack."""
    columns: dict[Common, str] = Field(default_factory=dict)
    """The database's columns by our names, if they are not called valence, arousal, dominance and so on."""
    ranges: dict[Target, Scale] = Field(default_factory=dict)
    """The scales of V, A and D, if they are not the minimum and maximum of their schemes."""

    layout: ClassVar[str] = "a folder with db.yaml, its tables and the audio"
    EMOTIONS: ClassVar[dict[str, str]] = {
        **{word: word for word in ("anger", "boredom", "calm", "contempt", "disgust", "excitement", "fear")},
        **{word: word for word in ("frustration", "happiness", "neutral", "other", "sadness", "surprise")},
        "angry": "anger",
        "bored": "boredom",
        "disgusted": "disgust",
        "fearful": "fear",
        "happy": "happiness",
        "joy": "happiness",
        "sad": "sadness",
        "surprised": "surprise",
        "no_agreement": "",
    }

    @override
    def labels(self) -> Labels:
        header = self.audio_folder() / "db.yaml"
        if not os.path.exists(header):
            raise DatasetError(f"dataset audformat: no {header}; expected {self.layout}")
        database = _load(header)
        schemes = {name: column.scheme for one in database.tables.values() for name, column in one.columns.items()}
        table = self._join(database, header)
        sources = self._sources(table, header)
        table = _renamed(table, sources)
        ranges: dict[str, Scale] = {
            target: self._range(target, schemes.get(sources[target]), header) for target in TARGETS if target in sources
        }
        table = table.apply(_plain)
        return Labels(flag_outside(self._in_common_words(table), ranges), ranges)

    def _join(self, database: Any, header: Path) -> pd.DataFrame:
        """Return what all tables say of the files in the chosen tables, with the database's column names."""
        asked = [name for name in database.tables if fnmatchcase(name, self.table)]
        if not asked:
            raise DatasetError(f"{header} has no table {self.table!r}{suggest(self.table, database.tables)}")
        others = [name for name, one in database.tables.items() if name not in asked and one.is_filewise]
        for name in asked:
            _check_whole_files(database, name, header)
        speaker = self.columns.get("speaker", "speaker")
        first, disputes = _merge({name: _read(database, name, speaker) for name in asked})
        for dispute in disputes.values():
            raise DatasetError(f"{header}: {dispute}; choose with dataset.table=NAME, or a pattern of names")
        known = {name: _read(database, name, speaker).drop(columns=first.columns, errors="ignore") for name in others}
        further, disputes = _merge(known)
        for column, dispute in disputes.items():
            logging.getLogger(__name__).warning(
                "audformat: left out the column %s, on which tables disagree: %s", column, dispute
            )
        return first.join(further.drop(columns=list(disputes)))

    def _sources(self, table: pd.DataFrame, header: Path) -> dict[Common, str]:
        """Return the database's column for each of our columns that it has."""
        check_columns(table, list(self.columns.values()), header)
        found = {ours: next((name for name in names if name in table), "") for ours, names in WELL_KNOWN.items()}
        return {ours: name for ours, name in (found | self.columns).items() if name}

    def _range(self, target: Target, scheme: Any, header: Path) -> Scale:
        if target in self.ranges:
            return self.ranges[target]
        if scheme is None or scheme.minimum is None or scheme.maximum is None:
            found = f"{header} gives no minimum and maximum for {target}"
            raise DatasetError(f"{found}: say dataset.ranges.{target}=[LOW,HIGH]")
        return float(scheme.minimum), float(scheme.maximum)

    def _in_common_words(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table, indexed by name, with our words for emotions, genders, splits and unknown speakers."""
        paths = table.index.to_series()
        names = paths.map(lambda path: str(PurePosixPath(path).with_suffix("")))
        names = names.mask(names.duplicated(keep=False), paths)  # x.wav and x.flac
        table = table.assign(path=paths).set_axis(pd.Index(names, name="name"))
        if "emotion" in table:
            table = name_emotions(table, self.EMOTIONS)
        if "gender" in table:
            table["gender"] = name_genders(table["gender"])
        if "speaker" in table:
            table["speaker"] = table["speaker"].mask(table["speaker"].isin(UNKNOWN_SPEAKERS), "")
        if "split" in table:
            table["split"] = table["split"].str.strip().str.lower().map(lambda split: SPLITS.get(split, ""))
        return table


def _load(header: Path) -> Any:
    try:
        import audformat
    except ImportError:
        raise SerError("the dataset audformat needs pip install 'ser-featurestore[audformat]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, for how audformat calls it
            return audformat.Database.load(str(header.parent), load_data=True)
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, YAMLError) as error:
        raise DatasetError(f"{header} cannot be read as audformat: {' '.join(str(error).split())}") from None


def _check_whole_files(database: Any, name: str, header: Path) -> None:
    """Check that every segment of a table is a whole file; files that cannot be read are reported later.

    Raises:
        DatasetError: naming the first segment that is not.
    """
    if database[name].is_filewise:
        return
    segments, files = database[name].index.to_frame(index=False), AudioFiles()
    for file, start, end, twice in zip(*segments.to_dict("list").values(), segments["file"].duplicated(), strict=True):
        if start.total_seconds() > 0 or twice or not _ends_with(header.parent / file, end, files):
            until = "its end" if pd.isna(end) else f"{end.total_seconds():g} s"
            raise DatasetError(
                f"the table {name} of {header} has segments of files, e.g. {file} from {start.total_seconds():g} s to "
                f"{until}, expected whole files: choose another one with dataset.table=NAME, or cut the audio with "
                "audformat.utils.to_filewise_index"
            )


def _ends_with(file: Path, end: pd.Timedelta, files: AudioFiles) -> bool:
    if pd.isna(end):
        return True
    try:
        return abs(count_samples(files.find(file) or file) / SAMPLING_RATE - end.total_seconds()) < TOLERANCE
    except AudioError:
        return True


def _read(database: Any, name: str, speaker: str) -> pd.DataFrame:
    """Return a table by file, with its codes resolved by their schemes, and its split."""
    table = database[name]
    found: dict[str, pd.Series] = {}
    frame = table.df.set_axis(table.files).astype(object)
    meanings = {column: _meanings(database, table.columns[column].scheme) for column in frame}
    for column, values in frame.items():
        words = {code: _word(meaning, column) for code, meaning in meanings[column].items()}
        resolved = any(isinstance(word, str) for word in words.values()) and column != speaker
        found |= {column: values.map(words), f"{column}_code": values} if resolved else {column: values}
    for column, meaning in meanings.items():
        for field in dict.fromkeys(
            field for fields in meaning.values() if isinstance(fields, dict) for field in fields
        ):
            if field not in ("name", column):
                said = frame[column].map({code: fields.get(field) for code, fields in meaning.items()})
                found.setdefault(field if field not in found else f"{column}.{field}", said)
    split = table.split.type if table.split_id else next((part for part in name.split(".") if part in SPLITS), "")
    return pd.DataFrame({**({"split": split} if split else {}), **found}, index=frame.index, dtype=object)


def _meanings(database: Any, scheme: Any) -> dict[Any, Any]:
    """Return the meaning of each code of a scheme, a word or fields by name; empty if it explains no codes."""
    if scheme is None or not scheme.labels or isinstance(scheme.labels, list):
        return {}
    return dict(database[scheme.labels].df.to_dict("index") if scheme.uses_table else scheme.labels)


def _word(meaning: Any, column: str) -> Any:
    return meaning.get("name", meaning.get(column)) if isinstance(meaning, dict) else meaning


def _merge(tables: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the labels of all files of the tables, and a message for each column on which tables disagree."""
    merged: dict[str, pd.Series] = {}
    disputes: dict[str, str] = {}
    files = sorted({file for table in tables.values() for file in table.index})
    for column in dict.fromkeys(str(column) for table in tables.values() for column in table):
        said = pd.concat({name: table[column].dropna() for name, table in tables.items() if column in table})
        texts = said.astype(str).groupby(level=1)
        different = texts.nunique()
        if different.max() > 1:
            file = different.idxmax()
            values = ", ".join(f"{value} (table {name})" for (name, _), value in texts.get_group(file).items())
            disputes[column] = f"{column} of {file} is {values}"
        merged[column] = said[~said.index.droplevel(0).duplicated()].droplevel(0).reindex(files)
    return pd.DataFrame(merged, index=files), disputes


def _renamed(table: pd.DataFrame, sources: Mapping[Common, str]) -> pd.DataFrame:
    """Return the table with our column names; other columns that have one of these names get the prefix ``db_``."""
    pairs = [*sources.items(), *((f"{ours}_code", f"{theirs}_code") for ours, theirs in sources.items())]
    found = {ours: theirs for ours, theirs in pairs if theirs in table}
    rest = table.drop(columns=[*found.values()])
    rest = rest.rename(columns={column: f"db_{column}" for column in rest if column in {*OURS, *found}})
    return rest.assign(**{ours: table[theirs] for ours, theirs in found.items()})


def _plain(values: pd.Series) -> pd.Series:
    """Return a column as text, empty where it is missing, or as numbers; times are in seconds."""
    if values.name in TARGETS:
        return pd.to_numeric(values, errors="coerce").astype(float)
    found = values.convert_dtypes()
    if pd.api.types.is_timedelta64_dtype(found):
        return found.dt.total_seconds()
    if pd.api.types.is_numeric_dtype(found) and values.name not in WELL_KNOWN:
        return found.astype(float)
    return values.where(values.notna(), "").astype(str)
