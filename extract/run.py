"""The extraction: labels and audio headers -> plan -> shards -> commit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config import ExtractConfig
from extract.features import Report
from extract.jobs import count_workers, run_jobs
from extract.labels import join_notes
from extract.source import Places, Source, place, read_source, rows_of
from extract.work import Clip, Job, Spent
from featurestore.access.writer import StoreWriter
from featurestore.format.layout import describe_bytes, feature_bytes, free_bytes
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from featurestore.operations.growth import check_growth, grow
from featurestore.shared.errors import DatasetError, StoreError


@dataclass
class Summary:
    """What an extraction did.

    Attributes:
        store: its path.
        utterances: how many of the dataset are in it.
        seconds: of audio in them.
        left_out: utterances that could not be planned, with the reason.
        failed: utterances that are planned but have no frames of some feature, with the reason.
        flagged: utterances that are odd, with what is odd about them.
        unfinished: features that have shards of utterances that were not asked for still to be written.
        speed: how fast it was, and what the time went into; empty if nothing was left to do.
    """

    store: Path
    utterances: int
    seconds: float
    left_out: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)
    flagged: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    speed: str = ""


def extract(config: ExtractConfig, report: Report = lambda *_: None) -> Summary:
    """Extract what is asked for, or what is still missing of it.

    Args:
        config: what is asked for.
        report: told how much is done, of how much, and how fast; of the survey, if there is one, first.

    Raises:
        SerError: if there is nothing to do, or the store that is there is another, or the disk has no room.
    """
    source = read_source(config)
    if source.lacking and not config.dataset.allow_partial:
        raise DatasetError(f"{source.lacking}: complete it, or go on with --allow-partial; --plan shows what is there")
    writer = StoreWriter(config.store_path())
    with writer.lock():
        specs = _check(config, source, writer)
        source = _survey(config, source, writer, report)
        if config.grow and writer.exists():
            grow(writer, source.plan, _plans(source, specs), config.shard_seconds)
        else:
            writer.plan(source.plan)
        table = writer.table
        places = {key: place(feature, table) for key, feature in source.features.items()}
        for key in source.features:
            writer.plan_feature(key, places[key].plan(specs[key]))
        if config.check_disk:
            _check_disk(writer, source)
        ours = source.plan.table
        summary = Summary(writer.path, len(ours), float(ours["duration"].sum()), source.plan.left_out)
        summary.flagged |= {str(name): flag for name, flag in ours["flags"].items() if flag}
        _fill(config, writer, source, places, summary, report)
    return summary


def _check(config: ExtractConfig, source: Source, writer: StoreWriter) -> dict[str, FeatureSpec]:
    """Return what each feature is, and refuse what contradicts a store that is there; nothing is written."""
    there = writer.exists()
    if there and not config.grow:
        writer.plan(source.plan)
    specs = {key: feature.spec() for key, feature in source.features.items()}
    if there and config.grow:
        check_growth(writer, source.plan, _plans(source, specs))
    for key, spec in specs.items():
        writer.check_feature(key, spec)
    return specs


def _plans(source: Source, specs: Mapping[str, FeatureSpec]) -> dict[str, FeaturePlan]:
    """Return the plan of each feature for the utterances of the dataset."""
    return {key: place(feature, source.plan.table).plan(specs[key]) for key, feature in source.features.items()}


def _survey(config: ExtractConfig, source: Source, writer: StoreWriter, report: Report) -> Source:
    """Return the dataset with the columns that features find in all of its audio; a store that is there gets them."""
    table = source.plan.table
    workers = count_workers(config, {}, len(table), float(table["duration"].sum()))
    for key, feature in source.features.items():
        if feature.surveyed:
            found = feature.survey(table, source.paths, _known(writer, key, source.plan), workers, report)
            found = _add_columns(writer, key, found)
            table = table.assign(**{column: found[column] for column in feature.surveyed})
    return replace(source, plan=replace(source.plan, table=table))


def _known(writer: StoreWriter, key: str, plan: Plan) -> pd.DataFrame:
    """Return the rows of a dataset in a store that has a feature; none if it has not."""
    if not writer.has(key):
        return pd.DataFrame()
    table = writer.table
    if writer.dataset() == plan.dataset:
        return table
    names = {plan.dataset, *plan.table.get("dataset", ())}  # labels can have a column dataset of their own
    return table[[name in names for name in table["dataset"]]] if "dataset" in table else table[:0]


def _add_columns(writer: StoreWriter, key: str, found: pd.DataFrame) -> pd.DataFrame:
    """Write the columns of a feature into the table of a store that is there, NaN for what they do not say.

    Where the store has the feature, what it says already stays.

    Returns:
        The columns as they are to be, for the same utterances.
    """
    if not writer.exists():
        return found
    before = writer.table
    columns = found.reindex(before.index)
    if writer.has(key):
        columns = before.reindex(columns=found.columns).fillna(columns)
    after = before.assign(**{str(column): columns[column] for column in columns})
    if not after.equals(before):
        writer.replace_table(after)
    return columns.reindex(found.index).fillna(found)


def _check_disk(writer: StoreWriter, source: Source) -> None:
    """Refuse to fill the disk with the shards that are still to be written."""
    needed, others = 0, _of_others(writer.table, source)
    for key in source.features:
        part = writer.part(key)
        missing = np.isin(writer.index.shard, [number for number in writer.pending(key) if number not in others])
        needed += feature_bytes(part.spec, part.lengths[missing])
    needed, free = writer.backend.room(needed) if needed else 0, free_bytes(writer.path)
    if needed > free:
        raise StoreError(
            f"{writer.path} needs {describe_bytes(needed)}, its disk has {describe_bytes(free)} free: see --plan for "
            "smaller data types, or start all the same with check_disk=false"
        )


def _fill(
    config: ExtractConfig,
    writer: StoreWriter,
    source: Source,
    places: dict[str, Places],
    summary: Summary,
    report: Report,
) -> None:
    """Write the shards that are missing, and commit every feature that is complete."""
    table, jobs = writer.table, plan_jobs(writer, source, places)
    ours = float(table["duration"][table.index.isin(source.plan.table.index)].sum())
    total, left = ours * len(source.features), sum(job.seconds * len(job.features) for job in jobs)
    missing = {key for job in jobs for key in job.features}
    done, start, spent = 0.0, time.perf_counter(), Spent()
    for job, seconds in run_jobs(config, jobs, writer, source.features):
        done += job.seconds * len(job.features)
        spent.update(seconds)
        summary.speed = describe_speed(done / len(missing), time.perf_counter() - start, spent)
        report(total - left + done, total, summary.speed)
    for key in source.features:
        others = writer.pending(key)
        if others:
            rows = table[table["shard"].isin(others)]
            datasets = rows["dataset"].unique().tolist() if "dataset" in table else [source.plan.dataset]
            what = f"{len(others)} shards hold utterances of {', '.join(datasets)} that were not asked for"
            summary.unfinished.append(f"{key}: {what}; ask for these too")
            continue
        writer.commit(key)
        part = writer.part(key)
        summary.failed |= {f"{name} ({key})": reason for name, reason in part.failed.items()}
        for name, remark in part.flagged.items():
            notes = [*summary.flagged.get(name, "").split("; "), *remark.split("; ")]
            summary.flagged[name] = join_notes(*dict.fromkeys(notes))  # of the audio they are the same in each feature


def describe_speed(audio: float, elapsed: float, spent: Spent) -> str:
    """Return how fast the work is, and what it waits for, the longest first.

    Args:
        audio: that is done, in seconds.
        elapsed: seconds that it took.
        spent: seconds for which the processes waited for each part.

    >>> describe_speed(7200, 36, Spent({"hubert-large": 27, "writing": 8.9, "reading audio": 0.1}))
    '200 h of audio an hour; hubert-large 75 %, writing 25 %'
    """
    everything = sum(spent.values()) or 1.0
    shares = [f"{what} {seconds / everything:.0%}".replace("%", " %") for what, seconds in spent.most_common()]
    known = [share for share in shares if not share.endswith(" 0 %")]
    return f"{audio / max(elapsed, 1e-9):.3g} h of audio an hour; {', '.join(known)}"


def plan_jobs(writer: StoreWriter, source: Source, places: dict[str, Places]) -> list[Job]:
    """Return what is to be written, shard by shard; those with utterances that are not asked for are left."""
    table, impossible = writer.table, {key: places[key].impossible for key in places}
    pending = {key: writer.pending(key) for key in source.features}
    todo = sorted({number for numbers in pending.values() for number in numbers} - _of_others(table, source))
    return [_job(table[table["shard"] == number], source, number, pending, impossible) for number in todo]


def _of_others(table: pd.DataFrame, source: Source) -> set[int]:
    """Return the shards with utterances that are not asked for."""
    return set(table["shard"][~table.index.isin(source.plan.table.index)])


def _job(
    rows: pd.DataFrame,
    source: Source,
    number: int,
    pending: dict[str, list[int]],
    impossible: dict[str, dict[str, str]],
) -> Job:
    """Return the work on one shard, given the utterances that are in it."""
    columns = sorted({column for feature in source.features.values() for column in feature.columns})
    known = zip(rows.index, rows["duration"], rows_of(rows, columns), strict=True)
    clips = [Clip(str(name), source.paths[str(name)].absolute(), seconds, row) for name, seconds, row in known]
    missing = tuple(key for key in source.features if number in pending[key])
    reasons = {key: {c.name: impossible[key][c.name] for c in clips if c.name in impossible[key]} for key in missing}
    return Job(number, missing, clips, reasons)
