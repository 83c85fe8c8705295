"""The source tree keeps its own rules."""

from __future__ import annotations

import re
from pathlib import Path

from tracked_files import ROOT, tracked

HARD_LIMIT = 600
MACHINE_PATHS = re.compile(
    r"(?<![\w.])/(?:work|root)/|https?://(?:\w+\.)?py(?:pi|thonhosted)\.org/simple"
)


def test_no_file_names_this_machine() -> None:
    """No path or package host of the machine something was written on is in the tree."""
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path != Path(__file__)
        for match in MACHINE_PATHS.finditer(path.read_text("utf-8", "replace"))
    ]
    assert not found


def test_source_files_are_small() -> None:
    """No source file passes the hard limit; beyond it, split by noun."""
    sources = tracked("src/*.py", "native/*.c", "native/*.h", "scripts/*")
    assert sources
    sizes = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in sources}
    assert not {name: lines for name, lines in sizes.items() if lines > HARD_LIMIT}


def test_import() -> None:
    """The package imports and states its version, the one of the build."""
    import mematlas

    build = (ROOT / "meson.build").read_text()
    assert f"version: '{mematlas.__version__}'" in build
