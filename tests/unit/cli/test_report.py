"""`mematlas report`: JSON that keeps to its schema, ranking, and errors in one line."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

import synthetic_recording
from json_schemas import schema
from mematlas.cli import main
from mematlas.report.export.csv import _cell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of the synthetic recording."""
    path = tmp_path / "a.atlas"
    synthetic_recording.write(path)
    return path


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """Run the command and give its data, held against the schema."""
    assert main(list(map(str, arguments))) == 0
    whole = json.loads(capsys.readouterr().out)
    jsonschema.validate(whole, schema(str(arguments[0])))
    data: dict[str, Any] = whole["data"]
    return data


def test_json_keeps_to_its_schema(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every field is there with its type, and the account adds up."""
    data = answer(capsys, "report", file, "--json")
    account = data["account"]
    parts = sum(part["resident_bytes"] for part in account["parts"])
    assert parts + account["unexplained_bytes"] == account["rss_bytes"] == 10_000_000
    assert data["peak"] == {"live_bytes": 2_100_000, "time_s": 0.9}
    assert [each["live_bytes"] for each in data["stacks"]] == [1_600_000, 400_000]
    assert data["stacks"][0]["frames"][0] == {
        "function": "fill",
        "file": "/src/fill.h",
        "line": 7,
        "module": "libc.so.6",
        "kind": "inlined",
    }
    assert data["processes"][1]["peak_rss_bytes"] is None
    assert data["sampling"] == {
        "mode": "sampled",
        "sample_bytes": 65536,
        "interval_s": 1.0,
        "fault_period": 0,
    }


def test_what_was_not_measured_is_unknown(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics that were not measured are null, empty or refused, never zero."""
    data = answer(capsys, "report", file, "--json")
    for each in (*data["stacks"], data["rest"]):
        assert each["faulted_bytes"] is each["idle_bytes"] is each["fragmented_bytes"] is None
        assert each["resident_bytes"] is not None
    assert main(["export", str(file), "--to", "csv", "-o", str(tmp_path / "a.csv")]) == 0
    with (tmp_path / "a.csv").open(newline="") as table:
        for row in csv.DictReader(table):
            assert row["faulted_bytes"] == row["idle_bytes"] == row["fragmented_bytes"] == ""
            assert int(row["resident_bytes"]) >= 0
    capsys.readouterr()
    for metric, way in (("faulted", "--faults"), ("idle", "--idle"), ("fragmented", "--exact")):
        assert main(["report", str(file), "--by", metric]) == 0
        assert re.search(rf"Lines .*unknown, .*{way}", " ".join(capsys.readouterr().out.split()))
        assert main(["diff", str(file), str(file), "--by", metric]) == 2
        assert f"{metric} is unknown: " in capsys.readouterr().err
        out = str(tmp_path / "a.txt")
        assert main(["export", str(file), "--to", "collapsed", "--by", metric, "-o", out]) == 2
        assert f"{metric} is unknown: " in capsys.readouterr().err


def test_the_schema_refuses_what_is_not_a_report() -> None:
    """The schema is no empty promise: it is valid itself, and refuses other data."""
    jsonschema.Draft202012Validator.check_schema(schema("report"))
    jsonschema.Draft202012Validator.check_schema(schema("leaks"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "mematlas/report/1", "data": {}}, schema("report"))


def test_stacks_are_ranked_and_cut(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--by ranks, --top cuts, and what was cut is there as a sum."""
    data = answer(capsys, "report", file, "--json", "--by", "swapped", "--top", "1")
    assert [each["swapped_bytes"] for each in data["stacks"]] == [8192]
    assert (data["by"], data["stacks_total"]) == ("swapped", 2)
    assert data["rest"]["stacks"] == 1
    assert data["rest"]["live_bytes"] == 400_000


def test_the_text_report_names_the_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the report is text, and names the line that owns most."""
    assert main(["report", str(file)]) == 0
    out = capsys.readouterr().out
    assert "/srv/orders.py" in out
    assert "\x1b" not in out


def test_one_process_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--pid takes one process; one that is not there is a usage error that lists those that are."""
    data = answer(capsys, "report", file, "--json", "--pid", "101")
    assert [each["pid"] for each in data["processes"]] == [101]
    assert main(["report", str(file), "--pid", "7"]) == 2
    message = "mematlas: PID 7 is not in the recording; it has 100, 101\n"
    assert capsys.readouterr().err == message


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing recording is error 3 in one line."""
    assert main(["report", str(tmp_path / "none.atlas")]) == 3
    assert capsys.readouterr().err.endswith("none.atlas: no such file\n")


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    """A function may be named so that a spreadsheet would evaluate its cell."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@x", "  =1", "\uff1d1", "\u3000\uff0b1"]
    for name in names:
        assert str(_cell([name, "main"])).startswith("'")
        assert str(_cell(name)) == f"'{name}"
    assert _cell(["main", "=2"]) == "main\n=2"
    assert _cell(-5) == -5
    assert _cell("main") == "main"
