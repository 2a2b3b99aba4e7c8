"""Maps of categories: what the emotions of several datasets have in common, declared in a YAML file for each map."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurestore.shared.config import suggest
from featurestore.shared.errors import SerError
from featurestore.shared.strict_yaml import parse
from train.reading.labels import as_names

FOLDER = Path(__file__).parent


class CategoryMap(BaseModel):
    """What becomes of the categories of each dataset.

    Attributes:
        name: of the map.
        version: rises with each change of what it says.
        column: of the labels that it takes.
        datasets: for each dataset the category by what the dataset says; what is not named is left out.
        sha256: of the file.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int = Field(ge=1)
    column: str = "emotion"
    datasets: dict[str, dict[str, str]]
    sha256: str

    @property
    def categories(self) -> list[str]:
        """All categories that there are after it."""
        return sorted({category for words in self.datasets.values() for category in words.values()})

    @property
    def row(self) -> tuple[str, int, str, str, str]:
        """What is said of it in a line."""
        return self.name, self.version, self.column, ", ".join(self.categories), ", ".join(self.datasets)

    def apply(self, table: pd.DataFrame, dataset: str) -> tuple[pd.DataFrame, dict[str, str]]:
        """Return the table with the categories of the map, empty where there is none, and the reason for these.

        Args:
            table: of the utterances; with the column ``dataset`` where it is of several.
            dataset: of all of them, where it is not.

        Raises:
            SerError: if the map does not know a dataset, or the table lacks the column.
        """
        owners, said = self._said(table, dataset)
        found = [self.datasets[owner].get(word, "") for owner, word in zip(owners, said, strict=True)]
        reasons = {
            name: f"categories={self.name} leaves out the {self.column} {word} of {owner}"
            for name, owner, word, category in zip(table.index, owners, said, found, strict=True)
            if word and not category
        }
        return table.assign(**{self.column: found}), reasons

    def report(self, table: pd.DataFrame, dataset: str) -> Iterator[tuple[str, str, str, int]]:
        """Yield dataset, what it says, the category (empty: left out) and the number of utterances.

        The arguments and errors are those of `apply`.
        """
        owners, said = self._said(table, dataset)
        for (owner, word), count in sorted(Counter(zip(owners, said, strict=True)).items()):
            yield owner, word, self.datasets[owner].get(word, ""), count

    def _said(self, table: pd.DataFrame, dataset: str) -> tuple[pd.Series, pd.Series]:
        """Return the dataset of each utterance, and what that says."""
        if self.column not in table:
            raise SerError(f"categories={self.name} takes the labels {self.column}, which the store lacks")
        owners = as_names(table["dataset"]) if "dataset" in table else pd.Series(dataset, table.index)
        unknown = sorted(set(owners) - set(self.datasets))
        if unknown:
            raise SerError(f"categories={self.name} is of {', '.join(self.datasets)}: found {', '.join(unknown)}")
        return owners, as_names(table[self.column])


def names() -> list[str]:
    """Return the names of the maps that come with the project."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def read_map(name: str) -> CategoryMap:
    """Return a map of the project by its name, or one of a YAML file by its path.

    Raises:
        SerError: if there is none, or it is not understood.
    """
    path = FOLDER / f"{name}.yaml" if name in names() else Path(name)
    try:
        content = path.read_bytes()
        return CategoryMap(name=path.stem, sha256=hashlib.sha256(content).hexdigest(), **parse(content.decode()))
    except OSError as error:
        raise SerError(f"categories={name}: {error.strerror}{suggest(name, names())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise SerError(f"{path} is no map: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, TypeError) as error:
        raise SerError(f"{path} is no map: {error}") from None
