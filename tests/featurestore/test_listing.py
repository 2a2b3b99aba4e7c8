"""What can be set is found by walking the classes, however they are nested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from extract.config import ExtractConfig
from featurestore.shared.config import Config
from featurestore.shared.errors import ConfigError
from featurestore.shared.listing import describe, items, say_list
from tests.featurestore.toy_tasks import Task
from tests.featurestore.toy_tasks.ranking import Ranking
from tests.featurestore.toy_tasks.tagging import Tagging
from train.config import TrainConfig


class Window(Config):
    """A window of time."""

    seconds: float = Field(default=0.025, gt=0)
    """Its length, in seconds."""
    shape: Literal["hann", "box", True] = "hann"
    """Of its weights."""


class Stream(Config):
    """One input."""

    window: Window = Window()
    front: Task = Tagging()
    """What it begins with."""


class Outer(Config):
    """Everything."""

    required: int
    """How many."""
    task: Task = Ranking()
    """The first."""
    perhaps: Task | None = None
    """One that may be absent."""
    fixed: Ranking | None = None
    streams: dict[str, Stream] = Field(default={"speech": Stream()})
    """By name."""
    tasks: dict[str, Task] | None = Field(default={"V": Ranking(), "E": Tagging()})
    """Further ones."""
    shares: dict[str, Annotated[float, Field(ge=0)]] = Field(default={})
    """Of each."""
    folder: Path | None = Path("a/b")
    """Where to."""


def test_every_kind_is_found_wherever_it_is():
    kinds = {item.key for item in items(Outer) if item.is_kind}
    assert {"task", "perhaps", "tasks.NAME", "streams.NAME.front"} < kinds
    assert {"task.after", "fixed.after", "tasks.NAME.after"} < kinds  # and no end of what may follow that
    assert max(len(key.split(".")) for key in kinds) == 4


def test_the_top_names_settings_kinds_and_parts(capsys):
    say_list(Outer)
    top, kinds = (part.splitlines() for part in capsys.readouterr().out.split("\n\n")[:2])
    assert [line.split()[0] for line in top[2:]] == ["required", "fixed", "streams.NAME", "shares", "folder"]
    assert top[2].split() == ["required", "required", "How", "many."]
    assert top[3].split(maxsplit=2) == ["fixed", "null", "Pairs in their order."]
    assert ["tasks.NAME", "{V: ranking, E: tagging}", "ranking | tagging"] in [re.split(" {2,}", row) for row in kinds]


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("required", ["required: whole number; required", "    How many."]),
        ("folder", ["folder: path | null; default a/b", "    Where to."]),
        ("shares", ["shares: {text: number, >= 0}; default {}", "    Of each."]),
        (
            "streams.NAME.window",
            [
                *("streams.NAME.window: settings", "    A window of time."),
                *("streams.NAME.window.seconds: number, > 0; default 0.025", "    Its length, in seconds."),
                *("streams.NAME.window.shape: hann | box | true; default hann", "    Of its weights."),
            ],
        ),
        (
            "tasks",
            [
                *("tasks.NAME: ranking | tagging; default {V: ranking, E: tagging}", "    Further ones."),
                *("  ranking  Pairs in their order.", "  tagging  One of several words."),
            ],
        ),
        (
            "task.ranking",
            [
                *("task.ranking: a part, chosen by task=ranking", "    Pairs in their order."),
                "    Of two utterances, which has more.",
                *("task.weight: number; default 1", "    Of its loss."),
                *("task.margin: number, >= 0, < 2; default 0.5", "    Between the two, in units of the scale."),
                *("task.after: ranking | tagging | null; default null", "    What is learned next."),
            ],
        ),
        ("task.words", ["task.words: [text, …]; default ['yes', 'no']; with task=tagging", "    To choose from."]),
        ("task.weight", ["task.weight: number; default 1", "    Of its loss."]),
    ],
)
def test_what_is_said_of_one(what, lines):
    assert describe(Outer, what) == lines


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("streams.speech.window.seconds", "streams.NAME.window.seconds"),
        ("streams.window", "streams.NAME.window"),
        ("seconds", "streams.NAME.window.seconds"),
        ("front", "streams.NAME.front"),
        ("tasks.V", "tasks.NAME"),
        ("tasks.tagging", "tasks.NAME.tagging"),
        ("tasks.V.tagging", "tasks.NAME.tagging"),
        ("tasks.V.words", "tasks.NAME.words"),
        ("tasks.V.tagging.words", "tasks.NAME.words"),
        ("task=ranking", "task.ranking"),
    ],
)
def test_names_that_find(what, key):
    assert describe(Outer, what)[0].startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("tsak", r"nothing is called 'tsak'; did you mean 'task'\?"),
        ("task.maargin", r"nothing is called 'task\.maargin'; did you mean 'task\.margin'\?"),
        ("xyzzy", r"nothing is called 'xyzzy'; expected one of required, task, .*, folder$"),
        ("", "nothing is called ''"),
        (".", r"nothing is called '\.'"),
        ("task.tagging.margin", r"nothing is called 'task\.tagging\.margin'"),
        ("(", r"nothing is called '\('"),
        ("a\nb", r"nothing is called 'a\\nb'"),
        ("tagging", r"'tagging' can be task\.tagging, perhaps\.tagging, .*: say which one"),
    ],
)
def test_names_that_find_nothing_or_several(what, message):
    with pytest.raises(ConfigError, match=message) as caught:
        describe(Outer, what)
    assert "\n" not in str(caught.value)


def test_nothing_is_printed_when_one_of_several_is_unknown(capsys):
    with pytest.raises(ConfigError):
        say_list(Outer, ["folder", "tsak"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("schema", [TrainConfig, ExtractConfig])
def test_everything_that_can_be_set_has_a_meaning(schema):
    assert [item.address for item in items(schema) if not item.meaning] == []


@pytest.mark.parametrize("schema", [TrainConfig, ExtractConfig])
def test_everything_is_found_by_its_key_and_by_its_address(schema):
    every = items(schema)
    for name in {name for item in every for name in (item.key, item.address)}:
        assert describe(schema, name)
