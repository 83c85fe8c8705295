"""Pages with the outputs of cells, opened in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chromium import started_chromium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[[str], tuple[Any, list[str]]]]:
    """Open HTML as a page; return the page, and the list of its errors and requests."""
    with started_chromium() as browser:

        def opened(html: str) -> tuple[Any, list[str]]:
            path = tmp_path / "page.html"
            path.write_text(html)
            page = browser.new_page()
            problems: list[str] = []

            def note(text: str, *, is_problem: bool = True) -> None:
                if is_problem:
                    problems.append(text)

            page.on("pageerror", lambda error: note(str(error)))
            page.on("console", lambda said: note(said.text, is_problem=said.type == "error"))
            page.on(
                "request", lambda asked: note(asked.url, is_problem=asked.url.startswith("http"))
            )
            page.goto(path.as_uri())
            return page, problems

        yield opened
