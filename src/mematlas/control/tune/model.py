"""Kernel knobs, plans to change them, and the results of changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class KnobKind(StrEnum):
    """How a knob behaves when it is written."""

    PLAIN = "plain"  # reads back as written
    CHOICE = "choice"  # one of the words its file lists; the current one is in brackets
    NAME = "name"  # a word that the kernel checks
    PAIRED = "paired"  # writing one of two files sets the other one to zero
    PARTIAL = "partial"  # the kernel does what it can, which may be less
    TEXT = "text"  # numbers or words that the kernel checks
    ONE_SHOT = "one-shot"  # writing triggers an action: no value to read back or to undo


@dataclass(frozen=True, slots=True)
class Knob:
    """A file of the kernel that takes a value, with its meaning and the risk of changing it."""

    key: str
    path: str  # relative to the root directory
    kind: KnobKind
    meaning: str
    risk: str
    low: int = 0
    high: int = (1 << 63) - 1
    counterpart: str = ""  # PAIRED: path of the other file
    words: tuple[str, ...] = ()  # CHOICE whose file has no brackets


@dataclass(frozen=True, slots=True)
class Reading:
    """A knob and its current value; value None: it does not exist here or cannot be read, for `reason`."""

    knob: Knob
    value: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class KnobChange:
    """A planned write. Writing `undo_value` to `undo_path` restores `before`."""

    key: str
    path: str
    kind: KnobKind
    before: str
    after: str
    undo_path: str
    undo_value: str
    meaning: str
    risk: str
    process_start: int | None = None  # start time of the PID in the path: PIDs are reused


@dataclass(frozen=True, slots=True)
class Plan:
    """Planned writes in order, the values that are set already, and notes on what may override them."""

    changes: tuple[KnobChange, ...]
    unchanged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class KnobState(StrEnum):
    """State of a set of changes."""

    APPLIED = "applied"
    INTERRUPTED = "interrupted"  # mematlas died while it wrote them
    RESTORED = "restored"  # a write failed, and all were rolled back
    UNDONE = "undone"
    LOST = "lost"  # the machine was rebooted since
    DAMAGED = "damaged"  # the journal's file cannot be read: nothing is known of the change


class WriteOutcome(StrEnum):
    """Outcome of one change when it was applied, verified or undone."""

    DONE = "done"
    PARTLY = "partly"
    KEPT = "as applied"
    CHANGED = "changed since"  # by somebody else: not undone
    RESTORED = "restored"
    NOT_WRITTEN = "never written"
    NO_UNDO = "cannot be undone"
    GONE = "process gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """One change and its outcome; `now` is the value read afterwards."""

    key: str
    before: str
    after: str
    now: str
    outcome: WriteOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A set of changes that were applied together, as the journal has them."""

    number: int
    started: str
    pid: int
    state: KnobState
    changes: tuple[KnobChange, ...]
    read_back: dict[int, str]  # value read after the write, by index in `changes`
