"""Which execs count as untraced: each start of a traced image belongs to one exec of its process."""

from __future__ import annotations

import pytest

from mematlas._core import LeftKind
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
    return watch.finish(pairs[1:], {NO_PID + pid for pid in refused or ()})


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


def test_what_is_read_after_the_next_exec_is_of_the_next_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a chain of execs no program has the command, the reason or the peak of a later one."""
    now = 10.0
    records = Records(ExecRecord(1.0, NO_PID, "first"), ExecRecord(2.0, NO_PID, "second"))

    def read(image: untraced.Image) -> None:
        image.command, image.left = f"as of {now}", LeftKind.STATIC

    def read_peak(image: untraced.Image) -> None:
        image.peak_before, image.peak_s = image.peak_bytes, now
        image.peak_bytes = int(now) << 20

    monkeypatch.setattr(untraced, "ExecRecords", lambda: records)
    monkeypatch.setattr(untraced, "_read_program", read)
    monkeypatch.setattr(untraced, "_read_peak", read_peak)
    monkeypatch.setattr("mematlas.tracing.untraced.time.monotonic", lambda: now)
    watch = UntracedWatch()
    watch.look([])  # `second` is read, and its peak
    now = 20.0
    watch.look([])
    now = 40.0
    records.records = [ExecRecord(15.0, NO_PID, "third"), ExecRecord(50.0, NO_PID, "fourth")]
    assert [line.partition(", ")[2] for line in watch.finish([], set())] == [
        "as of 40.0: peak RSS 40.0 MiB; static: it loads no libraries",
        "as of 10.0: peak RSS 10.0 MiB; static: it loads no libraries",
        "first: its memory is not known: it ended before it could be read; it did not open the session",
        "third: its memory is not known: it ended before it could be read; it did not open the session",
    ]


def test_a_program_that_was_read_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next exec may be recorded after what it replaced was looked for."""
    records = Records(ExecRecord(1.0, NO_PID, "first"))

    def read(image: untraced.Image) -> None:
        image.command, image.left = "second --option", LeftKind.STATIC

    monkeypatch.setattr(untraced, "ExecRecords", lambda: records)
    monkeypatch.setattr(untraced, "_read_program", read)
    monkeypatch.setattr(untraced, "_read_peak", lambda _image: None)
    monkeypatch.setattr("mematlas.tracing.untraced.time.monotonic", lambda: 3.0)
    watch = UntracedWatch()
    watch.look([])
    records.records = [ExecRecord(2.0, NO_PID, "second")]
    found = [line.partition(", ")[2].partition(":")[0] for line in watch.finish([], set())]
    assert found == ["first", "second --option"]


def test_untraced_programs_of_weeks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some thousand the smallest are a number, and starts without an exec go."""
    count = 5000
    records = Records(*(ExecRecord(1.0, NO_PID + each, f"p{each}") for each in range(count)))
    monkeypatch.setattr(untraced, "ExecRecords", lambda: records)
    monkeypatch.setattr(untraced, "_read_program", lambda _image: None)
    monkeypatch.setattr(untraced, "_read_peak", lambda image: setattr(image, "ended", True))
    monkeypatch.setattr(untraced, "_JOINS_S", -1e9)
    monkeypatch.setattr(untraced, "_LOOK_S", 0.0)
    watch = UntracedWatch()
    watch.look([(1, float(each)) for each in range(count)])
    assert len(watch._images) == untraced._MOST_ENDED
    assert len(watch._starts) == untraced._MOST_STARTS
    assert watch.has_some([])
    assert watch.finish([], set())[-1] == f"{count - 20} more programs ran untraced"
