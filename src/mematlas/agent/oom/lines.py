"""Lines of code of a killed process, from the recording that was kept with the report."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mematlas.agent.oom import store
from mematlas.agent.oom.model import OomLine, OomPart

if TYPE_CHECKING:
    from mematlas.agent.oom.model import OomProcess, OomReport
    from mematlas.report.model.report import Metric

_MOST = 50
_FRAMES = 30
_UNTRACED = "no killed process was profiled: a rule [[profile]] of the agent chooses which are"


def with_lines(report: OomReport, state: str) -> OomReport:
    """Return the report with the lines of the killed process that was profiled, largest first.

    They are of the last moment that the recording knows: what the process had put into its rings outlives it.
    """
    from mematlas.errors import MematlasError

    victim = next((each for each in report.killed if each.recording), None)
    if victim is None:
        return dataclasses.replace(report, lines_note=_UNTRACED)
    try:
        return _with_lines(report, victim, store.recording_path(state, victim.recording))
    except (MematlasError, OSError) as error:
        return dataclasses.replace(report, lines_note=f"the recording cannot be read: {error}")


def _with_lines(report: OomReport, victim: OomProcess, path: str) -> OomReport:
    from mematlas.api.recording import open as open_recording
    from mematlas.errors import MematlasError
    from mematlas.report import frame_names, run_facts
    from mematlas.report.analyse.lines import lines
    from mematlas.report.model.report import END
    from mematlas.report.titles import PART_TITLES

    recording = open_recording(path)
    recorded = recording.report(pid=victim.pid, at=END)
    by: Metric = "live"
    try:
        stacks = recording.window(0, pid=victim.pid).stacks
        note = "live at its end, allocated since the agent profiled it"
    except MematlasError:  # it was killed in the first second
        stacks, by = recorded.stacks, "peak"
        note = "live when its live bytes were highest, allocated since the agent profiled it"
    found = []
    for each in lines(stacks, by)[:_MOST]:
        frame, size = each.frame, each.bytes[by]
        if size <= 0:
            continue
        found.append(
            OomLine(
                pid=victim.pid,
                function="unknown stack" if frame is None else frame_names.function_name(frame),
                file="" if frame is None else frame.file or frame.module or "",
                line=None if frame is None or not frame.file else frame.line,
                live_bytes=size,
                error=each.error_bytes,
                stack=tuple(frame_names.function_name(one) for one in each.heaviest(by)[:_FRAMES]),
            )
        )
    account = recorded.last
    parts: tuple[OomPart, ...] = ()
    if run_facts.is_known(account):
        parts = tuple(
            OomPart(PART_TITLES.get(kind, kind), size)
            for kind, size in run_facts.part_totals(account)
            if size
        )
    return dataclasses.replace(
        report,
        lines=tuple(found),
        process_parts=parts,
        lines_note=note,
    )
