"""The code blocks of the pages run: tutorials as a reader would type them, and blocks of Python."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from page_blocks import blocks, needs, run_page

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "docs").glob("**/*.md")
    if any(each.mark or each.language == "python" for each in blocks(path.read_text("utf-8")))
)


@pytest.fixture
def cgroup_removed() -> object:
    """Remove the cgroup of a tutorial that failed in between."""
    yield
    left = Path("/sys/fs/cgroup/memory/tutorial")
    if left.exists():
        left.rmdir()


@pytest.mark.parametrize("page", PAGES, ids=str)
@pytest.mark.usefixtures("cgroup_removed")
def test_blocks_of_pages_run(page: Path, tmp_path: Path) -> None:
    """Each command ends as the page says, and names the lines that the page shows."""
    text = (ROOT / page).read_text("utf-8")
    missing = [each for each in needs(text) if find_spec(each) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    skipped = run_page(text, tmp_path)
    if skipped:
        pytest.skip(f"ran, but for what needs: {'; '.join(skipped)}")


def test_marks_are_understood() -> None:
    """No block has a mark that nothing runs."""
    for page in PAGES:
        for block in blocks((ROOT / page).read_text("utf-8")):
            assert not block.mark or block.file or block.is_run or block.mark.startswith("needs: ")
