"""The report page in Chromium: contents, state in the address, search, folding, source text, touch, contrast."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import reports
from chromium import started_chromium
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mematlas.report.model.report import Report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start one browser for all tests."""
    with started_chromium() as started:
        yield started


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open the page of a report, at a fragment; fail on script errors."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_page(report: Report, fragment: str = "", width: int = 1400, **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(reports.page_of(report, reports.leaky(), reports.spans()), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(file.as_uri() + fragment)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def state(page: Any) -> dict[str, str]:
    """Return what the address holds."""
    script = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
    found: dict[str, str] = page.evaluate(script)
    return found


def test_the_contents_lead_to_every_section(show: Callable[..., Any]) -> None:
    """The contents list all sections, stay in view, and the address keeps the chosen one."""
    page = show(reports.python_service())
    titles = page.locator("#contents a").all_inner_texts()
    sections = page.locator("main > section").count()
    assert len(titles) == sections
    assert titles.index("Account") < titles.index("Leaks") < titles.index("Lines")
    page.click("#contents a:has-text('Lines')")
    page.wait_for_function(
        "Math.abs(document.getElementById('lines').getBoundingClientRect().top) < 90"
    )
    assert page.is_visible("#contents")
    assert state(page) == {"section": "lines"}


def test_the_address_keeps_the_view(show: Callable[..., Any]) -> None:
    """Metric, direction, frames, zoom, search, window and switched-off lines survive a reload."""
    page = show(reports.python_service())
    page.click(f"#metric button[data-value='{METRICS.index('live')}']")
    page.click("#depth button[data-value=all]")
    page.click("#flame-canvas", position={"x": 60, "y": 52})
    page.fill("#search", "raw_.*ode")
    page.click("#timeline-legend button[data-key=huge]")
    page.focus("#timeline-canvas")
    for key in ("ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight"):
        page.keyboard.press(key)
    before = [page.inner_text(each) for each in ("#detail", "#matched", "#crumbs", "#window")]
    assert {"metric", "frames", "zoom", "search", "without", "window"} <= set(state(page))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert [
        page.inner_text(each) for each in ("#detail", "#matched", "#crumbs", "#window")
    ] == before
    assert page.get_attribute("#timeline-legend button[data-key=huge]", "aria-pressed") == "false"
    page.go_back()
    page.wait_for_selector("#crumbs", state="hidden")


@pytest.mark.parametrize("fragment", ["#metric=none&zoom=zz.1&frames=%22%5D&window=a-b&process=99",
                                      "#search=%5B%28&exact=1&without=,,&section=nowhere"])  # fmt: skip
def test_a_broken_address_shows_the_report(show: Callable[..., Any], fragment: str) -> None:
    """What the address has and the report has not is ignored."""
    page = show(reports.python_service(), fragment)
    assert page.is_hidden("#crumbs")
    assert page.locator("#metric [aria-pressed=true]").inner_text() == "resident"


def test_search_by_expression_steps_through_its_hits(show: Callable[..., Any]) -> None:
    """Regular expressions match; Enter and n go to the next hit; the list has all of them."""
    page = show(reports.python_service())
    page.fill("#search", "^(load_orders|remember) ")
    assert page.inner_text("#hit") == "2 hits"
    page.press("#search", "Enter")
    assert page.inner_text("#hit") == "1 of 2"
    assert page.inner_text("#detail b") == "load_orders"
    page.click("#hit-next")
    assert page.inner_text("#detail b") == "remember"
    page.click("#hit-next")
    assert page.inner_text("#detail b") == "load_orders"
    page.click("#hits summary")
    page.wait_for_selector("#hits li")  # the browser reports an opened <details> later
    assert page.locator("#hits li").count() == 2
    page.fill("#search", "concat(")  # no expression, so it is text
    assert page.inner_text("#matched") == "nothing matched"


