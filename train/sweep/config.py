"""What varies in a sweep, and the variants that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

import numpy as np
import yaml
from pydantic import Field, field_validator, model_validator

from featurestore.format.opening import from_anywhere
from featurestore.shared.config import Config, load
from featurestore.shared.errors import ConfigError
from featurestore.shared.leaves import read_file
from train.config import TrainConfig

TAKEN = ("variant", "state", "models", "dev", "why", "at", "mean", "seconds", "epochs", "MB")
"""Columns of a leaderboard, here and in the report, which no factor can be named as."""
Levels = dict[str, str]
"""What each factor is in a variant, in words; a factor that does not vary in it is absent."""
Settings = dict[str, Any]
STORE = "store"
"""The factor whose values are stores, not settings of ser-train."""
CONFIG = "config"
"""The key of a choice that names the file of a training config; once read, its settings are there instead."""
OF_THE_SWEEP = {
    "runs": "give it as --runs",
    "workers": "give it as --workers",
    "scheduler": "give it as --scheduler",
    "method": "its folder has the name of the first --config",
}
"""Settings of ser-train that the whole sweep has, and how."""
OF_A_FACTOR = {STORE: "give it as --store, or make it a factor", CONFIG: "make it a factor, or a choice of one"}
"""What a variant has from a factor alone, and what to do instead of setting it for all variants."""


class Factor(Config):
    """Something that varies: the ``values`` of one setting, or ``choices`` of settings that go together."""

    name: str = Field(min_length=1)
    """The dotted key of the setting whose values these are, or ``store``: paths or URLs, or ``config``: YAML files; of
    choices any name."""
    values: tuple[Any, ...] | None = Field(default=None, min_length=1)
    """Of the setting; each is a level."""
    choices: dict[str, Settings] | None = Field(default=None, min_length=1)
    """Levels by name: the settings of each, as in a training config. With ``config``, the file of one, a level begins
    with the settings of that, which those of the sweep and of the level override."""
    low: float | None = None
    """With ``high``: any value between, for ``sample``."""
    high: float | None = None
    """The largest value."""
    log: bool = False
    """Whether values between ``low`` and ``high`` are drawn by their logarithm."""
    when: dict[str, Any] = Field(default={})
    """The levels of other factors, above it, in which it varies; elsewhere it keeps the setting as it is."""

    @model_validator(mode="before")
    @classmethod
    def _configs_are_choices(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("name") != CONFIG or given.get("choices"):
            return given
        files = given.get("values")
        if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
            raise ValueError(f"{CONFIG}: expected values, paths of YAML files, or choices")
        return {**given, "values": None, "choices": {file: {CONFIG: file} for file in files}}

    @field_validator("choices")
    @classmethod
    def _read_configs(cls, choices: dict[str, Settings] | None) -> dict[str, Settings] | None:
        return {level: _with_config(of) for level, of in (choices or {}).items()} or None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        between = self.low is not None and self.high is not None
        if sum((self.values is not None, self.choices is not None, between)) != 1 or (self.low is None) != (
            self.high is None
        ):
            raise ValueError(f"{self.name}: expected values, or choices, or low and high")
        if self.low is not None and self.high is not None and not (0 if self.log else -np.inf) < self.low < self.high:
            raise ValueError(f"{self.name}: expected {'0 < ' if self.log else ''}low < high")
        return self

    @property
    def levels(self) -> dict[str, Settings]:
        """The settings of each level, by its name."""
        if self.choices is not None:
            return self.choices
        return {in_words(value): {self.name: value} for value in self.values or ()}

    def varies(self, levels: Levels) -> bool:
        """Return whether it does beside the levels of the factors above it."""
        return all(levels.get(name) == in_words(value) for name, value in self.when.items())

    def draw(self, rng: np.random.Generator) -> tuple[str, Settings]:
        """Return a level at random."""
        if self.low is None or self.high is None:
            return list(self.levels.items())[int(rng.integers(len(self.levels)))]
        ends = np.log([self.low, self.high]) if self.log else np.array([self.low, self.high])
        drawn = rng.uniform(*ends)
        value = float(f"{np.exp(drawn) if self.log else drawn:.4g}")
        return in_words(value), {self.name: value}


def _with_config(settings: Settings) -> Settings:
    """Return the settings of a level with those of its config in place of the file's name."""
    if CONFIG not in settings:
        return settings
    file = settings[CONFIG]
    if not isinstance(file, str | dict):
        raise ValueError(f"{CONFIG}: expected the path of a YAML file, found {in_words(file)}")
    return {**settings, CONFIG: read_file(file)[0] if isinstance(file, str) else file}


