"""The extraction: look at what is there, decide, plan, work, commit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from extract.config import ExtractConfig
from extract.features import Extractors, Report
from extract.jobs import run_jobs
from extract.labels import join_notes
from extract.planning import Work, check_disk, decide, plan, survey
from extract.source import Source, read_source
from extract.work import Spent
from featurestore.access.writer import StoreWriter
from featurestore.shared.errors import DatasetError


@dataclass
class Summary:
    """What an extraction did.

    Attributes:
        store: its path.
        utterances: how many of the dataset are in it.
        seconds: of audio in them.
        left_out: utterances that are not in the store, with the reason.
        failed: ``NAME (FEATURE)`` of utterances in the store without frames of a feature, with the reason.
        flagged: utterances that are odd, with what is odd about them.
        unfinished: features that are not complete, because shards also hold utterances that were not asked for.
        speed: how fast it was, and where the time went; empty if nothing was left to do.
    """

    store: Path
    utterances: int
    seconds: float
    left_out: dict[str, str]
    failed: dict[str, str] = field(default_factory=dict)
    flagged: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    speed: str = ""


def extract(config: ExtractConfig, report: Report = lambda *_: None, extractors: Extractors | None = None) -> Summary:
    """Run an extraction, or continue one that was interrupted.

    Args:
        config: the settings.
        report: told how much is done, of how much, and how fast; first of the survey, if there is one.
        extractors: of its features, if they are built already.

    Raises:
        SerError: if there is nothing to extract, an existing store contradicts the settings, or the disk has no room.
    """
    source = read_source(config, config.build() if extractors is None else extractors)
    if source.lacking and not config.dataset.allow_partial:
        raise DatasetError(f"{source.lacking}: complete it, or go on with --allow-partial; --plan shows what is there")
    writer = StoreWriter(config.store_path())
    with writer.lock():
        specs = decide(config, source, writer)
        source = survey(config, source, writer, report)
        work = plan(config, source, specs, writer)
        if config.check_disk:
            check_disk(work, writer)
        speed = _do(work, config, source, writer, report)
        return _commit(work, source, writer, speed)


def _do(work: Work, config: ExtractConfig, source: Source, writer: StoreWriter, report: Report) -> str:
    """Write the shards that are missing, and return how fast that was."""
    total = float(source.plan.table["duration"].sum()) * len(source.extractors)
    left = sum(job.seconds * len(job.features) for job in work.jobs)
    missing = {key for job in work.jobs for key in job.features}
    speed, done, start, spent = "", 0.0, time.perf_counter(), Spent()
    for job, seconds in run_jobs(config, work.jobs, writer, source.extractors):
        done += job.seconds * len(job.features)
        spent.update(seconds)
        speed = describe_speed(done / len(missing), time.perf_counter() - start, spent)
        report(total - left + done, total, speed)
    return speed


def describe_speed(audio: float, elapsed: float, spent: Spent) -> str:
    """Return how fast the work is, and the shares of what it waits for, the largest first.

    Args:
        audio: seconds of audio that are done.
        elapsed: seconds that it took.
        spent: seconds for which the processes waited for each kind of work.

    >>> describe_speed(7200, 36, Spent({"hubert-large": 27, "writing": 8.9, "reading audio": 0.1}))
    '200 h of audio an hour; hubert-large 75 %, writing 25 %'
    """
    everything = sum(spent.values()) or 1.0
    shares = [f"{what} {seconds / everything:.0%}".replace("%", " %") for what, seconds in spent.most_common()]
    known = [share for share in shares if not share.endswith(" 0 %")]
    return f"{audio / max(elapsed, 1e-9):.3g} h of audio an hour; {', '.join(known)}"


def _commit(work: Work, source: Source, writer: StoreWriter, speed: str) -> Summary:
    """Commit every feature that is complete, and return what was done."""
    table = source.plan.table
    summary = Summary(writer.path, len(table), float(table["duration"].sum()), source.plan.left_out, speed=speed)
    summary.flagged |= {str(name): flag for name, flag in table["flags"].items() if flag}
    for key in source.extractors:
        if work.of_others[key]:
            summary.unfinished.append(f"{key}: {_whose(work.of_others[key], source, writer)}; extract these, too")
            continue
        writer.commit(key)
        feature = writer.feature(key)
        summary.failed |= {f"{name} ({key})": reason for name, reason in feature.failed.items()}
        for name, remark in feature.flagged.items():
            notes = [*summary.flagged.get(name, "").split("; "), *remark.split("; ")]
            summary.flagged[name] = join_notes(
                *dict.fromkeys(notes)
            )  # remarks on the audio are the same in each feature
    return summary


def _whose(shards: list[int], source: Source, writer: StoreWriter) -> str:
    rows = writer.table[writer.table["shard"].isin(shards)]
    datasets = rows["dataset"].unique().tolist() if "dataset" in rows else [source.plan.dataset]
    return f"{len(shards)} shards hold utterances of {', '.join(datasets)} that were not asked for"
