"""The `data` of `mematlas report --json` and `leaks --json`, without the text.

The text of an exact run of Python has a gigabyte, since it repeats each frame in each stack. Here the
stacks have the frames in common. A test compares both for recordings of all kinds.
"""

from __future__ import annotations

import gc
import json
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import mematlas
from mematlas.report import json_writer
from mematlas.report.analyse.table import StackTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mematlas.recording.model import Frame
    from mematlas.report.model.leaks import Leak
    from mematlas.report.model.report import StackStats


def report_data(file: Path, by: str, top: int) -> dict[str, Any]:
    """Return the data of a report with its first `top` stacks by a metric."""
    with _without_collector():
        report = mematlas.open(file).report()
        table = StackTable.of(report.stacks)
        if top < len(table):
            return _parsed(json_writer.render_report(report, by=by, top=top))
        data = _parsed(json_writer.render_report(report, by=by, top=0))
        rest = data["rest"]
        unknown = {name for name, value in rest.items() if value is None}
        data["rest"] = {name: None if name in unknown else 0 for name in rest}
        data["stacks"] = list(_items(table.first(by, len(table)), unknown))
        return data


def leaks_data(file: Path, top: int) -> dict[str, Any]:
    """Return the data of the leaks, the first `top` of them."""
    with _without_collector():
        leaks = mematlas.open(file).leaks()
        data = _parsed(json_writer.render_leaks(leaks, top=0))
        data["leaks"] = list(_items(leaks.leaks[:top], set()))
        return data


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turn the cyclic collector off, as the commands do: a report has a million live objects."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _parsed(pieces: Iterable[str]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads("".join(pieces))["data"]
    return data


def _items(items: Iterable[StackStats | Leak], unknown: set[str]) -> Iterator[dict[str, Any]]:
    """Yield stacks as the JSON has them; equal frames are one object."""
    known: dict[int, tuple[Frame, dict[str, Any]]] = {}  # with the frame, which keeps its id()
    names: list[str] = []
    for item in items:
        names = names or [each.name for each in fields(item) if each.name != "frames"]
        frames = []
        for frame in item.frames:
            if id(frame) not in known:
                known[id(frame)] = (frame, json_writer.frame_fields(frame))
            frames.append(known[id(frame)][1])
        values = {name: None if name in unknown else getattr(item, name) for name in names}
        yield {"frames": frames, **values}
