"""`mematlas tune`: writes need --yes, are atomic and journalled, and keep the changes of others."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from knob_tree import VM, WANTED, change, values
from machine_state import as_nobody
from mematlas.cli.main import main
from mematlas.control.tune import apply, journal, knobs, plan
from mematlas.control.tune.model import KnobState, WriteOutcome
from mematlas.errors import MematlasError

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the machine")


def test_round_trip(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Apply, verify and undo: values are set, then restored, and history lists the change."""
    before = values(root)
    tail = ["--root", str(root)]
    assert main(["tune", "apply", "swappiness=10", "thp.enabled=always", "--yes", *tail]) == 0
    after = values(root)
    assert (after["vm.swappiness"], after["thp.enabled"]) == ("10", "always")
    assert main(["tune", "verify", *tail]) == 0
    assert main(["tune", "undo", *tail]) == 0
    assert values(root) == after  # no --yes
    assert main(["tune", "undo", "--yes", *tail]) == 0
    assert values(root) == before
    assert main(["tune", "undo", "--yes", *tail]) == 3  # nothing is left to undo
    capsys.readouterr()
    assert main(["tune", "history", "--json", *tail]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mematlas/tune-history/1"
    assert [each["state"] for each in answer["data"]] == ["undone"]


def test_a_failure_rolls_all_back(root: Path) -> None:
    """When the last change fails, those before it are restored in reverse order."""
    before = values(root)

    def interfere(place: int) -> None:
        if place == 2:
            assert values(root)["vm.overcommit_memory"] == "1"
            (root / VM / "max_map_count").write_text("5\n")

    made = plan.make(root, WANTED)
    with pytest.raises(MematlasError, match=r"is 5 now.*all values were restored"):
        apply.apply(root, made, interfere)
    (found,) = journal.read_all(root)
    assert found.state is KnobState.RESTORED
    assert values(root) == {
        **before,
        "vm.max_map_count": "5",
    }  # the value that somebody else set stays


def test_undo_keeps_what_others_changed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that somebody else set since is kept and reported, with status 1."""
    change(root)
    (root / VM / "overcommit_memory").write_text("2\n")
    tail = ["--root", str(root)]
    assert main(["tune", "verify", *tail]) == 1
    assert main(["tune", "undo", "--yes", *tail]) == 1
    assert "is 2 now, set by somebody else; not changed" in capsys.readouterr().out
    now = values(root)
    assert (now["vm.overcommit_memory"], now["vm.swappiness"]) == ("2", "60")
    assert now["vm.max_map_count"] == "65530"


def test_partial_results_are_reported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer huge pages than requested are kept, reported and undone."""
    write = knobs.write
    with monkeypatch.context() as patched:
        patched.setattr(knobs, "write", lambda r, p, _: write(r, p, "480"))
        number, (result,) = apply.apply(root, plan.make(root, {"hugepages.2M": "512"}))
    assert (result.outcome, result.now) == (WriteOutcome.PARTLY, "480")
    assert "fragmented" in result.detail
    found = journal.find_applied(root, number)
    assert apply.verify(root, found)[0].outcome is WriteOutcome.KEPT
    assert apply.undo(root, found, write=True)[0].outcome is WriteOutcome.RESTORED
    assert values(root)["hugepages.2M"] == "4"


def test_one_shot_actions(root: Path) -> None:
    """`compact` writes, reports free huge pages before and after, and has no undo."""
    number, (result,) = apply.apply(root, plan.make(root, plan.parse(["compact"])))
    assert (root / VM / "compact_memory").read_text() == "1"
    assert "9 (82.0 % of free memory) before, 9 (82.0" in result.detail  # 5 of 2 MiB, 2 of 4
    (undone,) = apply.undo(root, journal.find_applied(root, number), write=True)
    assert undone.outcome is WriteOutcome.NO_UNDO


def test_one_at_a_time(root: Path) -> None:
    """While one set of changes is written, another one is refused."""
    entered, leave = threading.Event(), threading.Event()

    def wait(place: int) -> None:
        if place == 0:
            entered.set()
            leave.wait(60)

    made = plan.make(root, WANTED)
    thread = threading.Thread(target=apply.apply, args=(root, made, wait))
    thread.start()
    entered.wait(60)
    try:
        with pytest.raises(MematlasError, match="another `mematlas tune`"):
            change(root, {"zswap.enabled": "Y"})
    finally:
        leave.set()
        thread.join()


@pytest.mark.machine
def test_a_real_pair_is_restored_as_a_pair(real: Path) -> None:
    """Setting dirty_bytes zeroes dirty_ratio; undo restores both, which writing 0 could not."""
    before = values(real)
    if before["vm.dirty_bytes"] != "0":
        pytest.skip("this machine sets dirty_bytes")
    number = change(real, {"vm.dirty_bytes": "256M"})
    now = values(real)
    assert (now["vm.dirty_bytes"], now["vm.dirty_ratio"]) == (str(256 << 20), "0")
    results = apply.undo(real, journal.find_applied(real, number), write=True)
    assert results[0].outcome is WriteOutcome.RESTORED
    assert values(real) == before


@pytest.mark.machine
def test_a_write_that_the_kernel_refuses_is_rolled_back(real: Path) -> None:
    """A value that the kernel refuses with EINVAL rolls back the change before it."""
    before = values(real)
    scan = str(int(before["ksm.pages_to_scan"]) + 1)
    with pytest.raises(MematlasError, match="refused by the kernel: Invalid argument; all values"):
        change(real, {"ksm.pages_to_scan": scan, "vm.dirty_bytes": "1"})
    assert values(real) == before
    assert journal.read_all(real)[0].state is KnobState.RESTORED


@ROOT_ONLY
def test_the_score_of_a_process(root: Path) -> None:
    """The OOM score of a process is set and restored; that of an ended process is not."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        link = root / f"proc/{sleeper.pid}"
        link.symlink_to(f"/proc/{sleeper.pid}")
        score = Path(f"/proc/{sleeper.pid}/oom_score_adj")
        before = score.read_text()
        key = f"oom_score_adj.{sleeper.pid}"
        number = change(root, {key: "500"})
        assert score.read_text() == "500\n"
        apply.undo(root, journal.find_applied(root, number), write=True)
        assert score.read_text() == before
        number = change(root, {key: "600"})
        sleeper.kill()
        sleeper.wait()
    link.unlink()
    (result,) = apply.undo(root, journal.find_applied(root, number), write=True)
    assert result.outcome is WriteOutcome.GONE


def test_nobody_is_told_to_be_root(capfd: pytest.CaptureFixture[str]) -> None:
    """Without privileges nothing is written, and the message says what to do."""
    if not Path("/proc/sys/vm/swappiness").exists():
        pytest.skip("no swappiness")
    value = int(Path("/proc/sys/vm/swappiness").read_text())
    words = ["tune", "apply", f"swappiness={value ^ 1}", "--yes"]
    assert as_nobody(lambda: main(words) == 4) == 0
    assert "run as root" in capfd.readouterr().err


@pytest.mark.parametrize(
    "action", ["compact", "drop_caches", "vm.compact_memory", "vm.drop_caches=1"]
)
def test_no_undo_is_offered_for_an_action(
    root: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a one-shot action there is nothing to undo, by number or as the last change."""
    tail = ["--root", str(root)]
    assert main(["tune", "apply", action, "--yes", *tail]) == 0
    out = capsys.readouterr().out
    assert "tune undo" not in out
    assert "it has no undo" in out
    assert main(["tune", "undo", *tail]) == 3
    assert "no change has a value to restore" in capsys.readouterr().err
    assert main(["tune", "undo", "1", "--yes", *tail]) == 1
    assert "change 1 cannot be undone" in capsys.readouterr().err


def test_undo_passes_over_actions(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last change with a value is undone, though an action came after it; a mixed one is offered."""
    tail = ["--root", str(root)]
    assert main(["tune", "apply", "swappiness=10", "compact", "--yes", *tail]) == 0
    assert "undo it with: mematlas tune undo 1" in capsys.readouterr().out
    assert main(["tune", "apply", "drop_caches", "--yes", *tail]) == 0
    assert main(["tune", "undo", "--yes", *tail]) == 0
    assert values(root)["vm.swappiness"] == "60"
