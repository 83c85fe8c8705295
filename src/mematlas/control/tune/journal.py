"""The journal of changes: one file /var/lib/mematlas/tune/NUMBER.jsonl per set.

The first line of a file holds all changes with their old values, and is synced before the first write.
Later lines hold the values read back, and the final state. A file without a state was interrupted.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mematlas.control.tune.model import KnobChange, KnobKind, KnobState, Transaction
from mematlas.errors import AccessError, MematlasError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FOLDER = "var/lib/mematlas/tune"
_BOOT = "proc/sys/kernel/random/boot_id"


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the journal's lock: one mematlas changes knobs at a time.

    Raises:
        AccessError: the journal cannot be written.
        MematlasError: another mematlas holds the lock.
    """
    folder = root / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise AccessError(f"/{FOLDER} cannot be written; run as root") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MematlasError(
                "another `mematlas tune` is running; try again when it has finished"
            ) from None
        yield
    finally:
        os.close(descriptor)


def begin(root: Path, changes: tuple[KnobChange, ...]) -> int:
    """Write planned changes to a new file, sync it and its directory, and return its number."""
    number = 1 + max((int(path.stem) for path in _files(root)), default=0)
    head = {
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "pid": os.getpid(),
        "boot": _boot(root),
        "changes": [asdict(change) for change in changes],
    }
    _append(root, number, head)
    folder = os.open(root / FOLDER, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return number


def note_read_back(root: Path, number: int, index: int, value: str) -> None:
    """Append the value that was read after a change was written."""
    _append(root, number, {"read_back": value, "index": index})


def note_state(root: Path, number: int, state: KnobState) -> None:
    """Append the state of a set of changes."""
    _append(root, number, {"state": state.value})


def read_all(root: Path) -> list[Transaction]:
    """Read all sets of changes, the oldest first.

    AccessError without the right to read the journal.
    """
    return [each for each in (_read(root, path) for path in _files(root)) if each]


def find_applied(root: Path, number: int | None = None) -> Transaction:
    """Return the set of changes with a number, or the last one that is applied or interrupted.

    Raises:
        TargetError: there is none.
        MematlasError: it was restored, undone or lost already.
    """
    undoable = (KnobState.APPLIED, KnobState.INTERRUPTED)
    for each in reversed(read_all(root)):
        if each.number == number or (number is None and each.state in undoable):
            if each.state is KnobState.DAMAGED:
                raise MematlasError(
                    f"change {each.number} cannot be undone: {_path(root, each.number)} is damaged; "
                    "restore the values by hand and remove the file"
                )
            if each.state not in undoable:
                raise MematlasError(f"change {each.number} is {each.state} already")
            return each
    what = "no change is applied" if number is None else f"there is no change {number}"
    raise TargetError(f"{what}; see `mematlas tune history`")


def find_undoable(root: Path, number: int | None = None) -> Transaction:
    """Return the set of changes with a number, or the last one that has a value to restore.

    Raises:
        TargetError: there is none.
        MematlasError: it was restored, undone or lost already, or consists of one-shot actions.
    """
    if number is None:
        undoable = [
            each.number
            for each in read_all(root)
            if each.state is KnobState.INTERRUPTED
            or (each.state is KnobState.APPLIED and can_be_undone(each.changes))
        ]
        number = max(undoable, default=None)
    found = find_applied(root, number)
    if found.state is KnobState.APPLIED and not can_be_undone(found.changes):
        actions = ", ".join(change.key for change in found.changes)
        if number is None:
            raise TargetError(f"no change has a value to restore; the last one was {actions}")
        raise MematlasError(f"change {number} cannot be undone: {actions} has no value to restore")
    return found


def can_be_undone(changes: Iterable[KnobChange]) -> bool:
    """Return whether any of the changes has a value to restore: one-shot actions have none."""
    return any(change.kind is not KnobKind.ONE_SHOT for change in changes)


def _boot(root: Path) -> str:
    return (root / _BOOT).read_text().strip()


def _files(root: Path) -> list[Path]:
    return sorted((root / FOLDER).glob("[0-9]*.jsonl"), key=lambda path: int(path.stem))


def _path(root: Path, number: int) -> Path:
    return root / FOLDER / f"{number:04}.jsonl"


def _append(root: Path, number: int, line: dict[str, Any]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(_path(root, number), flags, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        data = json.dumps(line).encode() + b"\n"
        if os.write(descriptor, data) < len(data):
            os.ftruncate(descriptor, before)  # or the next line would join the torn one
            raise OSError(errno.ENOSPC, "the journal has no space", str(_path(root, number)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(root: Path, path: Path) -> Transaction | None:
    """Read one file; None if its first line is incomplete: no knob was written then."""
    try:
        content = path.read_bytes()
    except PermissionError:
        raise AccessError(f"/{FOLDER} cannot be read; run as root") from None
    if b"\n" not in content:
        return None
    number = int(path.stem)
    try:
        return _parse(root, number, content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Transaction(number, "", 0, KnobState.DAMAGED, (), {})


def _parse(root: Path, number: int, content: bytes) -> Transaction:
    """Parse the lines of one file; ValueError, KeyError, TypeError or AttributeError: it is damaged."""
    whole = content[: content.rindex(b"\n")]  # mematlas may have died while it wrote the last line
    lines = [dict(json.loads(text)) for text in whole.split(b"\n")]
    head = lines[0]
    states = [KnobState(line["state"]) for line in lines if "state" in line]
    found = Transaction(
        number=number,
        started=str(head["started"]),
        pid=int(head["pid"]),
        state=states[-1] if states else KnobState.INTERRUPTED,
        changes=tuple(
            KnobChange(**{**each, "kind": KnobKind(each["kind"])}) for each in head["changes"]
        ),
        read_back={
            int(line["index"]): str(line["read_back"]) for line in lines if "read_back" in line
        },
    )
    if head["boot"] != _boot(root) and found.state in (KnobState.APPLIED, KnobState.INTERRUPTED):
        return replace(found, state=KnobState.LOST)
    return found
