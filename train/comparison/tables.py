"""A comparison of runs in words, as CSV, and as tables for a paper in LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from train.comparison.compare import Comparison
from train.comparison.significance import LEVEL, PERMUTATIONS
from train.comparison.systems import Difference, System
from train.shared.files import write_whole

SPECIAL = {
    "\\": r"\textbackslash{}",
    "<": "$<$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""Characters that mean something else in LaTeX."""
MOST_NAMES = 20


def system_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what every system reaches, with 95 % intervals."""
    header = ["run", "trainings", *map(comparison.title, comparison.targets)]
    rows = []
    for system in comparison.systems:
        figures = [system.reached[target] for target in comparison.targets]
        cells = [_figure(one.value, one.interval(comparison.speakers)) for one in figures]
        rows.append([system.name, str(system.trainings), *cells])
    return header, rows


def in_words(comparison: Comparison) -> list[str]:
    """Return what can and cannot be told apart, a line for each pair and target, and by which rule."""
    lines = [f"{comparison.title(one.target)}: {_sentence(one)}" for one in comparison.differences]
    lines += [_power(comparison, target) for target in comparison.targets]
    ruled = f"{rule(comparison)}; beside it: {_other_tests(comparison)}"
    return [*lines, ruled, *once(comparison.systems), *comparison.left_out, *_unknown_speakers(comparison)]


def _sentence(one: Difference) -> str:
    better, other = (one.first, one.second) if one.value >= 0 else (one.second, one.first)
    low, high = one.interval if one.value >= 0 else (-one.interval[1], -one.interval[0])
    tests = f"p {_p(one.p)}, Holm {_p(one.p_holm)}; swaps {_p(one.p_swaps)}, folds {_p(one.p_folds)}"
    figures = f"{_figure(abs(one.value), (low, high))} ({tests})"
    if one.verdict == "not told apart":
        told = f"{one.first.name} and {one.second.name} cannot be told apart"
        return f"{told}: {_figure(one.value, one.interval)} ({tests})"
    if one.trained_again:
        return f"{better.name} is better than {other.name} by {figures}"
    return f"{better.name}, as it is trained, is better than {other.name} by {figures}; trained again it may not be"


def _power(comparison: Comparison, target: str) -> str:
    smallest = [one.smallest for one in comparison.differences if one.target == target]
    low, high = f"{min(smallest):.3f}", f"{max(smallest):.3f}"
    return (
        f"{comparison.title(target)}: the smallest true difference that 80 % of simulated studies find is "
        f"{low if low == high else f'{low} to {high}, by the pair'}"
    )


def rule(comparison: Comparison) -> str:
    """Return by which rule systems are told apart."""
    pairs = len(comparison.differences) // len(comparison.targets)
    return (
        f"told apart: Holm's p over {pairs} pair{'s' if pairs > 1 else ''}, of a t-test with the error over "
        f"{comparison.speakers} speakers and over trainings, is at most {LEVEL}"
    )


def _other_tests(comparison: Comparison) -> str:
    ways = 2**comparison.speakers
    swaps = f"all {ways}" if ways <= PERMUTATIONS else f"{PERMUTATIONS} random"
    return f"{swaps} swaps within speakers (these models alone), and the corrected resampled t-test over folds"


def once(systems: list[System]) -> list[str]:
    """Return what that means, if some systems were trained once."""
    found = [system.name for system in systems if system.trainings == 1]
    if not found:
        return []
    names = ", ".join(found[:MOST_NAMES]) + (f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else "")
    return [
        f"trained once: {names}: intervals and p speak of these models, not of their methods, which can be "
        "told apart only with several trainings: members=5, or runs with other seeds (--seeds)"
    ]


def _unknown_speakers(comparison: Comparison) -> list[str]:
    if comparison.known:
        return []
    return ["not all speakers are known: an utterance without one counts as a speaker, and intervals are too narrow"]


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write comparison.csv and comparison.tex into a folder, which is made if it is not there.

    Raises:
        SerError: if it cannot be written.
    """
    write_whole(folder / "comparison.csv", as_csv(comparison))
    write_whole(folder / "comparison.tex", as_latex(comparison))


def as_csv(comparison: Comparison) -> str:
    """Return a line for each pair and target."""
    return pd.DataFrame([_record(comparison, one) for one in comparison.differences]).to_csv(index=False)


def _record(comparison: Comparison, one: Difference) -> dict[str, object]:
    low, high = one.interval
    record: dict[str, object] = {"target": one.target, "metric": comparison.metrics.get(one.target, "mean")}
    for which, system in (("first", one.first), ("second", one.second)):
        reached = system.reached[one.target]
        bounds = reached.interval(comparison.speakers)
        record |= {which: system.name, f"{which}_trainings": system.trainings, f"{which}_value": reached.value}
        record |= {f"{which}_low": bounds[0], f"{which}_high": bounds[1]}
    return record | {
        "difference": one.value,
        "low": low,
        "high": high,
        "p": one.p,
        "p_holm": one.p_holm,
        "p_swaps": one.p_swaps,
        "p_folds": one.p_folds,
        "smallest_difference": one.smallest,
        "verdict": one.verdict,
    }


def as_latex(comparison: Comparison) -> str:
    """Return two tables: what every system reaches, and the differences; those with a star are told apart."""
    plain_header, plain_rows = system_rows(comparison)
    header, *rows = ([*map(escaped, row)] for row in (plain_header, *plain_rows))
    pairs: dict[tuple[int, int], list[str]] = {}
    for one in comparison.differences:
        star = "" if one.verdict == "not told apart" or not one.trained_again else "$^{*}$"
        cells = pairs.setdefault((id(one.first), id(one.second)), [escaped(f"{one.first.name} less {one.second.name}")])
        cells.append(escaped(f"{_figure(one.value, one.interval)}, p {_p(one.p_holm)}") + star)
    differences = ["difference", *header[2:]]
    note = f"% 95 % intervals over {comparison.speakers} speakers, and trainings where there are several; p by Holm"
    return "\n".join([note, *tabular(header, rows), "", *tabular(differences, pairs.values()), ""])


def tabular(header: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a table whose cells are `escaped`."""
    body = [" & ".join(row) + r" \\" for row in (header, *rows)]
    columns = "l" + "r" * (len(header) - 1)
    return [rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline", *body[1:], r"\hline", r"\end{tabular}"]


def escaped(text: str) -> str:
    r"""Return text such that LaTeX prints it as it is.

    >>> print(escaped("50 % of a_b"))
    50 \% of a\_b
    """
    return "".join(SPECIAL.get(character, character) for character in text)


def _figure(value: float, bounds: tuple[float, float]) -> str:
    return f"{value:+.3f} [{bounds[0]:+.3f}, {bounds[1]:+.3f}]"


def _p(value: float) -> str:
    if value != value:
        return "unknown"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
