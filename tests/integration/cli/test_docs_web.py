"""`mematlas docs --web` opens the page of the site that belongs to a topic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def run(*words: str, site: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a browser that prints the address."""
    return subprocess.run(
        [sys.executable, "-m", "mematlas", "docs", *words],
        env={**os.environ, "MEMATLAS_DOCS_URL": site, "BROWSER": "echo %s"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("topic", "page"),
    [("run", "tracing/run"), ("detach", "tracing/attach"), ("glossary", "explanation/glossary")],
)
def test_the_page_of_a_topic(topic: str, page: str) -> None:
    """The address is that of the topic's page, which exists."""
    done = run(topic, "--web", site="https://example.org/docs/")
    assert done.stdout == f"https://example.org/docs/{page}.html\n"
    assert (DOCS / f"{page}.md").exists()


def test_no_topic_is_the_start() -> None:
    """Without a topic the start of the site opens."""
    assert run("--web", site="https://example.org").stdout == "https://example.org/index.html\n"


@pytest.mark.parametrize("site", ["", "javascript:alert(1)", "example.org"])
def test_an_address_is_needed(site: str) -> None:
    """What is no address of a site is refused, and nothing is opened."""
    done = run("run", "--web", site=site)
    assert (done.returncode, done.stdout) == (2, "")
    assert "MEMATLAS_DOCS_URL" in done.stderr
