"""Every command that the documents print can be given so: its options, files and settings are there."""

import re
import shlex
from pathlib import Path

import pytest

import extract.cli
import featurestore.cli
import train.cli
import train.sweep.cli
from extract.config import ExtractConfig
from featurestore.shared.config import load
from train.config import TrainConfig
from train.sweep.config import SweepConfig

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("*/README.md"), ROOT / "train" / "METHODS.md"])
APPS = {
    "ser-extract": extract.cli.app,
    "ser-store": featurestore.cli.app,
    "ser-train": train.cli.app,
    "ser-sweep": train.sweep.cli.app,
}
SCHEMAS = {"ser-extract": ExtractConfig, "ser-train": TrainConfig, "ser-sweep": SweepConfig}


def commands_of(text):
    """Return the commands of a page: in code blocks without what is said of them behind two blanks, and in tables."""
    found = re.findall(r"^\|.*`(ser-[^`]*--[^`]*)` \|$", text, flags=re.MULTILINE)
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("ser-") and not language:
                found.append(re.split(r" {2,}(?=[a-z#])(?!\S+=)", line)[0].strip())
    return found


COMMANDS = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {command}")
    for page in PAGES
    for command in commands_of(page.read_text(encoding="utf-8"))
]


def test_there_are_commands():
    assert {parameter.values[0].split()[0] for parameter in COMMANDS} == set(APPS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_printed_command_can_be_given(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *words = shlex.split(re.sub(r"\[--[a-z]+\]|…", "", command))
    function, bound, *_ = APPS[name].parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    if name not in SCHEMAS or "overrides" not in function.__annotations__ or given.keys() & {"list_", "selftest"}:
        return
    names = {"dataset.name": given.get("dataset", ""), "encoder.checkpoint": given.get("encoder", "")}
    parts = {**names, **dict.fromkeys(given.get("features", "").split(","), "{}")}
    settings = [f"{key}={part}" for key, part in parts.items() if key and part]
    load(SCHEMAS[name], given.get("config", ()), [*settings, *given.get("overrides", ())])
