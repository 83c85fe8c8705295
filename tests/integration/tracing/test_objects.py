"""Live Python objects by type, against the program's own counts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from interpreters import interpreters
from json_schemas import schema
from traced_runs import PROGRAMS, Traced, ask, run_text, trace

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = PROGRAMS / "object_types.py"
COUNTS = {"Plain": 4000, "Slots": 6000, "Abstract": 2000, "Text": 3000, "Numbers": 1000}


def objects(run: Traced) -> dict[str, dict[str, Any]]:
    """Return the object types of a run's report, by name."""
    assert run.outcome.status == 0, run.stderr
    found = ask("report", str(run.file), "--json", "--top", "1")["objects"]
    return {each["name"]: each for each in found}


@pytest.mark.parametrize("python", interpreters())
def test_every_object_is_counted_once(python: str, tmp_path: Path) -> None:
    """Plain, slotted, abstract, derived and dynamic types are counted, and deleted objects are not."""
    run = trace(tmp_path / "o.atlas", (python, "-S", PROGRAM), "--exact")
    assert json.loads(run.outcome.stdout) == COUNTS
    types = objects(run)
    assert {name: types[name]["live_count"] for name in COUNTS} == COUNTS
    assert all(types[name]["frame"]["function"].startswith("make") for name in COUNTS)
    assert all(types[name]["error_bytes"] == 0 for name in COUNTS)
    assert "Gone" not in types
    assert 30_000 <= types["float"]["live_count"] <= 30_500
    size = float(subprocess.check_output([python, "-c", "import sys; print(sys.getsizeof(0.5))"]))
    assert 0 <= types["float"]["live_bytes"] - size * types["float"]["live_count"] < 2000
    assert types["bytes"]["live_bytes"] >= 500 * 4000
    assert types["type"]["live_count"] >= 5


def test_sampled_counts_are_estimates(tmp_path: Path) -> None:
    """Sampled counts are within four standard errors."""
    run = trace(tmp_path / "o.atlas", (sys.executable, "-S", PROGRAM), "--sample-bytes", "2000")
    floats = objects(run)["float"]
    assert floats["error_bytes"] > 0
    assert abs(floats["live_bytes"] - 24 * 30_000) <= 4 * floats["error_bytes"] + 24 * 500


def test_other_programs_have_none(tmp_path: Path) -> None:
    """Without Python the types are null, not empty."""
    run = trace(tmp_path / "n.atlas", ("/bin/ls", "/"), "--exact")
    answer = ask("report", str(run.file), "--json")
    assert answer["objects"] is None


def test_merged_and_shown(tmp_path: Path) -> None:
    """Objects of two runs are summed, and shown in text and page."""
    files = [tmp_path / "a.atlas", tmp_path / "b.atlas"]
    for file in files:
        trace(file, (sys.executable, "-S", PROGRAM), "--exact")
    merged = tmp_path / "m.atlas"
    run_text(["merge", *files, "-o", merged], check=True)
    shown = run_text(["report", merged], check=True).stdout
    assert re.search(r"12,000\s+Slots\s+100\.0 %\s+from\s+make", shown)
    answer = json.loads(run_text(["report", merged, "--json", "--top", "1"], check=True).stdout)
    jsonschema.validate(answer, schema("report"))
    page = tmp_path / "m.html"
    run_text(["report", merged, "-o", page], check=True)
    assert "Python objects" in page.read_text()
