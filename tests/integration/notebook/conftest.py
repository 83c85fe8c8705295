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
            page, problems = browser.new_page(), []
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("console", lambda said: said.type == "error" and problems.append(said.text))
            page.on(
                "request",
                lambda asked: asked.url.startswith("http") and problems.append(asked.url),
            )
            page.goto(path.as_uri())
            return page, problems

        yield opened
