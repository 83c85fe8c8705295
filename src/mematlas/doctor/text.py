"""View of `mematlas doctor` in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.doctor.model import FixKind, Severity
from mematlas.present import drawing
from mematlas.present.printable import clean
from mematlas.present.tables import note, title, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.doctor.model import Checkup, Finding, Fix

_STYLES = {
    Severity.CRITICAL: "bold red",
    Severity.WARNING: "bold yellow",
    Severity.INFO: "bold blue",
}
_MARKS = {Severity.CRITICAL: ("▲", "!"), Severity.WARNING: ("●", "*"), Severity.INFO: ("○", "o")}
_COUNTED = {Severity.CRITICAL: "critical", Severity.WARNING: "warning", Severity.INFO: "info"}
_LABELS = {
    FixKind.TUNE: "machine",
    FixKind.EXEC: "start",
    FixKind.CODE: "code",
    FixKind.SHELL: "shell",
    FixKind.INSPECT: "inspect",
}
_INDENT = 11


def render_checkup(checkup: Checkup, *, everything: bool, console: Console) -> None:
    """Write the findings, the most severe first, and the checks that could not be made."""
    write(console, Text(clean(checkup.subject), "bold"))
    for words in checkup.about:
        write(console, Text(clean(words), "dim"))
    write(console, _counts(checkup))
    for finding in checkup.findings:
        _finding(finding, console)
    if everything and checkup.passed:
        title(console, "Passed")
        for passed in checkup.passed:
            _hanging(console, f"  {passed.rule:<26}", Text(passed.checks), 28, "green")
    if checkup.unchecked:
        title(console, "Not checked")
        for each in checkup.unchecked:
            _hanging(console, f"  {each.rule:<26}", Text(clean(each.reason)), 28, "yellow")
    for text in checkup.notes:
        note(console, clean(text))


def _counts(checkup: Checkup) -> Text:
    text = Text()
    for severity, words in _COUNTED.items():
        count = sum(each.severity is severity for each in checkup.findings)
        if count:
            text.append(f"{count} {words}", _STYLES[severity]).append(" · ")
    text.append(f"{len(checkup.passed)} checks passed", "green")
    if checkup.unchecked:
        text.append(f" · {len(checkup.unchecked)} not checked", "yellow")
    return text


def _finding(finding: Finding, console: Console) -> None:
    style = _STYLES[finding.severity]
    mark = _MARKS[finding.severity][drawing.plain(console)]
    headline = Text(clean(finding.headline), "bold").append(f"  {finding.rule}", "dim")
    write(console, Text())
    write(console, drawing.hanging(Text(f"{mark} ", style), headline, 2, console))
    for text in finding.evidence:
        _hanging(console, "           ", Text(clean(text)), _INDENT)
    _hanging(console, "  why      ", Text(finding.why), _INDENT, "dim")
    for fix in finding.fixes:
        _fix(fix, console)


def _fix(fix: Fix, console: Console) -> None:
    """Write a command without line breaks, so that it can be copied."""
    first = Text(f"  {_LABELS[fix.kind]:<9}", "dim")
    command = Text(clean(fix.command), "cyan")
    if len(command) + _INDENT <= console.width:
        write(console, first + command)
    else:
        console.print(first + command, soft_wrap=True, highlight=False, markup=False, emoji=False)
    gain = f"gives back about {format_bytes(fix.gain)}" if fix.gain else ""
    if words := "; ".join(filter(None, (gain, fix.note))):
        _hanging(console, " " * _INDENT, Text(clean(words), "italic dim"), _INDENT)


def _hanging(console: Console, first: str, body: Text, indent: int, style: str = "") -> None:
    write(console, drawing.hanging(Text(first, style), body, indent, console))
