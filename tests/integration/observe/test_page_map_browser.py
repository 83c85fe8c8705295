"""`mematlas pages -o FILE.html` of a real process, in a real browser."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import memory_victim
from chromium import started_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Build


PAGES = (sys.executable, "-m", "mematlas", "pages")


@pytest.fixture(scope="module")
def made(
    build: Build, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, memory_victim.Victim]:
    """Write the page map of a process with every kind of memory."""
    out = tmp_path_factory.mktemp("map") / "memory_victim.html"
    with memory_victim.opened(build("memory_victim")) as victim:
        subprocess.run([*PAGES, str(victim.pid), "-o", str(out)], check=True)
    return out, victim


@pytest.fixture
def visit(made: tuple[Path, memory_victim.Victim]) -> Iterator[Any]:
    """Open the page; fail on script errors and on requests other than for the file."""
    troubles: list[str] = []
    requests: list[str] = []
    with started_chromium() as browser:

        def open_page(width: int, theme: str) -> Any:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=theme
            )
            page = context.new_page()
            page.on("console", lambda message: troubles.append(message.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(made[0].as_uri())
            page.wait_for_selector("html[data-ready]", timeout=60_000)
            return page

        yield open_page
    assert troubles == []
    assert all(url.startswith("file:") for url in requests)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(visit: Any, width: int, theme: str) -> None:
    """The page does not scroll horizontally, and the canvas of every name has content."""
    page = visit(width, theme)
    sticks = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(sticks) <= 0
    drawn = page.evaluate(
        """[...document.querySelectorAll("canvas")].slice(0, 3).map(canvas =>
        canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean))"""
    )
    assert drawn
    assert all(drawn)


def test_pointer_names_the_page(visit: Any, made: tuple[Path, memory_victim.Victim]) -> None:
    """A search by address leaves one mapping, and the tooltip shows its first page."""
    name, (start, _) = next(
        (name, where) for name, where in made[1].at.items() if name not in {"guard", "vsyscall"}
    )
    page = visit(1280, "light")
    page.fill("#find", f"{start:x}")
    shown = page.locator("#groups .group:visible")
    assert shown.count() == 1, name
    canvas = shown.locator("canvas")
    data = json.loads(page.locator("#payload").text_content())
    strips = [strip for group in data["groups"] for strip in group["strips"]]
    strip = next(each for each in strips if int(each["start"], 16) <= start < int(each["end"], 16))
    canvas.hover(position={"x": 1, "y": 1})
    said = page.locator("#tooltip").inner_text()
    group = next(each for each in data["groups"] if strip in each["strips"])
    assert f"0x{group['strips'][0]['start']}" in said
    assert group["strips"][0]["permissions"] in said


def test_layers_and_legend_change_the_picture(visit: Any) -> None:
    """Another layer or a highlighted label changes the picture; pressed again, the picture is restored."""
    page = visit(1280, "light")

    def picture() -> str:
        return str(page.evaluate("document.querySelector('canvas').toDataURL()"))

    before = picture()
    label = page.locator(".legend-of:visible .label").first
    label.click()
    assert label.get_attribute("aria-pressed") == "true"
    dimmed = picture()
    page.locator(".legend-of:visible .label").nth(1).click()
    assert picture() != dimmed
    page.locator(".legend-of:visible .label").nth(1).click()
    assert picture() == before
    others = page.locator("[data-layer]")
    if others.count() > 1:  # without root, other layers are hidden
        others.nth(1).click()
        assert picture() != before
