"""Which of two utterances raters hear more of an emotion in: qualitative agreement, from what each rater said.

Source: R. Lotfian and C. Busso, Retrieving categorical emotions using a probabilistic framework to define preference
learning samples (2016); W.-C. Lin and C. Busso (2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from featurestore.shared.errors import SerError
from featurestore.shared.label_files import read_csv
from train.numerics.metrics import Floats
from train.reading.labels import first_of, read_ratings, some, words_said

FIRST, SECOND, LABEL = PAIR_COLUMNS = ("Sentence1", "Sentence2", "PreferLabel")
"""Columns of a file of pairs; the label is 1 where there is more in the first, 0 where there is more in the second."""
ROUNDING = 1e-9
AT_ONCE = 512
"""Utterances, and values that raters gave, that are looked at together."""
THRESHOLD = 0.6


def ratings_of(table: pd.DataFrame, target: str, only: Mapping[str, str] | None = None) -> Floats:
    """Return what each rater said of each utterance, (utterances, raters), NaN where one said nothing.

    Raters have no columns of their own: those of an utterance come one after another.

    Args:
        table: of the utterances, with the column ``ratings``.
        target: what they rated, such as ``A``; ``emotion=anger`` is 1 where a rater said anger, alone or beside others
            (``anger; frustration``), else 0.
        only: ratings that say this, such as ``{"mode": "voice"}``.

    Raises:
        SerError: if no rater said anything of it, or something else than a number.
    """
    if "ratings" not in table:
        raise SerError("the store has no column ratings, what each rater said: extract it from a dataset that has them")
    key, _, word = target.partition("=")
    said = []
    for name, text in table["ratings"].items():
        ratings = read_ratings(str(name), text)
        chosen = [one for one in ratings if all(str(one.get(k)) == v for k, v in (only or {}).items())]
        there = [one[key] for one in chosen if one.get(key) not in (None, "")]
        numbers = [float(word in words_said(value)) for value in there] if word else _as_numbers(str(name), key, there)
        said.append(numbers)
    if not any(said):
        raise SerError(f"no rater of these {len(table)} utterances said anything of {target}")
    found = np.full((len(said), max(map(len, said))), np.nan)
    for row, values in zip(found, said, strict=True):
        row[: len(values)] = values
    return found


def _as_numbers(name: str, key: str, values: list[Any]) -> list[float]:
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        raise SerError(f"a rater of {name} gave {key} as {values!r}: expected numbers, or KEY=WORD for words") from None
    return [value for value in found if np.isfinite(value)]


def agreement(mine: torch.Tensor, others: torch.Tensor, threshold: float = THRESHOLD) -> torch.Tensor:
    """Return in which of two utterances there is more: 1 in the first, -1 in the second, 0 where raters do not agree.

    Each rater of one is compared with each of the other. The share of these pairs that say the same must be at least
    the threshold; where most find both alike there is no preference.

    Args:
        mine: ratings of the first ones, (utterances, raters), NaN where there is none.
        others: ratings of the second ones, (others, raters).
        threshold: above a half, so that one answer at most has it.

    Returns:
        (utterances, others), int8.
    """
    said = torch.cat([mine.flatten(), others.flatten()])
    values = said[said.isfinite()].unique()
    rows = [_agreement(some, others, values, threshold) for some in mine.split(AT_ONCE)]
    return torch.cat(rows) if rows else torch.zeros(0, len(others), dtype=torch.int8, device=others.device)


def _agreement(mine: torch.Tensor, others: torch.Tensor, values: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the same of some utterances, from how often each value was said: raters are not compared one by one."""
    more, less = (torch.zeros(len(mine), len(others), device=mine.device) for _ in range(2))
    for value in values.split(AT_ONCE):
        here = (mine[..., None] == value).sum(dim=1).float()
        more += here @ (others[..., None] < value).sum(dim=1).float().T
        less += here @ (others[..., None] > value).sum(dim=1).float().T
    pairs = mine.isfinite().sum(dim=1)[:, None] * others.isfinite().sum(dim=1)
    enough = threshold * pairs.clamp(min=1).double() - ROUNDING
    return (more >= enough).to(torch.int8) - (less >= enough).to(torch.int8)


def prefer(names: list[str], ratings: Floats, threshold: float, share: float, seed: int) -> tuple[pd.DataFrame, int]:
    """Return the pairs that raters agree on, with `PAIR_COLUMNS`, and how many were compared.

    Args:
        names: of the utterances.
        ratings: of each, (utterances, raters), NaN where there is none.
        threshold: see `agreement`.
        share: of all other utterances, drawn anew for each, with which it is compared.
        seed: of the draw.

    Raises:
        SerError: if there are fewer than two utterances.
    """
    if len(names) < 2:
        raise SerError(f"found {len(names)} utterance with ratings, expected two or more")
    generator, count = np.random.default_rng(seed), max(1, round(share * (len(names) - 1)))
    said, rows = torch.from_numpy(ratings), []
    for number in range(len(names)):
        others = generator.choice(len(names) - 1, count, replace=False)
        others += others >= number
        labels = agreement(said[number][None], said[torch.from_numpy(others)], threshold)[0].numpy()
        rows += [(names[number], names[j], int(label > 0)) for j, label in zip(others, labels, strict=True) if label]
    return pd.DataFrame(rows, columns=PAIR_COLUMNS), count * len(names)


def read_pairs(file: Path) -> pd.DataFrame:
    """Return a file of pairs, with `PAIR_COLUMNS`; published ones are of this form, too.

    Raises:
        SerError: if it is not.
    """
    table = read_csv(file, SerError)
    absent = [column for column in PAIR_COLUMNS if column not in table]
    if absent:
        raise SerError(
            f"{file} has no column {', '.join(absent)}; it has {first_of([str(column) for column in table], 12)}"
        )
    labels = pd.to_numeric(table[LABEL], errors="coerce")
    odd = table.index[~labels.isin([0, 1])]
    if len(odd):
        raise SerError(f"{odd[0]}: {LABEL} is {table[LABEL].loc[odd[0]]!r}, expected 1 (the first) or 0 (the second)")
    return table[list(PAIR_COLUMNS)].assign(**{LABEL: labels.astype(int)}).reset_index(drop=True)


def without_ratings(names: list[str], ratings: Floats, target: str) -> list[str]:
    """Return a line about the utterances that no rater rated, if there are any."""
    unrated = [names[row] for row in np.flatnonzero(np.isnan(ratings).all(axis=1))]
    return [f"skipped: {some(unrated)}: no rater said anything of {target}"] if unrated else []
