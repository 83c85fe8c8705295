"""Files of a cgroup's account where other users try to stop who looks, or where looking must change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mematlas import _core
from mematlas.observe.cgroup_account import files
from mematlas.observe.cgroup_account.files import ChargedFiles

SILENT = """
import os, subprocess, sys
from mematlas.observe.cgroup_account.files import ChargedFiles
folder = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "x", folder], check=True)
for name in ("seen", "a file"):
    with open(f"{folder}/{name}", "wb") as file:
        file.write(b"x" * 8192)
os.mkdir(f"{folder}/a folder")
for name, mode in (("a file", "100644"), ("a folder", "40755")):
    fuse = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fuse, True)
    options = f"fd={fuse},rootmode={mode},user_id=0,group_id=0"
    subprocess.run(
        ["mount", "-i", "-t", "fuse", "-o", options, "x", f"{folder}/{name}"], check=True, close_fds=False
    )
held = os.open(f"{folder}/a file", os.O_PATH)
tree, process = ChargedFiles({1}), ChargedFiles({1})
tree.add_tree(folder)
process.add_process(os.getpid())
print([os.path.basename(each.path) for each in tree.sorted()], process.unasked)
print(sum(each.path == f"{folder}/seen" for each in process.sorted()))
"""


@pytest.mark.machine
def test_a_file_system_that_never_answers_is_not_asked(tmp_path: Path) -> None:
    """FUSE without a server, on a file and on a folder with a blank in its name, inside of a tmpfs."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("needs root and FUSE")
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", SILENT, str(tmp_path)],
        input="", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['seen'] 1\n1\n"


def test_a_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders inside each other and many files end the walk, and that is told; the rest is found."""
    folder = tmp_path
    for _ in range(files._DEEPEST + 10):
        folder /= "d"
        folder.mkdir()
    (folder / "deep").write_bytes(b"x" * 8192)
    (tmp_path / "flat").write_bytes(b"x" * 8192)
    found = ChargedFiles({1})
    found.add_tree(str(tmp_path))
    assert [each.path for each in found.sorted()] in ([], [f"{tmp_path}/flat"])
    assert found.left_out == 1
    monkeypatch.setattr(files, "MOST_FILES", 2)
    (tmp_path / "d/d/d/more").write_bytes(b"x")
    found = ChargedFiles({1})
    found.add_tree(str(tmp_path))
    assert found.left_out == 1


def test_pages_of_the_pool_are_not_taken() -> None:
    """Looking at a file of huge pages reserves none: it works where the pool is empty."""
    try:
        memfd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    except OSError:
        pytest.skip("this kernel has no hugetlb pages")
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    reserved = _reserved()
    try:
        size = 64 * os.fstatvfs(memfd).f_bsize
        os.ftruncate(memfd, size)
        assert _core.file_charge(memfd, size, pagemap, pagemap, [1]).cached == 0
        assert _reserved() == reserved
    finally:
        os.close(memfd)
        os.close(pagemap)


def _reserved() -> str:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(each for each in lines if each.startswith("HugePages_Rsvd"))
