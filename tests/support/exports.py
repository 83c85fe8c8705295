"""Exports of a recording for tests, and pprof's definition for an independent decoder."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mematlas.api.load import load
from mematlas.report.analyse.export import export_table
from mematlas.report.analyse.report import make_report
from mematlas.report.export import render_export
from mematlas.report.export.source import ExportSource
from protobuf_messages import decode_message

if TYPE_CHECKING:
    from mematlas.report.analyse.table import StackTable

READERS = Path(__file__).parents[1] / "readers"
_CACHE = READERS.parent.parent / "build" / "readers"

# https://github.com/google/pprof/blob/main/proto/profile.proto: number, type, repeated.
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Profile": {
        "sample_type": (1, "ValueType", True), "sample": (2, "Sample", True),
        "mapping": (3, "Mapping", True), "location": (4, "Location", True),
        "function": (5, "Function", True), "string_table": (6, "string", True),
        "drop_frames": (7, "int64", False), "keep_frames": (8, "int64", False),
        "time_nanos": (9, "int64", False), "duration_nanos": (10, "int64", False),
        "period_type": (11, "ValueType", False), "period": (12, "int64", False),
        "comment": (13, "int64", True), "default_sample_type": (14, "int64", False),
    },
    "ValueType": {"type": (1, "int64", False), "unit": (2, "int64", False)},
    "Sample": {
        "location_id": (1, "uint64", True), "value": (2, "int64", True),
        "label": (3, "Label", True),
    },
    "Label": {
        "key": (1, "int64", False), "str": (2, "int64", False), "num": (3, "int64", False),
        "num_unit": (4, "int64", False),
    },
    "Mapping": {
        "id": (1, "uint64", False), "memory_start": (2, "uint64", False),
        "memory_limit": (3, "uint64", False), "file_offset": (4, "uint64", False),
        "filename": (5, "int64", False), "build_id": (6, "int64", False),
        "has_functions": (7, "bool", False), "has_filenames": (8, "bool", False),
        "has_line_numbers": (9, "bool", False), "has_inline_frames": (10, "bool", False),
    },
    "Location": {
        "id": (1, "uint64", False), "mapping_id": (2, "uint64", False),
        "address": (3, "uint64", False), "line": (4, "Line", True),
        "is_folded": (5, "bool", False),
    },
    "Line": {"function_id": (1, "uint64", False), "line": (2, "int64", False)},
    "Function": {
        "id": (1, "uint64", False), "name": (2, "int64", False),
        "system_name": (3, "int64", False), "filename": (4, "int64", False),
        "start_line": (5, "int64", False),
    },
}  # fmt: skip


def source_of(path: Path, **more: Any) -> ExportSource:
    """Return the source of the exports of a recording."""
    recording = load(str(path))
    report = make_report(recording)
    return ExportSource(recording, report, export_table(recording, report), **more)


def export(path: Path, to: str, name: str, **more: Any) -> tuple[Path, StackTable]:
    """Write an export beside the recording; return its path and the stacks in it."""
    source = source_of(path, **more)
    out = path.with_name(name)
    out.write_bytes(b"".join(render_export([source], to)))
    return out, source.table


def decode_pprof(path: Path) -> Any:
    """Decode a profile with Google's protobuf, from its definition."""
    data = gzip.decompress(path.read_bytes())
    return decode_message(data, "Profile", _MESSAGES, syntax="proto3")


def node_modules() -> Path:
    """Install the npm readers once; skip if that fails."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("npm is not installed: apt-get install npm")
    wanted = (READERS / "package.json").read_text()
    stamp = _CACHE / "package.json"
    if not stamp.exists() or stamp.read_text() != wanted:
        _CACHE.mkdir(parents=True, exist_ok=True)
        (_CACHE / "wanted").mkdir(exist_ok=True)
        (_CACHE / "wanted" / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        ran = subprocess.run(
            command, cwd=_CACHE / "wanted", capture_output=True, text=True, check=False,
            env={**os.environ, "npm_config_update_notifier": "false"},
        )  # fmt: skip
        if ran.returncode:
            pytest.skip(f"npm cannot install the readers: {ran.stderr.strip()[-300:]}")
        stamp.write_text(wanted)
    return _CACHE / "wanted" / "node_modules"
