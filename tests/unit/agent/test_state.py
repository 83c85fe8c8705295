"""What the agent keeps on disk: reports that are read back, lines that were cut short, and a bound."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING

import pytest

from mematlas.agent import history as history_module
from mematlas.agent.history import History, read_last
from mematlas.agent.oom import store
from mematlas.agent.oom.model import OomLine, OomPart, OomProcess, OomReport, OomUsage
from mematlas.agent.watch.groups import Groups
from mematlas.agent.watch.processes import Process
from mematlas.errors import MematlasError, TargetError

if TYPE_CHECKING:
    from pathlib import Path

VICTIM = OomProcess(
    7,
    "app",
    "app --x",
    "/a",
    True,
    90,
    80,
    10,
    0,
    1,
    0,
    0,
    85,
    3.5,
    40,
    60.0,
    "r.atlas",
)
REPORT = OomReport(
    id="20261130T150000-9001", time="2026-11-30T15:00:00+00:00", source="kernel log", cause="cgroup /a reached its limit",
    constraint="CONSTRAINT_MEMCG", group="/a", limit=100, usage=100, invoked_by="app", processes=(VICTIM,), left_out=0,
    parts=(OomPart("anonymous memory", 80),), parts_age_s=3.0, usages=(OomUsage(1.0, 70),), notes=("a note",),
    lines=(OomLine(7, "leak", "a.py", 3, 70, 2, ("leak", "main")),),
)  # fmt: skip


@pytest.fixture(autouse=True)
def boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one boot."""
    monkeypatch.setattr(history_module, "read_boot", lambda: "this boot")


def no_groups() -> Groups:
    """Return no groups."""
    return Groups((2, "/nowhere"))


def test_a_report_is_read_back(tmp_path: Path) -> None:
    """As it was written, also with fields of a later version."""
    store.write_report(str(tmp_path), REPORT)
    assert store.list_reports(str(tmp_path)) == [REPORT.id]
    assert store.read_report(str(tmp_path), REPORT.id) == REPORT
    path = tmp_path / "oom" / f"{REPORT.id}.json"
    assert path.stat().st_mode & 0o077 == 0
    data = json.loads(path.read_text())
    data["data"]["later"] = data["data"]["processes"][0]["later"] = 1
    path.write_text(json.dumps(data))
    assert store.read_report(str(tmp_path), REPORT.id) == REPORT


@pytest.mark.parametrize("name", ["nothing", "../agent", "/etc/passwd"])
def test_a_report_that_is_not_there(tmp_path: Path, name: str) -> None:
    """No name reaches outside of the folder."""
    assert store.list_reports(str(tmp_path)) == []
    with pytest.raises(TargetError):
        store.read_report(str(tmp_path), name)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"data": {}}', '{"data": {"processes": [1]}}']
)
def test_a_damaged_report_is_said_to_be(tmp_path: Path, text: str) -> None:
    """One line, and no traceback."""
    (tmp_path / "oom").mkdir()
    (tmp_path / "oom" / "a.json").write_text(text)
    with pytest.raises(MematlasError, match="is damaged"):
        store.read_report(str(tmp_path), "a")


def test_the_disk_is_bounded(tmp_path: Path) -> None:
    """The oldest recordings go first, then the oldest reports; what is being written stays."""
    for folder in ("recordings", "oom"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        for path in (
            tmp_path / "recordings" / f"{number}.atlas",
            tmp_path / "oom" / f"2-{number}.json",
        ):
            path.write_bytes(os.urandom(100_000))
            os.utime(path, (number, number))
    busy = str(tmp_path / "recordings" / "0.atlas")
    assert store.prune(str(tmp_path), 900_000, [busy]) <= 900_000
    left = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    assert left[0] == "0.atlas"
    assert len(list((tmp_path / "oom").iterdir())) == 6
    assert store.prune(str(tmp_path), 250_000, [busy]) <= 250_000
    assert (tmp_path / "recordings" / "0.atlas").exists()
    assert store.list_reports(str(tmp_path)) == ["2-5"]


def test_reports_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills without end do not fill the folder, though each report is small."""
    monkeypatch.setattr(store, "MOST_REPORTS", 5)
    for number in range(9):
        store.write_report(str(tmp_path), dataclasses.replace(REPORT, id=f"2026-{number}"))
        os.utime(tmp_path / "oom" / f"2026-{number}.json", (number, number))
    store.prune(str(tmp_path), 1 << 30)
    assert store.list_reports(str(tmp_path)) == [f"2026-{number}" for number in (8, 7, 6, 5, 4)]


def test_what_was_seen_last_is_read_after_a_kill_at_any_byte(tmp_path: Path) -> None:
    """A line that was cut short is skipped: what was whole before it is read."""
    history = History(str(tmp_path))
    process = Process.restored([7, 70, 0, "app", "app --x", "/a", 500])
    history.write_all(3, no_groups(), [process])
    history.write_near({"/a": (9, {}), "": (0, {7: 600})})
    history.close()
    path = tmp_path / "history.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        last = read_last(str(tmp_path))
        if end < first:
            assert last is None
        else:
            assert last
            assert last.kills == 3
            assert last.processes[0][6] == (600 if end == len(whole) else 500)


def test_the_history_is_bounded_and_another_boot_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files of a given size at most."""
    history = History(str(tmp_path), most_bytes=2000)
    for number in range(200):
        history.write_all(number, no_groups(), [])
    history.close()
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 2000
    last = read_last(str(tmp_path))
    assert last
    assert last.kills == 199
    monkeypatch.setattr(history_module, "read_boot", lambda: "another boot")
    assert read_last(str(tmp_path)) is None


def test_a_full_disk_is_counted(tmp_path: Path) -> None:
    """The agent goes on where nothing can be written."""
    history = History(str(tmp_path), most_bytes=10)
    (tmp_path / "history.1.jsonl").mkdir()
    history.write_all(1, no_groups(), [])
    assert history.failures == 1
