"""The pages of the documentation hold together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file or heading of this tree finds it."""
    dead = []
    for target in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    """Files of this tree that a page names in backquotes are there."""
    text = FENCED.sub("", page.read_text("utf-8"))
    names = re.findall(r"`((?:src|native|tests|docs|scripts|examples|benchmarks)/[\w./-]+)`", text)
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not [name for name in missing if "vN" not in name]


def test_topics_are_unique() -> None:
    """`mematlas docs TOPIC` names a page by its file's name, so no two pages share one."""
    names = [page.stem for page in ROOT.glob("docs/**/*.md") if page.stem != "index"]
    generated = {"commands", "python", "json"}  # of reference/, which is not installed
    twice = {name for name in names if names.count(name) > 1} - generated
    assert not twice
