"""The commands ser-train protocol: folds made, shown and checked without training anything.

ser-train protocol make --store stores/iemocap.zarr splits=sessions --out protocols/sessions.json
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from featurestore.shared.command import INCOMPLETE, say, say_table

if TYPE_CHECKING:
    import pandas as pd

    from train.examples.protocol import Protocol
    from train.splits import Fold

app = App(
    name="protocol",
    help="Make, show and check folds: which utterances train, select and test.",
    version_flags=[],
    default_parameter=Parameter(negative=()),
)
MOST_KINDS = 12
"""Values of a column that are counted each in a column of their own."""


@app.command
def make(
    *overrides: Annotated[str, Parameter(allow_leading_hyphen=False)],
    store: str,
    out: Path,
    name: str | None = None,
    config: tuple[Path, ...] = (),
) -> int:
    """Write the folds of the utterances that a run with the same settings would use.

    Args:
        overrides: Any setting of ser-train as KEY=VALUE: splits=sessions splits.dev=speaker targets=[emotion]
        store: The feature store, or its URL.
        out: The file.
        name: Of the protocol; that of its splits when absent.
        config: YAML file with settings of ser-train; given more than once, the last one wins.
    """
    import featurestore
    from featurestore.shared.config import load
    from train.config import TrainConfig
    from train.examples.examples import load_examples
    from train.examples.protocol import make_protocol
    from train.shared.files import write_whole

    settings = load(TrainConfig, config, overrides)
    examples = load_examples(featurestore.open(store), settings)
    protocol = make_protocol(settings.splits, examples.table, examples.store.dataset, name)
    settings.unsafe.refuse(protocol.unsafe, f"splits={settings.splits.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, protocol.to_json())
    say(f"{out}: {_described(protocol)}")
    return 0


@app.command
def show(file: Path, *, store: str | None = None, column: str | None = None) -> int:
    """Print what the parts of each fold hold.

    Args:
        file: The protocol.
        store: The feature store, or its URL: then speakers and labels are counted, too.
        column: Whose values are counted, or averaged where they are numbers; emotion, or else V, A and D when absent.
    """
    from train.examples.protocol import read_protocol

    protocol = read_protocol(file)
    table = None if store is None else _table_of(protocol, store, file)
    say(f"{file}: {_described(protocol)}")
    rows = [row for number, fold in enumerate(protocol.folds) for row in _rows(str(number), fold, table, column)]
    for number, folds in enumerate(protocol.inner):
        for place, fold in enumerate(folds):
            rows += _rows(f"{number}.{place}", fold, table, column)
    say_table(rows[0], [row.values() for row in rows])
    return 0


def _described(protocol: Protocol) -> str:
    kinds = [f"{len(protocol.folds)} folds"]
    if protocol.inner:
        kinds.append(f"{sum(map(len, protocol.inner))} inner folds")
    kinds += [f"unsafe: {name}" for name in protocol.unsafe]
    return (
        f"{protocol.name or 'protocol'} of {protocol.dataset}, {len(protocol.utterances)} utterances, "
        f"{', '.join(kinds)}, sha256 {protocol.sha256[:12]}…"
    )


def _table_of(protocol: Protocol, store: str, file: Path) -> pd.DataFrame:
    import featurestore
    from train.examples.protocol import changed_labels, fitting
    from train.reading.labels import clean_names

    opened = featurestore.open(store)
    table, _ = clean_names(opened.utterances)
    fitting(protocol, list(table.index), opened.dataset, file)
    for line in changed_labels(protocol, table):
        say(f"warning: {line}")
    return table


def _rows(number: str, fold: Fold, table: pd.DataFrame | None, column: str | None) -> Iterator[dict[str, object]]:
    """Yield a row of the table for each part of a fold."""
    from train.examples.protocol import PARTS

    for part in PARTS:
        names = getattr(fold, part)
        row: dict[str, object] = {"fold": number, "part": part, "utterances": len(names)}
        if table is not None:
            if "speaker" in table:
                row["speakers"] = table["speaker"].loc[names].nunique()
            row |= _labels(table, names, column)
        yield row


def _labels(table: pd.DataFrame, names: list[str], column: str | None) -> dict[str, object]:
    """Return how often each value of a column of names is in a part, or the mean of a column of numbers."""
    import pandas as pd

    wanted = [column] if column else ["emotion"] if "emotion" in table else ["V", "A", "D"]
    found: dict[str, object] = {}
    for one in (one for one in wanted if one in table):
        values = table[one].loc[names]
        if pd.api.types.is_numeric_dtype(values):
            found[f"mean {one}"] = f"{values.mean():.3f}"
        else:
            kinds = sorted(set(table[one]))[:MOST_KINDS]
            found |= {str(kind) or "(none)": int((values == kind).sum()) for kind in kinds}
    return found


@app.command
def check(file: Path, *, store: str) -> int:
    """Look for what leaks from one part of a fold into another; exit code 3 if something does.

    Args:
        file: The protocol.
        store: The feature store, or its URL.
    """
    import featurestore
    from train.audit import audit
    from train.examples.protocol import read_protocol

    protocol = read_protocol(file)
    table = _table_of(protocol, store, file)
    found = audit(featurestore.open(store), table.loc[protocol.utterances], protocol)
    for line in found.lines():
        say(line)
    say(f"{file}: {_described(protocol)}: {found.summary()}")
    return INCOMPLETE if found.leaks else 0
