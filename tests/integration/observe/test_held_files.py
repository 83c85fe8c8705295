"""Memory that a process holds by descriptors and does not map: told by show, ps and doctor."""

from __future__ import annotations

import mmap
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mematlas import observe
from mematlas.doctor.read import read_process
from mematlas.doctor.rules import examine_process

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 96 << 20


@contextmanager
def filled(name: str) -> Iterator[int]:
    """Return the descriptor of a memfd with SIZE bytes; close it afterwards."""
    descriptor = os.memfd_create(name)
    try:
        os.posix_fallocate(descriptor, 0, SIZE)
        yield descriptor
    finally:
        os.close(descriptor)


def held_of(name: str) -> list[tuple[tuple[int, ...], int]]:
    """Return descriptors and bytes of the held files of this process with that name."""
    found = observe.show(os.getpid()).held
    assert found is not None
    return [(each.descriptors, each.bytes) for each in found if each.name == f"/memfd:{name}"]


def test_a_memfd_without_a_mapping_is_held() -> None:
    """It is told with all of its descriptors until it is mapped, and not after it is closed."""
    with filled("held") as descriptor:
        second = os.dup(descriptor)
        assert held_of("held") == [((descriptor, second), SIZE)]
        os.close(second)
        with mmap.mmap(descriptor, 4096):
            assert held_of("held") == []
        assert held_of("held") == [((descriptor,), SIZE)]
    assert held_of("held") == []


def test_ps_and_doctor_tell_it() -> None:
    """The process has it in a figure of its own, beside RSS, and as a finding."""
    with filled("told") as descriptor:
        (row,) = (each for each in observe.ps(cgroups=False).processes if each.pid == os.getpid())
        assert row.held is not None
        assert SIZE <= row.held < SIZE + (16 << 20)
        found = examine_process(read_process(os.getpid(), "/", 0)).findings
        (finding,) = (each for each in found if each.rule == "memory.held")
        assert f"descriptor {descriptor}: /memfd:told" in " ".join(finding.evidence)
