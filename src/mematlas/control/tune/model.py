"""Knobs of the machine, plans to change them, and what became of earlier changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a knob behaves when it is written."""

    PLAIN = "plain"  # reads back what was written
    CHOICE = "choice"  # one of the words its file lists, the one in brackets
    NAME = "name"  # a word the kernel checks
    PAIRED = "paired"  # writing it zeroes its twin, and the reverse
    PARTIAL = "partial"  # the kernel does what it can, which may be less
    ONE_SHOT = "one-shot"  # an act: nothing to read, nothing to undo


@dataclass(frozen=True, slots=True)
class Knob:
    """One knob: where it is, what it means, what may go wrong."""

    key: str
    path: str
    kind: Kind
    meaning: str
    risk: str
    low: int = 0
    high: int = (1 << 63) - 1
    twin: str = ""  # PAIRED: the other's path
    words: tuple[str, ...] = ()  # CHOICE without brackets


@dataclass(frozen=True, slots=True)
class Reading:
    """A knob and its value now; None: not on this machine, or not readable, for the reason given."""

    knob: Knob
    value: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One write to come: `undo_path` and `undo_value` are what brings `before` back."""

    key: str
    path: str
    kind: Kind
    before: str
    after: str
    undo_path: str
    undo_value: str
    meaning: str
    risk: str
    process_start: int | None = None  # of the PID in the path: numbers come again


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written, in order, what is so already, and what to know first."""

    changes: tuple[Change, ...]
    unchanged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class State(StrEnum):
    """What became of a set of changes."""

    APPLIED = "applied"
    INTERRUPTED = "interrupted"  # the writer died in the midst
    RESTORED = "restored"  # a write failed, all were taken back
    UNDONE = "undone"
    LOST = "lost"  # the machine restarted since


class Outcome(StrEnum):
    """What became of one change when it was applied, verified or undone."""

    DONE = "done"
    PARTLY = "partly"
    KEPT = "as applied"
    CHANGED = "changed since"  # by somebody else: left alone
    RESTORED = "restored"
    NOT_WRITTEN = "never written"
    NO_UNDO = "cannot be undone"
    GONE = "process gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """One change and its outcome; `now` is the value read afterwards."""

    key: str
    before: str
    after: str
    now: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A set of changes that was applied together, as the journal has it."""

    number: int
    started: str
    pid: int
    state: State
    changes: tuple[Change, ...]
    got: dict[int, str]  # what was read back, by the change's place
