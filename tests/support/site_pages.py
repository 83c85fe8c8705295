"""Checks a built site: `python site_pages.py FOLDER` lists links, anchors and files that lead nowhere.

A page must not load anything from another site, so that the site works offline.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "source": "src", "iframe": "src"}
LOADED_BY_LINK = {"stylesheet", "icon", "preload"}


@dataclass
class Page(HTMLParser):
    """The links of a page, what it loads, and its anchors."""

    path: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of a tag's anchor, of its link and of the file it loads."""
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and found.get(LOADED[tag]):
            self.loads.append(found[LOADED[tag]])
        if tag == "link" and LOADED_BY_LINK & set(found.get("rel", "").split()):
            self.loads.append(found["href"])


def problems(folder: Path) -> list[str]:
    """Return a line for each link, anchor or file of the site that leads nowhere, and each load from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    found = [] if pages else [f"{folder}: no pages"]
    for path, page in pages.items():
        name = path.relative_to(folder.resolve())
        found += [f"{name}: loads {each}" for each in page.loads if urlsplit(each).netloc]
        for link in (*page.links, *page.loads):
            problem = _problem(link, page, pages)
            if problem:
                found.append(f"{name}: {link}: {problem}")
    return found


def _problem(link: str, page: Page, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link, or "". Links to other sites are not asked."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (
        (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
    )
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such anchor"
    return ""


def main(folder: Path) -> int:
    """Print the problems of a site; return 1 if there are any."""
    found = problems(folder)
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
