"""Chromium for tests of pages, driven by Playwright. Tests are skipped without one of the two."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUIET = (  # no request of its own
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def started_chromium(*flags: str) -> Iterator[Any]:
    """Start Chromium with flags, without a GPU if there are none; end it afterwards."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=program, args=[*_QUIET, *(flags or ("--disable-gpu",))]
        )
        yield started
        started.close()
