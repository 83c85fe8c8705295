"""`mematlas pages` and `where` on processes that report their own pages."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import memory_victim
from mematlas.errors import AccessError, TargetError
from mematlas.linux import pagemap, smaps
from mematlas.linux.pageflags import PageState, PageSums
from mematlas.observe.page_states import analyse as analysis
from terminal import print_in_terminal
from waiting import wait_until_asleep

if TYPE_CHECKING:
    from conftest import Build

PAGE = 4096
MEMATLAS = (sys.executable, "-m", "mematlas")
root = pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers need CAP_SYS_ADMIN")


def sums(pid: int, start: int, length: int) -> PageSums:
    """Return the page counts of a range."""
    return analysis.sum_pages(pagemap.read(pid, [(start, start + length)]))


def address_of(area: mmap.mmap) -> int:
    """Return the address range of a mapping."""
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


@root
def test_zoo(build: Build) -> None:
    """Written, zero, guard, shared and reserved pages are counted by their state."""
    with memory_victim.opened(build("memory_victim")) as victim:
        found = {
            name: sums(victim.pid, *victim.at[name])
            for name in ("touched", "zero", "guarded", "shared", "reserved")
        }
    assert (found["touched"].present, found["touched"].exclusive) == (32, 32)
    assert found["touched"].mapcounts == {"1": 32}
    assert (found["zero"].present, found["zero"].zero, found["zero"].frames) == (64, 64, 1)
    assert found["zero"].mapcounts == {"0": 64}
    assert (found["shared"].present, found["shared"].file, found["shared"].anonymous) == (64, 64, 0)
    assert (found["reserved"].present, found["reserved"].swapped) == (0, 0)
    if "no_guards" not in victim.at:
        assert (found["guarded"].guard, found["guarded"].swapped) == (4, 0)


@root
def test_huge_pages_by_order() -> None:
    """A mapping of 2 MiB pages is found by its PMDs and by its folios."""
    size = 6 << 20
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        area.write(b"\1" * size)
        start = address_of(area)
        found = sums(os.getpid(), start, size)
        mappings, _ = smaps.read(os.getpid())
        index = mappings.find(start)
        assert index is not None
        huge = mappings.row(index).fields["AnonHugePages"]
    if not huge:
        pytest.skip("the kernel gave no huge pages")
    assert found.mapped_huge == huge // PAGE
    assert found.folios is not None
    assert sum(count for order, count in found.folios.items() if order >= 9) == huge // PAGE


@root
def test_two_mappings_of_one_page_have_one_physical_address() -> None:
    """virt_to_phys agrees for two views of one memfd page, and keeps the offset in the page."""
    file = os.memfd_create("twice")
    os.ftruncate(file, PAGE)
    with mmap.mmap(file, PAGE) as one, mmap.mmap(file, PAGE) as other:
        one[0] = other[0]
        here, there = address_of(one), address_of(other)
        physical = pagemap.virt_to_phys(os.getpid(), here + 123)
        assert here != there
        assert physical == pagemap.virt_to_phys(os.getpid(), there + 123)
        assert physical is not None
        assert physical % PAGE == 123
    os.close(file)


def test_virt_to_phys_of_nothing() -> None:
    """An untouched page has no frame; an unmapped address is an error."""
    with mmap.mmap(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        address = address_of(area)
        assert pagemap.virt_to_phys(os.getpid(), address) is None
    with pytest.raises(TargetError, match="nothing mapped"):
        pagemap.virt_to_phys(os.getpid(), PAGE)


@root
def test_without_privilege_frames_are_hidden() -> None:
    """As nobody, states are known, and frame numbers are hidden with a reason instead of 0."""
    with subprocess.Popen(["sleep", "60"], user=65534, group=65534, extra_groups=[]) as sleeper:
        wait_until_asleep(sleeper.pid)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(_look_as_nobody(sleeper.pid))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sleeper.kill()
    assert status == 0


def _look_as_nobody(pid: int) -> int:
    mappings = list(smaps.read(pid, fields=False)[0])
    found = pagemap.read(pid, [(each.start, each.end) for each in mappings])
    total = analysis.sum_pages(found)
    hidden = all(each is None for each in (total.frames, total.zero, total.folios, total.nodes))
    if not (hidden and total.present > 10 and "CAP_SYS_ADMIN" in found.hidden[0]):
        return 1
    try:
        pagemap.virt_to_phys(pid, int(found.address[0]))
    except AccessError:
        return 0
    return 2


def test_picture_has_a_pixel_a_page(build: Build, tmp_path: Path) -> None:
    """The PNG is valid, and its pixels are the states of the pages."""
    out = tmp_path / "map.png"
    with memory_victim.opened(build("memory_victim")) as victim:
        start, length = victim.at["touched"]
        subprocess.run(
            [*MEMATLAS, "pages", str(victim.pid), "--range", f"{start:x}-{start + length:x}",
             "-o", out],
            check=True,
        )  # fmt: skip
    data = out.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack_from(">II", data, 16)
    at = data.index(b"IDAT")
    (size,) = struct.unpack_from(">I", data, at - 4)
    image = zlib.decompress(data[at + 4 : at + 4 + size])
    assert len(image) == (width + 1) * height
    states = list(PageState)
    anonymous, nothing = states.index(PageState.ANONYMOUS), states.index(PageState.NOTHING)
    assert list(image[1:65]) == [anonymous] * 32 + [nothing] * 32


def test_where_names_the_function(build: Build) -> None:
    """An address in a program's code has a symbol and a file offset."""
    program = build("memory_victim")
    symbols = subprocess.check_output(["nm", program], text=True).splitlines()
    main = next(int(line.split()[0], 16) for line in symbols if line.endswith(" T main"))
    with memory_victim.opened(program) as victim:
        maps = Path(f"/proc/{victim.pid}/maps").read_text().splitlines()
        base = int(maps[0].split("-")[0], 16)
        answer = json.loads(
            subprocess.check_output(
                [*MEMATLAS, "where", str(victim.pid), hex(base + main), "--json"]
            )
        )
    assert answer["schema"] == "mematlas/where/1"
    assert answer["data"]["symbol"] == "main"
    assert answer["data"]["source"].partition(":")[0].endswith("memory_victim.c")
    assert answer["data"]["name"] == str(program)


def test_text_fits(build: Build) -> None:
    """The output fits 80 columns."""
    with memory_victim.opened(build("memory_victim")) as victim:
        text = print_in_terminal([*MEMATLAS, "pages", str(victim.pid)])
    assert max(map(len, text.splitlines())) <= 80
    assert "guard" in text
