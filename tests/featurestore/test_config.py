import sys

import pytest
from pydantic import Field

import train.fusions
from featurestore.shared.config import Config, load
from featurestore.shared.errors import ConfigError
from train.config import TrainConfig
from train.splits import Splits


class Inner(Config):
    rate: float = Field(default=1.0, gt=0)
    window: int = 3


class Outer(Config):
    size: int = 4
    inner: Inner = Inner()
    required: str
    words: tuple[str, ...] | None = None
    also: bool | None = None


def write(folder, text):
    file = folder / "settings.yaml"
    file.write_text(text)
    return file


def test_the_last_one_wins(tmp_path):
    file = write(tmp_path, "size: 5\ninner: {rate: 1e-4}\nrequired: a\n")
    found = load(Outer, [file], ["size=7", "inner.window=9"])
    assert (found.size, found.inner.rate, found.inner.window, found.required) == (7, 1e-4, 9, "a")


def test_every_problem_is_said_at_once_with_where_it_came_from(tmp_path):
    file = write(tmp_path, "sise: 5\ninner: {rate: -1, windw: 3}\n")
    with pytest.raises(ConfigError) as error:
        load(Outer, [file], ["size=big"])
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    for expected in (
        f"{file}: unknown key 'sise'; did you mean 'size'?",
        f"{file}: unknown key 'inner.windw'; did you mean 'inner.window'?",
        f"{file}: inner.rate: Input should be greater than 0",
        "override 'size=big': size: Input should be a valid integer",
        "required is missing; it has no default",
    ):
        assert any(expected in line for line in lines), expected


def test_one_word_is_a_list_of_one():
    assert load(Outer, [], ["required=a", "words=emotion"]).words == ("emotion",)
    assert load(TrainConfig, [], ["targets=emotion"]).targets == ("emotion",)
    assert load(TrainConfig, [], ["augment=mixup"]) == load(TrainConfig, [], ["augment=[mixup]"])
    with pytest.raises(ConfigError, match=r"override 'folds=2': folds: expected a list in brackets, found 2"):
        load(TrainConfig, [], ["folds=2"])


def test_a_truth_value_is_no_number():
    assert load(Outer, [], ["required=a", "also=no"]).also is False
    for word in ("size=yes", "inner.rate=no"):
        with pytest.raises(ConfigError, match=rf"override '{word}': .*: expected a number, found"):
            load(Outer, [], ["required=a", word])


PART = """
from train.fusions import Fusion


class Mine(Fusion):
    pass
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PART + "  oops", r"the fusion mine cannot be imported: unindent does not match .*mine.py, line 7\)"),
        (
            PART + "1 / 0",
            r"the fusion mine cannot be imported: ZeroDivisionError: division by zero .*mine.py, line 7\)",
        ),
        (PART + "class Other(Fusion):\n    pass\n", r"mine.py: expected one class .* from Fusion, found Mine, Other"),
        ("x = 1", r"mine.py: expected one class that derives from Fusion, found none"),
    ],
)
def test_a_part_that_cannot_be_used_is_said_in_a_line(text, message, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.setattr(train.fusions, "__path__", [*train.fusions.__path__, str(tmp_path)])
    try:
        with pytest.raises(ConfigError, match=message):
            load(TrainConfig, [], ["fusion=mine"])
    finally:
        sys.modules.pop("train.fusions.mine", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1\n- 2", "holds a list, expected keys with values"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(Outer, [write(tmp_path, text)])


def test_what_is_not_there_or_no_override():
    with pytest.raises(ConfigError, match=r"the config file nowhere\.yaml does not exist"):
        load(Outer, ["nowhere.yaml"])
    with pytest.raises(ConfigError, match=r"'size' is not of the form key\.sub=value"):
        load(Outer, [], ["size"])


def test_a_part_is_chosen_by_name_and_has_settings_of_its_own():
    config = load(TrainConfig, [], ["fusion=concat", "fusion.width=7", "splits=leave_one_out"])
    assert (config.fusion.name, config.fusion.width, config.splits.name) == ("concat", 7, "leave_one_out")
    assert load(TrainConfig, [], ["splits=leave-one-out"]).splits.name == "leave_one_out"


def test_settings_without_a_name_are_those_of_the_default_part():
    config = load(TrainConfig, [], ["splits.k=6"])
    assert (config.splits.name, config.splits.k) == ("kfold", 6)


def test_the_settings_of_another_part_do_not_carry_over(tmp_path):
    file = write(tmp_path, "splits: {name: kfold, k: 9}\n")
    assert load(TrainConfig, [file], ["splits=given"]).splits.name == "given"
    assert load(TrainConfig, [file], ["splits=kfold"]).splits.k == 9


def test_a_part_or_key_that_is_not_there_has_a_suggestion():
    with pytest.raises(ConfigError, match=r"no splits 'kfould'; did you mean 'kfold'\?"):
        load(TrainConfig, [], ["splits=kfould"])
    with pytest.raises(ConfigError, match=r"unknown key 'splits\.folds'; expected one of|did you mean"):
        load(TrainConfig, [], ["splits.folds=3"])
    with pytest.raises(ConfigError, match=r"unknown key 'lr'; did you mean 'optim\.lr'"):
        load(TrainConfig, [], ["lr=3"])


def test_a_resolved_config_loads_again():
    config = load(TrainConfig, [], ["fusion=concat", "streams.pitch.embedding=cnn", "loss=mse"])
    assert TrainConfig.model_validate(config.to_dict()) == config
    assert Splits.kind("kfold").model_validate({"name": "kfold", "k": 4}).k == 4
