"""Rows of a lake for one recording: those that `mematlas export --table lines` writes, with names as numbers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mematlas.errors import UsageError
from mematlas.lake.model import METRICS
from mematlas.present.printable import clean
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.export.rows import rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Process
    from mematlas.report.export.source import ExportSource

    Row = dict[str, Any]

UNKNOWN_STACK = "unknown stack"
_MOST = 1 << 56  # bytes of one line: sums over a fleet fit 63 bits
_LONGEST_SERVICE = 200  # bytes: it is part of the name of a folder


@dataclass(frozen=True, slots=True)
class RunRows:
    """Rows of one recording for the tables of a lake; `rollup` follows from `lines`."""

    run: Row
    labels: tuple[Row, ...]
    lines: tuple[Row, ...]
    names: dict[int, Row]  # by line_id


def run_rows(
    source: ExportSource, *, duration_s: float, content_id: str, strip: Sequence[str] = ()
) -> RunRows:
    """Return the rows of a recording.

    `content_id` names a recording that has no ID: those before 0.2. `strip` are folders that are cut off the names of
    files. UsageError says what the recording lacks.
    """
    run = _run(source, duration_s, content_id)
    folders = folder_pattern(strip)
    names: dict[int, Row] = {}
    lines: dict[int, Row] = {}
    for row in rows_of([replace(source, rows="lines")]):
        name = name_row(row["function"], row["file"], row["line"], folders)
        names[name["line_id"]] = name
        _add(lines, name["line_id"], row)
    of_run = {
        each: run[each] for each in ("day", "service", "host", "version", "build", "run", "start")
    }
    found = tuple({**of_run, "line_id": number, **row} for number, row in lines.items())
    if any(abs(row[name] or 0) >= _MOST for row in found for name in _SUMMED):
        raise UsageError("has figures that no program reaches")
    for metric in (f"{each}_bytes" for each in METRICS):
        known = [row[metric] for row in found if row[metric] is not None]
        run[metric] = sum(known) if known or not found else None
    labels = source.origin(_main_process(source).index).labels
    label_rows = tuple(
        {"day": run["day"], "run": run["run"], "name": clean(name), "value": value}
        for name, value in sorted(labels.items())
    )
    return RunRows(run, label_rows, found, names)


def _run(source: ExportSource, duration_s: float, content_id: str) -> Row:
    runs = source.recording.runs
    if len(runs) > 1:
        raise UsageError(f"holds {len(runs)} runs; add the recordings that it was merged from")
    main = _main_process(source)
    origin = source.origin(main.index)
    labels = origin.labels
    host = labels.get("host") or origin.host
    if not host:
        raise UsageError("does not say its host; add --label host=NAME")
    service = _label(labels, "service") or program_name(main.command or (main.executable,))
    if len(quote(service, safe="")) > _LONGEST_SERVICE:
        raise UsageError("has a service with too long a name; add --label service=NAME")
    start = _start(source)
    sampling = source.report.sampling
    return {
        "day": f"{start:%Y-%m-%d}",
        "service": service,
        "host": host,
        "version": _label(labels, "version"),
        "build": labels.get("build") or origin.build_id or None,
        "run": origin.run or content_id,
        "start": start.timestamp(),
        "duration_s": duration_s,
        "command": clean(" ".join(source.report.command)),
        "sample_bytes": 0 if sampling.mode == "exact" else sampling.sample_bytes,
        "complete": source.report.complete,
    }


def _main_process(source: ExportSource) -> Process:
    """Return the process with the highest RSS, of which service and build are: a shell may have started it."""
    processes = source.recording.processes
    if not processes:
        raise UsageError("has no traced process")
    return max(processes, key=lambda each: (each.peak_rss_bytes or 0, -each.index))


_INTERPRETER = re.compile(r"(?:python|pypy|ruby|perl|php|node|lua|bash|dash|sh)[\d.]*")


def program_name(command: Sequence[str]) -> str:
    """Return the name of a program by its command line: that of the script or module, if an interpreter runs it."""
    name = PurePosixPath(command[0]).name
    words = command[1:]
    if _INTERPRETER.fullmatch(name) and words:
        if words[0] == "-m" and len(words) > 1:
            name = words[1]
        elif not words[0].startswith("-"):
            name = PurePosixPath(words[0]).stem
    return clean(name) or "unknown"


def _label(labels: dict[str, str], name: str) -> str | None:
    """Return a label by the name of mematlas or that of OpenTelemetry; None if there is neither."""
    of_opentelemetry = {"service": "service.name", "version": "service.version"}
    return labels.get(name) or labels.get(of_opentelemetry[name]) or None


def _start(source: ExportSource) -> datetime:
    runs = source.recording.runs
    text = (runs[0].started if runs else "") or source.report.started
    try:
        start = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError("does not say when it was recorded") from None
    return start.replace(tzinfo=start.tzinfo or UTC).astimezone(UTC)


def folder_pattern(folders: Sequence[str]) -> re.Pattern[str] | None:
    """Return what matches one of some folders at the start of a path; `*` stands for one name of a folder."""
    if not folders:
        return None
    each = (re.escape(folder.rstrip("/")).replace(r"\*", "[^/]+") for folder in folders)
    return re.compile(f"(?:{'|'.join(each)})/")


def name_row(
    function: str | None, file: str | None, line: int | None, folders: re.Pattern[str] | None = None
) -> Row:
    """Return a row of `names`. Files lose `folders`, and the folder of site-packages or of the standard library.

    So a line has one number on all hosts, wherever the program is installed. An address is no name: where it lies
    differs from run to run.
    """
    function = clean(function) if function else (UNKNOWN_STACK if file is None else "")
    function = "" if function.startswith("0x") else function
    path = short_path(file) if file else ""
    if folders:
        path = folders.sub("", path, count=1) if folders.match(path) else path
    if line is None:  # native code without line information: the module
        path = path.rsplit("/", 1)[-1]
    return {
        "line_id": _number(function, path, str(line)),
        "function_id": _number(function, path),
        "file_id": _number(path),
        "function": function,
        "file": path,
        "line": line,
    }


def _number(*words: str) -> int:
    """Return a positive number of 63 bits for a name; equal for equal names everywhere."""
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


_SUMMED = (*(f"{each}_bytes" for each in METRICS), "live_count", "allocations")


def _add(lines: dict[int, Row], number: int, row: Row) -> None:
    """Add a row to those of a recording; frames that differ in their folder alone are one line."""
    known = lines.get(number)
    error = row["error_bytes"]
    if known is None:
        lines[number] = {name: row[name] for name in (*_SUMMED, "error_bytes")}
        return
    for name in _SUMMED:
        if known[name] is not None:
            known[name] += row[name]
    if known["error_bytes"] is not None and error is not None:
        known["error_bytes"] = round((known["error_bytes"] ** 2 + error**2) ** 0.5)
