"""Plan the work that is left, given an existing store; contradictions are refused before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from extract.config import ExtractConfig
from extract.features import Report
from extract.jobs import count_workers
from extract.source import Source, place, rows_of
from extract.work import Clip, Job
from featurestore.access.writer import StoreWriter
from featurestore.format.layout import describe_bytes, feature_bytes, free_bytes
from featurestore.format.plan import FeatureSpec, Plan
from featurestore.operations.growth import check_growth, grow
from featurestore.shared.errors import StoreError


@dataclass(frozen=True)
class Work:
    """The work that is left.

    Attributes:
        jobs: one for each shard.
        of_others: by feature the unfinished shards that also hold utterances of other datasets, and so have no job.
    """

    jobs: list[Job]
    of_others: dict[str, list[int]]


def decide(config: ExtractConfig, source: Source, writer: StoreWriter) -> dict[str, FeatureSpec]:
    """Return the spec of each feature; nothing is written.

    Raises:
        StoreError: if the dataset or a feature contradicts an existing store.
    """
    there = writer.exists()
    if there and not config.grow:
        writer.plan(source.plan)
    specs = {key: extractor.spec() for key, extractor in source.extractors.items()}
    if there and config.grow:
        check_growth(writer, source.plan, source.plans(specs))
    for key, spec in specs.items():
        writer.check_feature(key, spec)
    return specs


def survey(config: ExtractConfig, source: Source, writer: StoreWriter, report: Report) -> Source:
    """Return the dataset with the columns that features compute from all audio; an existing store gets them, too."""
    table, places = source.plan.table, dict(source.places)
    workers = count_workers(config, {}, len(table), float(table["duration"].sum()))
    for key, extractor in source.extractors.items():
        if surveyed := extractor.feature.surveyed:
            found = extractor.survey(table, source.paths, _known(writer, key, source.plan), workers, report)
            found = _add_columns(writer, key, found)
            table = table.assign(**{column: found[column] for column in surveyed})
            places[key] = place(extractor, table)
    return replace(source, plan=replace(source.plan, table=table), places=places)


def _known(writer: StoreWriter, key: str, plan: Plan) -> pd.DataFrame:
    """Return the rows of a dataset in a store that has the feature; none if it has not."""
    if not writer.has(key):
        return pd.DataFrame()
    table = writer.table
    if writer.dataset() == plan.dataset:
        return table
    names = {plan.dataset, *plan.table.get("dataset", ())}  # labels can have a column dataset of their own
    return table[[name in names for name in table["dataset"]]] if "dataset" in table else table[:0]


def _add_columns(writer: StoreWriter, key: str, found: pd.DataFrame) -> pd.DataFrame:
    """Write the columns of a feature into the table of an existing store, NaN for its other utterances.

    If the store has the feature, its values are kept.

    Returns:
        The resulting columns for the utterances of ``found``.
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


def plan(config: ExtractConfig, source: Source, specs: Mapping[str, FeatureSpec], writer: StoreWriter) -> Work:
    """Write which utterances the store holds and where the frames of each feature lie, and return the work left.

    Args:
        config: the settings.
        source: the dataset.
        specs: what each feature is, see `decide`.
        writer: of the store, locked.
    """
    if config.grow and writer.exists():
        grow(writer, source.plan, source.plans(specs), config.shard_seconds)
    else:
        writer.plan(source.plan)
    table = writer.table
    alone = table.index.equals(source.plan.table.index)  # the store holds nothing else
    for key, extractor in source.extractors.items():
        if not writer.has(key):
            places = source.places[key] if alone else place(extractor, table)
            writer.plan_feature(key, places.plan(specs[key]))
    return _find_work(source, writer)


def _find_work(source: Source, writer: StoreWriter) -> Work:
    table = writer.table
    of_others = set(table["shard"][~table.index.isin(source.plan.table.index)])
    pending = {key: set(writer.pending(key)) for key in source.extractors}
    todo, shards = sorted(set().union(*pending.values()) - of_others), table.groupby("shard")
    jobs = [_job(shards.get_group(number), source, number, pending) for number in todo]
    return Work(jobs, {key: sorted(numbers & of_others) for key, numbers in pending.items()})


def _job(rows: pd.DataFrame, source: Source, number: int, pending: Mapping[str, set[int]]) -> Job:
    """Return the job of one shard, given its rows of the table."""
    columns = sorted({column for extractor in source.extractors.values() for column in extractor.feature.columns})
    known = zip(rows.index, rows["duration"], rows_of(rows, columns), strict=True)
    clips = [Clip(str(name), source.paths[str(name)].absolute(), seconds, row) for name, seconds, row in known]
    features = tuple(key for key in source.extractors if number in pending[key])
    reasons = {key: source.places[key].failed for key in features}
    failed = {key: {c.name: reasons[key][c.name] for c in clips if c.name in reasons[key]} for key in features}
    return Job(number, features, clips, failed)


def check_disk(work: Work, writer: StoreWriter) -> None:
    """Check that the disk has room for the work that is left.

    Raises:
        StoreError: if it has not.
    """
    needed = 0
    for key in {key for job in work.jobs for key in job.features}:
        feature = writer.feature(key)
        missing = np.isin(writer.index.shard, [job.number for job in work.jobs if key in job.features])
        needed += feature_bytes(feature.spec, feature.lengths[missing])
    needed, free = writer.room(needed) if needed else 0, free_bytes(writer.path)
    if needed > free:
        raise StoreError(
            f"{writer.path} needs {describe_bytes(needed)}, its disk has {describe_bytes(free)} free: see --plan for "
            "smaller data types, or start all the same with check_disk=false"
        )
