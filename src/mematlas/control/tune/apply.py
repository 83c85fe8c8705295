"""Applying a plan as one: journal, write, read back, and roll all back on failure; and its undo."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mematlas._core import PAGE
from mematlas.control.tune import journal, knobs
from mematlas.control.tune.model import ApplyResult, KnobKind, KnobState, WriteOutcome
from mematlas.control.tune.plan import process_start
from mematlas.errors import MematlasError
from mematlas.linux.hugepages import pmd_size
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mematlas.control.tune.model import KnobChange, Plan, Transaction


def apply(
    root: Path, plan: Plan, before_write: Callable[[int], None] = lambda _index: None
) -> tuple[int, list[ApplyResult]]:
    """Apply a plan, and return its number in the journal and the result of each change.

    `before_write` is called with the index of each change before it is written, and once more after the
    last; tests interrupt there.

    Raises:
        AccessError: the kernel or the journal refuses.
        MematlasError: an earlier set was interrupted, a value changed since the plan, or a write failed.
            All written values were restored, unless the message says otherwise.
    """
    with journal.lock(root):
        _check_none_interrupted(root)
        number = journal.begin(root, plan.changes)
        results: list[ApplyResult] = []
        begun = 0
        try:
            for index, change in enumerate(plan.changes):
                before_write(index)
                _check_unchanged(root, change)
                begun += 1
                results.append(_write(root, change))
                journal.note_read_back(root, number, index, results[-1].now)
            before_write(len(plan.changes))
        except (MematlasError, OSError) as error:
            failed = _roll_back(root, plan.changes[:begun])
            what = f"{failed} could not be restored" if failed else "all values were restored"
            if not failed:
                what += _note_restored(root, number)
            kind = type(error) if isinstance(error, MematlasError) else MematlasError
            raise kind(f"{error}; {what}") from None
        journal.note_state(root, number, KnobState.APPLIED)
    return number, results


def verify(root: Path, transaction: Transaction) -> list[ApplyResult]:
    """Compare applied values with the current ones."""
    results = []
    for index, change in enumerate(transaction.changes):
        now = _read(root, change)
        outcome, detail = _compare(root, transaction, index, now)
        results.append(ApplyResult(change.key, change.before, change.after, now, outcome, detail))
    return results


def undo(root: Path, transaction: Transaction, *, write: bool) -> list[ApplyResult]:
    """Undo a set of changes in reverse order, each only if its value is still the applied one.

    With `write` false nothing is written, and the results tell what would be undone.
    """
    order = list(reversed(range(len(transaction.changes))))
    if not write:
        return [_undo_one(root, transaction, index, write=False) for index in order]
    with journal.lock(root):
        results = [_undo_one(root, transaction, index, write=True) for index in order]
        if all(each.outcome is not WriteOutcome.FAILED for each in results):
            journal.note_state(root, transaction.number, KnobState.UNDONE)
    return results


def _note_restored(root: Path, number: int) -> str:
    """Note that a set was restored; return what to tell if the journal cannot be written."""
    try:
        journal.note_state(root, number, KnobState.RESTORED)
    except OSError as error:
        return f"; the journal still has the change as interrupted: {error.strerror}"
    return ""


def _check_none_interrupted(root: Path) -> None:
    for each in journal.read_all(root):
        if each.state is KnobState.INTERRUPTED:
            raise MematlasError(
                f"change {each.number} was interrupted; undo it first: mematlas tune undo "
                f"{each.number} --yes"
            )


def _check_unchanged(root: Path, change: KnobChange) -> None:
    now = _read(root, change)
    if now != change.before:
        raise MematlasError(
            f"{change.key} is {now} now, and was {change.before} when it was planned; plan again"
        )


def _write(root: Path, change: KnobChange) -> ApplyResult:
    if change.kind is KnobKind.ONE_SHOT:
        return _run_one_shot(root, change)
    knobs.write(root, change.path, change.after)
    now = _read(root, change)
    if now == change.after:
        return ApplyResult(change.key, change.before, change.after, now, WriteOutcome.DONE)
    if change.kind is KnobKind.PARTIAL:
        return ApplyResult(
            change.key,
            change.before,
            change.after,
            now,
            WriteOutcome.PARTLY,
            _why_partly(change.after, now),
        )
    raise MematlasError(f"{change.key} reads {now} after {change.after} was written")


def _why_partly(wanted: str, now: str) -> str:
    if int(wanted) < int(now):
        return "the rest is in use, and is freed when its users release it"
    return "memory is too full or fragmented for more; try again after `compact`, or set it at boot"


def _run_one_shot(root: Path, change: KnobChange) -> ApplyResult:
    before = _count_free_blocks(root)
    if change.key == "drop_caches":
        os.sync()  # only clean pages can be dropped
    knobs.write(root, change.path, change.after)
    after = _count_free_blocks(root)
    size = format_bytes(pmd_size())
    detail = f"free blocks of {size} and more: {before} before, {after} after"
    return ApplyResult(change.key, "", change.after, "", WriteOutcome.DONE, detail)


def _count_free_blocks(root: Path) -> str:
    """Format the number of free huge pages in buddyinfo, and their share of free memory."""
    order_of_huge = (pmd_size() // PAGE).bit_length() - 1
    try:
        lines = (root / "proc/buddyinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    zones = [list(map(int, line.split()[4:])) for line in lines]
    free = sum(count << order for zone in zones for order, count in enumerate(zone))
    whole = sum(
        count << order
        for zone in zones
        for order, count in enumerate(zone)
        if order >= order_of_huge
    )
    return f"{whole >> order_of_huge} ({100 * whole / free:.1f} % of free memory)" if free else "0"


def _roll_back(root: Path, changes: tuple[KnobChange, ...]) -> str:
    """Restore values in reverse order; return the keys of those that could not be restored."""
    failed = []
    for change in reversed(changes):
        if change.kind is KnobKind.ONE_SHOT:
            continue
        try:
            # The last change is the one that failed, and may not have been written.
            if change is not changes[-1] or _read(root, change) != change.before:
                knobs.write(root, change.undo_path, change.undo_value)
        except (MematlasError, OSError):
            failed.append(change.key)
    return ", ".join(failed)


def _read(root: Path, change: KnobChange) -> str:
    if change.kind is KnobKind.ONE_SHOT:
        return ""
    try:
        return knobs.value_of((root / change.path).read_text())
    except OSError:
        return "unknown"


def _compare(
    root: Path, transaction: Transaction, index: int, now: str
) -> tuple[WriteOutcome, str]:
    """Classify a change by its current value: as applied, changed since, never written, or gone."""
    change = transaction.changes[index]
    if change.kind is KnobKind.ONE_SHOT:
        return WriteOutcome.NO_UNDO, "a one-shot action has no value"
    if change.process_start != process_start(root, change.path):
        return WriteOutcome.GONE, "the process has ended"
    if now in (change.after, transaction.read_back.get(index)):
        return WriteOutcome.KEPT, ""
    if transaction.state is KnobState.INTERRUPTED and index not in transaction.read_back:
        if now == change.before:
            return WriteOutcome.NOT_WRITTEN, ""
        if change.kind is KnobKind.PARTIAL and _is_between(now, change):
            return WriteOutcome.KEPT, "in part"
    return WriteOutcome.CHANGED, f"is {now} now, set by somebody else; not changed"


def _is_between(now: str, change: KnobChange) -> bool:
    low, high = sorted((int(change.before), int(change.after)))
    return now.isdigit() and low <= int(now) <= high


def _undo_one(root: Path, transaction: Transaction, index: int, *, write: bool) -> ApplyResult:
    change = transaction.changes[index]
    now = _read(root, change)
    outcome, detail = _compare(root, transaction, index, now)
    if outcome is WriteOutcome.KEPT and write:
        try:
            knobs.write(root, change.undo_path, change.undo_value)
            now = _read(root, change)
            outcome, detail = _check_restored(root, change, now)
        except MematlasError as error:
            outcome, detail = WriteOutcome.FAILED, str(error)
    return ApplyResult(change.key, change.before, change.after, now, outcome, detail)


def _check_restored(root: Path, change: KnobChange, now: str) -> tuple[WriteOutcome, str]:
    """Compare what the undo wrote with what its file reads."""
    restored = knobs.value_of((root / change.undo_path).read_text())
    if restored == change.undo_value:
        return WriteOutcome.RESTORED, ""
    if change.kind is KnobKind.PARTIAL:
        return WriteOutcome.PARTLY, _why_partly(change.before, now)
    return WriteOutcome.FAILED, f"/{change.undo_path} reads {restored}"
