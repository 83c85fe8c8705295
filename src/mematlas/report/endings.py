"""How processes ended, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.report.frame_names import named
from mematlas.report.model.report import KILLED, NEAR
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.report.model.report import ProcessSummary, Report

_ORDERLY = {"SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGQUIT"}  # ways to end a worker
_NAMED = 2
_COMMAND = 40  # letters


def ending(process: ProcessSummary) -> str:
    """Format the ending of a process, with its cause: "killed by SIGKILL: cgroup /a reached its limit of 2 GiB"."""
    return clean(process.ending + (f": {process.cause}" if process.cause else ""))


def endings(report: Report, width: int = _COMMAND, directory: str = "") -> str:
    """Format which processes a signal ended, as sentences; "" if none of importance.

    Of a look that was long before the end, they tell what changed since.
    """
    if len(report.processes) == 1:
        only = report.processes[0]
        if not only.ending.startswith(KILLED):
            return ""
        return f"It was {ending(only)}.{_since(report, only, directory)}"
    killed = [each for each in report.processes if _matters(report, each)]
    named = [
        f"{shorten(clean(each.command), width)} (PID {each.pid}) was {ending(each)}."
        + _since(report, each, directory)
        for each in killed[:_NAMED]
    ]
    if len(killed) > _NAMED:
        named.append(f"{len(killed) - _NAMED} more were killed.")
    return " ".join(named)


def _since(report: Report, process: ProcessSummary, directory: str) -> str:
    """Format what a process had at its end, if the account has another figure; "" if not.

    After an old look, that is what changed since.
    """
    look = next((each for each in report.last_looks if each.process == process.index), None)
    if look is None:
        return ""
    if not look.is_old:
        over = len(report.processes) == 1 and look.rss_bytes < NEAR * report.account.rss_bytes
        return (
            f" It had {format_bytes(look.rss_bytes)} resident then: see --at end." if over else ""
        )
    text = (
        f" Its pages were last read {format_duration(look.age_s)} before, with "
        f"{format_bytes(look.rss_bytes)} resident: {format_bytes(look.end_rss_bytes)} were resident at the end"
    )
    if change := look.live_change_bytes:
        text += f", and {format_bytes(abs(change))} {'more' if change > 0 else 'less'} were live"
    if look.grown_frame:
        name = named(look.grown_frame, directory)
        text += f"; {name} had grown most, by {format_bytes(look.grown_bytes)}"
    return f"{text}."


def _matters(report: Report, process: ProcessSummary) -> bool:
    if not process.ending.startswith(KILLED):
        return False
    is_first = process.pid == report.processes[0].pid
    return is_first or process.ending.removeprefix(KILLED) not in _ORDERLY
