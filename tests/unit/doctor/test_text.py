"""The doctor's page: urgent first, every command whole, readable without colour or Unicode."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from doctor_states import BASE, GIB, MIB, host, mapping, process
from mematlas.doctor import rules
from mematlas.doctor.text import render_checkup

if TYPE_CHECKING:
    from mematlas.doctor.model import Checkup

FAULTY = process(
    mapping(BASE, 256 * MIB, Rss=256 * MIB),
    mapping(BASE + GIB, MIB, "rwxp", "/tmp/jit\x1b[31m"),
    sizes={"VmLck": 7 * MIB},
    oom=(1300, 900),
    on=host(meminfo={"MemAvailable": GIB // 2}),
    heaps="its memory cannot be read",
)


def page(
    checkup: Checkup, width: int = 80, *, everything: bool = False, ascii_only: bool = False
) -> str:
    """Render on a console of some width."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii" if ascii_only else "utf-8")
    render_checkup(
        checkup,
        everything=everything,
        console=Console(file=stream, width=width, force_terminal=True, color_system=None),
    )
    stream.flush()
    return raw.getvalue().decode()


@pytest.mark.parametrize("width", [60, 80, 132])
def test_commands_are_whole(width: int) -> None:
    """A command is on one line at any width, so that it can be copied."""
    checkup = rules.examine_process(FAULTY)
    lines = page(checkup, width).splitlines()
    for finding in checkup.findings:
        for fix in finding.fixes:
            assert any(line.endswith(fix.command) for line in lines), fix.command


def test_order_and_counts() -> None:
    """Critical findings come first; the header counts all, and unchecked rules are listed."""
    text = page(rules.examine_process(FAULTY))
    assert "2 critical · 2 warning · 1 info" in text
    assert (
        text.index("memory is nearly exhausted")
        < text.index("of large allocations")
        < text.index("OOM killer kills")
    )
    assert "Not checked" in text
    assert "its memory cannot be read" in text


def test_names_cannot_write_to_the_terminal() -> None:
    """Control characters in file names of a process are escaped."""
    text = page(rules.examine_process(FAULTY))
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_ascii() -> None:
    """An ASCII console gets marks that it can show."""
    text = page(rules.examine_process(FAULTY), ascii_only=True)
    assert text.isascii()
    assert "\n! memory is nearly exhausted" in text


def test_all_lists_passed_checks() -> None:
    """With --all every rule is listed: found, passed or not checked."""
    checkup = rules.examine_host(host())
    assert f"{len(rules.HOST_RULES)} checks passed" in page(checkup)
    text = page(checkup, everything=True)
    assert all(rule.key in text for rule in rules.HOST_RULES)
