"""Views of `mematlas tune` in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.control.tune.model import KnobKind, KnobState, WriteOutcome
from mematlas.present import drawing
from mematlas.present.tables import line, note, show, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from mematlas.control.tune.model import ApplyResult, Plan, Reading, Transaction

_GOOD = {WriteOutcome.DONE, WriteOutcome.KEPT, WriteOutcome.RESTORED}
_BAD = {WriteOutcome.FAILED, WriteOutcome.CHANGED}


def render_knobs(readings: Iterable[Reading], *, console: Console) -> None:
    """Write a table of knobs: value, meaning and, from 120 columns on, risk."""
    wide = drawing.is_wide(console, 120)
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
    """Write a plan as a diff, with the meaning and risk of each change."""
    for change in plan.changes:
        console.print(Text(change.key, "bold"))
        if change.kind is KnobKind.ONE_SHOT:
            console.print(Text(f"  ! {change.meaning}", "yellow"))
            line(console, "    undo", "none: a one-shot action cannot be undone", 12)
        else:
            console.print(Text(f"  - {change.before}", "red"))
            console.print(Text(f"  + {change.after}", "green"))
            line(console, "    means", change.meaning, 12)
        line(console, "    risk", change.risk, 12)
        if change.undo_path != change.path:
            back = f"writes {change.undo_value} to /{change.undo_path}, its counterpart"
            line(console, "    undo", back, 12)
    for text in (*plan.unchanged, *plan.notes):
        note(console, text)
    if not plan.changes:
        note(console, "nothing to change")


def render_results(results: Iterable[ApplyResult], heading: str, *, console: Console) -> None:
    """Write a table of changes with their outcomes."""
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
    """Write a table of all sets of changes in the journal."""
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
        note(console, "no changes were made yet")
        return
    show(console, (">no", "=UTC", "=state", "changes"), rows)


def _value(reading: Reading) -> Text:
    if reading.value is None:
        return Text(f"unknown: {reading.reason}", "dim")
    if reading.knob.kind is KnobKind.ONE_SHOT:
        return Text("(one-shot)", "dim")
    return Text(reading.value)


def _outcome(result: ApplyResult) -> Text:
    style = "green" if result.outcome in _GOOD else "red" if result.outcome in _BAD else "yellow"
    return Text(result.outcome, style)


def _state_style(state: KnobState) -> str:
    return {KnobState.APPLIED: "green", KnobState.INTERRUPTED: "red", KnobState.DAMAGED: "red"}.get(
        state, ""
    )
