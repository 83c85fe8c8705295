"""Apply a plan as one: journal, write, read back; on failure take all back. Undo with care."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas.control.tune import journal, knobs
from mematlas.control.tune.model import Kind, Outcome, Result, State
from mematlas.control.tune.plan import process_start
from mematlas.errors import MematlasError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mematlas.control.tune.model import Change, Plan, Transaction

_FREE_BLOCK = 9  # buddyinfo's order of 2 MiB


def apply(
    root: Path, plan: Plan, before_write: Callable[[int], None] = lambda _place: None
) -> tuple[int, list[Result]]:
    """Make a plan so. Returns its number in the journal, and what became of each change.

    before_write is called with each change's place, and once more after the last.
    """
    with journal.held(root):
        _check_none_interrupted(root)
        number = journal.begin(root, plan.changes)
        results: list[Result] = []
        begun = 0
        try:
            for place, change in enumerate(plan.changes):
                before_write(place)
                _check_unchanged(root, change)
                begun += 1
                results.append(_write(root, change))
                journal.note_got(root, number, place, results[-1].now)
            before_write(len(plan.changes))
        except MematlasError as error:
            left = _take_back(root, plan.changes[:begun])
            if not left:
                journal.note_state(root, number, State.RESTORED)
            what = f"{left} could not be restored" if left else "all is as it was"
            raise type(error)(f"{error}; {what}") from None
        journal.note_state(root, number, State.APPLIED)
    return number, results


def verify(root: Path, transaction: Transaction) -> list[Result]:
    """Compare what was applied with what is."""
    results = []
    for place, change in enumerate(transaction.changes):
        now = _now(root, change)
        outcome, detail = _standing(root, transaction, place, now)
        results.append(Result(change.key, change.before, change.after, now, outcome, detail))
    return results


def undo(root: Path, transaction: Transaction, *, write: bool) -> list[Result]:
    """Take a set of changes back, the last first, each only if it still stands."""
    if not write:
        return [_undo_one(root, transaction, place, write=False) for place in _places(transaction)]
    with journal.held(root):
        results = [
            _undo_one(root, transaction, place, write=True) for place in _places(transaction)
        ]
        if all(each.outcome is not Outcome.FAILED for each in results):
            journal.note_state(root, transaction.number, State.UNDONE)
    return results


def _places(transaction: Transaction) -> list[int]:
    return list(reversed(range(len(transaction.changes))))


def _check_none_interrupted(root: Path) -> None:
    for each in journal.read_all(root):
        if each.state is State.INTERRUPTED:
            raise MematlasError(
                f"change {each.number} was interrupted; take it back first: mematlas tune undo "
                f"{each.number} --yes"
            )


def _check_unchanged(root: Path, change: Change) -> None:
    now = _now(root, change)
    if now != change.before:
        raise MematlasError(
            f"{change.key} became {now} meanwhile, it was {change.before} in the plan; plan anew"
        )


def _write(root: Path, change: Change) -> Result:
    if change.kind is Kind.ONE_SHOT:
        return _act(root, change)
    knobs.write(root, change.path, change.after)
    now = _now(root, change)
    if now == change.after:
        return Result(change.key, change.before, change.after, now, Outcome.DONE)
    if change.kind is Kind.PARTIAL:
        return Result(
            change.key,
            change.before,
            change.after,
            now,
            Outcome.PARTLY,
            _why_partly(change.after, now),
        )
    raise MematlasError(f"{change.key} reads {now} after {change.after} was written")


def _why_partly(wanted: str, now: str) -> str:
    if int(wanted) < int(now):
        return "the rest is in use, and goes when it is given back"
    return "memory is too full or fragmented for more; try after `compact`, or at the next start"


def _act(root: Path, change: Change) -> Result:
    before = _fragmentation(root)
    if change.key == "drop_caches":
        os.sync()  # only clean pages can be dropped
    knobs.write(root, change.path, change.after)
    after = _fragmentation(root)
    detail = f"free blocks of 2 MiB and more: {before} before, {after} after"
    return Result(change.key, "", change.after, "", Outcome.DONE, detail)


def _fragmentation(root: Path) -> str:
    """Count free blocks a huge page fits in, by huge pages, and their share of free memory."""
    try:
        lines = (root / "proc/buddyinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    zones = [list(map(int, line.split()[4:])) for line in lines]
    free = sum(count << order for zone in zones for order, count in enumerate(zone))
    whole = sum(
        count << order for zone in zones for order, count in enumerate(zone) if order >= _FREE_BLOCK
    )
    return f"{whole >> _FREE_BLOCK} ({100 * whole / free:.1f} % of free memory)" if free else "0"


def _take_back(root: Path, changes: tuple[Change, ...]) -> str:
    """Restore in reverse; returns the keys that would not be restored, "" if none."""
    left = []
    for change in reversed(changes):
        if change.kind is Kind.ONE_SHOT:
            continue
        try:
            # Only the last may be untouched: it is the one that failed.
            if change is not changes[-1] or _now(root, change) != change.before:
                knobs.write(root, change.undo_path, change.undo_value)
        except (MematlasError, OSError):
            left.append(change.key)
    return ", ".join(left)


def _now(root: Path, change: Change) -> str:
    if change.kind is Kind.ONE_SHOT:
        return ""
    try:
        return knobs.value_of((root / change.path).read_text())
    except OSError:
        return "unknown"


def _standing(root: Path, transaction: Transaction, place: int, now: str) -> tuple[Outcome, str]:
    """Tell whether a change still stands as it was applied."""
    change = transaction.changes[place]
    if change.kind is Kind.ONE_SHOT:
        return Outcome.NO_UNDO, "an act, nothing to read back"
    if change.process_start != process_start(root, change.path):
        return Outcome.GONE, "that process has ended"
    if now in (change.after, transaction.got.get(place)):
        return Outcome.KEPT, ""
    if transaction.state is State.INTERRUPTED and place not in transaction.got:
        if now == change.before:
            return Outcome.NOT_WRITTEN, ""
        if change.kind is Kind.PARTIAL and _between(now, change):
            return Outcome.KEPT, "in part"
    return Outcome.CHANGED, f"{now} now: somebody else's, left alone"


def _between(now: str, change: Change) -> bool:
    low, high = sorted((int(change.before), int(change.after)))
    return now.isdigit() and low <= int(now) <= high


def _undo_one(root: Path, transaction: Transaction, place: int, *, write: bool) -> Result:
    change = transaction.changes[place]
    now = _now(root, change)
    outcome, detail = _standing(root, transaction, place, now)
    if outcome is Outcome.KEPT and write:
        try:
            knobs.write(root, change.undo_path, change.undo_value)
            now = _now(root, change)
            outcome, detail = Outcome.RESTORED, ""
            back = knobs.value_of((root / change.undo_path).read_text())
            if back != change.undo_value and change.kind is Kind.PARTIAL:
                outcome, detail = Outcome.PARTLY, _why_partly(change.before, now)
            elif back != change.undo_value:
                outcome, detail = Outcome.FAILED, f"/{change.undo_path} reads {back}"
        except MematlasError as error:
            outcome, detail = Outcome.FAILED, str(error)
    return Result(change.key, change.before, change.after, now, outcome, detail)
