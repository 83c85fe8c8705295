"""Which processes of a set are entered, and when the set is over."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from mematlas.tracing import entries
from mematlas.tracing.entries import Entries


@dataclass
class Some:
    """Members that a test chose."""

    pids: list[int] = field(default_factory=lambda: [7, 8])
    name: str = "some"

    def read(self) -> list[int]:
        """Return them."""
        return self.pids


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the PIDs that count as zombies."""
    found: set[int] = set()
    monkeypatch.setattr(entries, "_own_line", set)
    monkeypatch.setattr(entries, "_key", lambda pid: None if pid in found else (pid, 0, 0, 0, 0))
    monkeypatch.setattr(entries, "has_ended", found.__contains__)
    monkeypatch.setattr(entries, "_program", lambda pid: f"p{pid}")
    monkeypatch.setattr(entries, "_resident", lambda _pid: None)
    return found


def test_zombies_do_not_keep_a_recording_open(ended: set[int]) -> None:
    """They wait for their parent, perhaps for ever."""
    found = Entries(Some(), lambda _pid: None)
    found.enter_all()
    assert (set(found.entered), found.empty) == ({7, 8}, False)
    ended |= {7, 8}
    found.enter_all()
    assert found.empty


@pytest.mark.usefixtures("ended")
def test_an_error_of_the_system_reads_as_text() -> None:
    """Notes are for people."""

    def refuse(_pid: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/proc/7/mem")

    found = Entries(Some([7]), refuse)
    found.enter_all()
    assert found.describe() == ["not traced: PID 7 (p7): Permission denied"]


def test_processes_that_have_ended_are_forgotten(ended: set[int]) -> None:
    """A set that is recorded for weeks starts processes without end; the notes name some of the refused ones."""

    def refuse_odd(pid: int) -> None:
        if pid % 2:
            raise PermissionError(errno.EACCES, "Permission denied")

    some = Some([])
    found = Entries(some, refuse_odd)
    for pid in range(10, 410):
        ended.add(pid - 1)
        some.pids = [pid]
        found.enter_all()
    assert (set(found.entered), [each.pid for each in found.refusals.values()]) == (set(), [409])
    notes = found.describe()
    assert notes[0] == "not traced: PID 11 (p11): Permission denied"
    assert notes[-1] == "not traced: 99 more processes, which have ended"
    assert len(notes) == 102


def test_a_refused_process_that_leaves_and_returns_is_told_once(ended: set[int]) -> None:
    """It was moved to another cgroup, and runs: it is tried no more often, and has not ended."""
    tries: list[int] = []

    def refuse(pid: int) -> None:
        tries.append(pid)
        raise PermissionError(errno.EACCES, "Permission denied")

    some = Some([7])
    found = Entries(some, refuse)
    for _ in range(2):
        for pids in ([7], [7], [7], []):
            some.pids = pids
            found.enter_all()
    assert tries == [7, 7, 7]
    assert found.describe() == ["not traced: PID 7 (p7): Permission denied"]
    ended.add(7)
    found.enter_all()
    assert not found.refusals
    assert found.describe() == ["not traced: PID 7 (p7): Permission denied"]


def test_a_pid_that_is_given_again_is_another_process(
    ended: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before has ended, though a process of its PID runs elsewhere."""
    some = Some([7])
    found = Entries(some, lambda _pid: None)
    found.enter_all()
    monkeypatch.setattr(entries, "_key", lambda pid: (pid, 1, 0, 0, 0))
    some.pids = []
    found.enter_all()
    assert not found.entered
    assert not ended


@pytest.mark.usefixtures("ended")
def test_a_process_that_is_traced_is_not_entered_again_when_it_leaves_and_returns() -> None:
    """As one that is moved to another cgroup and back."""
    entered: list[int] = []
    some = Some([7])
    found = Entries(some, entered.append)
    found.enter_all()
    found.traced = frozenset({7})
    for pids in ([], [7]):
        some.pids = pids
        found.enter_all()
    assert entered == [7]
