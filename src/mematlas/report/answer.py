"""The answer: where the memory is, in one or two sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mematlas.present.printable import NAME, clean, shorten
from mematlas.recording.model import PartKind
from mematlas.report import bad_frees
from mematlas.report import leaks as words
from mematlas.report.endings import endings
from mematlas.report.frame_names import owner_name
from mematlas.report.model.report import END, PEAK
from mematlas.report.run_facts import is_known, part_totals, share_of_highest
from mematlas.report.titles import PART_TITLES
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

_HELD: dict[str, str] = {PartKind.LIVE: "held by", PartKind.BEFORE: "allocated"}


def answer(
    report: Report,
    ranked: list[LineStats],
    directory: str,
    leaks: Leaks | None = None,
    width: int = NAME,
) -> str:
    """Return the answer as text; `ranked` are the lines by the main metric, names are within `width`."""
    return "".join(text for text, _ in answer_spans(report, ranked, directory, leaks, width))


def answer_spans(
    report: Report,
    ranked: list[LineStats],
    directory: str,
    leaks: Leaks | None = None,
    width: int = NAME,
) -> list[tuple[str, str]]:
    """Return the answer as pairs of text and role: "figure", "code", "warning", or "" for plain words."""
    spans = _memory(report, width)
    owner = _owner(report, ranked, directory, width) if is_known(report.account) else []
    leaked = leaks and words.sentence(leaks, report.account.total_bytes, directory, width)
    if leaked and report.at not in {END, PEAK}:
        leaked = f" Over the whole run{leaked}"
    leak = [(leaked, "warning")] if leaked else []
    # The owner of another moment goes on from the sentence before it.
    spans += owner + leak if report.main_metric == "peak" else leak + owner
    if ended := endings(report, width // 2, directory):
        spans.append((f" {ended}", ""))
    if bad := bad_frees.sentence(report.bad_frees, directory, width):
        spans.append((bad, "warning"))
    return spans


def _memory(report: Report, width: int) -> list[tuple[str, str]]:
    """Return where the resident memory is."""
    account = report.account
    if account.total_bytes <= 0:
        return [("Resident memory is unknown: the program's pages could not be read.", "")]
    if not is_known(account):
        return [
            (format_bytes(account.rss_bytes), "figure"),
            (" resident. Its parts are unknown: the program's pages could not be read.", ""),
        ]
    if report.keeps_freed:
        return [*_parts(report, width), *_live_then(report)]
    return _missed(report) if report.main_metric == "peak" else _parts(report, width)


def _parts(report: Report, width: int) -> list[tuple[str, str]]:
    account = report.account
    spans = [
        (format_bytes(account.total_bytes), "figure"),
        (f" resident {_when(report, width)}: ", ""),
    ]
    for number, (kind, size) in enumerate(sorted(part_totals(account), key=_by_size)[:2]):
        spans.append((" and " if number else "", ""))
        spans.append((f"{100 * size / account.total_bytes:.0f} %", "figure"))
        spans.append((f" {_HELD.get(kind, 'in')} {PART_TITLES[kind]}", ""))
    spans.append((".", ""))
    return spans


def _missed(report: Report) -> list[tuple[str, str]]:
    """Return by how much the account misses the peak: its parts would be those of another moment."""
    account = report.account
    return [
        (format_bytes(account.highest_rss_bytes), "figure"),
        (
            f" resident{_peak_of_several(report)} at the peak, which was missed: the account has ",
            "",
        ),
        (format_bytes(account.rss_bytes), "figure"),
        (f", {format_bytes(account.highest_rss_bytes - account.rss_bytes)} less.", ""),
        *_live_then(report),
    ]


def _peak_of_several(report: Report) -> str:
    """Return in how many processes RSS was highest; "" for one program."""
    count = report.account.highest_processes
    return f" in {count:,} processes (RSS)" if count > 1 else ""


def _live_then(report: Report) -> list[tuple[str, str]]:
    live, at = format_bytes(report.peak_live_bytes), format_duration(report.peak_live_time_s)
    if len(report.processes) > 1:
        return [(" Of it ", ""), (live, "figure"), (f" were live then, at {at}.", "")]
    kept = ", freed since but kept by the allocator" if report.keeps_freed else ""
    return [(" Most live bytes were ", ""), (live, "figure"), (f" at {at}{kept}.", "")]


def _owner(
    report: Report, ranked: list[LineStats], directory: str, width: int
) -> list[tuple[str, str]]:
    by = report.main_metric
    largest = max(ranked, key=lambda line: line.bytes[by], default=None)
    if largest is None or largest.bytes[by] <= 0:
        return []
    error = round(math.sqrt(largest.variance_of(by)))
    return [
        (" The largest owner then was " if by == "peak" else " The largest owner is ", ""),
        (owner_name(largest, directory, width), "code"),
        (" with ", ""),
        (format_bytes(largest.bytes[by]), "figure"),
        (f" ± {format_bytes(error)}." if error else ".", ""),
    ]


def _when(report: Report, width: int) -> str:
    """Return "at the peak", or how much of the highest RSS the account has."""
    if report.at == END:
        old = any(each.is_old for each in report.last_looks)
        moment = "the last look" if old else "the end"
        return f"at {moment}, {format_duration(report.account.time_s)}"
    if report.at != PEAK:
        return f"at the mark {shorten(clean(report.at), width)}, {format_duration(report.account.time_s)}"
    account, highest = report.account, share_of_highest(report.account)
    if account.missed_peak:
        highest += ", which was missed"
    if account.counted_once:
        when = (
            f"in {account.processes} processes at {format_duration(account.time_s)}, "
            "with shared pages counted once"
        )
        return when if account.is_near else f"{when}, {highest}"
    if len(report.processes) > 1:
        when = f"at {format_duration(account.time_s)}, when memory other than files was highest"
        return when if account.is_near else f"{when}, {highest}"
    return "at the peak" if highest in {"", "at the highest RSS"} else highest


def _by_size(pair: tuple[str, int]) -> int:
    return -pair[1]
