"""The report in a real browser: sort, filter, images, provenance, keyboard, speed."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.reporting.browser import opened
from support.reporting.report import IMAGES, decisions, write
from support.reporting.results import result, stored

from g2dbench.dataset import Dataset
from g2dbench.registry import Registry
from g2dbench.reporting.html.page import render
from g2dbench.reporting.html.report import build_report
from g2dbench.reporting.stored_results import read_results
from g2dbench.result import Score

pytestmark = pytest.mark.integration

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


class Images:
    """The images of `decisions`, gray, without annotation."""

    def __init__(self) -> None:
        import numpy as np
        import pandas as pd

        self.table = pd.DataFrame({"id": [f"i{at}" for at in range(IMAGES)]})
        self.image = np.full((64, 48), 90, np.uint8)

    def __getitem__(self, at: int) -> Any:
        from g2dbench.sample import Sample

        return Sample(id=f"i{at}", image=self.image, patient=f"p{at // 2}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, one of them with a hostile name, findings and reason."""
    folder = tmp_path_factory.mktemp("report")
    for at, model in enumerate(("alpha", "beta", HOSTILE)):
        rows = decisions(at, 0.1 * at, ("nodule", HOSTILE))
        score = Score(value=0.5 + at / 10, low=0.4, high=0.9, n=IMAGES)
        write(folder / "r" / str(at), rows, model=model, scores={"auc": score, HOSTILE: score})
        for fraction in (0.01, 0.1, 1.0):
            changes = {"task": "cls", "fraction": fraction, "model": model}
            write(folder / "r" / f"{at}-{fraction}", scores={"auc": score}, **changes)
    write(folder / "r" / "failed", model="alpha", task="det", status="failed", reason=HOSTILE)
    found, _ = read_results(folder / "r")
    images: Any = Images()

    def open_data(_: object) -> Dataset:
        return images

    content = build_report(found, Registry(), open_data=open_data, problems=[HOSTILE])
    file = folder / "report.html"
    file.write_text(render(content), encoding="utf-8")
    return file


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait in Python: the policy of the page forbids the browser's way, an evaluated text."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def first_cells(tab: Any, section: str) -> list[str]:
    return tab.locator(f"{section} tbody th").all_inner_texts()


def test_sort_filter_gallery_and_provenance_without_a_complaint(page: Path) -> None:
    with opened(page) as (tab, complaints):
        head = tab.locator("#leaderboard thead button").nth(1)
        head.click()
        assert first_cells(tab, "#leaderboard") == [HOSTILE, "beta", "alpha"]
        head.click()
        assert first_cells(tab, "#leaderboard") == ["alpha", "beta", HOSTILE]
        sorted_by = tab.locator("#leaderboard th[aria-sort]")
        assert sorted_by.get_attribute("aria-sort") == "ascending"

        tab.get_by_label("Model", exact=True).fill("bet")
        wait_for(lambda: first_cells(tab, "#results") == ["beta"] * 4)
        tab.get_by_label("Task", exact=True).select_option("cls")
        assert first_cells(tab, "#results") == ["beta"] * 3
        tab.get_by_label("Task", exact=True).select_option("")
        tab.get_by_label("Model", exact=True).fill("")
        wait_for(lambda: len(first_cells(tab, "#results")) == 13)

        assert tab.locator("#gallery img").count() == 0
        tab.get_by_role("button", name="Show the images").click()
        assert tab.locator("#gallery .card").count() > 4
        tab.get_by_label("Kind", exact=True).select_option("miss")
        cards = tab.locator("#gallery .card")
        assert set(cards.locator("strong").all_inner_texts()) == {"miss"}
        cards.first.scroll_into_view_if_needed()
        loaded = "document.querySelector('#gallery img').naturalHeight"
        wait_for(lambda: tab.evaluate(loaded) == 64)

        tab.locator("#results button.provenance").first.click()
        text = tab.locator("#dialog").inner_text()
        assert "g2dbench eval" in text
        assert "weights" in text
        tab.keyboard.press("Escape")
        assert not tab.locator("#dialog").is_visible()
        assert tab.evaluate("window.hacked") is None
        assert complaints == []


def test_a_number_leads_to_its_results_and_their_origin(page: Path) -> None:
    with opened(page) as (tab, complaints):
        tab.locator("#leaderboard tbody button.cell").first.press("Enter")
        tab.locator("#dialog button.provenance").first.press("Enter")
        assert "Provenance" in tab.locator("#dialog").inner_text()
        assert "[object" not in tab.locator("#dialog").inner_text()
        assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1200])
def test_nothing_is_wider_than_the_screen(page: Path, width: int, theme: str) -> None:
    size = {"width": width, "height": 800}
    with opened(page, viewport=size, color_scheme=theme) as (tab, complaints):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (theme == "light")
        assert tab.locator("#efficiency svg.plot").count() == 1
        assert tab.locator("#curves svg.plot").count() == 3
        assert complaints == []


def test_a_long_protocol_does_not_widen_its_column(tmp_path: Path) -> None:
    long = "ours+epochs=3+min_steps_per_epoch=5+layer_decay=0.5+weight_decay=0.1"
    content = build_report(stored(result(0.5, protocol=long), result(0.6)), Registry())
    file = tmp_path / "report.html"
    file.write_text(render(content), encoding="utf-8")
    with opened(file) as (tab, complaints):
        heads = tab.locator("#leaderboard thead th")
        widths = [heads.nth(at).bounding_box()["width"] for at in range(heads.count())]
        assert max(widths) < 260
        assert "weight_decay=0.1" in tab.locator("#leaderboard thead").inner_text()
        assert not complaints


def test_ten_thousand_results_and_500_images_open_in_three_seconds(tmp_path: Path) -> None:
    results = [
        result(
            (at * 37 % 1000) / 1000, seed=at % 10, model=f"model-{at // 10 % 50}",
            data=f"data-{at // 500}", packages={"torch": "2.6"}, config={"a": list(range(20))},
        )
        for at in range(10_000)
    ]  # fmt: skip
    file = tmp_path / "report.html"
    content = build_report(stored(*results), Registry())
    picture = {"src": "data:image/jpeg;base64," + "A" * 12_000, "width": 256, "height": 256}
    file.write_text(render(replace(content, pictures=[picture] * 500)), encoding="utf-8")
    start = time.monotonic()
    with opened(file) as (tab, complaints):
        opening = tab.evaluate("performance.now()") / 1000
        assert "10,000 results" in tab.locator("header").inner_text()
        tab.locator("#results thead button").nth(5).click()
        tab.locator("#results button.provenance").first.click()
        assert "0.9990" in tab.locator("#dialog").inner_text()
        assert complaints == []
    assert opening < 3, f"{opening:.1f} s, {time.monotonic() - start:.1f} s with the browser"
