"""Mappings of this process, against a simple parser of the same text."""

from __future__ import annotations

import os
from pathlib import Path

import reference_smaps
from mematlas.linux import smaps
from mematlas.linux.mappings import ReadOutcome


def test_own_smaps_match_a_plain_parser(tmp_path: Path) -> None:
    """The kernel's text gives the same rows as a simple parser."""
    copy = tmp_path / "smaps"
    copy.write_bytes(Path("/proc/self/smaps").read_bytes())
    with copy.open("rb") as file:
        mappings = smaps.parse(file.fileno())
    assert reference_smaps.as_dicts(mappings) == reference_smaps.parse(copy.read_bytes())


def test_self_is_complete() -> None:
    """The mappings of this process are complete and contain the code of this test."""
    mappings, outcome = smaps.read(os.getpid())
    assert outcome is ReadOutcome.COMPLETE
    assert any(row.name.endswith(b"_native.abi3.so") for row in mappings)
