"""The scripts are what the pages say, and the benchmark's arithmetic is right."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    [
        *(ROOT / "scripts").iterdir(),
        ROOT / ".ci" / "run",
        *(ROOT / "benchmarks" / name for name in ("all", "run")),
    ]
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_can_be_run_and_fail_at_the_first_error(script: Path) -> None:
    """Each is executable, parses, stops at errors, and is short enough to read."""
    text = script.read_text()
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "set -euo pipefail" in text
    assert len(text.splitlines()) < 140


def test_setup_names_what_it_does_not_know() -> None:
    """An unknown argument is a usage error that lists the known ones."""
    done = subprocess.run(
        [ROOT / "scripts" / "setup", "--what"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "--dev" in done.stderr) == (2, True)


def test_setup_names_a_missing_compiler(tmp_path: Path) -> None:
    """Without gcc, one line with the apt command, and nothing else happens."""
    tree, tools = tmp_path / "tree", tmp_path / "bin"
    (tree / "scripts").mkdir(parents=True)
    (tree / "native").mkdir()
    tools.mkdir()
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "meson.build",
        "scripts/setup",
        "scripts/packages",
    ):
        shutil.copy(ROOT / name, tree / name)
    for name in ("bash", "cat", "dirname", "find", "readlink", "sha256sum", "sort", "tr", "xargs"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    python = tools / "python3"
    python.symlink_to(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    done = subprocess.run(
        ["/usr/bin/bash", str(tree / "scripts" / "setup")],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done.stderr
    assert "gcc" in lines[0]
    assert "apt-get install -y" in lines[0]
    assert not (tree / ".venv").exists()


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is held against the bare run of its own round, whatever the order."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "tracing"))
    from compare import Cost, ratios, table

    def cost(mode: str, number: int, cpu_s: float) -> Cost:
        return Cost("w", mode, number, cpu_s, 1.0, 0.5, 100, 2_000_000, 0)

    costs = [cost("m", 1, 9.0), cost("bare", 0, 2.0), cost("bare", 1, 3.0), cost("m", 0, 4.0)]
    assert ratios(costs, "w", "m", "cpu_s") == [2.0, 3.0]
    assert "| w | m | 2.50 (2.00 to 3.00) |" in table(costs)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a tree with an install in build/run that needs no build: its mematlas prints what it is given."""
    tree = tmp_path / "tree"
    (tree / "scripts").mkdir(parents=True)
    for name in ("src", "native", "share", "docs"):
        (tree / name).mkdir()
    for name in ("pyproject.toml", "constraints.txt", "meson.build", "meson.options"):
        shutil.copy(ROOT / name, tree / name)
    for name in ("mematlas", "install", "packages"):
        shutil.copy(ROOT / "scripts" / name, tree / "scripts" / name)
    folder = tree / "build" / "run" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    (folder / "mematlas").write_text('#!/bin/sh\necho "ran $*"\n')
    (folder / "mematlas").chmod(0o755)
    text = (tree / "scripts" / "install").read_text()
    wanted = text[text.index("wanted() {") : text.index("ready() {")]
    subprocess.run(
        ["bash", "-c", f"cd {tree}; venv=$PWD/build/run\n{wanted}\nwanted >build/run/.wanted"],
        check=True,
        timeout=60,
    )
    return tree


LIMITS = ["true", "ulimit -s 256", "ulimit -f 0", "ulimit -v 400000"]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_built_mematlas_starts_under_limits(installed: Path, limit: str) -> None:
    """What was built once is run as it is: no build at the start, no file written."""
    done = subprocess.run(
        ["bash", "-c", f"{limit} && exec {installed}/scripts/mematlas run -- x"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran run -- x\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")
def test_another_user_runs_what_was_built(installed: Path) -> None:
    """Also where a source is newer than the build, which this user cannot repeat."""
    (installed / "src" / "new.py").write_text("")
    for folder in (installed, *installed.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", f"{installed}/scripts/mematlas", "ps"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran ps\n", "")
