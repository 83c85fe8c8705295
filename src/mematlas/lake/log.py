"""The log of a lake: numbered commits, each of which adds and replaces files in one step.

A file belongs to the lake if a commit added it and no later one replaced it. So a writer that is killed leaves files
that nobody reads. A commit is created only where its number is free: of two writers at once, the second reads
the commit of the first and decides again. Each 64th commit has the whole state.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mematlas.errors import MematlasError, UnsupportedError, UsageError
from mematlas.lake import schema, storage
from mematlas.lake.model import LakeFile, LakeState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mematlas.lake.storage import Storage

FOLDER = "log"
_HEAD = "lake.json"
WHOLE = 64  # commits from one with the whole state to the next
_ATTEMPTS = 200
_LONGEST_WAIT_S = 1.0


def make_lake(store: Storage) -> None:
    """Make a lake, unless there is one. UsageError if the folder has other files."""
    found = [each for each in store.names("") if not each.startswith(".")]
    if _HEAD in found:
        _check_head(store)
        return
    if set(found) - {FOLDER, *schema.TABLES}:
        raise UsageError(f"{store.name} is not empty and no lake; name a new folder")
    head = json.dumps({"schema": schema.LAKE}).encode()
    if not store.create(_HEAD, head):
        _check_head(store)


def _check_head(store: Storage) -> None:
    try:
        found = str(json.loads(store.read(_HEAD))["schema"])
    except FileNotFoundError:
        raise storage.missing(store.name) from None
    except (ValueError, KeyError, TypeError):
        raise MematlasError(f"{store.name}/{_HEAD} is damaged") from None
    if found != schema.LAKE:
        raise UnsupportedError(
            f"{store.name} has the schema {found}, and this mematlas knows {schema.LAKE}"
        )


def read_state(store: Storage, since: LakeState | None = None) -> LakeState:
    """Return the newest state of a lake, or `since` itself if nothing was committed after it."""
    if since is None:
        _check_head(store)
    for _ in range(3):
        try:
            return _replay(store, sorted(_numbers(store)), since)
        except FileNotFoundError as error:
            # A listing may lack a file that is made meanwhile, and an old commit may be removed after a newer state.
            since, missing = None, error
    raise MematlasError(f"{store.name}: {missing} is missing; the log is damaged")


def _replay(store: Storage, numbers: list[int], since: LakeState | None) -> LakeState:
    state = since or LakeState()
    newest = numbers[-1] if numbers else 0
    whole = newest - newest % WHOLE
    first = max(state.number + 1, whole)
    expected = list(range(max(first, 1), newest + 1))
    if newest <= state.number:
        return state
    if missing := sorted(set(expected) - set(numbers)):
        raise FileNotFoundError(_entry(missing[0]))
    for number in expected:
        try:
            entry = json.loads(store.read(_entry(number)))
            state = _applied(state, entry, number)
        except (ValueError, KeyError, TypeError):
            raise MematlasError(f"{store.name}/{_entry(number)} is damaged") from None
    return state


def _applied(state: LakeState, entry: dict[str, Any], number: int) -> LakeState:
    if "state" in entry:
        whole = entry["state"]
        files = [LakeFile(**each) for each in whole["files"]]
        return LakeState(number, {each.path: each for each in files}, dict(whole["replaced"]))
    added = [LakeFile(**each) for each in entry["added"]]
    return _next(state, added, entry["removed"], entry["deleted"], entry["time"])


def _next(
    state: LakeState,
    added: Sequence[LakeFile],
    removed: Sequence[str],
    deleted: Sequence[str],
    now: float,
) -> LakeState:
    files = {path: each for path, each in state.files.items() if path not in set(removed)}
    files.update((each.path, each) for each in added)
    replaced = state.replaced | dict.fromkeys(removed, now)
    kept = {path: at for path, at in replaced.items() if path not in set(deleted)}
    return LakeState(state.number + 1, files, kept)


class Commit:
    """What one commit changes."""

    def __init__(
        self,
        added: Sequence[LakeFile] = (),
        removed: Sequence[str] = (),
        deleted: Sequence[str] = (),
    ) -> None:
        """Add files, replace files, and forget files that were deleted."""
        self.added, self.removed, self.deleted = added, removed, deleted


def commit(
    store: Storage, action: str, decide: Callable[[LakeState], Commit | None]
) -> tuple[LakeState, bool]:
    """Commit what `decide` returns for the newest state; it is asked again after a commit of another writer.

    Returns the state, and whether there was a commit: `decide` may return None. A store whose answer was lost says that
    the number is taken, by this very commit, so that each commit has an ID of its own.
    """
    state, mine = read_state(store), secrets.token_hex(8)
    for attempt in range(_ATTEMPTS):
        change = decide(state)
        if change is None:
            return state, False
        now = time.time()
        after = _next(state, change.added, change.removed, change.deleted, now)
        entry = _encode(after, change, action, now, mine)
        if store.create(_entry(after.number), entry) or _is_own(store, after.number, mine):
            return after, True
        time.sleep(random.uniform(0, min(_LONGEST_WAIT_S, 0.002 * 2**attempt)))
        state = read_state(store, state)
    raise MematlasError(f"{store.name}: other writers were faster {_ATTEMPTS} times; try again")


def _is_own(store: Storage, number: int, mine: str) -> bool:
    try:
        return bool(json.loads(store.read(_entry(number))).get("id") == mine)
    except (FileNotFoundError, ValueError, AttributeError):
        return False


def _encode(after: LakeState, change: Commit, action: str, now: float, mine: str) -> bytes:
    entry: dict[str, Any] = {"schema": "mematlas/lake-log/1", "action": action, "time": now}
    entry["id"] = mine
    if after.number % WHOLE:
        entry["added"] = [asdict(each) for each in change.added]
        entry["removed"], entry["deleted"] = list(change.removed), list(change.deleted)
    else:
        files = [asdict(each) for each in after.files.values()]
        entry["state"] = {"files": files, "replaced": after.replaced}
    return json.dumps(entry, separators=(",", ":")).encode()


def _entry(number: int) -> str:
    return f"{FOLDER}/{number:012}.json"


def remove_old_entries(store: Storage, state: LakeState, before: float) -> None:
    """Remove commits that the newest whole state makes superfluous, if changed before a Unix time."""
    whole = state.number - state.number % WHOLE
    changed = dict(store.paths(FOLDER))
    for path in [_entry(number) for number in _numbers(store) if number < whole]:
        if changed.get(path, before) < before:
            store.remove(path)


def _numbers(store: Storage) -> list[int]:
    return [int(each[:-5]) for each in store.names(FOLDER) if each.endswith(".json")]
