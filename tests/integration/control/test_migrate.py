"""`mematlas migrate` on a machine with one node; tests/guest has two."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mematlas import _core
from mematlas.cli.main import main
from mematlas.control.migrate.model import Migration
from mematlas.control.migrate.text import render_migration
from mematlas.memory import Region

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA"
)


def test_every_resident_page_has_an_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    """What is on the node already is counted to the byte, and the process keeps its contents."""
    with Region("8M", populate=True) as region:
        region.view[:5] = b"hello"
        assert main(["migrate", str(os.getpid()), "--to", "0", "--json"]) == 0
        assert bytes(region.view[:5]) == b"hello"
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mematlas/migrate/1"
    found = answer["data"]
    counted = sum(found["outcomes"].values())
    assert found["outcomes"]["already there"] >= 8 << 20
    assert 0.9 * found["before"]["0"] <= counted <= 1.1 * found["before"]["0"]


def test_a_dry_run_moves_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--dry-run shows where the pages are and calls nothing that moves."""

    def refuse(*_: object, **__: object) -> list[int]:
        raise AssertionError

    monkeypatch.setattr(_core, "move_pages", refuse)
    assert main(["migrate", str(os.getpid()), "--to", "0", "--dry-run"]) == 0
    assert "this was a dry run" in capsys.readouterr().out


def test_pages_in_use_are_tried_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that the kernel was using once is moved at the next try; one that stays in use is told."""
    real, asked = _core.move_pages, dict[int, int]()

    def busy_at_first(
        pid: int, pages: list[int], nodes: list[int] | None, *, shared: bool = False
    ) -> list[int]:
        if nodes is None:
            return real(pid, pages, None)
        for page in pages:
            asked[page] = asked.get(page, 0) + 1
        last = max(asked)
        return [-errno.EBUSY if asked[page] == 1 or page == last else 0 for page in pages]

    monkeypatch.setattr(_core, "move_pages", busy_at_first)
    assert main(["migrate", str(os.getpid()), "--to", "0", "--json"]) == 1
    outcomes = json.loads(capsys.readouterr().out)["data"]["outcomes"]
    assert outcomes["EBUSY"] < outcomes["already there"]
    assert max(asked.values()) == 4


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--to", "63"], 2, "no memory on node 63"),
        (["--to", "0", "--only", "63"], 2, "no memory on node 63"),
        (["--to", "many"], 2, "not the number of a node"),
        ([], 2, "--to"),
    ],
)
def test_invalid_requests(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A node that does not exist, or none at all, is refused in one line."""
    assert main(["migrate", str(os.getpid()), *words]) == code
    assert message in capsys.readouterr().err


def test_a_process_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    """A process that has ended is told."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert main(["migrate", str(child.pid), "--to", "0"]) == 3
    assert f"no process {child.pid}" in capsys.readouterr().err


def test_what_stayed_is_told_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes by reason, the way to move shared ones, and what counts as left elsewhere."""
    from rich.console import Console

    outcomes = {"moved": 8192, "EACCES": 4096, "EFAULT": 4096, "already there": 4096}
    found = Migration(
        1, "x", 1, {0: 20480}, {0: 8192, 1: 12288}, outcomes, room=9000, shared=False, seconds=1
    )
    render_migration(found, console=Console(width=100))
    text = capsys.readouterr().out
    assert "8.00 KiB moved in 1 s, 4.00 KiB stayed elsewhere" in text
    assert "other processes map them, too" in text
    assert "--shared moves pages" in text
    assert "node 1 could take 8.79 KiB of the 20.0 KiB that are on other nodes" in text
    assert found.left == 4096
