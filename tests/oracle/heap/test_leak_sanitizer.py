"""Lost blocks against LeakSanitizer on its own test cases, told again; each difference is explained."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from heap_programs import compile_program, waiting
from mematlas.heap import look
from mematlas.heap.analyse.lost import find_lost
from mematlas.heap.read.capture import capture
from mematlas.heap.read.heap import read_heap

if TYPE_CHECKING:
    from pathlib import Path

SAME = (
    "use_stacks",
    "use_globals_initialized",
    "use_globals_uninitialized",
    "use_tls_static",
    "use_tls_threaded",
    "use_stacks_threaded",
    "specific_static",
    "specific_dynamic",
    "many_keys",
    "many_keys_thread",
    "use_tls_dynamic",
    "pointer_to_self",
    "interior_pointer",
    "one_past_the_end",
    "use_unaligned",
    "stale_stack",
    "use_swapcontext",
    "malloc_zero",
    "realloc_zero",
    "realloc_failure",
    "high_contention",
    "destructor_frees",
    "chain",
    "table",
    "held_table",
    "held_by_mapped",
    "aligned",
    "freed_holder",
    "two_ways",
)
DIRECT, INDIRECT = (
    re.compile(rf"^{kind} leak of \d+ byte\(s\) in (\d+) object\(s\)", re.MULTILINE)
    for kind in ("Direct", "Indirect")
)


class Programs(NamedTuple):
    """The cases with and without LeakSanitizer, and a library with thread-local storage."""

    plain: Path
    sanitized: Path
    library: Path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Compile the cases."""
    folder, other = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("sanitized")
    library = compile_program("lsan_tls.c", folder, ["-shared", "-fPIC"])
    return Programs(
        compile_program("lsan_cases.c", folder),
        compile_program("lsan_cases.c", other, ["-fsanitize=leak"]),
        library,
    )


def _environment(programs: Programs) -> dict[str, str]:
    return {**os.environ, "TLS_LIBRARY": str(programs.library)}


def _sanitizer(programs: Programs, case: str) -> tuple[int, int]:
    """Return the blocks that LeakSanitizer calls lost: directly, indirectly."""
    done = subprocess.run(
        [programs.sanitized, case],
        env={**_environment(programs), "LSAN": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 23}, done.stderr
    return tuple(sum(map(int, each.findall(done.stderr))) for each in (DIRECT, INDIRECT))  # type: ignore[return-value]


def _heap(programs: Programs, case: str) -> tuple[int, int, int]:
    """Return the blocks that the heap graph calls lost, and those that only other memory holds."""
    with waiting([programs.plain, case], _environment(programs)) as pid:
        lost = look(pid).lost()
    return lost.direct, lost.indirect, lost.weak


@pytest.mark.parametrize("case", SAME)
def test_the_same_blocks_are_lost(programs: Programs, case: str) -> None:
    """As many blocks are lost, directly and indirectly."""
    assert _heap(programs, case)[:2] == _sanitizer(programs, case)


def test_a_large_block_is_lost(programs: Programs) -> None:
    """A stray word, which differs from run to run, may point into a block of 1 GiB: one run of five has none."""
    case = "large_allocation"
    assert any(_sanitizer(programs, case) == (1, 0) for _ in range(5))
    assert any(_heap(programs, case)[:2] == (1, 0) for _ in range(5))


def test_stacks_hold_without_a_stop(programs: Programs) -> None:
    """The stack of a thread whose registers are not known holds what it points to."""
    with waiting([programs.plain, "use_stacks"], _environment(programs)) as pid:
        heap = read_heap(capture(pid, no_stop=True))
    assert find_lost(heap).direct == 0


def test_registers_hold(programs: Programs) -> None:
    """A block that only a register holds is not lost. LeakSanitizer cannot be asked here: its check is a call."""
    assert _heap(programs, "use_registers") == (0, 0, 0)


@pytest.mark.parametrize(("case", "blocks"), [("cycle", 2), ("cycle_with_tail", 3)])
def test_a_cycle_has_one_direct_block(programs: Programs, case: str, blocks: int) -> None:
    """LeakSanitizer calls all blocks of a cycle indirectly lost; here one is the direct one."""
    assert _sanitizer(programs, case) == (0, blocks)
    assert _heap(programs, case)[:2] == (1, blocks - 1)


def test_other_mappings_hold_weakly(programs: Programs) -> None:
    """LeakSanitizer does not look into a mapping that is not registered; here it is a weak root."""
    assert _sanitizer(programs, "root_region") == (1, 0)
    assert _heap(programs, "root_region") == (0, 0, 1)


def test_the_stack_of_an_ended_thread_holds_weakly(programs: Programs) -> None:
    """Glibc keeps the stack of the last thread that ended, with the result of its function; LeakSanitizer skips it."""
    assert _sanitizer(programs, "create_thread_leak") == (8, 0)
    direct, indirect, weak = _heap(programs, "create_thread_leak")
    assert direct in {7, 8}
    assert indirect == 0
    assert 8 - direct <= weak <= 2  # the thread's table of thread-local storage, too
