"""The page of `mematlas bench` in a real browser, from a file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import bench_results
from chromium import started_chromium
from mematlas.bench.explain.explanations import explain
from mematlas.bench.html import render_bench
from mematlas.bench.model import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mematlas.bench.model import Result


def many_allocators() -> Section:
    """Build a section with wide tables."""
    figures = tuple(
        bench_results.figure(
            10.0 + number + size / 100,
            what="churn",
            allocator=name,
            size=size,
            threads=2,
            seed=size,
        )
        for size in (16, 64, 1024, 0)
        for number, name in enumerate(("glibc", "jemalloc", "mimalloc", "tcmalloc", "pool"))
    )
    return Section("alloc", figures, 2.0, {"x": "not installed"}, {"glibc": "/lib/" + "long" * 60})


def usual() -> Result:
    """Build a result with charts and tables."""
    return bench_results.result(bench_results.tlb(), many_allocators())


def hostile() -> Result:
    """Build a result whose texts look like markup."""
    bad = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
    figures = tuple(
        bench_results.figure(5.0, what=bad, pages=bad, places=places) for places in (1, 2, 3)
    )
    section = Section(bad, figures, 1.0, {bad: bad}, {bad: bad}, notes=(bad,))
    found = bench_results.result(section, replace(section, name="tlb"))
    return replace(found, machine=replace(found.machine, cpu=bad, kernel=bad), complete=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one browser for all tests."""
    with started_chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open pages; no request may fail or go beyond the file."""
    troubles: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []

    def open_page(result: Result, width: int = 1400, theme: str = "light", **options: Any) -> Any:
        file = tmp_path / "bench.html"
        file.write_text(render_bench(result, explain(result)), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


def inked(page: Any) -> list[int]:
    """Count the drawn pixels of each chart."""
    script = """it => [...document.querySelectorAll(it)].map(canvas => {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
        return count;
    })"""
    return [int(each) for each in page.evaluate(script, "canvas.chart")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("make", [usual, hostile])
def test_nothing_sticks_out(
    visit: Callable[..., Any], make: Callable[[], Result], width: int, theme: str
) -> None:
    """No page scrolls sideways, folded or open, and every chart is drawn."""
    page = visit(make(), width, theme)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate(overflow) <= 0
    assert all(count > 500 for count in inked(page))


def test_text_stays_text(visit: Callable[..., Any]) -> None:
    """Names that look like markup are shown as text."""
    page = visit(hostile())
    assert page.title() != "broken"
    assert page.query_selector("img") is None
    assert "onerror=alert(1)" in page.inner_text("h1")
    assert "interrupted" in page.inner_text("header")


def test_a_chart_tells_its_figures(visit: Callable[..., Any]) -> None:
    """Pointing at a chart shows the medians with their intervals; a change of theme redraws it."""
    page = visit(usual())
    chart = page.query_selector("canvas.chart")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 80)
    said = page.inner_text("#tooltip")
    assert "256 MiB" in said
    assert "4 KiB pages" in said
    assert "400 ns" in said
    assert " to " in said
    page.focus("canvas.chart")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert "64 MiB" in page.inner_text("#tooltip") or "16 MiB" in page.inner_text("#tooltip")
    before = chart.screenshot()
    page.click("#theme")
    assert chart.screenshot() != before


def test_the_page_can_be_read_without_a_script(visit: Callable[..., Any]) -> None:
    """Advice and all figures are there without JavaScript."""
    page = visit(usual(), java_script_enabled=False)
    text = page.inner_text("main")
    assert "2.7x as much" in text
    assert "use huge pages" in text.lower()
    assert page.query_selector("table.figures td") is not None
