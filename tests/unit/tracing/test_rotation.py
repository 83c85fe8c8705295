"""What the user is told while a rolling recording is written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mematlas.tracing.rolling import RollingWriter
from mematlas.tracing.rotation import Rotation


class Told(RollingWriter):
    """A writer that writes nothing."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def notes(self, *_: Any, **__: Any) -> None:
        """Take notes."""


def test_very_many_processes_leave_room_for_other_messages() -> None:
    """A tree that is recorded for weeks has processes without end; that the disk is full is still told."""
    collector: Any = SimpleNamespace(process=lambda _index: SimpleNamespace(has_cut=True))
    writer = Told()
    recorders: dict[int, Any] = {
        index: SimpleNamespace(pid=1000 + index, ended=False) for index in range(300)
    }
    rotation = Rotation(collector, writer, recorders, {}, keep=None)
    rotation._tell_cut_stacks()
    assert len(rotation.new_messages()) == 100
    for _ in range(2):
        writer.tell("the disk is full")
    assert rotation.new_messages() == ["the disk is full"]
