"""Heap profiles as Go's net/http/pprof serves them, so that its readers and scrapers work unchanged.

Source: src/net/http/pprof/pprof.go and src/runtime/pprof/protomem.go of Go.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.report.analyse.code_frames import code_only
from mematlas.report.analyse.export import export_table, largest, subtract
from mematlas.report.export import pprof
from mematlas.report.export.source import OTHER_STACKS, UNKNOWN_STACK, ExportSource
from mematlas.serve.state import NotYetRecordedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mematlas.serve.state import ServedRecording, State

GO_TYPES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
LONGEST_S = 60
GO_COLUMNS = ("allocations", "allocated_bytes", "live_count", "live_bytes")
_TIMEOUT_S = 20  # beyond the time asked for, until the recorder wrote new sums
_MOST_WAITING = 2
MOST_PUSHED = 20_000  # stacks; the rest of them is one
_waiting = threading.BoundedSemaphore(_MOST_WAITING)


class TooManyError(UsageError):
    """As many requests wait for a difference as may."""


@dataclass(frozen=True, slots=True)
class ProfileQuery:
    """What a request asks for. `seconds` 0: the figures since the start."""

    name: str  # "heap" or "allocs": which sample type readers show first
    seconds: int = 0
    every_type: bool = False
    every_frame: bool = False


def parse_query(name: str, values: Mapping[str, str]) -> ProfileQuery:
    """Parse the query of /debug/pprof/NAME. Raises UsageError with Go's words."""
    if _number(values.get("debug", "")):
        raise UsageError(
            "the text form (debug=1) is not served; read the profile with go tool pprof"
        )
    seconds = values.get("seconds")
    if seconds is not None and _number(seconds) <= 0:
        raise UsageError('invalid value for "seconds" - must be a positive integer')
    if seconds is not None and _number(seconds) > LONGEST_S:
        raise UsageError(f"profile duration exceeds the server's limit of {LONGEST_S} seconds")
    return ProfileQuery(
        name,
        _number(seconds or ""),
        every_type=values.get("types") == "all",
        every_frame=values.get("frames") == "all",
    )


def _number(text: str) -> int:
    return int(text[:9]) if text.isascii() and text.isdecimal() else 0


def render_profile(
    recording: ServedRecording, query: ProfileQuery, stop: threading.Event
) -> Iterator[bytes]:
    """Render a profile; with `seconds`, of what changed in this time. `stop` ends the wait."""
    if not query.seconds:
        return pprof.render([_source(recording.read(), query, None)])
    if not _waiting.acquire(blocking=False):
        raise TooManyError(f"{_MOST_WAITING} requests wait for a difference already; ask later")
    try:
        before = recording.read(fresh=True)
        stop.wait(query.seconds)
        after = recording.read_newer(before, _TIMEOUT_S, stop)
    finally:
        _waiting.release()
    if after is None:
        raise NotYetRecordedError(
            f"no new figures were recorded within {query.seconds} seconds; ask for a longer time"
        )
    return pprof.render([_source(after, query, before)])


def pushed_profile(state: State) -> Iterator[bytes]:
    """Render the profile of a push: the sums since the start, of the largest stacks, the others as one."""
    return pprof.render([_source(state, ProfileQuery("heap"), None, MOST_PUSHED)])


def _source(state: State, query: ProfileQuery, before: State | None, most: int = 0) -> ExportSource:
    table = export_table(state.data, state.report)
    lasted_ns = 0
    if before is not None:
        lasted_ns = round((state.time_s - before.time_s) * 1e9)
        table = subtract(table, export_table(before.data, before.report), GO_COLUMNS)
    rest = UNKNOWN_STACK
    if 0 < most < len(table):
        table, rest = largest(table, GO_COLUMNS, most), OTHER_STACKS
    return ExportSource(
        state.data,
        state.report,
        table if query.every_frame else code_only(table),
        no_stack=rest,
        by="live" if query.name == "heap" else "allocated",
        frames="all" if query.every_frame else "code",
        types=() if query.every_type else GO_TYPES,
        span=(state.time_ns, lasted_ns),
    )
