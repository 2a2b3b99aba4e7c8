"""The configs that come with the project: each can be used by the command that it begins with."""

from pathlib import Path

import pytest

from extract.config import ExtractConfig
from featurestore.shared.config import load
from train.config import TrainConfig
from train.sweep.config import SweepConfig, as_sample, train_config, variants_of

FOLDER = Path(__file__).parents[1] / "configs"
SCHEMAS = {"extract": ExtractConfig, "train": TrainConfig, "sweep": SweepConfig}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_config_is_valid_and_begins_with_its_command(file):
    kind = file.parent.name
    command = file.read_text(encoding="utf-8").splitlines()[0].split()
    assert command[1] == f"ser-{kind}"
    assert f"configs/{kind}/{file.name}" in command
    overrides = [word for word in command if "=" in word]
    config = load(SCHEMAS[kind], [file], overrides)
    if kind == "extract":
        assert config.features()
    if kind == "sweep":
        variants = variants_of(as_sample(config))
        configs = [(variant.stores([]), train_config(config, variant).to_dict()) for variant in variants]
        assert len(configs) > 1
        assert all(one not in configs[:number] for number, one in enumerate(configs))  # no variant twice
