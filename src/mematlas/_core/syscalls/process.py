"""What a process is to the memory manager, and hands on through exec."""

from __future__ import annotations

from mematlas._core.binding import check, lib


def same_address_space(first: int, second: int) -> bool:
    """Tell whether two processes are one to the memory manager (CLONE_VM, vfork)."""
    return check(lib.mematlas_kcmp_vm(first, second)) == 0


def add_personality(flags: int) -> None:
    """Add flags of personality(2), in force from exec on."""
    check(lib.mematlas_personality_add(flags))


def disable_thp(*, disable: bool) -> None:
    """Switch transparent huge pages off or on for this process and what it execs."""
    check(lib.mematlas_thp_disable(disable))
