"""The source tree keeps its own rules."""

from __future__ import annotations

import ast
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


def test_distinct_numbers_are_found_by_a_sort() -> None:
    """np.unique hashes if nothing but the numbers is asked for: 9 seconds for 5 million, a sort takes 0.1."""
    slow = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in tracked("src/*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and (
            ast.unparse(call.func) in {"np.union1d", "np.intersect1d", "np.setxor1d"}
            or (ast.unparse(call.func) == "np.unique" and not call.keywords)
        )
    ]
    assert not slow, "use mematlas._core.columns.distinct"


def test_import() -> None:
    """The package imports and states its version, the one of the build."""
    import mematlas

    build = (ROOT / "meson.build").read_text()
    assert f"version: '{mematlas.__version__}'" in build
