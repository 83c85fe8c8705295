"""What an unwinder that fails says."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from mematlas._core.binding import lib
from mematlas._core.heap import blocks

REGISTERS = int(lib.MEMATLAS_HEAP_UNWOUND)


def _unwind(monkeypatch: pytest.MonkeyPatch, result: int) -> list[tuple[int, int]]:
    fake = SimpleNamespace(MEMATLAS_HEAP_UNWOUND=REGISTERS, mematlas_heap_unwind=lambda *_: result)
    monkeypatch.setattr(blocks, "lib", fake)
    return blocks.HeapHandle.unwind(MagicMock(handle=None), [], [0] * REGISTERS, 4)


def test_no_memory_is_not_taken_for_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that frames end with an error, not early."""
    with pytest.raises(OSError, match="Cannot allocate memory"):
        _unwind(monkeypatch, -errno.ENOMEM)


def test_another_processor_has_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a processor without an unwinder is no error."""
    assert _unwind(monkeypatch, -errno.ENOSYS) == []
    assert len(_unwind(monkeypatch, 2)) == 2
