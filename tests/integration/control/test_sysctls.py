"""Sysctls beyond the table of knobs: planned, applied, verified, undone and listed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knob_tree import VM, change
from mematlas.cli.main import main
from mematlas.control.tune import apply, journal, knobs, sysctls
from mematlas.control.tune.model import WriteOutcome

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change the machine")


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
