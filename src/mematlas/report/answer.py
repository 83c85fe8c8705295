"""The answer: where the memory is, in one or two sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.recording.model import PartKind
from mematlas.report import bad_frees, timeline
from mematlas.report import leaks as words
from mematlas.report.frame_names import owner_name
from mematlas.report.model.report import END, PEAK
from mematlas.report.run_facts import is_known, part_totals
from mematlas.report.titles import PART_TITLES
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

_HELD: dict[str, str] = {PartKind.LIVE: "held by", PartKind.BEFORE: "allocated"}
_NEAR = 1.02  # ratio of two RSS values that count as the same peak


def answer(
    report: Report, ranked: list[LineStats], directory: str, leaks: Leaks | None = None
) -> str:
    """Return the answer as text; `ranked` are the lines by the main metric."""
    return "".join(text for text, _ in answer_spans(report, ranked, directory, leaks))


def answer_spans(
    report: Report, ranked: list[LineStats], directory: str, leaks: Leaks | None = None
) -> list[tuple[str, str]]:
    """Return the answer as pairs of text and role: "figure", "code", "warning", or "" for plain words."""
    spans, owner = _memory(report, ranked, directory)
    leaked = leaks and words.sentence(leaks, report.account.total_bytes, directory)
    if leaked:
        spans.append((leaked, "warning"))
    spans += owner
    if bad := bad_frees.sentence(report.bad_frees, directory):
        spans.append((bad, "warning"))
    return spans


def _memory(
    report: Report, ranked: list[LineStats], directory: str
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return where the resident memory is, and who owns most of it."""
    account = report.account
    if account.total_bytes <= 0:
        return [("Resident memory is unknown: the program's pages could not be read.", "")], []
    if not is_known(account):
        return [
            (format_bytes(account.rss_bytes), "figure"),
            (" resident. Its parts are unknown: the program's pages could not be read.", ""),
        ], []
    spans = [(format_bytes(account.total_bytes), "figure"), (f" resident {_when(report)}: ", "")]
    for number, (kind, size) in enumerate(sorted(part_totals(account), key=_by_size)[:2]):
        spans.append((" and " if number else "", ""))
        spans.append((f"{100 * size / account.total_bytes:.0f} %", "figure"))
        spans.append((f" {_HELD.get(kind, 'in')} {PART_TITLES[kind]}", ""))
    spans.append((".", ""))
    owner: list[tuple[str, str]] = []
    by = report.main_metric
    if ranked and ranked[0].bytes[by] > 0:
        owner.append((" The largest owner is ", ""))
        owner.append((owner_name(ranked[0], directory), "code"))
        owner.append((" with ", ""))
        owner.append((format_bytes(ranked[0].bytes[by]), "figure"))
        error = ranked[0].error_bytes
        owner.append((f" ± {format_bytes(error)}." if error else ".", ""))
    return spans, owner


def _when(report: Report) -> str:
    """Return "at the peak" or "near the peak": snapshots are rarer than samples of RSS."""
    if report.at == END:
        return f"at the end, {format_duration(report.account.time_s)}"
    if report.at != PEAK:
        return (
            f"at the mark {shorten(clean(report.at), 60)}, {format_duration(report.account.time_s)}"
        )
    if report.account.counted_once:
        return (
            f"in {report.account.processes} processes at {format_duration(report.account.time_s)}, "
            "with shared pages counted once"
        )
    if len(report.processes) > 1:
        return (
            f"at {format_duration(report.account.time_s)}, when memory other than files was highest"
        )
    top = timeline.highest(timeline.summed(report, "rss_bytes"))
    if top is None or top[0] <= report.account.rss_bytes * _NEAR:
        return "at the peak"
    return f"near the peak of {format_bytes(top[0])}"


def _by_size(pair: tuple[str, int]) -> int:
    return -pair[1]
