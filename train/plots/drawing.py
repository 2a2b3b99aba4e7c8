"""What the pictures of a run share: their style, names as labels, and files that come out with the same bytes."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from featurestore.shared.command import printable
from train.shared.files import write_whole
from train.unsafe import UNSAFE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_LABEL = 30
"""Characters."""
FORMATS = {"png": {}, "svg": {"Date": None}}
"""What is written, and the metadata that would not be the same again."""


def blank(width: float, height: float) -> Figure:
    """Return a figure of a size in inches, in the style that all share."""
    import matplotlib as mpl  # it takes a second, for which a command that draws nothing need not wait
    from matplotlib.figure import Figure

    mpl.rcParams.update(
        {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "svg.hashsalt": "ser-featurestore"}
    )
    return Figure(figsize=(width, height), layout="constrained")


def as_label(name: str) -> str:
    """Return the beginning of a name; what is between two $ would be set as a formula."""
    return printable(name)[:LONGEST_LABEL].replace("$", r"\$")


def stamp_of(folder: Path) -> str:
    """Return what is to be said of what is drawn in a folder: that its run, there or above, is unsafe; else nothing."""
    stamps = (place / UNSAFE for place in (folder, folder.parent))
    return next((printable(file.read_text().strip()) for file in stamps if file.exists()), "")


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as ``NAME.png`` and ``NAME.svg``; of a name that holds a column's the odd characters are quoted.

    In the folder of an unsafe run, or below it, it is stamped.

    Raises:
        SerError: if it cannot be written.
    """
    stamp = stamp_of(folder)
    if stamp:
        figure.suptitle(stamp, color="red", fontsize=7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is shown as a box
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what is laid out once is not laid out again
        for kind, metadata in FORMATS.items():
            picture = BytesIO()
            figure.savefig(picture, format=kind, dpi=150, metadata=metadata)
            write_whole(folder / f"{quote(name, safe=' ')}.{kind}", picture.getvalue())
