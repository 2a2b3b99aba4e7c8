"""The command ser-store: look into a store, and check it.

ser-store info stores/emotale.zarr
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

import featurestore
from featurestore.command import progress, run, say, say_table

if TYPE_CHECKING:
    from featurestore.store import FeatureStore, Store

app = App(name="ser-store", help="Look into a feature store, and check it.", version_flags=[])


@app.command
def info(store: Path) -> None:
    """Print what a store holds: the dataset, the features, what is finished, and what was left out."""
    opened = featurestore.open(store)
    table = opened.utterances
    hours = table["duration"].sum() / 3600
    speakers = f", {table['speaker'].nunique()} speakers" if "speaker" in table else ""
    say(f"{opened.path}: dataset {opened.dataset}, {len(table)} utterances{speakers}, {hours:.2f} h")
    ranges = ", ".join(f"{target} {low:g} to {high:g}" for target, (low, high) in opened.ranges.items())
    say(f"labels: {', '.join(table.columns)}" + (f"; declared ranges: {ranges}" if ranges else ""))
    header = ("feature", "layers", "dim", "hop s", "dtype", "frames", "MB", "state")
    say_table(header, [_describe(name, part) for name, part in opened.parts.items()])
    _say_left_out(opened)


@app.command(name="list")
def list_(store: Path) -> None:
    """Print the names of all utterances, one a line."""
    for name in featurestore.open(store).utterances.index:
        say(name)


@app.command
def show(store: Path, name: str) -> None:
    """Print the labels of one utterance, and the range of values of its features."""
    opened = featurestore.open(store, partial=True)
    utterance = opened[name]
    say(utterance.labels.to_string())
    for feature, part in opened.parts.items():
        if name in part.failed:
            say(f"{feature}: none, {part.failed[name]}")
            continue
        frames, times = utterance[feature], part.times(name)
        say(
            f"{feature}: {frames.shape} (layer, frame, dim), {times[0]:.4f} to {times[-1]:.4f} s, "
            f"values {frames.min():.4g} to {frames.max():.4g}, mean {frames.mean():.4g}"
        )


@app.command
def verify(store: Path) -> int:
    """Read all of a store and compare it with its checksums; name each damaged shard and its utterances."""
    from featurestore.verify import verify

    opened = featurestore.open(store)
    with progress("verify") as update:
        damages = verify(opened, update)
    for damage in damages:
        say(f"damaged: {damage.file}: {damage.problem}; utterances in it: {', '.join(damage.names) or 'all'}")
    unfinished = [name for name, part in opened.parts.items() if not part.complete]
    for name in unfinished:
        say(f"unfinished: {name}; run the same ser-extract command again to finish it")
    size = sum(part.size for part in opened.parts.values())
    say(f"{size / 1e6:.1f} MB read: " + (f"{len(damages)} files damaged" if damages else "all is as it was written"))
    return 1 if damages or unfinished else 0


def _describe(name: str, part: FeatureStore) -> tuple[object, ...]:
    spec = part.spec
    state = "complete" if part.complete else f"unfinished, {part.written} of {part.shards} shards"
    failed = f", {len(part.failed)} utterances without" if part.complete and part.failed else ""
    frames = sum(part.frames.values())
    return (name, spec.layers, spec.dim, spec.hop, spec.dtype, frames, f"{part.size / 1e6:.1f}", state + failed)


def _say_left_out(store: Store) -> None:
    for name, reason in store.left_out.items():
        say(f"left out: {name}: {reason}")
    for feature, part in store.parts.items():
        if part.complete:
            for name, reason in part.failed.items():
                say(f"without {feature}: {name}: {reason}")


def main() -> None:
    """Run ser-store."""
    run(app)
