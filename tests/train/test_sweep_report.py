"""The report of a sweep says what its files say, and works in a browser without a network."""

import json
import shutil
from dataclasses import replace
from html import unescape

import numpy as np
import pandas as pd
import pytest

from tests.train.conftest import from_network
from train.comparison.compare import compare_runs
from train.shared.files import write_whole
from train.sweep.config import SweepConfig
from train.sweep.effects import effects_of, matched
from train.sweep.folder import SweepFolder
from train.sweep.leaderboard import leaderboard
from train.sweep.methods import Found, outcome_of, summary
from train.sweep.report import write_report
from train.sweep.report.tables import Findings, probed, rounded
from train.sweep.running import begin, run_sweep

SETTINGS = {
    "splits.k": 3,
    "width": 8,
    "optim.epochs": 1,
    "baseline": False,
    "plots": False,
    "targets": ["V", "A", "emotion"],
    "fusion": "none",
}
LAYERS = {f"{n}": {"streams.speech": {"feature": "states", "front": "pooled", "layers": n}} for n in range(2)}
LEARNED = {"learned": {"streams.speech": {"feature": "states", "front": "pooled"}}}
FACTORS = (
    {"name": "layers", "choices": {**LAYERS, **LEARNED}},
    {"name": "head.hidden", "values": [4, 8]},
    {"name": "seed", "values": [0, 1]},
)
HOSTILE = "<img src=x onerror=\"document.title='broken'\">"


def quiet(_):
    pass


@pytest.fixture(scope="module")
def swept(store_path, tmp_path_factory):
    config = SweepConfig.model_validate({"settings": SETTINGS, "factors": FACTORS})
    folder = SweepFolder(begin(config, [str(store_path)], tmp_path_factory.mktemp("runs"), "small"))
    assert run_sweep(folder, 1, None, quiet) == 0
    write_report(folder)
    return folder


@pytest.fixture
def copy(swept, tmp_path):
    """A sweep that a test may change."""
    return SweepFolder(shutil.copytree(swept.path, tmp_path / "copy"))


def read(folder, name):
    return pd.read_csv(folder.path / "report" / f"{name}.csv", dtype={"level": str, "layers": str})


def test_the_tables_say_what_the_runs_say(swept):
    variants, table = read(swept, "variants"), leaderboard(swept)
    assert list(variants["variant"]) == list(table["variant"])
    assert variants["mean_low"].to_numpy() == pytest.approx(table["mean_low"].to_numpy())
    assert set(variants["epochs"]) == {3}  # one of each fold
    assert (variants["seconds"] >= 0).all()
    layers = variants.set_index("layers")["MB"]
    assert layers["learned"].iloc[0] == pytest.approx(96 * 3 * 2 * 16 * 4 / 1e6, abs=0.005)  # mean and sd in float32
    assert layers["0"].iloc[0] == pytest.approx(96 * 1 * 2 * 16 * 4 / 1e6, abs=0.005)
    results = json.loads((swept.run(swept.variants[0]).path / "metrics.json").read_text())
    classes = read(swept, "classes").set_index(["variant", "class"])
    assert classes["recall"][0, "joy"] == pytest.approx(results["classes"]["model"]["emotion"]["each"]["joy"]["recall"])
    speakers = read(swept, "speakers").set_index(["variant", "speaker", "target"])["value"]
    (name, of), *_ = results["groups"]["speaker"].items()
    assert speakers[0, name, "V"] == pytest.approx(of["model"]["V"]["CCC"])
    weights = read(swept, "layer_weights")
    assert weights.groupby(["variant", "fold"])["weight"].sum().to_numpy() == pytest.approx(1)
    assert sorted(set(weights["layer"])) == [0, 1, 2]
    checks = read(swept, "checks")
    assert results["protocol_sha256"] in checks["found"][checks["what"] == "protocol"].iloc[0]


def test_methods_and_the_sentence_follow_from_the_comparison(swept):
    findings = Findings(swept)
    found, table = findings.found, findings.methods
    assert isinstance(found, Found)
    assert len(table) == 6
    assert table["beside the best"].iloc[0] == "best on dev"
    paths = [swept.run(one).path for method in found.methods for one in method.variants]
    expected = [one for one in compare_runs(paths, 2, "first").differences if one.target == "mean"]
    assert table["difference"].iloc[1:].to_numpy() == pytest.approx([-one.value for one in expected])
    assert table["p_holm"].iloc[1:].to_numpy() == pytest.approx([one.p_holm for one in expected])
    counts = table["beside the best"].value_counts()
    assert f"{counts['not told apart']} cannot be told apart from it" in findings.sentence
    assert findings.sentence.startswith(f"{found.methods[0].name} is the best on dev. Of 5 others, ")


