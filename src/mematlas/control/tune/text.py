"""`mematlas tune` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.control.tune.model import Kind, Outcome, State
from mematlas.present.tables import line, note, show, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from mematlas.control.tune.model import Plan, Reading, Result, Transaction

_GOOD = {Outcome.DONE, Outcome.KEPT, Outcome.RESTORED}
_BAD = {Outcome.FAILED, Outcome.CHANGED}


def render_knobs(readings: Iterable[Reading], *, console: Console) -> None:
    """Write every knob with its value and meaning."""
    wide = console.width >= 120
    rows = (
        [
            each.knob.key,
            _value(each),
            each.knob.meaning,
            *([each.knob.risk] if wide else []),
        ]
        for each in readings
    )
    show(console, ("=knob", "value", "meaning", *(["risk"] if wide else [])), rows)


def render_plan(plan: Plan, *, console: Console) -> None:
    """Write a plan as a diff, with what each change means and risks."""
    for change in plan.changes:
        console.print(Text(change.key, "bold"))
        if change.kind is Kind.ONE_SHOT:
            console.print(Text(f"  ! {change.meaning}", "yellow"))
            line(console, "    undo", "none: an act cannot be taken back", 12)
        else:
            console.print(Text(f"  - {change.before}", "red"))
            console.print(Text(f"  + {change.after}", "green"))
            line(console, "    means", change.meaning, 12)
        line(console, "    risk", change.risk, 12)
        if change.undo_path != change.path:
            back = f"writes {change.undo_value} to /{change.undo_path}, its twin"
            line(console, "    undo", back, 12)
    for text in (*plan.unchanged, *plan.notes):
        note(console, text)
    if not plan.changes:
        note(console, "nothing to change")


def render_results(results: Iterable[Result], heading: str, *, console: Console) -> None:
    """Write what became of each change."""
    title(console, heading)
    results = list(results)
    rows = (
        [each.key, each.before or "-", each.after, each.now or "-", _outcome(each)]
        for each in results
    )
    show(console, ("=knob", "before", "applied", "now", "outcome"), rows)
    for each in results:
        if each.detail:
            note(console, f"{each.key}: {each.detail}")


def render_history(transactions: Iterable[Transaction], *, console: Console) -> None:
    """Write every set of changes there was."""
    rows = [
        [
            str(each.number),
            each.started.replace("T", " ").removesuffix("+00:00"),
            Text(each.state, _state_style(each.state)),
            "\n".join(
                f"{change.key}: {change.before} -> {change.after}" if change.before else change.key
                for change in each.changes
            ),
        ]
        for each in transactions
    ]
    if not rows:
        note(console, "nothing was ever changed")
        return
    show(console, (">no", "=UTC", "=state", "changes"), rows)


def _value(reading: Reading) -> Text:
    if reading.value is None:
        return Text(f"unknown: {reading.reason}", "dim")
    if reading.knob.kind is Kind.ONE_SHOT:
        return Text("(an act)", "dim")
    return Text(reading.value)


def _outcome(result: Result) -> Text:
    style = "green" if result.outcome in _GOOD else "red" if result.outcome in _BAD else "yellow"
    return Text(result.outcome, style)


def _state_style(state: State) -> str:
    return {State.APPLIED: "green", State.INTERRUPTED: "red"}.get(state, "")
