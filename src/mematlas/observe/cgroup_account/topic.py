"""Sentences and sections of the account of a memory cgroup, for the topic cgroup."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mematlas.observe.cgroup_account.analyse import in_files
from mematlas.observe.cgroup_account.model import (
    ANONYMOUS,
    FILE,
    HUGETLB,
    KERNEL,
    SHARED,
    SOCKETS,
    UNACCOUNTED,
)
from mematlas.observe.machine.model import Grid, TopicSection
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sized

    from mematlas.observe.cgroup_account.model import CgroupAccount, Part
    from mematlas.observe.machine.model import Topic

_INK = {
    ANONYMOUS: "live",
    SHARED: "shared",
    FILE: "file",
    KERNEL: "slack",
    SOCKETS: "before",
    HUGETLB: "stack",
    UNACCOUNTED: "unexplained",
}
"""Kinds of present.drawing: the bar has the same characters as that of a process."""
_DIVIDED = 0.9  # of a part in pieces, from which the largest piece is named
_PIECES = 4  # named in the line of a part
_ROWS = 15  # processes and files listed


def with_account(topic: Topic, account: CgroupAccount | None) -> Topic:
    """Return the topic with the account in front of its limits."""
    if account is None:
        note = "the account of the group is unknown: its memory.stat cannot be read"
        return replace(topic, notes=(*topic.notes, note))
    return replace(
        topic,
        answer=(*account_answer(account), *topic.answer),
        sections=(*account_sections(account), *topic.sections),
        notes=(*account.notes, *topic.notes),
    )


def account_answer(account: CgroupAccount) -> list[str]:
    """Return sentences: what holds the memory, what reclaim frees, whom the OOM killer would end."""
    largest = sorted(account.parts, key=lambda part: -part.bytes)
    named = [f"{format_bytes(part.bytes)} {part.title}" for part in largest[:2] if part.bytes > 0]
    text = f"{account.path} is charged {format_bytes(account.usage)}"
    if named:
        text += f": {' and '.join(named)}"
    first = next((part for part in largest if part.pieces), None)
    if first is not None and sum(each.bytes for each in first.pieces) >= _DIVIDED * first.bytes:
        piece = first.pieces[0]
        text += f"; the largest piece is {piece.name} with {format_bytes(piece.bytes)}"
    sentences = [text]
    if account.reclaimable is not None:
        sentences.append(
            f"reclaim can free {format_bytes(account.reclaimable)} of it without writing"
        )
    victim = account.victim
    if victim is not None:
        sentences.append(
            f"at its limit the OOM killer would end {victim.name} ({victim.pid}), which counts"
            f" {format_bytes(victim.counted)}"
        )
    return sentences


def account_sections(account: CgroupAccount) -> list[TopicSection]:
    """Return the parts, the processes and the files of an account."""
    rows = tuple((part.title, part.bytes, _described(part)) for part in account.parts)
    sections = [
        TopicSection(
            f"Account of {format_bytes(account.usage)} charged",
            grid=Grid(("part", "bytes", "what it is"), ("", "bytes", ""), rows),
            bar=tuple((_INK[part.kind], max(0, part.bytes)) for part in account.parts),
        )
    ]
    if account.members:
        sections.append(_members(account))
    files = in_files(account.files)
    if files:
        grid = Grid(
            ("charged", "cached", "file", "open in"),
            ("bytes", "bytes", "", ""),
            tuple(
                (each.charged, each.cached, each.path, ", ".join(map(str, each.holders[:5])))
                for each in files[:_ROWS]
            ),
        )
        sections.append(TopicSection(f"Cached files{_more(files)}", grid=grid))
    return sections


def _members(account: CgroupAccount) -> TopicSection:
    rows = tuple(
        (str(each.pid), each.anonymous, each.shared, each.counted, each.oom_score_adj, each.command)
        for each in account.members[:_ROWS]
    )
    columns = ("PID", "anonymous", "shared", "OOM counts", "adjusted", "command")
    units = ("", "bytes", "bytes", "bytes", "", "")
    title = f"Processes by anonymous PSS{_more(account.members)}"
    return TopicSection(title, grid=Grid(columns, units, rows))


def _more(rows: Sized) -> str:
    return f", {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""


def _described(part: Part) -> str:
    """Return the largest pieces of a part, or what the part is."""
    if not part.pieces:
        return part.meaning
    words = [f"{piece.name} {format_bytes(piece.bytes)}" for piece in part.pieces[:_PIECES]]
    rest = part.pieces[_PIECES:]
    if rest:
        words.append(f"{len(rest)} more {format_bytes(sum(piece.bytes for piece in rest))}")
    return ", ".join(words)
