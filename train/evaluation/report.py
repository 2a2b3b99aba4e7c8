"""The figures of a run as a workbook, ``report.xlsx``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.shared.command import printable
from train.shared.files import write_whole
from train.unsafe import stamp

Row = dict[str, Any]


def write_report(path: Path, results: dict[str, Any]) -> None:
    """Write the content of a metrics.json as a workbook.

    Its sheets are ``metrics``, ``per speaker`` (where speakers are known), ``by group``, and of targets with categories
    ``classification report`` and ``confusion`` (counts, and shares of the true class), over all folds together; first
    of all ``unsafe``, if the run allows faults.

    Raises:
        SerError: if it cannot be written.
    """
    unsafe = results.get("unsafe")
    sheets = {
        "unsafe": [{"": stamp(unsafe)}] if unsafe else [],
        "metrics": list(_metrics(results)),
        "confusion": list(_confusion(results)),
        "classification report": list(_classes(results)),
        "per speaker": list(_groups(results, lambda column: column == "speaker")),
        "by group": list(_groups(results, lambda column: column != "speaker")),
    }
    book = BytesIO()
    with pd.ExcelWriter(book, engine="openpyxl") as writer:
        for name, rows in sheets.items():
            if rows:
                pd.DataFrame(rows).map(_cell).rename(columns=printable).to_excel(writer, sheet_name=name, index=False)
        for sheet in writer.book.worksheets:
            sheet.freeze_panes = "A2"
            for cell in (cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"):
                cell.data_type = "s"  # a name that begins with = is no formula
    write_whole(path, book.getvalue())


def _metrics(results: dict[str, Any]) -> Iterator[Row]:
    for system, by_target in results["figures"].items():
        for target, metrics in by_target.items():
            for metric, figure in metrics.items():
                folds = {f"fold {place}": value for place, value in zip(results["folds"], figure["folds"], strict=True)}
                values = {word: figure[word] for word in ("value", "low", "high")}
                selects = metric == results["metrics"][target]
                yield {"system": system, "target": target, "metric": metric, "selects": selects, **values, **folds}


def _confusion(results: dict[str, Any]) -> Iterator[Row]:
    for system, by_target in results["classes"].items():
        for target, found in by_target.items():
            classes = list(found["each"])
            for kind in ("utterances", "share"):
                for name, counts in zip(classes, found["confusion"], strict=True):
                    whole = max(sum(counts), 1) if kind == "share" else 1
                    row = {f"predicted {word}": count / whole for word, count in zip(classes, counts, strict=True)}
                    yield {"system": system, "target": target, "kind": kind, "true": name, **row}


def _classes(results: dict[str, Any]) -> Iterator[Row]:
    for system, by_target in results["classes"].items():
        for target, found in by_target.items():
            for name, figures in found["each"].items():
                yield {"system": system, "target": target, "class": name, **figures}
            areas = {"AUC": found["macro_AUC"], "AP": found["macro_AP"]}
            yield {"system": system, "target": target, "class": "mean of the classes", **areas}


def _groups(results: dict[str, Any], wanted: Callable[[str], bool]) -> Iterator[Row]:
    for column, by_value in results["groups"].items():
        for value, found in by_value.items() if wanted(column) else ():
            systems = {name: of for name, of in found.items() if name != "utterances"}
            for system, by_target in systems.items():
                for target, figures in by_target.items():
                    of = {"column": column, "value": value, "utterances": found["utterances"]}
                    yield {**of, "system": system, "target": target, **figures}


def _cell(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value
