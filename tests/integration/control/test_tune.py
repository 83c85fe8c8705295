"""`mematlas tune`: writes need --yes, are atomic and journalled, and keep the changes of others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from machine_state import as_nobody, in_child
from mematlas.cli.main import main
from mematlas.control.tune import apply, journal, knobs, plan, sysctls
from mematlas.control.tune.model import KnobState, WriteOutcome
from mematlas.errors import MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

VM = Path("proc/sys/vm")
MM = Path("sys/kernel/mm")
FILES = {
    VM / "swappiness": "60\n",
    VM / "dirty_ratio": "20\n",
    VM / "dirty_bytes": "0\n",
    VM / "overcommit_memory": "0\n",
    VM / "max_map_count": "65530\n",
    VM / "compact_memory": "",
    VM / "drop_caches": "",
    MM / "transparent_hugepage/enabled": "always [madvise] never\n",
    MM / "hugepages/hugepages-2048kB/nr_hugepages": "4\n",
    Path("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"): "4\n",
    Path("sys/module/zswap/parameters/enabled"): "N\n",
    Path("proc/sys/kernel/random/boot_id"): "one\n",
    Path("proc/buddyinfo"): "Node 0, zone Normal 9 8 7 6 5 4 3 2 1 5 2\n",
}
WANTED = {"vm.swappiness": "10", "vm.overcommit_memory": "1", "vm.max_map_count": "100000"}
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the machine")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Create a tree in which knobs are plain files."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Path]:
    """Create a tree that links to this machine's own knobs, with a journal of its own."""
    kept = {}
    for path in (VM / "dirty_bytes", VM / "dirty_ratio", MM / "ksm/pages_to_scan"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(Path("/") / path)
        if not os.access(tmp_path / path, os.W_OK):
            pytest.skip(f"/{path} cannot be written here")
        kept[path] = (tmp_path / path).read_text()
    boot = tmp_path / "proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.symlink_to("/proc/sys/kernel/random/boot_id")
    yield tmp_path
    for path, text in kept.items():
        if text.strip() != "0":  # of a pair: restored by writing its counterpart
            (Path("/") / path).write_text(text)


def values(root: Path) -> dict[str, str]:
    """Return every knob's value."""
    found = (knobs.read(root, knob) for knob in knobs.all_of(root))
    return {each.knob.key: each.value for each in found if each.value is not None}


def change(root: Path, wanted: dict[str, str] = WANTED) -> int:
    """Apply values and return the number of the change."""
    return apply.apply(root, plan.make(root, wanted))[0]


# ---- plans


def test_plan_and_apply_without_yes_write_nothing(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --yes the diff is shown, with meaning and risk, and no file changes."""
    before = values(root)
    for words in (["plan"], ["apply"]):
        assert main(["tune", *words, "swappiness=10", "compact", "--root", str(root)]) == 0
        out = capsys.readouterr().out
        assert "- 60" in out
        assert "+ 10" in out
        assert "no swapping until memory is nearly out" in out
        assert "a one-shot action cannot be undone" in out
    assert "add --yes" in out
    assert values(root) == before
    assert not (root / "var").exists()


def test_a_value_that_is_set_already_is_not_written(root: Path) -> None:
    """A value that is in force already is no change, in each way to write it."""
    made = plan.make(root, {"vm.swappiness": "60", "thp.enabled": "madvise", "zswap.enabled": "0"})
    assert made.changes == ()
    assert len(made.unchanged) == 3


def test_files_that_set_the_same_knob_are_named(root: Path) -> None:
    """The plan names a sysctl.d file, or tuned, that sets the same knob."""
    (root / "etc/sysctl.d").mkdir(parents=True)
    (root / "etc/sysctl.d/90-db.conf").write_text("# vm.max_map_count=1\nvm.swappiness = 1\n")
    (root / "etc/tuned").mkdir()
    (root / "etc/tuned/active_profile").write_text("throughput-performance\n")
    notes = "\n".join(plan.make(root, WANTED).notes)
    assert "vm.swappiness is also set in /etc/sysctl.d/90-db.conf" in notes
    assert "vm.max_map_count is also set" not in notes
    assert "tuned is active with profile throughput-performance" in notes


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["swap=3"], 2, "there is no knob"),
        (["swappiness"], 2, "has no value"),
        (["swappiness=many"], 2, "not a whole number"),
        (["swappiness=201"], 2, "out of range, 0 to 200"),
        (["thp.enabled=sometimes"], 2, "not one of always, madvise, never"),
        (["dirty_bytes=0"], 2, "out of range"),
        (["dirty_bytes=64M", "dirty_ratio=5"], 2, "two forms of one value"),
        (["swappiness=1", "vm.swappiness=2"], 2, "given twice"),
        (["ksm.run=1"], 5, "no such knob"),
        (["hugepages.16M=1"], 5, "no such knob"),
        (["oom_score_adj.4194304=5"], 3, "no such knob"),
        (["--profile", "fast"], 2, "the profiles are"),
        ([], 2, "nothing to set"),
    ],
)
def test_invalid_values(
    root: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid request is refused in one line, before anything is written."""
    assert main(["tune", "apply", *words, "--yes", "--root", str(root)]) == code
    assert message in capsys.readouterr().err
    assert not (root / "var").exists()


# ---- apply and undo


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


def test_a_reboot_ends_it(root: Path) -> None:
    """Values do not survive a reboot, so a change from before the reboot is not undone."""
    number = change(root)
    (root / "proc/sys/kernel/random/boot_id").write_text("two\n")
    assert journal.read_all(root)[0].state is KnobState.LOST
    with pytest.raises(TargetError, match="no change is applied"):
        journal.find_applied(root)
    with pytest.raises(MematlasError, match="lost already"):
        journal.find_applied(root, number)


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


# ---- the machine's own knobs


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


def test_show_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of this machine lists its knobs, as JSON too."""
    assert main(["tune", "show", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["data"]
    found = {row["knob"]["key"]: row["value"] for row in rows}
    assert found["vm.swappiness"] == Path("/proc/sys/vm/swappiness").read_text().strip()
    assert all(row["knob"]["meaning"] and row["knob"]["risk"] for row in rows)
    assert main(["tune", "show", "thp"]) == 0
    assert "thp.enabled" in capsys.readouterr().out


def test_profiles_consist_of_knobs() -> None:
    """Every value of every profile fits its knob."""
    from mematlas.control.tune.profiles import PROFILES

    for profile in PROFILES.values():
        for key in profile.values:
            assert knobs.find(key).key == key
    if Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        for profile in PROFILES.values():
            plan.make(Path("/"), profile.values)


# ---- the table


def test_every_file_of_zswap_ksm_and_khugepaged_that_can_be_set_is_a_knob() -> None:
    """Every writable file in these directories is in the table."""
    known = {knob.path for knob in knobs.all_of(Path("/"))}
    left = set()
    for folder in ("sys/module/zswap/parameters", "sys/kernel/mm/transparent_hugepage/khugepaged"):
        for file in Path("/", folder).glob("*"):
            if file.stat().st_mode & 0o200 and str(file)[1:] not in known:
                left.add(str(file))
    assert left == set()


def test_a_name_is_checked_by_the_kernel(root: Path, tmp_path: Path) -> None:
    """A compressor may be any word."""
    file = tmp_path / "sys/module/zswap/parameters/compressor"
    file.write_text("lzo\n")
    change(root, {"zswap.compressor": "zstd"})
    assert file.read_text() == "zstd"
    with pytest.raises(MematlasError, match="is not a name"):
        plan.make(root, {"zswap.compressor": "two words"})


def test_a_compressor_that_the_kernel_lacks_is_refused(root: Path) -> None:
    """The kernel accepts any name while zswap is off; one without a module or built-in is refused."""
    (root / "sys/module/zswap/parameters/compressor").write_text("lzo\n")
    (root / "proc/crypto").write_text(
        "name         : lzo\ndriver       : lzo-scomp\ntype         : scomp\n\n"
        "name         : sha256\ndriver       : x\ntype         : shash\n"
    )
    with pytest.raises(UsageError, match=r"this kernel has no sha256.*it has lzo$"):
        plan.make(root, {"zswap.compressor": "sha256"})
    modules = root / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.alias").write_text("alias crypto-zstd zstd\n")
    assert plan.make(root, {"zswap.compressor": "zstd"}).changes


def test_families_of_knobs(root: Path) -> None:
    """Keys of pools by size and node, of folios by size, of nodes and of processes map to their files."""
    paths = {
        "hugepages.1G.node1": "sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages",
        "hugepages.2M.overcommit": "sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages",
        "thp.64K.shmem": "sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled",
        "compact.node1": "sys/devices/system/node/node1/compact",
        "weight.node0": "sys/kernel/mm/mempolicy/weighted_interleave/node0",
        "oom_score_adj.42": "proc/42/oom_score_adj",
    }
    assert {key: knobs.find(key).path for key in paths} == paths
    assert "hugepages.2M.node0" in values(root)


def test_every_value_this_machine_has_fits_its_knob() -> None:
    """The current value of each knob is in its range, and setting it is no change."""
    root = Path("/")
    readings = [knobs.read(root, knob) for knob in knobs.all_of(root)]
    now = {each.knob.key: each.value for each in readings if each.value}
    for pair in [each.knob.key for each in readings if each.knob.counterpart and each.value == "0"]:
        del now[pair]  # 0: its counterpart is in force
    assert len(now) > 20
    for key, value in now.items():
        if key != "zswap.compressor":  # may name a module that is not loaded
            assert plan.make(root, {key: value}).changes == (), key


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


# ---- actions without an undo, and sysctls beyond the table


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


SYSCTLS = {
    "vm.stat_interval": ("1\n", "10", "10"),
    "vm.lowmem_reserve_ratio": ("256\t256\t32\t0\t0\n", "256 256 16 0 0", "256 256 16 0 0"),
    "vm.laptop_mode": ("0\n", "5", "5"),
    "vm.not_known_yet": ("7\n", "8", "8"),
    "vm.not_known_word": ("soft\n", "hard", "hard"),
    "kernel.shmmni": ("4096\n", "8192", "8192"),
}


@pytest.mark.parametrize("key", SYSCTLS)
def test_any_sysctl_is_planned_applied_verified_and_undone(
    root: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sysctls without an entry in the table of knobs work as those with one, known or not."""
    text, wanted, found = SYSCTLS[key]
    path, tail = root / "proc/sys" / key.replace(".", "/", 1), ["--root", str(root)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    before = " ".join(text.split())
    assert main(["tune", "plan", f"{key}={wanted}", *tail]) == 0
    out = capsys.readouterr().out
    assert f"- {before}" in out
    assert ("does not know" in out) is ("not_known" in key)
    assert main(["tune", "apply", f"{key}={wanted}", "--yes", *tail]) == 0
    assert path.read_text() == found
    assert main(["tune", "verify", *tail]) == 0
    assert main(["tune", "show", key, *tail]) == 0
    assert main(["tune", "undo", "--yes", *tail]) == 0
    assert " ".join(path.read_text().split()) == before


@pytest.mark.parametrize(
    ("word", "code", "message"),
    [
        ("vm.lowmem_reserve_ratio=1 2", 2, "5 numbers are wanted, not 2"),
        ("vm.stat_interval=often", 2, "'often' is not a whole number"),
        ("vm.stat_interval=", 2, "the value is empty"),
        ("vm.absent=1", 5, "no such knob"),
        ("vm.../../etc/passwd=1", 2, "there is no knob"),
        ("kernel.panic=1", 2, "there is no knob"),
    ],
)
def test_sysctls_that_are_refused(
    root: Path, word: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A value that the file cannot hold, or a name that is no sysctl of memory, is refused."""
    (root / VM / "lowmem_reserve_ratio").write_text("256\t256\t32\t0\t0\n")
    (root / VM / "stat_interval").write_text("1\n")
    assert main(["tune", "apply", word, "--yes", "--root", str(root)]) == code
    assert message in capsys.readouterr().err


def test_every_sysctl_of_this_kernel_is_listed() -> None:
    """`tune show` has a knob for each file of /proc/sys/vm, and a meaning for those of the table."""
    found = {knob.path: knob for knob in knobs.all_of(Path("/"))}
    files = {f"proc/sys/vm/{path.name}" for path in Path("/proc/sys/vm").iterdir()}
    assert files <= set(found)
    known = [path for path in files if found[path].meaning != sysctls.UNKNOWN]
    assert len(known) >= 0.9 * len(files)
    assert len({knob.key for knob in found.values()}) == len(found)


@ROOT_ONLY
@pytest.mark.machine
def test_a_sysctl_of_this_machine(real: Path) -> None:
    """A list of numbers is written to the kernel, read back as it prints it, and restored."""
    for name, value in (("lowmem_reserve_ratio", None), ("stat_interval", "2")):
        path = Path("/") / VM / name
        (real / VM / name).symlink_to(path)
        before = path.read_text()
        words = before.split()
        wanted = value or " ".join([str(int(words[0]) + 1), *words[1:]])
        if not os.access(path, os.W_OK):
            pytest.skip(f"{path} cannot be written here")
        try:
            number = change(real, {f"vm.{name}": wanted})
            found = journal.find_undoable(real, number)
            assert [each.outcome for each in apply.verify(real, found)] == [WriteOutcome.KEPT]
            assert path.read_text().split() == wanted.split()
            apply.undo(real, found, write=True)
            assert path.read_text() == before
        finally:
            path.write_text(before)
