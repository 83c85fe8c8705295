"""Give README.md and pyproject.toml the address of the repository, for a release.

    python share/addresses.py https://forge.example/owner/mematlas [https://docs.example]

README's links are relative, so they work in any clone and on any forge. A package index shows README without the tree: for a
release its links become absolute, badges of the workflows and of the package are added, and pyproject.toml gets [project.urls].
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = re.compile(r"(!\[[^\]]*\])\((?![a-z]+:|#)([^)\s]+)\)")
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def absolute_links(text: str, repository: str) -> str:
    """Return Markdown whose relative links lead to the repository: pictures to the files, others to their pages."""
    text = PICTURE.sub(rf"\1({repository}/raw/main/\2)", text)
    return LINK.sub(rf"]({repository}/blob/main/\1)", text)


def badges(repository: str) -> str:
    """Return the badges of the tests and of the published package."""
    workflow = f"{repository}/actions/workflows/test.yml"
    package = "https://pypi.org/project/mematlas/"
    return (
        f"[![tests]({workflow}/badge.svg)]({workflow})\n"
        f"[![PyPI](https://img.shields.io/pypi/v/mematlas)]({package})\n"
        f"[![Python](https://img.shields.io/pypi/pyversions/mematlas)]({package})\n"
    )


def with_badges(text: str, repository: str) -> str:
    """Return README with the badges below its title."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{badges(repository)}{rest}"


def urls(repository: str, site: str) -> str:
    """Return the table [project.urls]."""
    rows = {
        "Documentation": site or f"{repository}/blob/main/docs/index.md",
        "Source": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }
    return "[project.urls]\n" + "".join(f'{name} = "{value}"\n' for name, value in rows.items())


def with_urls(project: str, repository: str, site: str) -> str:
    """Return pyproject.toml with the table, in front of the first table below [project]."""
    mark = "[project.optional-dependencies]\n"
    if "[project.urls]" in project or project.count(mark) != 1:
        sys.exit("addresses: pyproject.toml has addresses already")
    return project.replace(mark, f"{urls(repository, site)}\n{mark}")


def main(repository: str, site: str = "") -> None:
    """Rewrite both files."""
    repository = repository.rstrip("/").removesuffix(".git")
    for name, change in (
        ("README.md", lambda text: with_badges(absolute_links(text, repository), repository)),
        ("pyproject.toml", lambda text: with_urls(text, repository, site)),
    ):
        path = ROOT / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    main(*sys.argv[1:])