def test_a_run_that_is_made_anew_is_read_anew(copy):
    run = copy.run(copy.variants[0])
    before = outcome_of(run)
    assert outcome_of(run) is before
    write_whole(run.path / "run.json", (run.path / "run.json").read_bytes())
    assert outcome_of(run) is not before


def test_the_effect_of_a_factor_is_over_the_levels_of_the_others(swept):
    table = leaderboard(swept).set_index("variant")
    (layers, hidden) = effects_of(swept, table.reset_index())
    assert [layers.factor, hidden.factor] == ["layers", "head.hidden"]  # not the seed
    assert [layers.runs, hidden.runs] == [4, 6]
    for effect in (layers, hidden):
        for level, system in zip(effect.levels, effect.comparison.systems, strict=True):
            mean = table["mean"].loc[[one.number for one in level.variants]].mean()
            assert system.reached["mean"].value == pytest.approx(mean)
            assert system.trainings == 2
    by_seed = [table["V"][[one.number for one in of]].mean() for of in matched("layers", layers.levels)[0]]
    error = layers.comparison.systems[0].reached["V"].over_trainings
    assert error.variance == pytest.approx(np.var(by_seed, ddof=1) / 2)  # of the mean over two trainings


def test_a_factor_without_pairs_has_means_and_says_why(swept, copy):
    note = json.loads((copy.path / "sweep.json").read_text())
    for variant in note["variants"]:
        variant["levels"]["other"] = variant["levels"]["head.hidden"]
    (copy.path / "sweep.json").write_text(json.dumps(note))
    rows = Findings(copy).factors.set_index("factor").loc["other"]
    assert set(rows["beside the best"]) == {"no two variants differ in it alone, for all of its levels"}
    assert rows["mean"].notna().all()
    write_report(copy)


def test_the_layer_probe_has_a_curve_for_each_of_the_other_levels(swept):
    table = read(swept, "probe")
    assert sorted(set(table["curve"])) == ["head.hidden=4", "head.hidden=8"]
    assert list(table["layer"][table["curve"] == "head.hidden=4"].dropna()) == [0, 1]
    assert table["level"][table["layer"].isna()].tolist() == ["learned"] * 2
    values = SweepConfig.model_validate({"factors": [{"name": "streams.speech.layers", "values": [3, 5, [1, 2]]}]})
    assert probed(values.factors) == {"streams.speech.layers": {"3": 3, "5": 5}}


def test_it_is_made_while_the_sweep_runs(copy, store_path, tmp_path):
    for number in (3, 7):
        (copy.run(copy.variants[number]).path / "metrics.json").unlink()
    with (copy.path / "epochs.jsonl").open("a") as file:
        file.write('{"variant": 3, "fo')  # a line that a killed process left
    text = unescape(write_report(copy).read_text(encoding="utf-8"))
    assert "10 done, 2 training of 12 variants — the sweep is not finished" in text
    assert "Not compared yet, with fewer trainings: 2 methods." in text
    config = SweepConfig.model_validate({"settings": SETTINGS, "factors": FACTORS})
    begun = SweepFolder(begin(config, [str(store_path)], tmp_path, "begun"))
    assert "12 waiting of 12 variants" in write_report(begun).read_text(encoding="utf-8")


@pytest.mark.parametrize("targets", [[["V"], ["V", "A"]], [["V"], ["A"]]])
def test_methods_may_predict_different_targets(targets, store_path, tmp_path):
    settings = {**SETTINGS, "targets": ["V"]}
    factors = [{"name": "targets", "values": targets}, {"name": "loss", "values": ["ccc", "mse"]}]
    config = SweepConfig.model_validate({"settings": settings, "factors": factors})
    folder = SweepFolder(begin(config, [str(store_path)], tmp_path, "targets"))
    assert run_sweep(folder, 1, None, quiet) == 0
    write_report(folder)
    table = read(folder, "methods").set_index("method")
    if "V" in targets[1]:
        assert table["V_low"].notna().all()
        assert Findings(folder).sentence.count("best on dev") == 1
    else:
        assert Findings(folder).sentence.startswith("Methods are not compared: ")
        assert table["V"].notna().tolist() == ["[V]" in method for method in table.index]


