"""Placement on kernels before 6.7, which have no PAGEMAP_SCAN: the same result, page by page."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

import pytest

from mematlas import _core
from mematlas.memory import Region, page_runs

MIB = 1 << 20


def no_scan(*_: object, **__: object) -> NoReturn:
    """Fail as an older kernel does."""
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


@pytest.mark.parametrize("as_root", [True, False])
def test_the_same_answer_page_by_page(monkeypatch: pytest.MonkeyPatch, as_root: bool) -> None:
    """Base, huge and untouched pages are distinguished without a scan; the zero page only as root."""
    with (
        Region("8M", huge="thp") as huge,
        Region("1M") as small,
        Region("1M", share=True) as shared,
    ):
        huge.view[: 4 * MIB] = bytes(4 * MIB)
        small.view[: 64 << 10] = b"x" * (64 << 10)
        assert small.view[512 << 10] == 0
        shared.view[: 32 << 10] = b"x" * (32 << 10)
        expected = [each.placement for each in (huge, small, shared)]
        monkeypatch.setattr(_core, "scan_pagemap", no_scan)
        if not as_root:
            monkeypatch.setattr(page_runs, "_frame_flags", lambda _: None)
        found = [each.placement for each in (huge, small, shared)]
    assert found[0] == expected[0]
    assert found[2] == expected[2]
    if as_root and os.geteuid() == 0:
        assert found[1] == expected[1]
    assert found[1].by_page_size.keys() == expected[1].by_page_size.keys()
