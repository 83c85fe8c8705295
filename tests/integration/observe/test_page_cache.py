"""`mematlas cache` and residency: exact to the page, and unknown where the kernel's answer is wrong."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mematlas import _core
from mematlas.observe.page_cache.read import (
    demand_faults,
    read_file,
    read_map,
    read_trees,
    residency,
)
from terminal import print_in_terminal

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
CACHE = (sys.executable, "-m", "mematlas", "cache")


@pytest.mark.parametrize(("size", "pages"), [(0, 0), (100, 1), (PAGE, 1), (12_388, 4)])
def test_partial_last_page_counts(tmp_path: Path, size: int, pages: int) -> None:
    """A file just written is cached to its last, partial page."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    found = read_file(path)
    assert (found.pages, found.cached) == (pages, pages)
    assert sum(read_map(path)) == pages


def test_cachestat_and_mincore_agree(tmp_path: Path) -> None:
    """Cachestat and mincore agree on a file whose cache was partly dropped."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(256 * PAGE))
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 10, 32 * PAGE)
        cached, marks = _core.mincore_file(file.fileno(), 256 * PAGE)
    found = read_file(path)
    assert cached == sum(marks) == found.cached
    assert found.cached is not None
    assert found.cached < 256


def test_dirty_pages_are_told(tmp_path: Path) -> None:
    """Written pages are dirty until fsync."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 64 * PAGE)
    found = read_file(path)
    if found.source != "cachestat":
        pytest.skip("this kernel has no cachestat: nothing tells dirty pages")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    assert read_file(path).dirty == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_files_of_others_are_not_called_resident() -> None:
    """As nobody, a file of root is not visible, although mincore reports it as resident."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setuid(65534)
        found = residency("/etc/passwd")
        os.write(writer, json.dumps([found.resident, found.hidden]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    resident, hidden = json.loads(os.read(reader, 1000))
    os.close(reader)
    assert resident is None
    assert "not visible" in hidden


def test_what_is_no_file_has_no_zeros(tmp_path: Path) -> None:
    """The cache of a directory and of a pipe is unknown, and reading it does not block."""
    os.mkfifo(tmp_path / "pipe")
    assert read_file(tmp_path).cached is None
    assert read_file(tmp_path / "pipe").hidden == "not a regular file"


def test_links_count_once(tmp_path: Path) -> None:
    """Hard links are one inode; symbolic links in a tree are not followed."""
    (tmp_path / "one").write_bytes(b"x" * PAGE)
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "three").symlink_to("one")
    files, errors = read_trees([str(tmp_path), str(tmp_path / "absent")])
    assert [each.cached for each in files] == [1]
    assert len(errors) == 1


def test_demand_faults() -> None:
    """Writing every third of 300 pages makes 100 pages resident and takes at least 100 faults."""
    found = demand_faults(300, 3)
    assert (found.resident_before, found.resident_after, found.touched) == (0, 100, 100)
    assert found.minor_faults >= 100


def test_region_and_process() -> None:
    """The resident pages of a region of this process and of the whole process are counted."""
    with mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_NOHUGEPAGE)
        area[: 10 * PAGE] = b"x" * (10 * PAGE)
        found = residency(area)
    assert (found.pages, found.resident, found.swapped) == (64, 10, 0)
    whole = residency(os.getpid())
    assert whole.resident is not None
    assert 1000 < whole.resident < whole.pages


def test_command(tmp_path: Path) -> None:
    """The text and the map fit 80 columns; JSON has pages; a missing file is an error."""
    (tmp_path / ("long" * 20)).write_bytes(b"x" * 10 * PAGE)
    text = print_in_terminal([*CACHE, tmp_path, "--map"])
    assert max(map(len, text.splitlines())) <= 80
    answer = json.loads(subprocess.check_output([*CACHE, tmp_path, "--json"]))
    assert answer["schema"] == "mematlas/cache/1"
    assert answer["data"]["total"]["cached"] == 10
    done = subprocess.run([*CACHE, tmp_path / "no"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
