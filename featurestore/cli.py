"""The command ser-store: look into a store, check and repair it, make others out of it.

ser-store info stores/emotale.zarr
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

import featurestore
from featurestore.format.codec import Dtype
from featurestore.format.layout import describe_bytes
from featurestore.format.plan import Compress
from featurestore.shared.command import INCOMPLETE, progress, run, say, say_table

if TYPE_CHECKING:
    from featurestore.access.feature import FeatureStore
    from featurestore.access.store import Store
    from featurestore.operations.verify import Damage

app = App(
    name="ser-store", help="Look into a feature store, check and repair it, make others out of it.", version_flags=[]
)


@app.command
def info(store: str) -> None:
    """Print what a store holds: the dataset, the features, what is finished, and what was left out."""
    opened = featurestore.open(store)
    table = opened.utterances
    hours = f", {table['duration'].sum() / 3600:.2f} h" if "duration" in table else ""
    speakers = f", {table['speaker'].nunique()} speakers" if "speaker" in table else ""
    say(f"{opened.path}: dataset {opened.dataset}, {len(table)} utterances{speakers}{hours}")
    ranges = ", ".join(f"{target} {low:g} to {high:g}" for target, (low, high) in opened.ranges.items())
    say(f"labels: {', '.join(table.columns)}" + (f"; declared ranges: {ranges}" if ranges else ""))
    header = ("feature", "layers", "dim", "hop s", "dtype", "frames", "MB", "state")
    say_table(header, [_describe(name, feature) for name, feature in opened.parts.items()])
    _say_left_out(opened)


@app.command(name="list")
def list_(store: str) -> None:
    """Print the names of all utterances, one a line."""
    for name in featurestore.open(store).index.names:
        say(name)


@app.command
def show(store: str, name: str) -> None:
    """Print the labels of one utterance, and the range of values of its features."""
    opened = featurestore.open(store, partial=True)
    utterance = opened[name]
    width = max(map(len, map(str, utterance.labels.index)))
    for column, value in utterance.labels.items():
        say(f"{column!s:<{width}}  {value}")
    for key, feature in opened.parts.items():
        if name in feature.flagged:
            say(f"{key}: flagged, {feature.flagged[name]}")
        if name in feature.failed:
            say(f"{key}: no frames, {feature.failed[name]}")
            continue
        frames = utterance[key]
        say(
            f"{key}: {frames.shape} (layer, frame, dim), {_span(feature, name)}, "
            f"values {frames.min():.4g} to {frames.max():.4g}, mean {frames.mean():.4g}"
        )


@app.command
def verify(store: str, name: str | None = None) -> int:
    """Compare a store with its checksums; name each damaged shard and its utterances.

    Args:
        store: To check.
        name: Check one utterance only, which is quick.
    """
    from featurestore.operations.verify import verify, verify_utterance

    opened = featurestore.open(store, partial=True)
    if name is not None:
        damages = verify_utterance(opened, name)
        _say_damages(damages)
        say(f"{name}: {_count(damages)}" if damages else f"{name}: it is as it was written")
        return 1 if damages else 0
    with progress("verify") as update:
        damages = verify(opened, update)
    _say_damages(damages)
    broken = {damage.feature for damage in damages if damage.shard is None}
    features = [] if None in broken else [name for name in opened.backend.features() if name not in broken]
    sound = {name: opened.feature(name) for name in features}
    unfinished = [name for name, feature in sound.items() if not feature.complete]
    for name in unfinished:
        say(f"unfinished: {name}; run the same ser-extract command again to finish it")
    size = "" if None in broken else f"{describe_bytes(sum(feature.size for feature in sound.values()))} read: "
    say(size + (_count(damages) if damages else "all is as it was written"))
    return 1 if damages or unfinished else 0


@app.command
def repair(store: str, *, drop: str = "") -> int:
    """Drop what is damaged, and finish or undo what was interrupted; ser-extract then fills in what is missing.

    Args:
        store: To repair.
        drop: Features to drop whole, damaged or not, separated by commas.
    """
    from featurestore.operations.repair import repair

    features = _names(drop)
    with progress("verify") as update:
        damages = repair(store, features, update)
    _say_damages(damages, "dropped")
    for feature in features:
        say(f"dropped: all of {feature}")
    dropped = damages or features
    say(f"{store}: " + ("run the same ser-extract command again to fill it in" if dropped else "nothing to repair"))
    return INCOMPLETE if dropped else 0


@app.command
def convert(source: str, target: str, *, dtype: Dtype | None = None, compress: Compress | None = None) -> int:
    """Copy a store to Zarr or HDF5 (.zarr or .h5, by the suffix of the target), or to another data type.

    Args:
        source: The store, or its URL.
        target: The new store.
        dtype: Data type of the hidden states; unchanged when absent. A copy of int8 is no better than int8.
        compress: Compress without loss, for archives: slower to read. Zarr only.
    """
    return _copy([source], target, (), dtype, compress)


@app.command
def merge(target: str, *sources: str, features: str = "") -> int:
    """Make one store out of several with different utterances.

    Args:
        target: The new store.
        sources: The stores.
        features: To take, separated by commas; all of them when absent.
    """
    return _copy(list(sources), target, tuple(_names(features)), None, None)


@app.command
def export(
    store: str,
    folder: Path | None = None,
    *,
    table: Path | None = None,
    features: str = "",
    kind: Literal["npy", "safetensors"] = "npy",
) -> int:
    """Write the frames as float32 into files of common formats, or the table as CSV.

    Args:
        store: To read from.
        folder: For the frames, FEATURE/NAME.npy or FEATURE/SHARD.safetensors.
        table: CSV file for the utterance table.
        features: To write, separated by commas; all of them when absent.
        kind: Of the files.
    """
    from featurestore.operations.export import export_frames, export_table
    from featurestore.shared.errors import StoreError

    if folder is None and table is None:
        raise StoreError("nothing to export: give a FOLDER for the frames, or --table FILE")
    opened = featurestore.open(store)
    if table is not None:
        export_table(opened, table)
    left_out = []
    if folder is not None:
        with progress("export") as update:
            left_out = export_frames(opened, folder, _names(features), kind, update)
    for line in left_out:
        say(f"left out: {line}")
    return INCOMPLETE if left_out else 0


@app.command
def add_labels(store: str, file: Path, *, replace: bool = False) -> None:
    """Add the columns of a CSV file to the table, joined by its column ``name``.

    Args:
        store: To add to.
        file: With the column name and any others; utterances that are not in it keep their values.
        replace: Replace columns that the store has already.
    """
    from featurestore.access.writer import StoreWriter
    from featurestore.operations.export import add_labels

    writer = StoreWriter(store)
    featurestore.open(store)
    with writer.change_at_once():
        before = writer.table
        after = add_labels(before, file, replace)
        writer.replace_table(after)
    added = [str(column) for column in after if column not in before]
    say(f"{store}: added {', '.join(added) or 'no column'}" + (", the others replaced" if replace else ""))


def _names(listed: str) -> list[str]:
    """Return the names in a list that is separated by commas."""
    return [name for name in listed.split(",") if name]


def _copy(
    sources: list[str],
    target: str,
    features: tuple[str, ...],
    dtype: Dtype | None,
    compress: Compress | None,
) -> int:
    from featurestore.operations.copying import DAMAGED, copy_stores

    opened = [featurestore.open(source) for source in sources]
    with progress("copy") as update:
        copy_stores(opened, target, features=features, dtype=dtype, compress=compress, report=update)
    copied = featurestore.open(target)
    left_out = [
        f"{key} of {name}: {reason}"
        for key, feature in copied.parts.items()
        for name, reason in feature.failed.items()
        if reason.startswith(DAMAGED)
    ]
    for line in left_out:
        say(f"left out: {line}")
    size = sum(feature.size for feature in copied.parts.values())
    say(f"{target}: {len(copied.index.names)} utterances, {', '.join(copied.features)}, {describe_bytes(size)}")
    return INCOMPLETE if left_out else 0


def _span(feature: FeatureStore, name: str) -> str:
    if not feature.spec.hop:
        return "no times"
    times = feature.times(name)
    return f"{times[0]:.4f} to {times[-1]:.4f} s"


def _describe(name: str, feature: FeatureStore) -> tuple[object, ...]:
    spec = feature.spec
    state = "complete" if feature.complete else f"unfinished, {len(feature.records)} of {feature.shards} shards"
    failed = f", {len(feature.failed)} failed" if feature.complete and feature.failed else ""
    dtype = f"{spec.dtype} {spec.compress}" if spec.compress else spec.dtype
    flagged = f", {len(feature.flagged)} flagged" if feature.flagged else ""
    size = f"{feature.size / 1e6:.1f}"
    return (name, spec.layers, spec.dim, spec.hop or "-", dtype, feature.lengths.sum(), size, state + failed + flagged)


def _say_left_out(store: Store) -> None:
    for name, reason in store.left_out.items():
        say(f"left out: {name}: {reason}")
    for key, feature in store.parts.items():
        if feature.complete:
            for name, reason in feature.failed.items():
                say(f"failed: {name} ({key}): {reason}")


def _count(damages: list[Damage]) -> str:
    """Return how many parts are damaged, and how many could not be read and may be whole."""
    unreadable = sum(damage.unreadable for damage in damages)
    counts = ((len(damages) - unreadable, "damaged"), (unreadable, "could not be read"))
    return ", ".join(f"{count} part{'s' if count > 1 else ''} {what}" for count, what in counts if count)


def _say_damages(damages: list[Damage], kind: str = "damaged") -> None:
    for damage in damages:
        what = "not read" if damage.unreadable else kind
        say(f"{what}: {damage.place}: {damage.problem}; utterances in it: {', '.join(damage.names) or 'all'}")


def main() -> None:
    """Run ser-store."""
    run(app)
