"""The format itself: recordings of each version, kept as they were written, still read the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.recording import format as atlas
from mematlas.recording import read

if TYPE_CHECKING:
    from mematlas.recording.model import Snapshot, Totals

DATA = Path(__file__).parents[2] / "data"


def plain(each: Snapshot | Totals) -> dict[str, Any]:
    """Give one snapshot or sum with its rows as a list."""
    return {**dataclasses.asdict(each), "rows": each.rows.tolist()}


def summary(path: Path) -> dict[str, Any]:
    """Everything in a recording, as plain values."""
    recording = read(path)
    return {
        "command": recording.command,
        "started": recording.started,
        "machine": recording.machine,
        "sampling": repr(recording.sampling),
        "processes": list(map(repr, recording.processes)),
        "nodes": {index: rows.tolist() for index, rows in recording.nodes.items()},
        "modules": {index: list(map(repr, each)) for index, each in recording.modules.items()},
        "codes": {index: list(map(repr, each)) for index, each in recording.codes.items()},
        "frames": {
            index: {f"{word:#x}": list(map(repr, stack)) for word, stack in each.items()}
            for index, each in recording.frames.items()
        },
        "snapshots": [plain(each) for each in recording.snapshots],
        "totals": {index: plain(each) for index, each in recording.totals.items()},
        "timeline": {index: rows.tolist() for index, rows in recording.timeline.items()},
        "notes": recording.notes,
        "complete": recording.complete,
    }


@pytest.mark.parametrize("version", range(atlas.OLDEST, atlas.VERSION + 1))
def test_every_version_still_reads_as_it_did(version: int) -> None:
    """The kept file gives what it gave when it was made."""
    expected = (DATA / f"recording-v{version}.json").read_text()
    text = json.dumps(summary(DATA / f"recording-v{version}.atlas"), indent=1) + "\n"
    assert text == expected


def test_the_version_has_a_golden_file() -> None:
    """Raising the version takes a kept file of the new one."""
    assert (DATA / f"recording-v{atlas.VERSION}.atlas").is_file()
