"""Limits on the memory of a test: what a marker asks for, and the judgement of a test that has ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas.pytest import Stack, StackFrame
from mematlas.units import format_bytes, format_estimate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mematlas.pytest import LeaksFilterFunction
    from mematlas.pytest.session import TestFigures, TestRecorder

NAMES = ("limit_memory", "limit_resident", "limit_leaks")
_SIZE = re.compile(r"(?P<number>\+?\d*\.\d+|\+?\d+)\s*(?:(?P<prefix>[KMGTP])i?)?B", re.IGNORECASE)
_PREFIXES = "KMGTP"
_CALLER = "pytest_runtest_call"
_WHOLE_LISTS = 2  # verbosity from which all stacks are listed
_MOST_STACKS = 10
_LEAK_FRAMES = 5  # at least, of a leak
_UNSAMPLED = 3.0  # gaps between samples that memory without a sample exceeds with 5 %


def parse_size(text: str) -> int:
    """Parse a size as the markers have it, "24 MB" or "1.5 KiB", into bytes: KB is 1024 bytes, as KiB.

    ValueError if it is none.
    """
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        message = f"{text!r} is not a memory size; write it as '24 MB'"
        raise ValueError(message)
    prefix = match["prefix"]
    power = 1 + _PREFIXES.index(prefix.upper()) if prefix else 0
    return round(float(match["number"]) * (1 << 10 * power))


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The arguments of a marker: the names that its size has, and `options`, which are given by name."""

    text: str
    sizes: tuple[str, ...]
    options: tuple[str, ...] = ()


