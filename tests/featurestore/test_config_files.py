"""Configs that users write in unusual ways: nothing is lost silently, and every error is one of ours."""

import pytest
import yaml

from extract.datasets import Dataset
from extract.datasets.csv import CSV
from featurestore.shared.config import Config, load
from featurestore.shared.errors import ConfigError


class Settings(Config):
    dataset: Dataset = CSV()
    rate: float = 1.0


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "settings.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.mark.parametrize(
    "text", ["dataset: {name: csv, root: there}", "dataset: {root: there, name: csv}", "dataset: {root: there}"]
)
def test_settings_of_a_part_count_before_and_after_its_name(written, text):
    assert str(load(Settings, [written(text)]).dataset.root) == "there"


@pytest.mark.parametrize("sort_keys", [False, True])
def test_to_dict_comes_back_from_yaml(written, sort_keys):
    config = load(Settings, [], ["dataset=csv", "dataset.audio_root=there", "rate=1e-4"])
    again = load(Settings, [written(yaml.safe_dump(config.to_dict(), sort_keys=sort_keys))])
    assert again.to_dict() == config.to_dict()
    assert again.rate == 1e-4


def test_naming_the_default_part_keeps_its_settings(written):
    config = load(Settings, [written("dataset: {root: there}")], ["dataset=csv"])
    assert str(config.dataset.root) == "there"


@pytest.mark.parametrize("value", ["null", "5", "[1, 2]", "[[a, b]]"])
def test_a_part_that_is_not_a_name_or_settings_is_refused(value):
    with pytest.raises(ConfigError, match="override 'dataset="):
        load(Settings, [], [f"dataset={value}"])


def test_a_folder_is_not_a_config(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load(Settings, [tmp_path])


def test_a_file_that_is_not_utf8_is_refused(written):
    with pytest.raises(ConfigError, match=r"settings\.yaml"):
        load(Settings, [written(b"dataset: {root: caf\xe9}")])