class Search(Config):
    """Variants that Optuna proposes one after another, instead of all."""

    trials: int = Field(ge=1, le=100_000)
    """Number of trials."""
    random: int = Field(default=10, ge=1)
    """Number of random trials before the search is guided."""
    prune: bool = True
    """Give a variant up where its first folds say that it will not be the best."""


class SweepConfig(Config):
    """Variants of a training config."""

    settings: Settings = Field(default={})
    """Of all variants, as in a training config."""
    factors: tuple[Factor, ...] = ()
    """What varies: all combinations of their levels are variants."""
    sample: int | None = Field(default=None, ge=1, le=100_000)
    """Number of combinations drawn at random, instead of all."""
    search: Search | None = None
    """Let Optuna propose variants by the dev scores of those before, instead of training all."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of the sample and of the search."""

    @field_validator("factors")
    @classmethod
    def _each_once(cls, factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
        names: list[str] = []
        for factor in factors:
            unknown = [name for name in factor.when if name not in names]
            if unknown:
                raise ValueError(f"{factor.name}: when names {unknown[0]}, which is no factor above it")
            if factor.name in names:
                raise ValueError(f"{factor.name} is there twice")
            names.append(factor.name)
        return factors


Choose = Callable[[Factor], tuple[str, Settings]]
"""Gives a level of a factor, and its settings."""


@dataclass(frozen=True)
class Variant:
    """One config of a sweep.

    Attributes:
        number: in the sweep, from 0.
        levels: what each factor is in it.
        settings: of each factor, in their order.
    """

    number: int
    levels: Levels
    settings: tuple[Settings, ...]

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return ", ".join(f"{factor}={level}" for factor, level in self.levels.items()) or "as it is"

    def words(self, common: Settings) -> list[str]:
        """Return all that it is given as KEY=VALUE: the configs with which it begins, what is common, and its own."""
        begun = [settings[CONFIG] for settings in self.settings if CONFIG in settings]
        return [word for settings in (*begun, common, *self.settings) for word in _words(settings)]

    def stores(self, stores: Sequence[str]) -> list[str]:
        """Return the stores that it is trained on: its own, or those of the sweep."""
        own = [str(settings[STORE]) for settings in self.settings if STORE in settings]
        return own[-1:] or list(stores)


def variants_of(config: SweepConfig) -> list[Variant]:
    """Return the variants, each once; none of a search, which are known when it is done.

    Raises:
        ConfigError: if a factor between low and high is there without ``sample``, is named as a column of the
            leaderboard, or varies beside a level that there is not.
    """
    _check_names(config.factors)
    if config.search is not None:
        return []
    if config.sample is None:
        endless = [factor.name for factor in config.factors if factor.low is not None]
        if endless:
            raise ConfigError(
                f"{endless[0]} is any value between low and high: say how many with sample=N, or search.trials=N"
            )
        found = _all(config.factors)
    else:
        found = _drawn(config)
    unique = {tuple(levels.items()): settings for levels, settings in found}
    return [Variant(number, dict(levels), settings) for number, (levels, settings) in enumerate(unique.items())]


def check_settings(config: SweepConfig) -> None:
    """Check that no variant is given a setting that only the whole sweep, or only a factor, can have.

    Raises:
        ConfigError: if one is.
    """
    levels = [(f"factor {factor.name}", of) for factor in config.factors for of in factor.levels.values()]
    refused = [("settings", config.settings, OF_THE_SWEEP | OF_A_FACTOR), *((*level, OF_THE_SWEEP) for level in levels)]
    for where, settings, instead in refused:
        for key in settings:
            if key in instead:
                raise ConfigError(f"{where}: {key} is not a setting of a variant: {instead[key]}")


def check_free(names: Sequence[str], taken: Sequence[str]) -> None:
    """Check that no factor is named as a column of the leaderboard.

    Raises:
        ConfigError: if one is.
    """
    twice = [name for name in names if name in taken]
    if twice:
        raise ConfigError(f"a factor is named {twice[0]}, as a column of the leaderboard: give it another name")


def _check_names(factors: tuple[Factor, ...]) -> None:
    """Refuse what would be lost in silence: levels below a column of the leaderboard, and a ``when`` that never is."""
    check_free([factor.name for factor in factors], TAKEN)
    levels = {factor.name: factor.levels for factor in factors if factor.low is None}
    for factor in factors:
        for name, value in factor.when.items():
            if name in levels and in_words(value) not in levels[name]:
                there = ", ".join(levels[name])
                raise ConfigError(f"{factor.name}: when names {name}={in_words(value)}; its levels are {there}")


def as_sample(config: SweepConfig) -> SweepConfig:
    """Return a config with variants at random instead of those of a search, of which it may have some."""
    return config.model_copy(update={"search": None, "sample": config.search.trials}) if config.search else config


def from_any_folder(config: SweepConfig) -> SweepConfig:
    """Return a config whose stores are found from any folder; the names of the levels stay."""

    def found(settings: Settings) -> Settings:
        return {**settings, STORE: from_anywhere(settings[STORE])} if STORE in settings else settings

    factors = [
        factor.model_copy(update={"values": None, "choices": {level: found(of) for level, of in factor.levels.items()}})
        if any(STORE in of for of in factor.levels.values())
        else factor
        for factor in config.factors
    ]
    return config.model_copy(update={"factors": tuple(factors)})


def words_of(config: SweepConfig, variant: Variant) -> list[str]:
    """Return all settings of a variant as KEY=VALUE."""
    return variant.words(config.settings)


def train_config(config: SweepConfig, variant: Variant) -> TrainConfig:
    """Return the training config of a variant.

    Raises:
        ConfigError: naming the variant, if its settings cannot be.
    """
    try:
        return load(TrainConfig, [], words_of(config, variant))
    except ConfigError as error:
        raise ConfigError(f"variant {variant.number} ({variant.name}): {error}") from None


def _words(settings: Settings) -> list[str]:
    return [f"{key}={in_words(value)}" for key, value in settings.items() if key not in (STORE, CONFIG)]


def in_words(value: Any) -> str:
    """Return a value as it is written in KEY=VALUE.

    >>> in_words({"name": "attention", "heads": 4}), in_words([1, 2]), in_words(None), in_words("ccc")
    ('{name: attention, heads: 4}', '[1, 2]', 'null', 'ccc')
    """
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=2**31, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def of_factors(factors: tuple[Factor, ...], choose: Choose) -> tuple[Levels, tuple[Settings, ...]]:
    """Return the levels that are chosen of the factors which vary beside those above them, and their settings."""
    levels: Levels = {}
    settings: list[Settings] = []
    for factor in factors:
        if factor.varies(levels):
            levels[factor.name], of_level = choose(factor)
            settings.append(of_level)
    return levels, tuple(settings)


def _all(factors: tuple[Factor, ...]) -> Iterator[tuple[Levels, tuple[Settings, ...]]]:
    for combination in product(*(factor.levels.items() for factor in factors)):
        chosen = dict(zip((factor.name for factor in factors), combination, strict=True))
        yield of_factors(factors, lambda factor, chosen=chosen: chosen[factor.name])  # type: ignore[misc]


def _drawn(config: SweepConfig) -> Iterator[tuple[Levels, tuple[Settings, ...]]]:
    rng = np.random.default_rng(config.seed)
    for _ in range(config.sample or 0):
        drawn = {factor.name: factor.draw(rng) for factor in config.factors}
        yield of_factors(config.factors, lambda factor, drawn=drawn: drawn[factor.name])  # type: ignore[misc]
