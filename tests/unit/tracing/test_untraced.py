"""Which execs count as untraced: each start of a traced image belongs to one exec of its process."""

from __future__ import annotations

import pytest

from mematlas.linux.exec_records import ExecRecord
from mematlas.tracing import untraced
from mematlas.tracing.untraced import UntracedWatch


class Records:
    """Records that a test chose."""

    def __init__(self, *records: ExecRecord) -> None:
        """Keep them for one call of take()."""
        self.records, self.lost = list(records), 0

    def take(self) -> list[ExecRecord]:
        """Return them once."""
        taken, self.records = self.records, []
        return taken

    def close(self) -> None:
        """Do nothing."""


NO_PID = (1 << 22) + 1  # above pid_max: nothing is read


def lines(
    monkeypatch: pytest.MonkeyPatch,
    execs: list[tuple[int, float]],
    joined: list[tuple[int, float]],
    refused: set[int] | None = None,
) -> list[str]:
    """Return the lines of a watch that saw these execs."""
    records = Records(*(ExecRecord(at, NO_PID + pid, f"p{pid}@{at}") for pid, at in execs))
    monkeypatch.setattr(untraced, "ExecRecords", lambda: records)
    monkeypatch.setattr(untraced, "_read_program", lambda _image: None)
    monkeypatch.setattr(untraced, "_read_peak", lambda _image: None)
    watch = UntracedWatch()
    pairs = [(NO_PID + pid, at) for pid, at in joined]
    watch.look(pairs[:1])
    return watch.finish(pairs, {NO_PID + pid for pid in refused or ()})


@pytest.mark.parametrize(
    ("execs", "joined", "names"),
    [
        ([(1, 1.0)], [(1, 1.1)], []),
        ([(1, 1.0)], [], ["p1@1.0"]),
        ([(1, 1.0), (1, 2.0)], [(1, 1.1)], ["p1@2.0"]),
        ([(1, 1.0), (1, 2.0)], [(1, 2.1)], ["p1@1.0"]),
        ([(1, 1.0), (1, 2.0)], [(1, 1.1), (1, 2.1)], []),
        ([(1, 1.0), (2, 1.0)], [(2, 1.1)], ["p1@1.0"]),
        ([(1, 1.0)], [(1, 0.5)], ["p1@1.0"]),
        ([(1, 1.0), (1, 1.0008)], [(1, 1.0005), (1, 1.1)], []),
    ],
)
def test_starts_belong_to_execs(
    monkeypatch: pytest.MonkeyPatch,
    execs: list[tuple[int, float]],
    joined: list[tuple[int, float]],
    names: list[str],
) -> None:
    """An exec without a start before the next exec of its PID ran untraced."""
    found = lines(monkeypatch, execs, joined)
    assert [line.split(", ")[1].split(":")[0] for line in found] == names
    assert all("its memory is not known" in line for line in found)


def test_refused_processes_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracer's own reason stands in another note."""
    assert lines(monkeypatch, [(1, 1.0), (2, 1.0)], [], {1})[0].startswith(
        f"ran untraced: PID {NO_PID + 2}"
    )


def test_many_programs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes name twenty programs at most."""
    found = lines(monkeypatch, [(pid, 1.0) for pid in range(30)], [])
    assert (len(found), found[-1]) == (21, "10 more programs ran untraced")


def test_a_refusal_of_the_kernel_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where perf_event_open is forbidden nothing is named, and the watch says why."""

    def refuse() -> Records:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(untraced, "ExecRecords", refuse)
    watch = UntracedWatch()
    assert (watch.refused, watch.finish([], set())) == (
        "perf_event_open: Operation not permitted",
        [],
    )
