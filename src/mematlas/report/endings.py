"""How processes ended, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten

if TYPE_CHECKING:
    from mematlas.report.model.report import ProcessSummary, Report

_KILLED = "killed by "
_ORDERLY = {"SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE", "SIGQUIT"}  # ways to end a worker
_NAMED = 2
_COMMAND = 40  # letters


def ending(process: ProcessSummary) -> str:
    """Format the ending of a process, with its cause: "killed by SIGKILL: cgroup /a reached its limit of 2 GiB"."""
    return clean(process.ending + (f": {process.cause}" if process.cause else ""))


def endings(report: Report, width: int = _COMMAND) -> str:
    """Format which processes a signal ended, as sentences; "" if none of importance."""
    if len(report.processes) == 1:
        only = report.processes[0]
        return f"It was {ending(only)}." if only.ending.startswith(_KILLED) else ""
    killed = [each for each in report.processes if _matters(report, each)]
    named = [
        f"{shorten(clean(each.command), width)} (PID {each.pid}) was {ending(each)}."
        for each in killed[:_NAMED]
    ]
    if len(killed) > _NAMED:
        named.append(f"{len(killed) - _NAMED} more were killed.")
    return " ".join(named)


def _matters(report: Report, process: ProcessSummary) -> bool:
    if not process.ending.startswith(_KILLED):
        return False
    is_first = process.pid == report.processes[0].pid
    return is_first or process.ending.removeprefix(_KILLED) not in _ORDERLY
