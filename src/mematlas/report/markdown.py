"""Markdown views of `report`, `leaks` and `diff`, for comments of pull requests and summaries of CI jobs.

Tables are those of GitHub and GitLab. Names come from programs, so every one stands in a code span, where neither
HTML nor a mention of a user takes effect.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.recording.ownership import owning_frame
from mematlas.report import frame_names, quantities, run_facts, titles
from mematlas.report import leaks as words
from mematlas.report.answer import answer_spans
from mematlas.units import format_bytes, format_change, format_estimate, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.diff import Diff, StackChange
    from mematlas.report.model.leaks import HeapAtExit, Leak, Leaks
    from mematlas.report.model.report import Report

_MOST_NAME = 120
_MOST_NOTES = 10
_NAMING = 1000  # stacks from which the common directory of paths is derived
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|@&~$])")  # also after what begins a line
_LINK = re.compile(r"(@|#(?=\d)|GH-(?=\d)|www(?=\.)|:(?=//))", re.IGNORECASE)
_BREAK = "\N{ZERO WIDTH SPACE}"
"""Ends what a forge makes a mention, a reference or a link of, which takes no notice of backslashes."""


def render_report(
    report: Report, ranked: list[LineStats], *, by: str, top: int, leaks: Leaks | None = None
) -> Iterator[str]:
    """Yield the lines of a report: the answer, the account, the first lines by metric `by`, the notes."""
    directory = frame_names.directory_of(report, ranked)
    yield f"### {code(' '.join(report.command))}"
    yield ""
    yield "".join(
        code(text) if role == "code" else plain(text)
        for text, role in answer_spans(report, ranked, directory, leaks)
    )
    yield ""
    if not report.complete:
        yield f"> {plain(titles.CUT_SHORT)}"
        yield ""
    yield from _account(report)
    why = report.why_unknown(by)
    if why:
        yield plain(f"{titles.METRIC_TITLES[by]}: unknown, since {why}.")
    else:
        yield from _lines(ranked, by, top, directory)
    yield ""
    yield from _footer(run_facts.sampling(report.sampling), report.notes)


def render_leaks(leaks: Leaks, *, top: int) -> Iterator[str]:
    """Yield the lines of a leak report: the sums, then the first leaks with their evidence."""
    directory = frame_names.shared_directory([leak.frames for leak in leaks.leaks[:_NAMING]])
    yield f"### Leaks of {code(' '.join(leaks.command))}"
    yield ""
    yield plain("; ".join(phrase for phrase, _ in words.outline(leaks)) + ".")
    yield ""
    if not leaks.complete:
        yield f"> {plain(titles.CUT_SHORT)}"
        yield ""
    if leaks.heap is not None:
        yield from _lost(leaks.heap, directory, top)
    yield from _table(
        ("live", "blocks", "verdict", "allocated by", "evidence"),
        "rrlll",
        [_leak(each, directory) for each in leaks.leaks[:top]],
    )
    left = leaks.leaks[top:]
    if left:
        yield ""
        yield plain(f"{quantities.count(len(left), 'more place')} (--top N).")
    yield from _growth(leaks)
    if leaks.bad_frees:
        count = sum(each.count for each in leaks.bad_frees)
        yield ""
        yield f"**{quantities.count(count, 'bad free')}**: pointers that were no live allocations."
    yield ""
    sampled = words.resolution(leaks)
    head = run_facts.sampling(leaks.sampling)
    yield from _footer(f"{head}. {sampled}" if sampled else head, leaks.notes)


def render_diff(diff: Diff, *, top: int, every: bool = False) -> Iterator[str]:
    """Yield the lines of a comparison: the total, then the lines that changed beyond chance."""
    directory = frame_names.shared_directory([each.frames for each in diff.lines])
    total = diff.total
    sure = (
        "" if total.certain or not total.bytes or total.error_bytes is None else ", within chance"
    )
    yield (
        f"### {titles.DIFF_TITLES[diff.by]}: {format_bytes(total.before)} → "
        f"{format_bytes(total.after)}, {format_change(total.bytes)}{quantities.change_error(total)}{sure}"
    )
    yield ""
    for side, command, moment in zip("AB", diff.commands, diff.moments, strict=True):
        yield f"- {side}: {code(command)} {plain(moment.words)}"
    yield ""
    if diff.unlike:
        yield f"> not the same moment: {plain(diff.unlike)}"
        yield ""
    shown = [each for each in diff.lines if every or each.certain]
    chance = [each for each in diff.lines if not (every or each.certain)]
    yield from _table(
        ("change", "before", "after", "line"),
        "rrrl",
        [_change(each, directory) for each in shown[:top]],
    )
    if len(shown) > top:
        yield ""
        yield plain(f"{quantities.count(len(shown) - top, 'more line')} (--top N).")
    if chance:
        together = format_change(sum(each.bytes for each in chance))
        yield ""
        yield plain(f"{together} in {quantities.count(len(chance), 'line')} within chance.")
    yield ""
    yield from _footer("", diff.notes)


def code(text: str) -> str:
    """Return a code span with any text in it, on one line, also within a table."""
    text = shorten(clean(text), _MOST_NAME).replace("|", "\\|") or " "
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or text.strip() != text else ""
    return f"{fence}{space}{text}{space}{fence}"


def plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    broken = _LINK.sub(rf"\1{_BREAK}", clean(text).strip("\n"))
    return _SPECIAL.sub(r"\\\1", broken)


def _account(report: Report) -> Iterator[str]:
    account = report.account
    if not run_facts.is_known(account):
        return
    rows = [
        (titles.PART_TITLES[kind], format_bytes(size), format_percent(size, account.total_bytes))
        for kind, size in sorted(run_facts.part_totals(account), key=lambda part: -part[1])
    ]
    head = (f"of {format_bytes(account.total_bytes)} resident", "bytes", "share")
    yield from _table(head, "lrr", rows)
    yield ""


def _lines(ranked: list[LineStats], by: str, top: int, directory: str) -> Iterator[str]:
    known = [line for line in ranked if line.bytes[by] > 0]
    rows = [
        (
            format_estimate(line.bytes[by], round(line.variance_of(by) ** 0.5)),
            str(line.live_count) if line.live_count > 0 else "",
            *_place(line.frame, directory),
        )
        for line in known[:top]
    ]
    yield from _table(
        (titles.METRIC_TITLES[by].lower(), "blocks", "function", "line"), "rrll", rows
    )
    if len(known) > top:
        yield ""
        yield plain(f"{quantities.count(len(known) - top, 'more line')} (--top N).")


def _leak(leak: Leak, directory: str) -> tuple[str, ...]:
    function, place = _place(owning_frame(leak.frames), directory)
    return (
        format_estimate(leak.live_bytes, leak.error_bytes),
        plain(words.blocks(leak).removesuffix(" blocks").removesuffix(" block")),
        str(leak.verdict),
        f"{function} {place}",
        plain(leak.evidence),
    )


def _lost(heap: HeapAtExit, directory: str, top: int) -> Iterator[str]:
    """Yield what nothing pointed to at the exit."""
    rows = []
    for each in heap.lost[:top]:
        function, place = _place(owning_frame(each.frames), directory)
        size = format_bytes(each.all_bytes)
        rows.append((size, f"{function} {place}", plain(words.lost_remark(each))))
    if rows:
        yield from _table(("definitely lost", "allocated by", "blocks"), "rll", rows)
        yield ""
    for doubt in heap.doubts[: words.DOUBTS]:
        yield f"> {plain(doubt)}"
        yield ""


def _growth(leaks: Leaks) -> Iterator[str]:
    """Yield the growth of RSS that no live allocation explains; nothing if nothing grew."""
    if unknown := words.growth_unknown(leaks):
        yield ""
        yield plain(unknown)
    if not leaks.growth:
        return
    yield ""
    rows = [
        (
            format_estimate(each.bytes, each.error_bytes),
            plain(words.growth_name(each)),
            plain(words.growth_evidence(each)),
        )
        for each in leaks.growth
    ]
    yield from _table(("growth", "outside live allocations", "evidence"), "rll", rows)


def _change(change: StackChange, directory: str) -> tuple[str, ...]:
    return (
        f"{format_change(change.bytes)}{quantities.change_error(change)}",
        format_bytes(change.before),
        format_bytes(change.after),
        " ".join(_place(owning_frame(change.frames), directory)),
    )


def _place(frame: Frame | None, directory: str) -> tuple[str, str]:
    if frame is None:
        return "unknown stack", ""
    return code(frame_names.function_name(frame)), code(frame_names.location(frame, directory))


def _table(heads: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table; `sides`: r or l for each column. Cells are Markdown already. Nothing without rows."""
    if not rows:
        return
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join(' ---: ' if side == 'r' else ' --- ' for side in sides)}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _footer(head: str, notes: Sequence[str]) -> Iterator[str]:
    if head:
        yield f"<sub>{plain(head)}</sub>"
    shown = [note for note in notes if note]
    if not shown:
        return
    yield ""
    yield f"<details><summary>{quantities.count(len(shown), 'note')}</summary>"
    yield ""
    for note in shown[:_MOST_NOTES]:
        yield f"- {plain(shorten(note, 400))}"
    yield ""
    yield "</details>"