def test_the_sentence_says_what_is_not_compared(swept):
    found = Findings(swept).found
    ahead = replace(found.methods[1], name="ahead", dev=found.methods[0].dev + 0.1)
    behind = replace(found.methods[1], name="behind", dev=found.methods[0].dev - 0.1)
    first = f"{found.methods[0].name} is the best on dev"
    assert summary(replace(found, waiting=[behind])).startswith(f"{first}. Of ")
    assert summary(replace(found, waiting=[ahead, behind])).startswith(
        f"{first} of those with 2 trainings (with fewer trainings there is more in ahead). Of "
    )


def test_latex_is_complete_and_escaped(swept):
    text = (swept.path / "report" / "report.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 3
    assert r"beside the best" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    widths = {line.count("&") for line in rows}
    assert len(widths) == 3  # of three tables
    assert "p_holm" not in text  # it is p\_holm


def test_numbers_stand_beside_their_ends():
    table = pd.DataFrame({"n": [3], "x": [-0.5], "x_low": [-0.75], "x_high": [np.nan], "y": [None]})
    assert rounded(table).to_dict("list") == {"n": ["3"], "x": ["-0.500 [-0.750, nan]"], "y": [""]}
    apart = {"n": ["3"], "x": ["-0.500"], "x 95 %": ["[-0.750, nan]"], "y": [""]}
    assert rounded(table, together=False).to_dict("list") == apart


@pytest.fixture
def opened(browsed):
    """Opens a report."""
    # before its tables are made they are as plain as without a script
    return lambda path: browsed(path, "#table-commands.dataTable tbody tr", ".figure .main-svg")


def column(page, table, number):
    return page.locator(f"#{table} tbody tr td:nth-child({number})").all_text_contents()


def test_tables_are_sorted_and_filtered_in_a_browser(swept, opened):
    page = opened(swept.path / "report" / "report.html")
    names = [name.strip() for name in page.locator("#table-variants thead th").all_text_contents()]
    place = names.index("mean") + 1
    before = column(page, "table-variants", place)
    assert len(before) == 12
    rising, header = sorted(map(float, before)), f"#table-variants thead th:nth-child({place})"
    for order, expected in (("ascending", rising), ("descending", rising[::-1])):
        page.locator(header).click()
        page.wait_for_selector(f"{header}[aria-sort={order}]")
        assert list(map(float, column(page, "table-variants", place))) == expected
    page.locator("#table-variants tfoot input").nth(names.index("layers")).press_sequentially("learned")
    page.wait_for_function("document.querySelectorAll('#table-variants tbody tr').length == 4")
    assert set(column(page, "table-variants", names.index("layers") + 1)) == {"learned"}
    assert page.wrong == []
    assert from_network(page) == []


def test_figures_say_what_is_under_the_mouse(swept, opened):
    page = opened(swept.path / "report" / "report.html")
    figure = page.locator("section.figure", has_text="Dev against test").locator(".js-plotly-plot")
    figure.scroll_into_view_if_needed()
    label = figure.locator(".hoverlayer .hovertext").first
    for shift in range(40):  # sections above are laid out as they come into view, and move the point
        point = figure.locator(".scatterlayer .point").first.bounding_box()
        page.mouse.move(point["x"] + point["width"] / 2 + shift % 2, point["y"] + point["height"] / 2)
        page.wait_for_timeout(250)
        if label.count():
            break
    assert "layers=" in label.text_content()


def test_names_from_a_store_are_text_not_markup(copy, opened):
    for file in copy.path.glob("variants/*/metrics.json"):
        results = json.loads(file.read_text())
        results["warnings"] = [HOSTILE]
        results["groups"]["speaker"] = {
            f"{HOSTILE}{n}": of for n, of in enumerate(results["groups"]["speaker"].values())
        }
        file.write_text(json.dumps(results))
    page = opened(write_report(copy))
    assert page.title().startswith("Sweep ")
    assert HOSTILE in column(page, "table-checks", 2)
    assert page.locator("img").count() == 0


def test_it_prints_on_pages_with_all_rows(swept, opened, tmp_path):
    page = opened(swept.path / "report" / "report.html")
    page.emulate_media(media="print")
    assert not page.locator(".dt-search").first.is_visible()
    assert page.locator("#table-methods thead th", has_text="beside the best").is_visible()
    cut = page.locator(".table").evaluate_all(
        "all => all.filter(one => one.scrollHeight > one.clientHeight + 1).length"
    )
    assert cut == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
