"""Recordings that a command reads."""

from __future__ import annotations

import datetime as dt
import gc
import os
import re
from typing import TYPE_CHECKING

from mematlas.errors import UsageError
from mematlas.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.api.recording import Recording

_AGO = re.compile(r"(\S+?)[ -]ago")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")


def open_recording(
    path: str, skip: Sequence[str] = (), keep: Sequence[str] = (), *, at_s: float | None = None
) -> Recording:
    """Read a recording and resolve its symbols. `at_s`: as it was then, in seconds since 1970.

    `path` may end in @TIME, which means the same. The cyclic collector stays off: the process ends soon, and a report
    has a million live objects.
    """
    from mematlas.api.recording import open_at

    path, its_s = split_time(path)
    gc.disable()
    return open_at(path, its_s if at_s is None else at_s, skip=skip, keep=keep)


def split_time(path: str) -> tuple[str, float | None]:
    """Split PATH@TIME; a file of that name comes first.

    Raises:
        UsageError: there is such a recording, and the time is malformed.
    """
    before, at, text = path.rpartition("@")
    if not at or not before or os.path.exists(path) or not os.path.exists(before):  # noqa: PTH110
        return path, None
    found = parse_time(text)
    if found is None:
        raise UsageError(
            f"{text!r} is no time; write it as 14:30, 14:30:05, 2026-11-30T14:30 or 10m-ago"
        )
    return before, found


def parse_time(text: str, now: dt.datetime | None = None) -> float | None:
    """Parse a time of day, the last one that is over, a date with a time, or 10m-ago, into seconds since 1970.

    None if it is none of these. Without a time zone it is of this machine's.
    """
    now = now or dt.datetime.now().astimezone()
    try:
        if match := _CLOCK.fullmatch(text):
            hour, minute, second = (int(each or 0) for each in match.groups())
            found = now.replace(hour=hour, minute=minute, second=second, microsecond=999_999)
            if found > now + dt.timedelta(seconds=1):
                found -= dt.timedelta(days=1)
            return found.timestamp()
        if ago := _AGO.fullmatch(text):
            return now.timestamp() - parse_duration(ago[1])
        if _DATE.match(text):
            return dt.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    return None