def test_imports_and_packages_fold_without_loss(show: Callable[..., Any]) -> None:
    """Each choice of frames keeps the total; packages are named; an import is one box."""
    imported = (
        reports.python("<module>", f"{reports.SITE}/numpy/__init__.py", 9),
        reports.python("_call", "<frozen importlib._bootstrap>", 1176),
    )
    below = (reports.PYMALLOC, reports.python("build", f"{reports.SITE}/numpy/lib/big.py", 3))
    base = reports.python_service()
    more = reports.stack((*below, *imported, reports.MODULE), 64)
    page = show(replace(base, stacks=(*base.stacks, more)))
    total = page.inner_text("#detail .chosen dd")
    for depth in ("imports", "packages", "all", "code"):
        page.click(f"#depth button[data-value={depth}]")
        for direction in ("up", "down"):
            page.click(f"#direction button[data-value={direction}]")
            assert page.inner_text("#detail .chosen dd") == total
    page.click("#depth button[data-value=imports]")
    page.fill("#search", "import numpy")
    assert page.inner_text("#matched").startswith("64.0 MiB matched")
    page.fill("#search", "^build")
    assert page.inner_text("#matched") == "nothing matched"
    page.click("#depth button[data-value=packages]")
    page.fill("#search", "^numpy$")
    assert page.inner_text("#hit") == "1 hit"
    assert page.inner_text("#matched").startswith("64.0 MiB matched")


def test_stacks_of_forked_workers_are_joined(show: Callable[..., Any]) -> None:
    """One box has the path that several processes run; by process, each has a root. The address keeps the choice."""
    base = reports.python_service()
    worker = reports.stack((reports.PYMALLOC, reports.LOAD, reports.MAIN, reports.MODULE), 30)
    stacks = (worker, replace(worker, process=1))
    page = show(replace(base, stacks=stacks))
    first_row = {"x": 60, "y": 31}
    page.click("#flame-canvas", position=first_row)
    joined = page.inner_text("#detail")
    assert "<module>" in joined
    assert "60.0 MiB" in joined
    page.click("#roots button[data-value=apart]")
    assert state(page)["roots"] == "apart"
    page.click("#flame-canvas", position=first_row)
    apart = page.inner_text("#detail")
    assert "(4120)" in apart or "(4131)" in apart
    assert "30.0 MiB" in apart
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.get_attribute("#roots button[data-value=apart]", "aria-pressed") == "true"
    page = show(replace(base, stacks=stacks[:1], processes=base.processes[:1]))
    assert page.locator("#roots").count() == 0


def test_folded_stacks_are_counted(show: Callable[..., Any]) -> None:
    """A caller whose small stacks are folded says how many there are; none are lost."""
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.html.trie import TrieBuilder, TrieSource

    small = tuple(
        reports.stack((reports.python(f"small_{n}", "/srv/shop/small.py", n), reports.LOAD, reports.MAIN, reports.MODULE),
                      1e-4, churn=1e-6)
        for n in range(500)
    )  # fmt: skip
    report = replace(reports.python_service(), stacks=(*reports.python_service().stacks, *small))
    trie = TrieBuilder([TrieSource(StackTable.of(report.stacks), {})], len(METRICS)).build()
    kept = sum(isinstance(f, str) or not f.function.startswith("small_") for f in trie.frames)
    assert int(trie.folded.sum()) == 500 - (len(trie.frames) - kept)
    page = show(report)
    page.fill("#search", "^load_orders ")
    page.press("#search", "Enter")
    assert "small stacks are folded in here" in page.inner_text("#detail")


def sourced(folder: Path) -> Report:
    """Return a report whose largest line is in a real file."""
    file = folder / "orders.py"
    file.write_text("import json\n\norders = json.loads(text) & '<b>'\n", encoding="utf-8")
    os.utime(file, (1, 1))
    frame = reports.python("load_orders", str(file), 3)
    stacks = (reports.stack((frame, reports.MAIN), 99),)
    return replace(reports.python_service(), stacks=stacks, only_of_root=True)


