"""The documentation site builds without a warning, and its checker finds what leads nowhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from site_pages import problems

ROOT = Path(__file__).parents[3]


def test_site_builds_without_warnings(tmp_path: Path) -> None:
    """All pages are read and resolved, those of the commands, schemas and docstrings included; scripts/docs writes HTML."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(package, reason="the documentation tools are not installed")
    source = shutil.copytree(ROOT / "docs", tmp_path / "source")
    for command in (
        [ROOT / "share/reference.py", source],
        ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "dummy", source, tmp_path / "out"],
    ):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.stem for path in (source / "reference/commands").glob("*.md")}
    assert {"run", "report", "doctor"} <= pages


def test_dead_links_are_found(tmp_path: Path) -> None:
    """A missing page, a missing anchor and a file of another site are each a problem; what is right is none."""
    (tmp_path / "a.html").write_text(
        '<p id="here"></p><a href="#here"></a><a href="b.html#there"></a><a href="https://x.org/y"></a>'
        '<a href="b.html#nowhere"></a><a href="c.html"></a><img src="https://x.org/i.png">'
    )
    (tmp_path / "b.html").write_text('<h1 id="there"></h1><link rel="stylesheet" href="gone.css">')
    assert problems(tmp_path) == [
        "a.html: loads https://x.org/i.png",
        "a.html: b.html#nowhere: no such anchor",
        "a.html: c.html: no such file",
        "b.html: gone.css: no such file",
    ]
    assert problems(tmp_path / "empty") == [f"{tmp_path / 'empty'}: no pages"]
