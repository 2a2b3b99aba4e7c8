"""The same settings give the same config, however they are grouped; what takes them away, and what cannot be merged."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from extract.config import ExtractConfig
from featurestore.shared.config import Config, load
from featurestore.shared.errors import ConfigError
from featurestore.shared.leaves import LARGEST_FILE
from train.config import TrainConfig
from train.fusions import Fusion

FUSION_NAMES = ", ".join(Fusion.names())
LEAVES = {
    "width": 64,
    "targets": ["V", "A"],
    "optim.lr": 1e-3,
    "optim.epochs": 3,
    "optim.refit": True,
    "streams.speech.dropout": 0.25,
    "streams.pitch.front.name": "log_f0",
    "streams.pitch.front.normalize": "utterance",
    "method": "mine",
    "splits.name": "leave_one_out",
    "splits.dev_groups": 2,
    "head.hidden": 64,
}
FUSIONS = [
    {
        "fusion.name": "concat",
        "fusion.width": 7,
        "streams.pitch.embedding.name": "cnn",
        "streams.pitch.embedding.kernel": 9,
    },
    {"fusion.name": "attention", "fusion.heads": 4, "fusion.residual": False},
    {"fusion.heads": 2, "streams.pitch.embedding.name": "cnn", "streams.pitch.embedding.layers": 3},
    {"fusion.name": "none"},
]


class Inner(Config):
    ranges: dict[str, float] = Field(default_factory=dict)
    limit: float = 1.0


class Outer(Config):
    inner: Inner | None = None
    always: Inner = Inner()


def nested(leaves):
    tree = {}
    for key, value in leaves:
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def text(value):
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def message(schema, *overrides, files=()):
    with pytest.raises(ConfigError) as error:
        load(schema, files, overrides)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(content)
        return path

    return write


@given(st.data(), st.sampled_from(FUSIONS))
def test_the_same_leaves_in_any_order_and_grouping_are_the_same_config(data, fusion):
    leaves = {**LEAVES, **fusion}
    expected = TrainConfig.model_validate(nested(leaves.items()))
    order = data.draw(st.permutations(list(leaves.items())))
    in_files = data.draw(st.integers(0, len(order)))
    with tempfile.TemporaryDirectory() as folder:
        files, overrides, first = [], [], 0
        while first < in_files:
            end = data.draw(st.integers(first + 1, in_files))
            group = order[first:end]
            files.append(Path(folder) / f"{first}.yaml")
            dotted = data.draw(st.booleans())
            files[-1].write_text(yaml.safe_dump(dict(group) if dotted else nested(group), sort_keys=False))
            first = end
        for key, value in order[in_files:]:
            *sections, last = key.split(".")
            kept = data.draw(st.integers(0, len(sections)))
            rest = [*sections[kept:], last]
            outer = ".".join([*sections[:kept], rest[0]])
            value = nested([(".".join(rest), value)])[rest[0]]
            overrides.append(f"{outer}={text(value)}")
        assert load(TrainConfig, files, overrides) == expected


KEYS = st.sampled_from(["optim.lr", "optim.clip", "head.dropout"])


@given(st.lists(st.tuples(KEYS, st.floats(0.01, 0.9)), min_size=1))
def test_the_last_one_wins_leaf_by_leaf(leaves):
    dotted = load(TrainConfig, [], [f"{key}={value}" for key, value in leaves])
    braces = load(
        TrainConfig,
        [],
        [f"{key}={text(value)}" for key, value in (next(iter(nested([leaf]).items())) for leaf in leaves)],
    )
    assert dotted == braces == TrainConfig.model_validate(nested(leaves))


def test_a_section_in_braces_keeps_what_a_file_sets(file):
    config = load(TrainConfig, [file("optim: {lr: 0.5, refit: true}")], ["optim={epochs: 3}"])
    assert (config.optim.lr, config.optim.refit, config.optim.epochs) == (0.5, True, 3)


def test_null_takes_a_section_away_and_a_later_setting_brings_it_back(file):
    there = file("dataset: demo\npitch: {floor: 60}\n")
    assert load(ExtractConfig, [there], ["pitch=null"]).pitch is None
    assert load(ExtractConfig, [there], ["pitch="]).pitch is None
    assert load(ExtractConfig, [there, file("pitch: null")]).pitch is None
    for again in ("pitch={}", "pitch.hop=0.02", "pitch=pitch"):
        assert load(ExtractConfig, [there], ["pitch=null", again]).pitch.floor == 75
    assert load(ExtractConfig, [there, file("pitch:"), file("pitch: {floor: 50}")]).pitch.floor == 50
    assert load(ExtractConfig, [there], ["store=x", "store=null"]).store is None


def test_null_takes_an_entry_of_a_mapping_away(file):
    there = file("always: {ranges: {V: 1, A: 2}}")
    assert load(Outer, [there], ["always.ranges.V=null"]).always.ranges == {"A": 2}
    assert load(Outer, [there], ["always.ranges={V: null, D: 3}"]).always.ranges == {"A": 2, "D": 3}


@pytest.mark.parametrize("key", ["optim", "width", "optim.lr", "fusion", "fusion.heads", "streams", "splits.k"])
def test_null_where_something_must_be_is_an_error_that_names_it(file, key):
    assert message(TrainConfig, f"{key}=null") == (
        f"override '{key}=null': {key}: it cannot be null: give a value, or leave it out"
    )
    path = file(f"{key}: null")
    assert message(TrainConfig, files=[path]).startswith(f"{path}: {key}: it cannot be null")


@pytest.mark.parametrize("there", ["fusion: {name: attention, heads: 4}", "fusion: {heads: 4}", "fusion.heads: 4"])
def test_a_part_chosen_anew_has_no_settings_of_the_other(file, there):
    there = file(there)
    assert (
        load(TrainConfig, [there], ["fusion=concat"]).fusion.to_dict()
        == load(TrainConfig, [], ["fusion=concat"]).fusion.to_dict()
    )
    assert load(TrainConfig, [there], ["fusion={name: concat, width: 3}"]).fusion.width == 3
    assert load(TrainConfig, [there], ["fusion=concat", "fusion=attention"]).fusion.heads == 8
    for same in (
        "fusion=attention",
        "fusion={heads: 4}",
        "fusion={}",
        "fusion.name=attention",
        "fusion.residual=false",
    ):
        assert load(TrainConfig, [there], [same]).fusion.heads == 4


def test_a_part_of_a_stream_or_task_chosen_anew_has_no_settings_of_the_other(file):
    """Below names that users give, too, be they words of ours."""
    there = file(
        "streams: {name: {embedding: {name: cnn, kernel: 9}}}\n"
        "tasks: {name: {name: classification, loss: {name: focal, gamma: 3}}}"
    )
    stream = load(TrainConfig, [there], ["streams.name.embedding=linear"]).streams["name"]
    assert stream.embedding.to_dict() == {"name": "linear"}
    assert load(TrainConfig, [there], ["streams.name.embedding={layers: 3}"]).streams["name"].embedding.kernel == 9
    task = load(TrainConfig, [there], ["tasks.name.loss=cross_entropy", "tasks.name.weight=2"]).tasks["name"]
    assert (task.loss.to_dict()["name"], task.weight) == ("cross_entropy", 2)
    task = load(TrainConfig, [there], ["tasks.name={name: regression, targets: [V]}"]).tasks["name"]
    assert (task.name, task.loss.name) == ("regression", "ccc")


def test_a_name_with_a_dash_is_the_same_part(file):
    there = file("splits: {name: leave_one_out, dev_groups: 3}")
    assert load(TrainConfig, [there], ["splits=leave-one-out"]).splits.dev_groups == 3


def test_settings_before_the_name_are_those_of_the_part_that_has_them():
    assert load(TrainConfig, [], ["fusion.width=7", "fusion=concat"]).fusion.width == 7
    assert "unknown key 'fusion.heads'" in message(TrainConfig, "fusion=concat", "fusion.heads=3")
    assert "unknown key 'fusion.huds'" in message(TrainConfig, "fusion.huds=3", "fusion=concat")


@pytest.mark.parametrize("there", ["", "fusion: {name: attention, heads: 4}\noptim: {lr: 0.1}"])
@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("fusion=5", "fusion: expected the name of a fusion or its settings, found 5"),
        ("fusion=[a]", "fusion: expected the name of a fusion or its settings, found ['a']"),
        ("fusion=true", "fusion: expected the name of a fusion or its settings, found True"),
        ("fusion.name=null", "fusion: expected the name of a fusion, found None"),
        ("fusion.name=[a]", "fusion: expected the name of a fusion, found ['a']"),
        ("fusion.name={a: 1}", "fusion: expected the name of a fusion, found {'a': 1}"),
        ("fusion.name.x=1", "fusion: expected the name of a fusion, found {'x': 1}"),
        ("fusion.name=2024-01-01", "fusion: expected the name of a fusion, found datetime.date(2024, 1, 1)"),
        ("fusion.name=!!binary aGk=", "fusion: expected the name of a fusion, found b'hi'"),
        ("fusion={name: 7}", "fusion: expected the name of a fusion, found 7"),
        ("fusion=''", f"fusion: no fusion ''; expected one of {FUSION_NAMES}"),
        ("fusion.heads.x=1", "fusion.heads: Input should be a valid integer, found {'x': 1}"),
        ("optim=3", "optim: expected settings, each with its key, found 3"),
        ("optim=text", "optim: expected settings, each with its key, found 'text'"),
        ("optim=[a]", "optim: expected settings, each with its key, found ['a']"),
        ("optim.name=x", "unknown key 'optim.name'"),
        ("optim.lr.x=1", "optim.lr: Input should be a valid number, found {'x': 1}"),
        ("method.x=1", "method: Input should be a valid string, found {'x': 1}"),
        ("store.x=1", "unknown key 'store'"),
        ("optim.lr=.nan", "optim.lr: Input should be a finite number, found nan"),
        ("optim.lr=nan", "optim.lr: Input should be a finite number, found 'nan'"),
        ("optim.clip=.inf", "optim.clip: Input should be a finite number, found inf"),
        ("head.dropout=-.inf", "head.dropout: Input should be a finite number, found -inf"),
        ("splits=loss", "splits: no splits 'loss'"),
    ],
)
def test_what_is_no_value_of_a_setting_is_one_clear_line(file, there, override, expected):
    found = message(TrainConfig, override, files=[file(there)])
    assert found.startswith(f"override {override!r}: {expected}")


def test_the_name_of_another_part_is_blamed_on_who_said_it(file):
    path = file("fusion: {name: conkat}")
    assert message(TrainConfig, "fusion.heads=2", files=[path]).startswith(f"{path}: fusion: no fusion 'conkat'")
    assert "dataset: expected its name, one of audformat, ccsemo" in message(ExtractConfig, "dataset={}")
    assert "pitch: expected the settings of pitch, found those of 'hnr'" in message(
        ExtractConfig, "dataset=demo", "pitch=hnr"
    )


@pytest.mark.parametrize(
    "override", ["=1", ".=1", "optim.=1", ".lr=1", "optim..lr=1", "optim={1: 2}", "optim={true: 2}"]
)
def test_a_key_that_is_no_name(override):
    assert "expected a name as the key, found " in message(TrainConfig, override)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("width: 1\nwidth: 2", "the key 'width' is there twice, line 2"),
        ("optim:\n  lr: 1\n  lr: 2", "the key 'lr' is there twice, line 3"),
        ("optim: {lr: 1}\noptim: {epochs: 2}", "the key 'optim' is there twice, line 2"),
        ("optim: {lr: 1}\noptim.lr: 2", "optim.lr is there twice"),
        ("targets: [{a: 1, a: 1}]", "the key 'a' is there twice"),
        ("1: 2", "expected a name as the key, found 1"),
        ("null: 2", "expected a name as the key, found None"),
        ("on: 2", "expected a name as the key, found True"),
        ("? [a]\n: 2", "unhashable"),
        ("method: 2024-13-45", "month must be in 1..12"),
        ("width: !!int x", "invalid literal"),
        ("width: !!bool x", "is not valid YAML"),
        ("width: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("seed: " + "9" * 5000, "Exceeds the limit"),
        ("a: *b", "undefined alias"),
        ("a: \x1b[31m", "special characters are not allowed"),
    ],
)
def test_yaml_that_is_not_taken(file, content, expected):
    path = file(content)
    found = message(TrainConfig, files=[path])
    assert found.startswith(f"{path}")
    assert expected in found


def laughs(levels):
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        laughs(30),
        "targets: &a [*a]",
        "optim: &a {x: *a}",
        "b: &b {x: 1}\n" + "\n".join(f"b{n}: {{<<: [{', '.join(['*b'] * 3000)}]}}" for n in range(3)),
        "targets: " + "[" * 100_000,
        "targets: " + "[" * 600 + "]" * 600,
        "a: " * 3000,
        "- " * 3000,
        ".".join("a" * 3000) + ": 1",
    ],
    ids=range(9),
)
def test_bombs_and_depths_end_in_one_line(file, content):
    assert len(message(TrainConfig, files=[file(content)])) < 1000


def test_aliases_are_taken(file):
    config = load(TrainConfig, [file("optim: &o {lr: 0.5}\nhead: {name: mlp, hidden: &h 7}\nwidth: *h")])
    assert (config.optim.lr, config.head.hidden, config.width) == (0.5, 7, 7)


def test_what_is_no_config_file(tmp_path, file):
    assert "is larger than" in message(TrainConfig, files=["/dev/zero"])
    assert "is larger than" in message(TrainConfig, files=[file("#" * (LARGEST_FILE + 1))])
    assert load(TrainConfig, [file(""), file("# nothing"), file("{}")]) == TrainConfig()


def test_messages_stay_one_line_whatever_they_quote(file):
    assert "fusion" in message(TrainConfig, "fusion=" + "x" * 100_000)
    assert len(message(TrainConfig, "fusion=[" + "x, " * 9_000 + "]")) < 1000
    assert "unknown key" in message(TrainConfig, files=[file('"a\\nb": 1')])


def test_entries_keep_the_order_in_which_they_are_written():
    """The first stream gives the clock, whatever is set of it and of those after it."""
    text = "streams={a: {width: 3}, b: {}, c: {front: {normalize: none, name: layer_sum}}, d: {embedding: cnn}, e: {}}"
    streams = load(TrainConfig, [], [text, "streams.b.front.name=average"]).streams
    assert list(streams) == list("abcde")
    assert (streams["c"].front.normalize, streams["b"].front.name) == ("none", "average")