_GRAMMARS = {
    # pytest-memray's code names the size limit, its documentation memory_limit
    "limit_memory": _Grammar(
        'limit_memory("24 MB", current_thread_only=True)',
        ("limit", "memory_limit"),
        ("current_thread_only",),
    ),
    "limit_resident": _Grammar('limit_resident("24 MB")', ("limit",)),
    "limit_leaks": _Grammar(
        'limit_leaks("24 MB", filter_fn=FUNCTION, current_thread_only=True)',
        ("location_limit",),
        ("filter_fn", "current_thread_only"),
    ),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of a test. `is_default`: of the configuration, not of a marker."""

    name: str
    limit_bytes: int
    current_thread_only: bool = False
    filter_fn: LeaksFilterFunction | None = None
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that a test exceeds: one sentence, and the stacks that hold the memory."""

    message: str
    title: str
    lines: tuple[str, ...]


def parse_marker(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Limit:
    """Parse the arguments of a marker. ValueError or TypeError names what is wrong."""
    grammar = _GRAMMARS[name]
    unknown = [key for key in kwargs if key not in (*grammar.sizes, *grammar.options)]
    given = [*args, *(kwargs[key] for key in grammar.sizes if key in kwargs)]
    filter_fn = kwargs.get("filter_fn")
    wrong = ""
    if unknown:
        wrong = f"no argument is named {unknown[0]}"
    elif len(given) > 1:
        wrong = f"{len(given)} sizes are given"
    elif not given:
        wrong = "a size is missing"
    elif filter_fn is not None and not callable(filter_fn):
        wrong = f"filter_fn cannot be called: {filter_fn!r}"
    if wrong:
        message = f"{wrong}; write {grammar.text}"
        raise TypeError(message)
    return Limit(
        name,
        parse_size(given[0]),
        bool(kwargs.get("current_thread_only")),
        filter_fn,
    )


@dataclass(frozen=True, slots=True)
class Judge:
    """The check of a test that has just ended, and whose records the recorder still has.

    `frames`: how many frames of a stack are shown; `native`: those above the first Python line, too;
    `verbosity`: as pytest's.
    """

    recorder: TestRecorder
    figures: TestFigures
    frames: int = 1
    native: bool = False
    verbosity: int = 0

    def judge(self, limit: Limit) -> Violation | None:
        """Return how the test exceeds a limit; None if it does not."""
        if limit.name == "limit_resident":
            return self._resident(limit)
        if limit.name == "limit_leaks":
            return self._leaks(limit)
        return self._memory(limit)

    def _memory(self, limit: Limit) -> Violation | None:
        peak, error = self.figures.peak_bytes, self.figures.peak_error_bytes
        found = None
        if limit.current_thread_only:
            found = self._stacks("peak", 0, current_thread_only=True)
            peak = sum(size for size, _ in found)
        if peak - 2 * error < limit.limit_bytes:
            return None
        if found is None:  # read so late, since a test within its limit does not pay for it
            found = self._stacks("peak", 0, current_thread_only=False)
        return Violation(
            f"Test was limited to {format_bytes(limit.limit_bytes)} but allocated "
            f"{format_estimate(peak, error)} at its peak{_largest(found)}",
            "live at the peak of the test",
            self._list(found, self.frames),
        )

    def _resident(self, limit: Limit) -> Violation | None:
        grown = self.figures.resident_bytes
        if grown is None or grown < limit.limit_bytes:
            return None
        found = self._stacks("peak", 0, current_thread_only=False)
        return Violation(
            f"Test was limited to {format_bytes(limit.limit_bytes)} of resident memory but RSS grew by "
            f"{format_bytes(grown)}{_largest(found, 'live at the peak, allocated in')}",
            "allocated and live at the peak of the test",
            self._list(found, self.frames),
        )

    def _leaks(self, limit: Limit) -> Violation | None:
        if not limit.is_default and self.figures.live_bytes < limit.limit_bytes:
            return None
        found = [
            (size, frames)
            for size, frames in self._stacks(
                "live", limit.limit_bytes, current_thread_only=limit.current_thread_only
            )
            if limit.filter_fn is None or limit.filter_fn(Stack(frames))
        ]
        if not found:
            return None
        return Violation(
            f"Test was allowed to leak {format_bytes(limit.limit_bytes)} per location but at least one "
            f"location leaked more{_largest(found)}",
            "not freed by the test",
            self._list(found, max(self.frames, _LEAK_FRAMES)),
        )

    def _stacks(
        self, metric: str, least: int, *, current_thread_only: bool
    ) -> list[tuple[int, tuple[StackFrame, ...]]]:
        """Return bytes and frames of stacks, largest first; without the frames of pytest below the test."""
        found = []
        for each in self.recorder.stacks(metric, least):
            frames = tuple(StackFrame(*frame) for frame in each["frames"])
            callers = [at for at, frame in enumerate(frames) if _calls_test(frame)]
            if callers or not current_thread_only:
                own = _above(frames, callers[0]) if callers else frames
                found.append((int(each["bytes"]), own or frames))
        return found

    def _list(
        self, stacks: Iterable[tuple[int, tuple[StackFrame, ...]]], most: int
    ) -> tuple[str, ...]:
        if self.verbosity < 0:
            return ()
        stacks = list(stacks)
        shown = stacks if self.verbosity >= _WHOLE_LISTS else stacks[:_MOST_STACKS]
        lines = []
        for size, frames in shown:
            lines.append(f"    - {format_bytes(size)} allocated here:")
            own = frames if self.native else _from_owner(frames)
            lines += [
                f"        {each.function}:{each.filename}:{each.lineno}" for each in own[:most]
            ]
            if len(own) > most:
                lines.append("        ...")
        if len(stacks) > len(shown):
            left = stacks[len(shown) :]
            lines.append(
                f"    ...and {len(left)} more, {format_bytes(sum(size for size, _ in left))}"
            )
        return tuple(lines)


def _calls_test(frame: StackFrame) -> bool:
    """Return whether a frame is that of pytest which calls a test, in the thread that runs it."""
    return frame.function.rpartition(".")[2] == _CALLER and _is_of_pytest(frame)


def _is_of_pytest(frame: StackFrame) -> bool:
    return any(f"/{name}/" in frame.filename for name in ("_pytest", "pluggy"))


def _above(frames: tuple[StackFrame, ...], caller: int) -> tuple[StackFrame, ...]:
    """Return the frames of the test itself: those above `caller` that are not pytest's; the leaf is first."""
    for at in range(caller, 0, -1):
        if not _is_of_pytest(frames[at - 1]) and frames[at - 1].filename.endswith(".py"):
            return frames[:at]
    return ()


def unseen_bytes(sample_bytes: int) -> int:
    """Return what memory without any sample has at most, with 95 %."""
    return round(_UNSAMPLED * sample_bytes)


def _from_owner(frames: tuple[StackFrame, ...]) -> tuple[StackFrame, ...]:
    """Return the frames from the first Python line on, or all where there is none."""
    for at, frame in enumerate(frames):
        if frame.filename.endswith(".py"):
            return frames[at:]
    return frames


def _largest(stacks: list[tuple[int, tuple[StackFrame, ...]]], role: str = "of that in") -> str:
    """Format the line that holds most, summed over its stacks; "" if there is none."""
    sums: dict[StackFrame, int] = {}
    for size, frames in stacks:
        for frame in _from_owner(frames)[:1]:
            sums[frame] = sums.get(frame, 0) + size
    if not sums:
        return ""
    frame, size = max(sums.items(), key=lambda item: item[1])
    return f"; {format_bytes(size)} {role} {frame.function} ({frame.filename}:{frame.lineno})"
