"""What is printed and kept: figures beside their targets, as a table, a JSON file and a picture."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featurestore.shared.command import say, say_table

PACKAGES = ("numpy", "h5py", "zarr", "zarrs", "tensorstore", "safetensors", "lhotse", "lilcom", "google-crc32c")
COLOURS = {"ours": "tab:blue", "others": "tab:orange", "raw": "tab:gray"}


@dataclass(frozen=True)
class Check:
    """A target, and what was found.

    Attributes:
        what: is compared.
        found: its value.
        least: that is allowed, or None.
        most: that is allowed, or None.
    """

    what: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is; False for NaN."""
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)

    def __str__(self) -> str:
        bound = f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"
        return f"{self.what} {bound} (is {rounded(self.found)})"


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        part: of the report.
        name: of what is measured.
        value: None where it could not be measured.
        unit: of the value, or why there is none.
        group: ``raw``, ``ours`` or ``others``.
        ratio: to the baseline of its part.
        checks: the targets that concern it.
        raw: everything that was measured.
    """

    part: str
    name: str
    value: float | None
    unit: str
    group: str = "ours"
    ratio: float | None = None
    checks: Sequence[Check] = ()
    raw: dict[str, Any] = field(default_factory=dict)


def rounded(value: float) -> str:
    """Return three digits of a number, more where it is large."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def say_part(part: str, baseline: str, figures: Sequence[Figure]) -> None:
    """Print one part as a table; ``baseline`` is what the ratios are to."""
    say()
    say(part)
    rows = []
    for figure in figures:
        value = "-" if figure.value is None else rounded(figure.value)
        ratio = "-" if figure.ratio is None else rounded(figure.ratio)
        targets = "; ".join(map(str, figure.checks)) or "-"
        met = ", ".join("yes" if check.met else "NO" for check in figure.checks) or "-"
        rows.append((figure.name, value, figure.unit, ratio, targets, met))
    say_table(("measured", "value", "unit", f"x {baseline}" if baseline else "ratio", "target", "met"), rows)


def say_summary(figures: Sequence[Figure]) -> None:
    """Print how many targets are met, and the others."""
    checks = [(figure, check) for figure in figures for check in figure.checks]
    missed = [(figure, check) for figure, check in checks if not check.met]
    say()
    say(f"{len(checks) - len(missed)} of {len(checks)} targets met")
    for figure, check in missed:
        say(f"not met: {figure.part}: {figure.name}: {check}")


def hardware(folder: Path) -> dict[str, Any]:
    """Return what the figures depend on; ``folder`` is on the disk that is measured."""
    cpus = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    mounts = [line.split()[:3] for line in _lines("/proc/mounts")]
    device = max(
        (m for m in mounts if folder.resolve().is_relative_to(m[1])), key=lambda m: len(m[1]), default=["", "", ""]
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpus[0] if cpus else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "memory_gb": round(memory / 1e6, 1),
        "disk": device[2],
        "disk_free_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def save(folder: Path, settings: dict[str, Any], machine: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write ``results.json`` and ``results.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{**asdict(f), "checks": [{**asdict(check), "met": check.met} for check in f.checks]} for f in figures]
    document = {"machine": machine, "settings": settings, "figures": lines}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    _draw(folder / "results.png", machine, figures)
    say(f"written: {folder / 'results.json'}, {folder / 'results.png'}")


def _draw(path: Path, machine: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Draw a panel of bars for each part that compares readers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parts = [part for part in dict.fromkeys(f.part for f in figures) if part.startswith(("warm", "cold"))]
    picture, panels = plt.subplots(2, 2, figsize=(15, 10), height_ratios=(2.2, 1), layout="constrained")
    for panel, part in zip(panels.flat, parts, strict=False):
        shown = [f for f in figures if f.part == part and f.ratio]
        bars = panel.barh(
            [f.name for f in shown], [f.ratio for f in shown], color=[COLOURS[f.group] for f in shown], log=True
        )
        panel.bar_label(bars, [rounded(f.ratio or 0) for f in shown], padding=3, fontsize=8)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.margins(x=0.1)
        panel.invert_yaxis()
        panel.set(title=f"{part}: speed relative to np.memmap")
    disk, cpu = machine["disk"], machine["cpu"]
    picture.suptitle(f"Shuffled utterances, 25 layers x 1024, float16; {cpu}, {machine['cores']} cores; {disk}")
    picture.savefig(path, dpi=120)
    plt.close(picture)