def test_source_text_and_editor(show: Callable[..., Any], tmp_path: Path) -> None:
    """The line's text is in table, tooltip and details; the editor is a setting that is kept."""
    page = show(sourced(tmp_path))
    text = "orders = json.loads(text) & '<b>'"
    assert page.inner_text("#lines-table .source") == text
    page.hover("#flame-canvas", position={"x": 200, "y": 52})
    assert text in page.inner_text("#tooltip")
    page.click("#flame-canvas", position={"x": 200, "y": 52})
    assert text in page.inner_text("#detail")
    link = page.locator("#detail a.editor")
    assert link.get_attribute("href") == f"vscode://file{tmp_path}/orders.py:3"
    page.select_option("#editor", label="JetBrains")
    assert link.get_attribute("href") == f"idea://open?file={tmp_path}/orders.py&line=3"
    page.select_option("#editor", label="none")
    assert link.is_hidden()


def test_the_headline_leads_to_its_line(show: Callable[..., Any]) -> None:
    """The largest owner is a link to its row, also if the table was filtered."""
    page = show(reports.python_service())
    page.fill("#lines-search", "nothing at all")
    page.click("h1 a.code")
    assert page.inner_text("#lines-table tr.marked .line") == "load_orders"
    copied = page.evaluate("document.querySelector('tr.marked th').textContent")
    assert copied.startswith("load_orders orders.py:88")


def test_metrics_are_named_as_the_option_and_say_why_not(show: Callable[..., Any]) -> None:
    """Buttons have the names of --by; those that cannot be chosen have their reason in words."""
    page = show(reports.python_service())
    assert page.locator("#metric button").all_inner_texts() == list(METRICS)
    words = page.inner_text("#metric-missing")
    assert "idle: not measured, record with --idle TIME" in words
    for name in page.locator("#metric button:disabled").all_inner_texts():
        assert name in words


def test_scales_part_when_one_would_flatten_the_other(show: Callable[..., Any]) -> None:
    """RSS and live far apart get plots of their own; without one of them there is one plot again."""
    base = reports.python_service()
    far = replace(base.series[0], live_bytes=tuple(20 * each for each in base.series[0].live_bytes))
    height = "document.getElementById('timeline-canvas').clientHeight"
    together = show(base).evaluate(height)
    page = show(replace(base, series=(far,)))
    apart = page.evaluate(height)
    assert apart > together
    page.click("#timeline-legend button[data-key=live]")
    assert page.evaluate(height) < apart
    page.click("#timeline-legend button[data-key=live]")
    assert page.evaluate(height) == apart


def test_a_finger_reads_before_it_zooms(show: Callable[..., Any]) -> None:
    """The first tap shows details, the second zooms; a tap on the timeline shows its values."""
    page = show(reports.python_service(), width=390, has_touch=True, is_mobile=True)
    canvas = page.locator("#flame-canvas")
    canvas.scroll_into_view_if_needed()
    canvas.tap(position={"x": 40, "y": 52})
    assert page.is_hidden("#crumbs")
    named = page.inner_text("#detail b")
    assert named != "all"
    canvas.tap(position={"x": 40, "y": 52})
    assert page.is_visible("#crumbs")
    assert page.inner_text("#detail b") == named
    page.locator("#timeline-canvas").tap(position={"x": 200, "y": 80})
    assert "RSS" in page.inner_text("#tooltip")


_CONTRASTS = """() => {
    const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const style = getComputedStyle(at);
            if (style.backgroundImage !== "none") return rgb(style.backgroundImage.match(/rgba?\\([^)]*\\)/)?.[0] || "");
            const color = rgb(style.backgroundColor);
            if (color.length && color[3] !== 0) return color;
        }
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || node.closest("script, style, noscript, option, :disabled")) continue;
        if (!node.checkVisibility({ opacityProperty: true })) continue;
        const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort();
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className} ${node.textContent.slice(0, 40)}`);
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_contrast(show: Callable[..., Any], theme: str, tmp_path: Path) -> None:
    """All text of the page has a contrast of 4.5 to its ground at least (WCAG 2.2 AA)."""
    report = replace(
        reports.python_service(),
        stacks=(*reports.python_service().stacks, *sourced(tmp_path).stacks),
    )
    page = show(report, color_scheme=theme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.fill("#search", "load")
    page.hover("#flame-canvas", position={"x": 60, "y": 52})
    assert page.evaluate(_CONTRASTS) == []
    page.click("h1 a.code")
    assert page.evaluate(_CONTRASTS) == []
