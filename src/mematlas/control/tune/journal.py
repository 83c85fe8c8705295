"""What is about to be changed, on disk before it is: /var/lib/mematlas/tune/NUMBER.jsonl.

The first line of a file holds all changes with their old values, and is synced before the first write.
Later lines tell what was read back, and the state. A file that ends without a state was interrupted.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from mematlas.control.tune.model import Change, Kind, State, Transaction
from mematlas.errors import AccessError, MematlasError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "var/lib/mematlas/tune"
_BOOT = "proc/sys/kernel/random/boot_id"


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keep others from changing knobs through mematlas meanwhile."""
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
                "another `mematlas tune` is at work; try again when it is done"
            ) from None
        yield
    finally:
        os.close(descriptor)


def begin(root: Path, changes: tuple[Change, ...]) -> int:
    """Write down what is to come, and return its number once that is on disk."""
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


def note_got(root: Path, number: int, place: int, value: str) -> None:
    """Note what a change read back as."""
    _append(root, number, {"got": value, "place": place})


def note_state(root: Path, number: int, state: State) -> None:
    """Note what became of it all."""
    _append(root, number, {"state": state.value})


def read_all(root: Path) -> list[Transaction]:
    """All there were, oldest first."""
    return [each for each in (_read(root, path) for path in _files(root)) if each]


def last_standing(root: Path, number: int | None = None) -> Transaction:
    """Find the last set of changes that stands, or the one with a number."""
    standing = (State.APPLIED, State.INTERRUPTED)
    for each in reversed(read_all(root)):
        if each.number == number or (number is None and each.state in standing):
            if each.state not in standing:
                raise MematlasError(f"change {each.number} is {each.state} already")
            return each
    what = "no change stands" if number is None else f"there is no change {number}"
    raise TargetError(f"{what}; see `mematlas tune history`")


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
        os.write(descriptor, json.dumps(line).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(root: Path, path: Path) -> Transaction | None:
    """Read one file; None where not even its first line got whole: then nothing was written."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break  # the line it died in
    if not lines:
        return None
    head = lines[0]
    states = [State(line["state"]) for line in lines if "state" in line]
    found = Transaction(
        number=int(path.stem),
        started=head["started"],
        pid=head["pid"],
        state=states[-1] if states else State.INTERRUPTED,
        changes=tuple(Change(**{**each, "kind": Kind(each["kind"])}) for each in head["changes"]),
        got={line["place"]: line["got"] for line in lines if "got" in line},
    )
    if head["boot"] != _boot(root) and found.state in (State.APPLIED, State.INTERRUPTED):
        return replace(found, state=State.LOST)
    return found
