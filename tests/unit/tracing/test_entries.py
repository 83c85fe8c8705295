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
    assert (set(found.entered.values()), found.empty) == ({7, 8}, False)
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
