"""The view "what keeps it alive" of a page, in Chromium: treemap, trail and tree."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

import reports
from chromium import started_chromium
from mematlas.heap.model.answers import Holder, LinePart, LineRow, Summary, Totals
from mematlas.report.analyse.lines import lines
from mematlas.report.html.page import render_html
from mematlas.report.model.heap import HeapView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MIB = 1 << 20


def _holder(name: str, retained: int, *held: Holder, kind: Any = "root", count: int = 0) -> Holder:
    return Holder(name, count, 0, retained * _MIB, None, max(count, 1), kind, held=held)


def _summary(*holders: Holder) -> Summary:
    size = sum(each.retained for each in holders)
    totals = Totals(**{**dict.fromkeys((each.name for each in fields(Totals)), 0), "size": size})
    part = LinePart(
        "app.Order", "module app > CACHE", alone=True, lost=False, count=9, size=1, retained=2
    )
    line = LineRow("fill", "/srv/<app>.py", 7, None, 9, 1, 1, 2, (part,), 0)
    return Summary(
        *(7, "app", 0.0, "stop", 0.0, 0.0, 4096, totals, holders, (), (), 0), lines=(line,)
    )


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a report with two heap graphs."""
    orders = _holder("app.Order", 20, kind="block", count=1000)
    cache = _holder("CACHE", 30, _holder("dict", 30, orders, kind="block", count=1))
    peak = _summary(
        _holder("module app", 40, cache),
        _holder("nothing (lost)", 10, kind="lost"),
        _holder("<b>", 2),
    )
    exit_ = _summary(_holder("module app", 5))
    report = reports.python_service()
    text = render_html(
        report,
        lines(report.stacks, "resident"),
        heaps=(HeapView("peak", peak), HeapView("exit", exit_)),
    )
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one browser."""
    with started_chromium() as started:
        yield started


@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")])
def test_tiles_lead_through_the_tree(browser: Any, page_file: Path, width: int, theme: str) -> None:
    """Tiles have the areas of the bytes, a click opens what a holder holds, the trail leads back."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda note: troubles.append(note.text) if note.type == "error" else None)
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    view = page.locator(".heap[data-moment=peak]")
    tiles = {
        each.get_attribute("aria-label").partition(":")[0]: each.bounding_box()
        for each in view.locator(".tile[data-level='0']").all()
    }
    assert set(tiles) == {"module app", "nothing (lost)", "<b>"}
    areas = {name: box["width"] * box["height"] for name, box in tiles.items()}
    assert areas["module app"] / areas["nothing (lost)"] == pytest.approx(4, rel=0.1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    view.locator(".tile", has_text="CACHE").first.click(position={"x": 8, "y": 6})
    assert "CACHE" in view.locator(".trail").inner_text()
    assert view.locator(".tile").first.get_attribute("aria-label").startswith("dict: 30.0 MiB")
    assert view.get_by_text("app.Order", exact=False).first.is_visible()
    view.locator(".trail button").first.click()
    assert view.locator(".tile[data-level='0']").count() == len(tiles)
    page.locator("#heap-moment button[data-value=exit]").click()
    assert view.is_hidden()
    assert page.locator(".heap[data-moment=exit] .tile").count() == 1
    assert not troubles
    page.close()
