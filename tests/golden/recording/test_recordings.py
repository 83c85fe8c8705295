"""Golden recordings of each format version."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from mematlas.recording import format as atlas
from mematlas.recording import read

DATA = Path(__file__).parents[2] / "data"


class WithRows(Protocol):
    """A dataclass of the recording model that has rows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def rows(self) -> Any:
        """Rows of a structured dtype."""


def plain(each: WithRows) -> dict[str, Any]:
    """Return a dataclass as a dict, its rows as a list."""
    facts = {**dataclasses.asdict(each), "rows": each.rows.tolist()}
    if not facts.get("touched", True):
        del facts["touched"]  # no older version has any
    later = ("moment_s", "peak_rss_bytes", "page_table_bytes")  # written since, if known
    return {n: each for n, each in facts.items() if n not in later or each is not None}


def summary(path: Path) -> dict[str, Any]:
    """Return everything in a recording as plain values."""
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


def results(path: Path) -> dict[str, Any]:
    """Return the results beside snapshots and totals as plain values."""
    recording = read(path)
    return {
        "lifetimes": {index: rows.tolist() for index, rows in recording.lifetimes.items()},
        "age_matrix": {index: plain(each) for index, each in recording.age_matrix.items()},
        "idle": {index: plain(each) for index, each in recording.idle.items()},
        "fault_sites": {index: plain(each) for index, each in recording.fault_sites.items()},
        "fragmentation": {
            index: plain(each) for (index, _), each in recording.fragmentation.items()
        },
        "heaps": {index: dataclasses.asdict(each) for index, each in recording.heaps.items()},
        "objects": {index: plain(each) for index, each in recording.objects.items()},
    }


@pytest.mark.parametrize("version", range(atlas.OLDEST, atlas.VERSION + 1))
def test_every_version_still_reads_as_it_did(version: int) -> None:
    """The stored file reads as the values stored beside it."""
    expected = (DATA / f"recording-v{version}.json").read_text()
    text = json.dumps(summary(DATA / f"recording-v{version}.atlas"), indent=1) + "\n"
    assert text == expected


@pytest.mark.parametrize("name", ["recording-v4", "recording-v3-names"])
def test_names_of_older_versions_are_mapped(name: str) -> None:
    """Chunk types and metadata of version 3 read as those of version 4."""
    expected = (DATA / "recording-v4-results.json").read_text()
    assert json.dumps(results(DATA / f"{name}.atlas"), indent=1) + "\n" == expected


def test_the_version_has_a_golden_file() -> None:
    """A golden file of the current version exists."""
    assert (DATA / f"recording-v{atlas.VERSION}.atlas").is_file()
