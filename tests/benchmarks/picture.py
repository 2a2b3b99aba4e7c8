"""A picture of the first screen of an HTML report, or of one of its figures, as the README shows it.

python tests/benchmarks/picture.py RUNS/…/report/report.html train/images/report.png
python tests/benchmarks/picture.py RUNS/…/report/report.html train/images/layers.png --title "Each layer alone"
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cyclopts import App

from featurestore.shared.command import run, say
from featurestore.shared.errors import SerError

app = App(name="picture", help=__doc__)


@app.default
def main(page: Path, out: Path, *, title: str | None = None, height: int = 900) -> None:
    """Draw it with Chromium.

    Args:
        page: the report.
        out: the picture, PNG.
        title: of the figure begins so; the first screen of the page when absent.
        height: of that screen, in pixels.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SerError("found no Chromium: expected the program chromium or google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": 1130, "height": height})
        shown.goto(page.resolve().as_uri())
        shown.wait_for_selector(".main-svg")
        if title is None:
            shown.screenshot(path=out)
        else:
            figure = shown.locator("section", has=shown.get_by_role("heading", name=title)).first
            figure.scroll_into_view_if_needed()
            figure.locator(".main-svg").first.wait_for()
            figure.screenshot(path=out)
        browser.close()
    say(f"{out}: {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    run(app)
