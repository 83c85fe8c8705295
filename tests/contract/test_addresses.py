"""README and pyproject.toml of a release have absolute addresses, made from those of the tree."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://forge.example/owner/mematlas"

_spec = importlib.util.spec_from_file_location("addresses", ROOT / "share/addresses.py")
assert _spec is not None
assert _spec.loader is not None
addresses = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(addresses)


def test_all_links_of_readme_become_absolute() -> None:
    """No relative link is left, and each absolute one names a file of the tree."""
    text = addresses.absolute_links((ROOT / "README.md").read_text("utf-8"), REPOSITORY)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets
    assert [each for each in targets if not each.startswith(("https://", "#"))] == []
    for each in targets:
        if each.startswith(REPOSITORY):
            path = re.sub(r"^.*?/(?:raw|blob)/main/", "", each).partition("#")[0]
            assert (ROOT / path).exists(), each


def test_pictures_are_files() -> None:
    """A picture leads to the file, a link to the page of a file, and other links stay."""
    text = "![a](docs/a.png) [b](docs/b.md#c) [d](https://d.example) [e](#f)"
    assert addresses.absolute_links(text, REPOSITORY) == (
        f"![a]({REPOSITORY}/raw/main/docs/a.png) [b]({REPOSITORY}/blob/main/docs/b.md#c)"
        " [d](https://d.example) [e](#f)"
    )


def test_the_project_has_its_urls() -> None:
    """The changed pyproject.toml is valid and differs by the table alone."""
    before = (ROOT / "pyproject.toml").read_text("utf-8")
    after = tomllib.loads(addresses.with_urls(before, REPOSITORY, "https://docs.example"))
    assert after["project"].pop("urls") == {
        "Documentation": "https://docs.example",
        "Source": REPOSITORY,
        "Issues": f"{REPOSITORY}/issues",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
    }
    assert after == tomllib.loads(before)


def test_badges_name_what_exists() -> None:
    """The workflow of the badge is in the tree, and the title stays first."""
    assert (ROOT / ".github/workflows/test.yml").exists()
    assert addresses.with_badges("# mematlas\n\ntext\n", REPOSITORY).startswith(
        "# mematlas\n\n[![tests]("
    )
