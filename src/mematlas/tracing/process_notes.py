"""What the recording of a process lacks, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.tracing.program import WHY_UNTRACED

if TYPE_CHECKING:
    from mematlas._core import Traced

MOST_MARKS = 4096  # of a process
STACKS_CUT = "end at one of their callers, since it holds memory of too many stacks"


def clean_utf8(text: str) -> str:
    """Return a text as valid UTF-8: bytes that are not become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _describe_marks(marks_set: int, lost: int) -> str:
    left = max(marks_set - MOST_MARKS, 0) + lost
    return f"{left:,} of its {marks_set + lost:,} marks not recorded" if left else ""


def losses_of(info: Traced) -> list[str]:
    """Format which events of a process were not recorded, and why."""
    losses = (
        (
            info.lost_events,
            (
                f"{info.lost_events} events were lost, since mematlas did not read for ten seconds or "
                "no memory was left for records; what is live may be shown too high or too low"
            ),
        ),
        (
            info.exits_missed,
            "its last snapshot is missing, since mematlas got no CPU for it in time",
        ),
        (
            info.broken_rings,
            f"{info.broken_rings} of its threads wrote invalid records and were not read further",
        ),
    )
    return [f"process {info.pid}: {text}" for applies, text in losses if applies]


def version_of(info: Traced) -> str | None:
    """Return the version of a process's Python interpreter, such as 3.13.1t; None without one."""
    number, build = info.python_version, "t" if info.python_free_threaded else ""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}{build}" if number else None


def _describe_left(left: tuple[int, ...]) -> str:
    return ", ".join(f"{left[kind]} {why}" for kind, why in WHY_UNTRACED.items() if left[kind])


def note_of(info: Traced, unread: str, marks_set: int) -> str:
    """Format what the recording of a process lacks, and why."""
    notes = (
        (unread, unread),
        (True, _describe_marks(marks_set, info.marks_lost)),
        (
            info.attached,
            (
                "tracing began when it was attached to: memory allocated before counts as allocator "
                "slack or as other memory"
            ),
        ),
        (
            info.disabled and not info.detached,
            f"tracing ended early: {clean_utf8(info.reason)}",
        ),
        (
            info.untraced_threads,
            (
                f"{info.untraced_threads} of its threads not traced: no memory for records, or "
                "created after it entered a seccomp filter"
            ),
        ),
        (info.cut_stacks, f"{info.cut_stacks:,} definitions of stacks {STACKS_CUT}"),
        (info.has_cut and not info.cut_stacks, f"stacks of earlier segments {STACKS_CUT}"),
        (
            info.looks_missed,
            (
                "it gave memory back at a new peak before mematlas could read its pages "
                f"({info.looks_missed:,} of its waits had no answer in time)"
            ),
        ),
        (
            info.own_malloc,
            (
                "it defines a malloc() of its own: what that allocates is seen only as the mappings "
                "that hold it"
            ),
        ),
        (
            any(info.left),
            f"{sum(info.left)} of the programs it started not traced: {_describe_left(info.left)}",
        ),
        *((True, loss.partition(": ")[2]) for loss in losses_of(info)),
    )
    return "; ".join(text for applies, text in notes if applies and text)
