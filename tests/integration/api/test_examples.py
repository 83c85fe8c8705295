"""The examples in docstrings of public names and in the pages of the documentation run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import examples

ROOT = Path(__file__).parents[3]
MODULES = (
    "mematlas",
    "mematlas.bench",
    "mematlas.errors",
    "mematlas.memory",
    "mematlas.observe",
    "mematlas.serve",
)
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "docs").glob("**/*.md")
    if ">>> " in path.read_text(encoding="utf-8")
)

PROGRAM = """
import os
import time


def load(megabytes):
    kept = []
    for _ in range(megabytes):
        kept.append(b"x" * (1 << 20))
    return kept


kept = load(int(os.environ["MEGABYTES"]))
time.sleep(1.5)
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the two recordings that examples read."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "app.py").write_text(PROGRAM)
    for name, size, options in (("app.atlas", "32", ["--graph=exit"]), ("later.atlas", "48", [])):
        command = ["run", "--exact", *options, "-o", name, "--", sys.executable, "-S", "app.py"]
        environment = {**os.environ, "MEGABYTES": size}
        subprocess.run(
            [sys.executable, "-m", "mematlas", *command],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
    return folder


def run(name: str, folder: Path) -> None:
    """Run the examples of a module or page in the directory."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/examples.py"), name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_public_names(module: str, folder: Path) -> None:
    """Each example in a docstring prints what it says it prints."""
    run(module, folder)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_examples_of_pages(page: Path, folder: Path) -> None:
    """Each `>>>` block of a page prints what it says it prints."""
    run(str(ROOT / page), folder)


def test_every_public_name_has_an_example() -> None:
    """Each public name is used by an example: its own, or that of its class."""
    assert not [name for module in MODULES for name in examples.without_example(module)]
