"""A small store whose labels can be learned from its features, and changed copies of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import featurestore
from featurestore.access.store import Store
from featurestore.access.writer import StoreWriter
from featurestore.format.codec import encode
from featurestore.format.plan import FeaturePlan, FeatureSpec, Plan
from tests.processes import Command
from train.numerics.layers import LayerSum

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
LAYERS, DIM, HOP = 3, 16, 0.02
EMOTIONS = ("anger", "calm", "joy")
SER_TRAIN = Command("train")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """Compile what the toy store needs: a test of files that cannot grow must not meet the compiler's."""
    for dtype in ("float32", "int8"):
        LayerSum(LAYERS, DIM, learned=True)([encode(np.ones((LAYERS, 4, DIM), np.float32), dtype)]).sum().backward()


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six speakers with 16 utterances each; A is in layer 1 of the states, V in the height of the pitch."""
    path = tmp_path_factory.mktemp("stores") / "toy.zarr"
    rng = np.random.default_rng(0)
    names = [f"u{i:03d}" for i in range(96)]
    frames = rng.integers(20, 60, len(names))
    labels = {target: rng.uniform(1, 5, len(names)) for target in "VAD"}
    table = pd.DataFrame(
        {
            "speaker": [f"s{i % 6}" for i in range(len(names))],
            "split": [("train", "train", "train", "train", "dev", "test")[i % 6] for i in range(len(names))],
            "emotion": [EMOTIONS[min(2, int((a - 1) / 4 * 3))] for a in labels["A"]],
            "duration": frames * HOP,
            **labels,
        },
        index=pd.Index(names, name="name"),
    )
    writer = StoreWriter(path)
    with writer.lock():
        ranges = dict.fromkeys("VAD", (1.0, 5.0))
        writer.plan(Plan.make(table, 30.0, dataset="toy", ranges=ranges, left_out={"broken": "no audio file"}))
        states = FeatureSpec(layers=LAYERS, dim=DIM, hop=HOP, dtype="int8")
        pitch = FeatureSpec(layers=1, dim=2, hop=0.01, dtype="float32", channels=("f0", "voiced"))
        writer.plan_feature("states", FeaturePlan(states, frames, np.full(len(names), 0.0125)))
        writer.plan_feature("pitch", FeaturePlan(pitch, 2 * frames, np.full(len(names), 0.02)))
        for number in writer.pending("states"):
            with writer.shard("states", number) as shard:
                for name in shard.names:
                    i = names.index(name)
                    values = rng.normal(size=(LAYERS, frames[i], DIM)).astype(np.float32)
                    values[1] += np.float32(labels["A"][i])
                    values[2, :, 0] += np.float32(labels["D"][i])
                    shard.add(name, values)
            with writer.shard("pitch", number) as shard:
                for name in shard.names:
                    i = names.index(name)
                    f0 = 100 * np.exp(0.2 * labels["V"][i] + 0.02 * rng.normal(size=2 * frames[i]))
                    f0[:10] = 0
                    shard.add(name, np.stack([f0, f0 > 0], axis=-1).astype(np.float32)[None])
        writer.commit("states")
        writer.commit("pitch")
    return path


@pytest.fixture
def store(store_path: Path) -> Store:
    return featurestore.open(store_path)


@pytest.fixture
def copied(store_path: Path, tmp_path: Path) -> Path:
    """The path of a copy that a test may change."""
    return shutil.copytree(store_path, tmp_path / "toy.zarr")


@pytest.fixture
def changed(store_path: Path, tmp_path: Path) -> Callable[[pd.DataFrame], Store]:
    """Return a copy of the store with another table, on the disk: what trains opens it by its path."""

    def change(table: pd.DataFrame) -> Store:
        path = tmp_path / f"changed_{len(list(tmp_path.glob('changed_*.zarr')))}.zarr"
        shutil.copytree(store_path, path)
        writer = StoreWriter(path)
        with writer.change_at_once():
            writer.replace_table(table)
        return featurestore.open(path)

    return change


@pytest.fixture(scope="session")
def commands() -> Command:
    """Starts ser-train in processes."""
    return SER_TRAIN


@pytest.fixture
def rated_store(store: Store, changed: Callable[[pd.DataFrame], Store]) -> Store:
    """A copy of the store in which three raters gave V, A and D, each a little beside the mean."""
    table, rng = store.utterances, np.random.default_rng(1)
    said = {target: np.clip(table[target].to_numpy()[:, None] + rng.normal(0, 0.3, (96, 3)), 1, 5) for target in "VAD"}
    ratings = [
        [
            {"rater": f"r{rater}", **{target: round(said[target][row, rater], 2) for target in "VAD"}}
            for rater in range(3)
        ]
        for row in range(len(table))
    ]
    return changed(table.assign(ratings=[json.dumps(one) for one in ratings]))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def browsed(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an HTML file, waits for some elements, and notes what it asks for and what goes wrong."""
    pages = []

    def open_file(path: Path, *selectors: str) -> Any:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        pages.append(page)
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda line: page.wrong.append(line.text) if line.type == "error" else None)
        page.goto(path.as_uri())
        for selector in selectors:
            page.wait_for_selector(selector)
        return page

    yield open_file
    for page in pages:
        page.close()


def from_network(page: Any) -> list[str]:
    """Return the addresses that an opened page asked for, beyond what it brings itself."""
    return [url for url in page.asked if not url.startswith(("file:", "blob:", "data:"))]
