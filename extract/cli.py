"""The command ser-extract: from a raw dataset to a feature store.

ser-extract --dataset emotale --root data/emotale --encoder whisper-base --features pitch,logmel
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from featurestore.shared.command import INCOMPLETE, progress, run, say
from featurestore.shared.config import load
from featurestore.shared.listing import say_list

if TYPE_CHECKING:
    from extract.config import ExtractConfig
    from extract.run import Summary

app = App(name="ser-extract", version_flags=[], default_parameter=Parameter(negative=()))


def _names(kind: str) -> str:
    """Return the names of the parts in a folder without importing them; not ``encoder``, which has its own option."""
    names = {module.stem.replace("_", "-") for module in Path(__file__).with_name(kind).glob("[!_]*.py")}
    return ", ".join(sorted(names - {"encoder"}))


@app.default
def main_command(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    dataset: Annotated[str | None, Parameter(help=f"Its name: {_names('datasets')}.")] = None,
    root: Path | None = None,
    encoder: str | None = None,
    features: Annotated[
        str | None, Parameter(help=f"Further features, separated by commas: {_names('features')}.")
    ] = None,
    like: str | None = None,
    store: str | None = None,
    config: tuple[Path, ...] = (),
    plan: bool = False,
    selftest: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    allow_partial: bool = False,
    list_: Annotated[tuple[str, ...] | None, Parameter(name="--list", consume_multiple=True)] = None,
) -> int:
    """Write the hidden states of every layer of a frozen encoder, and other features, into a keyed store.

    To continue an extraction that was killed, run the same command again. Exit code 0: everything worked; 3:
    finished, but some utterances were left out or failed (each is named, with the reason); 1: an error.

    Args:
        overrides: Any setting as KEY=VALUE: encoder.trim=true pitch.floor=60 dataset.ranges.V=[-2,2]
        dataset: Its name.
        root: Folder of the dataset, or its label file.
        encoder: Short name of a checkpoint (hubert-large, wavlm-large, …: --list encoder) or a local folder.
        features: Further features.
        like: A store whose encoder, features and settings are used, unless others are given.
        store: Where the store goes; stores/DATASET.zarr when absent.
        config: YAML file with settings; given more than once, the last one wins.
        plan: Print what would be done, its size and time, and write no store.
        selftest: Prove on this machine that the encoder's features do not depend on the batch, and write nothing.
        workers: Processes that work in parallel; one per core when absent, fewer for little audio.
        scheduler: Address of a dask.distributed scheduler, whose workers do the work.
        allow_partial: Go on although utterances of the dataset are missing.
        list_: Print the first settings and all kinds of parts, or all about what is named: --list encoder dataset.csv
    """
    from extract.config import ExtractConfig, SelftestConfig

    if list_ is not None:
        say_list(ExtractConfig, list_)
        return 0
    flags = {"dataset.root": root, "encoder.checkpoint": encoder, "like": like, "store": store, "scheduler": scheduler}
    settings = [f"dataset.name={dataset}"] if dataset else []
    settings += [f"{key}={json.dumps(str(value))}" for key, value in flags.items() if value is not None]
    settings += [f"workers={workers}"] if workers is not None else []
    settings += ["dataset.allow_partial=true"] if allow_partial else []
    settings += [*_chosen(features or "", like), *overrides]
    if selftest:
        from extract.selftest import say_selftest

        return say_selftest(load(SelftestConfig, config, settings).encoder)
    return _run(load(ExtractConfig, config, settings), plan)


def _chosen(features: str, like: str | None) -> Iterator[str]:
    """Yield the overrides that select these features; with ``like`` they also deselect all others."""
    chosen = [feature.strip() for feature in features.split(",") if feature.strip()]
    if like and chosen:
        yield from (f"{name}=null" for name in _names("features").split(", ") if name not in chosen)
    yield from (f"{feature}={{}}" for feature in chosen)


def _run(config: ExtractConfig, plan: bool) -> int:
    """Extract, or print the plan, and return the exit code."""
    extractors = config.build()
    if config.like:
        from extract.like import compare

        for line in compare(config.like, extractors):
            say(line)
    if plan:
        from extract.forecast import say_forecast

        return say_forecast(config, extractors)
    from extract.run import extract

    with progress("extract") as update:
        summary = extract(config, update, extractors)
    return _say_summary(summary, list(extractors))


def _say_summary(summary: Summary, features: list[str]) -> int:
    """Print what an extraction did, and return the exit code."""
    from extract.reasons import say_reasons

    found = {"left out": summary.left_out, "failed": summary.failed, "flagged": summary.flagged}
    say_reasons(str(summary.store), found, features)
    for line in summary.unfinished:
        say(f"unfinished: {line}")
    if summary.speed:
        say(f"speed: {summary.speed}")
    say(
        f"{summary.store}: {summary.utterances} utterances, {summary.seconds / 3600:.2f} h, {', '.join(features)}; "
        f"{len(summary.left_out)} left out, {len(summary.failed)} failed, {len(summary.flagged)} flagged"
    )
    return INCOMPLETE if summary.left_out or summary.failed or summary.unfinished else 0


def main() -> None:
    """Run ser-extract."""
    run(app)
