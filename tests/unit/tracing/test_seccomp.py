"""What a process's seccomp filters allow, and lifting them for loading."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from mematlas import UnsupportedError
from mematlas.tracing.seccomp import check_filters

ALLOW, KILL = 0x7FFF0000, 0x80000000
MEMFD_CREATE = 319


class Thread:
    """A thread whose filters kill for one call; lifting them fails with an error."""

    def __init__(self, killed: int, lifting: int) -> None:
        """Keep the number of the call and the error."""
        self.killed, self.lifting = killed, lifting

    def filter_system_call(self, number: int, *_arguments: int) -> int:
        """Return the action."""
        return KILL if number == self.killed else ALLOW

    def suspend_seccomp(self) -> None:
        """Fail, if that was chosen."""
        if self.lifting:
            raise OSError(self.lifting, "")


def check(killed: int, lifting: int) -> None:
    """Check the filters of such a thread."""
    target = SimpleNamespace(pid=7, seccomp=2)
    check_filters(target, Thread(killed, lifting))  # type: ignore[arg-type]


@pytest.mark.parametrize("lifting", [errno.EPERM, errno.EINVAL])
def test_filters_that_cannot_be_lifted_apply_to_loading(lifting: int) -> None:
    """A process that would be ended for a call of loading is not entered; others are."""
    with pytest.raises(UnsupportedError, match=r"may end it for memfd_create\(\)"):
        check(MEMFD_CREATE, lifting)
    check(-1, lifting)


def test_lifted_filters_do_not_apply_to_loading() -> None:
    """The calls of loading alone are then of no interest."""
    check(MEMFD_CREATE, 0)
