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

SICK = process(
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
    render_checkup(checkup, everything=everything, console=Console(file=stream, width=width))
    stream.flush()
    return raw.getvalue().decode()


@pytest.mark.parametrize("width", [60, 80, 132])
def test_commands_are_whole(width: int) -> None:
    """A command stands on a line of its own at any width, to be copied."""
    checkup = rules.examine_process(SICK)
    lines = page(checkup, width).splitlines()
    for finding in checkup.findings:
        for fix in finding.fixes:
            assert any(line.endswith(fix.command) for line in lines), fix.command


def test_order_and_counts() -> None:
    """What is to be acted on comes first; the head counts all, and what was not checked is listed."""
    text = page(rules.examine_process(SICK))
    assert "2 critical · 2 warning · 1 info" in text
    assert (
        text.index("memory is nearly out")
        < text.index("4 KiB pages")
        < text.index("OOM killer takes")
    )
    assert "Not checked" in text
    assert "its memory cannot be read" in text


def test_names_cannot_write_to_the_terminal() -> None:
    """Control characters in what a process calls its files are spelled out."""
    text = page(rules.examine_process(SICK))
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_ascii() -> None:
    """A console that knows ASCII only gets marks it can show."""
    text = page(rules.examine_process(SICK), ascii_only=True)
    assert text.isascii()
    assert "\n! memory is nearly out" in text


def test_all_lists_what_is_fine() -> None:
    """With --all every rule is on the page, found, fine or not checked."""
    checkup = rules.examine_host(host())
    assert "24 checks fine" in page(checkup)
    text = page(checkup, everything=True)
    assert all(rule.key in text for rule in rules.HOST_RULES)
