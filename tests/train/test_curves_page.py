"""The page of curves holds the curves and the voice, needs no network, and says the time under the mouse."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from tests.train.conftest import from_network
from train.plots.curves_page import PAGE, curves_figure, write_page

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
TIMES = np.array([0.1, 0.2, 0.3, 0.4])


@pytest.fixture
def curves(store):
    table = {"start": TIMES - 0.1, "time": TIMES, "end": TIMES + 0.1, "A": [3.0, 3.5, 4.25, 4.0]}
    table |= {"V_rank": [4, 3, 1, 2], HOSTILE: [1.0, 2.0, 3.0, 4.0]}
    return {name: pd.DataFrame(table) for name in store.names()[:2]}


def test_a_figure_is_of_the_frames_and_the_chunks(store, curves):
    name = store.names()[0]
    pitch, *found = curves_figure(store, name, curves[name]).data
    part = store.feature("pitch")
    assert np.allclose(pitch.x, part.times(name), atol=1e-4)
    f0 = part.read(name, None).decode()[0, :, 0]
    assert np.isnan(pitch.y[:10]).all()  # without voice
    assert np.allclose(pitch.y[10:], f0[10:])
    assert [(one.name, list(one.x), list(one.y)) for one in found[:2]] == [
        ("A", TIMES.tolist(), [3.0, 3.5, 4.25, 4.0]),
        ("V_rank", TIMES.tolist(), [4, 3, 1, 2]),
    ]
    layout = curves_figure(store, name, curves[name]).layout
    assert layout.yaxis3.autorange == "reversed"  # the first has most
    domains = [layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert all(above[0] > below[1] for above, below in pairwise(domains))


class Tags(HTMLParser):
    """Notes what a page would ask for."""

    def __init__(self):
        super().__init__()
        self.tags, self.asked = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.asked += [value for key, value in attributes if key in ("src", "href", "srcset", "data")]


def test_a_page_has_all_that_it_needs(store, curves, tmp_path):
    (tmp_path / "UNSAFE.txt").write_text("UNSAFE: <random_splits>: not comparable\n")
    write_page(tmp_path, store, curves)
    text = (tmp_path / PAGE).read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.asked == []
    assert tags.tags.count("section") == 2
    assert "img" not in tags.tags
    assert "UNSAFE: &lt;random_splits&gt;: not comparable" in text
    assert all(f"<h2>{name}</h2>" in text for name in curves)


def test_it_says_the_time_under_the_mouse(store, curves, tmp_path, browsed):
    write_page(tmp_path, store, curves)
    page = browsed(tmp_path / PAGE, "#curve-1 .main-svg")
    panels = page.locator("#curve-0 .nsewdrag")
    boxes = [panels.nth(number).bounding_box() for number in range(panels.count())]
    assert len(boxes) == 4  # the voice, and three curves
    ticks = page.locator("#curve-0 .xtick text")
    labels = {}
    for number in range(ticks.count()):
        box = ticks.nth(number).bounding_box()
        labels[float(ticks.nth(number).text_content())] = box["x"] + box["width"] / 2
    (first, left), *_, (last, right) = sorted(labels.items())
    for box in (boxes[0], boxes[-1]):  # whichever panel it is in, it says all
        place = left + (0.3 - first) / (last - first) * (right - left)
        for shift in range(40):
            page.mouse.move(place + shift % 2, box["y"] + box["height"] / 2)
            page.wait_for_timeout(100)
            said = page.locator("#curve-0 .hoverlayer").text_content()
            if said:
                break
        assert float(re.match(r"([0-9.]+) s", said)[1]) == pytest.approx(0.3, abs=0.011)
        assert "A : 4.250" in said
        assert "V_rank : 1" in said
        assert "F0 (Hz) : " in said
    assert page.title() == "Curves"
    assert page.locator("img").count() == 0
    assert page.wrong == []
    assert from_network(page) == []
