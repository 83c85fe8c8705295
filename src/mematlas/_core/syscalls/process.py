"""Properties of a process that exec keeps, and comparison of address spaces."""

from __future__ import annotations

from mematlas._core.binding import check, lib


def same_address_space(first: int, second: int) -> bool:
    """Return whether two processes share an address space (CLONE_VM, vfork)."""
    return check(lib.mematlas_kcmp_vm(first, second)) == 0


def add_personality(flags: int) -> None:
    """Add flags of personality(2), which take effect at exec."""
    check(lib.mematlas_personality_add(flags))


def disable_thp(*, disable: bool) -> None:
    """Disable or enable transparent huge pages for this process and what it execs."""
    check(lib.mematlas_thp_disable(disable))


def trace_me() -> None:
    """Make the parent stop this process at its next exec, by ptrace(2)."""
    check(lib.mematlas_trace_me())


def trace_run_to(pid: int, address: int) -> None:
    """Continue a stopped child until it executes an address. OSError ESRCH: it ended before."""
    check(lib.mematlas_trace_run_to(pid, address))
