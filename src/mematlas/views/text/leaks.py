"""The leaks of a recording for the terminal: likely ones first, the rest in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.analysis.lines import RUNTIME, owner, tier
from mematlas.model.leaks import Verdict
from mematlas.units import format_bytes, format_duration
from mematlas.views import names
from mematlas.views.text import drawing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mematlas.model.leaks import Leak, Leaks
    from mematlas.model.recording import Frame

_CALLERS = 6
_INDENT = 14
_TITLES = {
    Verdict.GROWING: "grew to the end",
    Verdict.UNFREED: "never freed",
    Verdict.STEADY: "comes and goes, or stopped growing (caches, buffers)",
    Verdict.SETUP: "made once and kept (start-up, imports)",
}


def render_leaks(leaks: Leaks, *, top: int, console: Console) -> None:
    """Write what was live at the end, likely leaks first."""
    _write(_header(leaks), console)
    for leak in leaks.leaks[:top]:
        _write(_leak(leak, console), console)
    for line in _rest(leaks.leaks[top:]):
        _write(line, console)
    for bad in leaks.bad_frees:
        first = Text(f"  {bad.count:>10,}  ", "bold red")
        body = Text("bad frees, of what was not a live block, at ") + _where(bad.frames)
        _write(drawing.hanging(first, body, _INDENT, console), console)
    for note in leaks.notes:
        _write(Text("  note: ", "yellow") + Text(names.clean(note)), console)


def _header(leaks: Leaks) -> Text:
    text = Text(names.shorten(names.clean(" ".join(leaks.command)), 400), "bold cyan")
    when = format_duration(leaks.time_s)
    live = format_bytes(leaks.live_bytes)
    text.append(f"\n{live} live at the end ({when}), ", "default")
    if leaks.likely_bytes:
        return text.append(f"{format_bytes(leaks.likely_bytes)} of it likely leaked.", "bold")
    return text.append("none of it looks like a leak.")


def _leak(leak: Leak, console: Console) -> Text:
    error = f" ± {format_bytes(leak.error_bytes)}" if leak.error_bytes else ""
    first = Text(f"\n  {format_bytes(leak.live_bytes):>10}  ", "bold")
    text = drawing.hanging(first, _where(leak.frames), _INDENT, console)
    facts = f"{leak.verdict}{error} · {names.count(leak.live_count, 'block')} · {leak.evidence}"
    for words in (facts, *_callers(leak.frames)):
        indent = Text(" " * _INDENT)
        text.append("\n").append_text(drawing.hanging(indent, Text(words, "dim"), _INDENT, console))
    return text


def _rest(leaks: tuple[Leak, ...]) -> Iterator[Text]:
    """Sum up what is not shown (--top), by verdict."""
    if leaks:
        yield Text(f"\nand in {names.count(len(leaks), 'more stack')} (--top N)", "dim")
    for verdict in Verdict:
        members = [leak for leak in leaks if leak.verdict == verdict]
        if members:
            size = format_bytes(sum(leak.live_bytes for leak in members))
            stacks = names.count(len(members), "stack")
            yield Text(f"  {size:>10}  {verdict}: {_TITLES[verdict]}, {stacks}", "dim")


def _where(frames: tuple[Frame, ...]) -> Text:
    index = owner(frames)
    if index is None:
        return Text("stack not seen", "italic")
    return Text(names.function(frames[index]), "bold") + Text(f"  {names.place(frames[index])}")


def _callers(frames: tuple[Frame, ...]) -> list[str]:
    index = owner(frames)
    if index is None:
        return []
    above = [frame for frame in frames[index + 1 :] if tier(frame) != RUNTIME][:_CALLERS]
    return [f"from {names.function(frame)} {names.place(frame)}" for frame in above]


def _write(text: Text, console: Console) -> None:
    if drawing.plain(console):
        text = drawing.in_ascii(text)
    console.print(text, soft_wrap=False, highlight=False, markup=False, emoji=False)
