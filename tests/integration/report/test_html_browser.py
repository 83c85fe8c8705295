"""The HTML report in Chromium, driven by Playwright, from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import reports
from chromium import started_chromium
from mematlas.report.html.diff import render_diff_html
from mematlas.report.model.report import METRICS
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one browser for all tests."""
    with started_chromium() as started:
        yield started


def render(name: str) -> str:
    """Write the page of a synthetic report."""
    if name == "two_runs":
        return render_diff_html(reports.two_runs())
    more = (reports.leaky(), reports.spans()) if name == "python_service" else ()
    return reports.page_of(getattr(reports, name)(), *more)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write the page of each synthetic report once."""
    directory = tmp_path_factory.mktemp("pages")

    def path(name: str) -> Path:
        file = directory / f"{name}.html"
        if not file.exists():
            file.write_text(render(name), encoding="utf-8")
        return file

    return path


@pytest.fixture
def visit(browser: Any, files: Callable[[str], Path]) -> Iterator[Callable[..., Any]]:
    """Open reports; fail on script errors and network requests."""
    troubles: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []

    def note(message: Any) -> None:
        if message.type in {"error", "warning"}:
            troubles.append(message.text)

    def open_page(name: str, width: int = 1400, theme: str = "light", **options: Any) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(files(name).as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


def pixels(page: Any, selector: str) -> str:
    """Return what a canvas shows."""
    return str(page.evaluate("it => document.querySelector(it).toDataURL()", selector))


def overflow(page: Any) -> int:
    """Return how many pixels the page is wider than its window."""
    script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(page.evaluate(script))


@pytest.mark.parametrize("width", [390, 1280, 1400])
@pytest.mark.parametrize(
    "name", ["python_service", "native_program", "unseen", "hostile", "two_runs"]
)
def test_nothing_sticks_out(visit: Callable[..., Any], name: str, width: int) -> None:
    """No page scrolls horizontally, on a phone or a wide screen, light or dark, collapsed or expanded."""
    page = visit(name, width)
    assert overflow(page) <= 0
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert overflow(page) <= 0
        if name != "unseen":
            page.fill("#search", "m")
            page.click("#flame-canvas", position={"x": 30, "y": 30})
            assert overflow(page) <= 0


@pytest.mark.parametrize("width", [390, 720, 1280])
def test_lines_keep_room_for_their_names(visit: Callable[..., Any], width: int) -> None:
    """With all columns a line's name keeps a readable width."""
    page = visit("every_metric", width)
    cell = page.evaluate("document.querySelector('#lines-table tbody .wide').offsetWidth")
    assert cell >= 130
    assert overflow(page) <= 0


def test_dark_is_dark_and_can_be_changed(visit: Callable[..., Any]) -> None:
    """The system theme is used, the button switches it, and the charts follow."""
    page = visit("python_service", theme="dark")
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    before = pixels(page, "#flame-canvas")
    assert max(page.evaluate(brightness)) < 60
    page.click("#theme")
    assert min(page.evaluate(brightness)) > 200
    assert pixels(page, "#flame-canvas") != before


def test_the_bar_adds_up(visit: Callable[..., Any]) -> None:
    """Segments are as wide as their bytes, fill the bar, and open their row."""
    page = visit("python_service")
    account = reports.python_service().account
    boxes = page.evaluate(
        "[...document.querySelectorAll('.account:not([hidden]) .segment')]"
        ".map(each => [Number(each.dataset.bytes), each.getBoundingClientRect().width])"
    )
    assert sum(size for size, _ in boxes) == account.rss_bytes
    width = page.evaluate("document.querySelector('.bar').clientWidth")
    for size, drawn in boxes:
        assert drawn == pytest.approx(size / account.rss_bytes * width, abs=20)
    page.click(".account:not([hidden]) .segment[data-kind=slack]")
    assert page.is_visible("text=malloc arena 0x7f2a34000000 >> visible=true")


def test_metrics_switch(visit: Callable[..., Any]) -> None:
    """Each metric draws a different graph with its own total."""
    page = visit("python_service")
    report = reports.python_service()
    seen = set()
    for name in ("resident", "live", "peak", "allocated", "huge", "swapped"):
        page.click(f"#metric button[data-value='{METRICS.index(name)}']")
        total = sum(stack.metric(name) for stack in report.stacks)
        assert format_bytes(total) in page.inner_text("#detail .chosen")
        seen.add(pixels(page, "#flame-canvas"))
    assert len(seen) >= 5


def test_search_counts_what_it_marks(visit: Callable[..., Any]) -> None:
    """The matched share is the sum of the stacks with the name, counted once."""
    page = visit("python_service")
    stacks = reports.python_service().stacks
    before = pixels(page, "#flame-canvas")
    page.keyboard.press("/")
    page.keyboard.type("json/")
    found = sum(
        stack.resident_bytes
        for stack in stacks
        if any("json/" in (frame.file or "") for frame in stack.frames)
    )
    assert page.inner_text("#matched").startswith(format_bytes(found))
    assert pixels(page, "#flame-canvas") != before
    page.fill("#search", "no such thing")
    assert page.inner_text("#matched") == "nothing matched"


def test_zoom_with_the_mouse_and_back(visit: Callable[..., Any]) -> None:
    """A click zooms; the breadcrumbs lead back."""
    page = visit("python_service")
    assert page.is_hidden("#crumbs")
    page.click("#flame-canvas", position={"x": 60, "y": 36})
    assert "<module>" in page.inner_text("#crumbs")
    assert "<module>" in page.inner_text("#detail")
    page.click("#crumbs button:first-child")
    assert page.is_hidden("#crumbs")


