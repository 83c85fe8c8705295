"""The journal of `mematlas tune`: on disk before the first write, right after a kill at any place."""

from __future__ import annotations

import json
import os
import signal
from itertools import count
from pathlib import Path

import pytest

from knob_tree import VM, WANTED, change, values
from machine_state import in_child
from mematlas.cli.main import main
from mematlas.control.tune import apply, journal, knobs, plan
from mematlas.control.tune.model import KnobState, WriteOutcome
from mematlas.errors import MematlasError, TargetError


def test_journal_is_on_disk_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old values and the directory are synced before the first write."""
    events: list[str] = []
    sync, write = os.fsync, knobs.write

    def note_sync(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def note_write(root: Path, path: str, value: str) -> None:
        events.append(f"write {path}")
        write(root, path, value)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(knobs, "write", note_write)
    change(root)
    assert events[:3] == ["sync 0001.jsonl", "sync tune", f"write {VM}/swappiness"]
    head = json.loads((root / journal.FOLDER / "0001.jsonl").read_text().splitlines()[0])
    assert [each["before"] for each in head["changes"]] == ["60", "0", "65530"]


@pytest.mark.parametrize("place", range(len(WANTED) + 1))
def test_killed_between_two_writes(root: Path, place: int) -> None:
    """After a kill -9 before any write, or after the last one, undo restores everything."""
    before = values(root)

    def die(now: int) -> None:
        if now == place:
            os.kill(os.getpid(), signal.SIGKILL)

    made = plan.make(root, WANTED)
    assert in_child(lambda: bool(apply.apply(root, made, die))) == -signal.SIGKILL
    written = [key for key, value in values(root).items() if value != before[key]]
    assert len(written) == place
    with pytest.raises(MematlasError, match="was interrupted; undo it first"):
        change(root)
    found = journal.find_applied(root)
    assert found.state is KnobState.INTERRUPTED
    results = apply.undo(root, found, write=True)
    expected = [WriteOutcome.NOT_WRITTEN] * (3 - place) + [WriteOutcome.RESTORED] * place
    assert [each.outcome for each in results] == expected
    assert values(root) == before
    change(root)


def test_killed_between_write_and_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is not in the journal yet is restored too, also a partial one."""
    before = values(root)
    write = knobs.write

    def act() -> bool:
        monkeypatch.setattr(knobs, "write", lambda r, p, _: write(r, p, "7"))
        monkeypatch.setattr(
            journal, "note_read_back", lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        )
        return bool(change(root, {"hugepages.2M": "64"}))

    assert in_child(act) == -signal.SIGKILL
    assert values(root)["hugepages.2M"] == "7"
    apply.undo(root, journal.find_applied(root), write=True)
    assert values(root) == before


def test_killed_while_the_journal_was_written(root: Path) -> None:
    """An incomplete first line means that nothing was written; the next change has a new file."""
    change(root)
    file = root / journal.FOLDER / "0001.jsonl"
    file.write_text(file.read_text()[:100])
    assert journal.read_all(root) == []
    assert change(root, {"vm.swappiness": "20"}) == 2
    assert journal.find_applied(root).number == 2


def test_a_reboot_ends_it(root: Path) -> None:
    """Values do not survive a reboot, so a change from before the reboot is not undone."""
    number = change(root)
    (root / "proc/sys/kernel/random/boot_id").write_text("two\n")
    assert journal.read_all(root)[0].state is KnobState.LOST
    with pytest.raises(TargetError, match="no change is applied"):
        journal.find_applied(root)
    with pytest.raises(MematlasError, match="lost already"):
        journal.find_applied(root, number)


@pytest.mark.parametrize(
    "text",
    [
        '{"started": 1}\n',
        "[]\n",
        '"x"\n{"state": "applied"}\n',
        "\xff\xfe\n",
        '{"started": "", "pid": 1, "boot": "one", "changes": [{"key": 1}]}\n',
        '{"started": "", "pid": 1, "boot": "one", "changes": []}\n{"state": "odd"}\n',
        '{"started": "", "pid": 1, "boot": "one", "changes": []}\nno JSON\n{"state": "applied"}\n',
    ],
)
def test_a_damaged_file_of_the_journal(root: Path, text: str) -> None:
    """The file is listed as damaged, and other changes are made and undone."""
    folder = root / journal.FOLDER
    folder.mkdir(parents=True)
    (folder / "0001.jsonl").write_text(text, encoding="latin-1")
    number, _ = apply.apply(root, plan.make(root, {"vm.swappiness": "10"}))
    assert [each.state for each in journal.read_all(root)] == [KnobState.DAMAGED, KnobState.APPLIED]
    assert journal.find_applied(root).number == number == 2
    assert main(["tune", "history", "--root", str(root)]) == 0
    with pytest.raises(MematlasError, match="damaged; restore the values by hand"):
        journal.find_applied(root, 1)


def test_an_interrupted_action_can_be_cleared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that an action left open is closed by undo, so that apply() runs again."""
    made = plan.make(root, {"compact": "1"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(knobs, "write", die)
    with pytest.raises(KeyboardInterrupt):
        apply.apply(root, made)
    monkeypatch.undo()
    if journal.read_all(root)[-1].state is KnobState.INTERRUPTED:
        assert journal.find_undoable(root).number == 1


@pytest.mark.parametrize("line", [1, 2, 3])
def test_no_space_for_the_journal(root: Path, monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    """A line that does not fit leaves no part of it, and all values are restored."""
    before, write = values(root), os.write
    lines = count(1)

    def write_less(descriptor: int, data: bytes) -> int:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        torn = name == "0001.jsonl" and next(lines) == line
        return write(descriptor, data[:10] if torn else data)

    monkeypatch.setattr(os, "write", write_less)
    with pytest.raises(MematlasError if line > 1 else OSError, match="no space"):
        change(root)
    assert values(root) == before
    states = [each.state for each in journal.read_all(root)]
    assert states == ([KnobState.RESTORED] if line > 1 else [])
