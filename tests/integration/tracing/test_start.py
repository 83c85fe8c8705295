"""The start of the tracer inside a program: it takes no lock, waits for nothing and allocates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from traced_runs import bare

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Build, Run

MODES = (("--sample-bytes", "64K"), ("--exact",))
both_modes = pytest.mark.parametrize("options", MODES, ids=["sampled", "exact"])
WHERE = ["program", "library"]
LIBRARY = ("-shared", "-fPIC")


def own_heap(build: Build, where: str) -> Path:
    """Build a program whose allocator is in the program itself, or in a library of its own."""
    early = build("own_heap", "-DEARLY", *LIBRARY)
    needed = ("-Wl,--no-as-needed", str(early))
    if where == "program":
        return build("own_heap", "-DHEAP", "-DWORK", "-rdynamic", *needed)
    heap = build("own_heap", "-DHEAP", *LIBRARY)
    return build("own_heap", "-DWORK", *needed, str(heap))


@both_modes
@pytest.mark.parametrize("where", WHERE)
def test_an_allocator_is_never_called_for_the_tracer(
    build: Build, traced: Run, where: str, options: tuple[str, ...]
) -> None:
    """An allocator that maps memory under its lock gets as many calls as in a bare run."""
    plugin = build("plugin", *LIBRARY)
    run = traced(own_heap(build, where), plugin, options=options)
    assert run.outcome.status == 14
    assert b"child: " in run.outcome.stdout
    # Else nothing was traced, and the equal number of calls proves nothing.
    assert run.sum("allocated_bytes", "take" if where == "program" else "keep") > 8 << 20


def test_a_call_more_is_noticed(build: Build) -> None:
    """The program counts: a library that it loads and unloads makes further calls."""
    program = own_heap(build, "program")
    alone, loading = bare([program]), bare([program, build("plugin", *LIBRARY)])
    assert alone.status == loading.status == 14
    assert alone.stdout != loading.stdout