def test_the_tooltip_is_exact(visit: Callable[..., Any]) -> None:
    """The tooltip has exact bytes, file and line."""
    page = visit("native_program")
    page.hover("#flame-canvas", position={"x": 60, "y": 36})
    text = page.inner_text("#tooltip")
    total = sum(stack.resident_bytes for stack in reports.native_program().stacks)
    assert f"{total:,} bytes" in text
    assert "/home/ada/indexer/src/run.cpp:77" in text or "main.cpp:19" in text


def test_the_keyboard_is_enough(visit: Callable[..., Any]) -> None:
    """Arrows move, Enter zooms, Escape goes back, i inverts the graph."""
    page = visit("native_program")
    page.focus("#flame-canvas")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert "index::run" in page.inner_text("#crumbs")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.is_hidden("#crumbs")
    page.keyboard.press("i")
    assert page.get_attribute("#direction button[data-value=up]", "aria-pressed") == "true"
    page.keyboard.press("ArrowDown")
    assert "index::Builder::add" in page.inner_text("#detail")


def test_turning_over_keeps_every_byte(visit: Callable[..., Any]) -> None:
    """From main or by owner, all frames or code only: the total stays the same."""
    page = visit("python_service")
    total = format_bytes(sum(s.resident_bytes for s in reports.python_service().stacks))
    for direction in ("up", "down"):
        for depth in ("all", "code"):
            page.click(f"#direction button[data-value={direction}]")
            page.click(f"#depth button[data-value={depth}]")
            assert total in page.inner_text("#detail .chosen")


def test_lines_sort_and_filter(visit: Callable[..., Any]) -> None:
    """The table sorts by the clicked column and filters by the search text."""
    page = visit("python_service")
    first = "#lines-table tbody tr:first-child .line"
    assert page.inner_text(first) == "load_orders"
    page.click("#lines-table .c-live button")
    assert page.inner_text(first) == "reserve"
    assert page.get_attribute("#lines-table .c-live", "aria-sort") == "descending"
    page.fill("#lines-search", "cache.py")
    assert page.locator("#lines-table tbody tr").count() == 1
    page.click(first)
    assert page.input_value("#search") == "remember"


def test_the_timeline_tells_its_moments(visit: Callable[..., Any]) -> None:
    """The tooltip has the values at its time; a process can be selected."""
    page = visit("python_service")
    page.hover("#timeline-canvas", position={"x": 700, "y": 100})
    assert "RSS" in page.inner_text("#tooltip")
    before = pixels(page, "#timeline-canvas")
    page.select_option("#timeline-process", index=2)
    assert pixels(page, "#timeline-canvas") != before


def test_names_are_never_markup(visit: Callable[..., Any]) -> None:
    """Hostile names run no script and create no elements, also when searched or hovered."""
    page = visit("hostile")
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.fill("#search", "<img src=x")
    page.hover("#flame-canvas", position={"x": 30, "y": 30})
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


def test_without_scripts_there_are_tables(visit: Callable[..., Any]) -> None:
    """Without JavaScript the account and the first lines are readable."""
    page = visit("python_service", java_script_enabled=False)
    text = page.inner_text("main")
    assert "allocator slack" in text
    assert "load_orders" in page.inner_text("#lines")


_CLOCKED = """
    const begin = performance.now();
    document.querySelector(selector).click();
    return performance.now() - begin;
"""


@pytest.mark.slow
def test_a_hundred_thousand_stacks_draw(visit: Callable[..., Any]) -> None:
    """The largest report opens, zooms and searches; its times are printed."""
    page = visit("many_stacks")
    shown = page.evaluate("({...document.documentElement.dataset})")
    print(f"unpack {shown['unpackMs']} ms, first draw of all {shown['drawMs']} ms")
    for name, selector in (
        ("metric", "#metric button[data-value='1']"),
        ("every frame", "#depth button[data-value=all]"),
        ("turn over", "#direction button[data-value=up]"),
    ):
        script = f"selector => {{{_CLOCKED}}}"
        print(f"{name}: {page.evaluate(script, selector):.1f} ms")
    page.click("#flame-canvas", position={"x": 100, "y": 30})
    assert page.is_visible("#crumbs")


def test_two_runs_are_drawn_by_what_changed(visit: Callable[..., Any]) -> None:
    """Each width draws a different graph; the root shows the change; a line is found in the graph."""
    page = visit("two_runs")
    diff = reports.two_runs()
    change = format_bytes(abs(diff.total.bytes))
    detail = page.inner_text("#detail .chosen")
    assert change in detail
    assert f"{format_bytes(diff.total.before)} → {format_bytes(diff.total.after)}" in detail
    seen = set()
    for width in ("changed", "after", "before"):
        page.click(f"#width button[data-value='{width}']")
        seen.add(pixels(page, "#flame-canvas"))
    assert len(seen) == 3
    page.click("button.line")
    assert "matched" in page.inner_text("#matched")


def test_a_part_of_the_run_tells_what_it_left(visit: Callable[..., Any]) -> None:
    """Dragging selects a time window and lists its live memory; the end of the run is a window of its own."""
    page = visit("python_service")
    canvas = page.locator("#timeline-canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    end = max(series.time_s[-1] for series in reports.python_service().series)

    def drag(start_s: float, end_s: float) -> str:
        page.mouse.move(box["x"] + box["width"] * start_s / end, box["y"] + 90)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * end_s / end, box["y"] + 90, steps=3)
        page.mouse.up()
        return str(page.inner_text("#window"))

    assert "37.0 MiB allocated in it" in drag(5, 7)
    assert "31.0 MiB allocated in it" in drag(4, end)
    assert "all other lines" in page.inner_text("#window")
    assert "3.00 MiB allocated in it" in drag(0, 2)
    page.keyboard.press("Escape")
    page.mouse.click(box["x"] + 20, box["y"] + 90)
    assert not page.is_visible("#window")
