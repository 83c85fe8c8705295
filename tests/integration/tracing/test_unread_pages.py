"""What the recording of a process says of pages that could not be read."""

from __future__ import annotations

import errno
import os
from dataclasses import fields
from typing import Any
from unittest.mock import MagicMock

import pytest

from mematlas._core import Faults, LeftKind, Traced
from mematlas.tracing.process import ProcessRecorder

_TEXTS = ("reason", "faults_reason", "executable")
MOVED = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
REFUSED = PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _traced() -> Traced:
    values: dict[str, Any] = {each.name: 0 for each in fields(Traced)}
    return Traced(
        **values
        | dict.fromkeys(_TEXTS, "")
        | {
            "pid": os.getpid(),
            "parent": -1,
            "status": None,
            "left": (0,) * len(LeftKind),
            "command": (),
            "faults": Faults(0),
        }
    )


def _note_after(*looks: object) -> str:
    collector, writer = MagicMock(), MagicMock()
    collector.process.return_value = _traced()
    collector.snapshot.side_effect = looks
    collector.objects.return_value = ([], b"")
    collector.age_matrix.return_value = (1.0, b"")
    for read in ("timeline", "totals", "lifetimes", "bad_frees"):
        getattr(collector, read).return_value = b""
    recorder = ProcessRecorder(collector, writer, 0)
    for _ in looks:
        recorder.snapshot("interval")
    recorder.close(None)
    note: str = writer.process.call_args.args[0].note
    return note


def _pages() -> MagicMock:
    return MagicMock(huge_bytes=0, parts=[], touched=b"")


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([_pages(), MOVED], "moved each time they were read at its last look"),
        ([MOVED, REFUSED], "cannot be read (Permission denied); residency is unknown"),
        ([MOVED, None], "moved each time"),
    ],
)
def test_a_look_without_pages_is_told(looks: list[object], words: str) -> None:
    """Check the note of a process by its last look."""
    assert words in _note_after(*looks)


def test_pages_that_were_read_later_are_not_missed() -> None:
    """Check that a later look ends the note."""
    assert _note_after(MOVED, _pages()) == ""
