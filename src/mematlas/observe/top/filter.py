"""The filter language of `mematlas top`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.observe.top.model import ProcessSnapshot


_SIZE = re.compile(r"(pss|uss|rss|swap|thp)([<>])(.*)", re.IGNORECASE)
_WORD = re.compile(r"(user|cgroup|pid|state):(.*)", re.IGNORECASE)


def parse_filter(text: str, user_name: Callable[[int], str]) -> Callable[[ProcessSnapshot], bool]:
    """Parse a filter into a test of a process. All words must match.

    A word matches the command line or the name; user:NAME, cgroup:PATH, pid:N and state:S match these
    attributes; pss>10M (or uss, rss, swap, thp, with > or <) compares a size.
    """
    tests = [_test(word, user_name) for word in text.split()]
    return lambda process: all(test(process) for test in tests)


def _test(word: str, user_name: Callable[[int], str]) -> Callable[[ProcessSnapshot], bool]:
    size, named = _SIZE.fullmatch(word), _WORD.fullmatch(word)
    if size:
        try:
            limit = parse_bytes(size[3])
        except ValueError:
            return lambda _: True  # an incomplete size while the user is typing
        field, sign = size[1].lower(), 1 if size[2] == ">" else -1

        def in_bounds(process: ProcessSnapshot) -> bool:
            value = getattr(process.row, field)
            return value is not None and value * sign > limit * sign

        return in_bounds
    if named:
        return _named_test(named[1].lower(), named[2], user_name)
    lowered = word.lower()
    return lambda process: (
        lowered in process.row.command.lower() or lowered in process.row.name.lower()
    )


def _named_test(
    field: str, text: str, user_name: Callable[[int], str]
) -> Callable[[ProcessSnapshot], bool]:
    match field:
        case "user":
            return lambda process: user_name(process.row.uid).startswith(text)
        case "cgroup":
            return lambda process: text in (process.row.cgroup or "")
        case "pid":
            return lambda process: str(process.row.pid) == text
        case _:
            return lambda process: process.row.state in text.upper()
